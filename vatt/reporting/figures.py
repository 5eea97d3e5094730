"""How figures of evaluations are shown: titles and units, beside chance, in tables, with curves.

    figures.of("R10").title               # "R@10"
    figures.text(measure)                 # "81.9 %"
    figures.by_step([recall, rank])       # a table of all evaluations, the best in bold

A figure that is not in `FIGURES` is shown under its own name, as a number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from html import escape

import numpy as np

from vatt.evaluation.measures import Measure
from vatt.reporting.history import Measures
from vatt.reporting.pieces import NONE, table
from vatt.reporting.plots import Formatter, Series, line_chart, number, percent, short_percent

ATTRIBUTE = "top1_"  # before the attribute of a best match, in the name of its figure
CHANCE_COLOR = 3
# What is given and what is looked for, or the two sides of a comparison.
Pair = tuple[str, str]


def decimals(value: float) -> str:
    """A figure of the order of 1, with two decimals."""
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else number(value)  # noqa: RUF001


def _rank(value: float) -> str:
    return f"{value:,.4g}" if math.isfinite(value) else number(value)


@dataclasses.dataclass(frozen=True)
class Figure:
    """How one is shown.

    Attributes:
      title: in headings.
      form: how values are written.
      best: picks the best of several values; None where it is not known which end is better.
      chance: what guessing reaches whatever the data.
    """

    title: str
    form: Formatter = number
    best: Callable[[np.ndarray], float] | None = None
    chance: float | None = None


FIGURES = {
    "R1": Figure("R@1", percent, np.max),
    "R5": Figure("R@5", percent, np.max),
    "R10": Figure("R@10", percent, np.max),
    "MedianRank": Figure("Median rank", _rank, np.min),
    "MeanRank": Figure("Mean rank", _rank, np.min),
    "top_1_accuracy": Figure("Top-1 accuracy", percent, np.max),
    "top_5_accuracy": Figure("Top-5 accuracy", percent, np.max),
    "mean_class_accuracy": Figure("Mean class accuracy", percent, np.max),
    "categorical_cross_entropy": Figure("Cross-entropy", number, np.min),
    "binary_cross_entropy": Figure("Cross-entropy", number, np.min),
    "mAP": Figure("mAP", percent, np.max),
    "AUC": Figure("AUC", percent, np.max, chance=0.5),
    "d-prime": Figure("d′", decimals, np.max, chance=0.0),  # noqa: RUF001
}
FIGURES |= {f"sklearn_{name}": FIGURES[name] for name in ("mAP", "AUC", "d-prime")}


def of(name: str) -> Figure:
    """How the figure of this name is shown."""
    if name.startswith(ATTRIBUTE):
        return Figure(name.removeprefix(ATTRIBUTE), percent, np.max)
    return FIGURES.get(name, Figure(name))


def text(measure: Measure | None) -> str:
    """The value of a measure as text, with its spread over folds where it is a mean of them."""
    if measure is None:
        return NONE
    form = of(measure.name).form
    if measure.spread is None:
        return form(measure.value)
    return f"{form(measure.value).removesuffix(' %')} ± {form(measure.spread)}"


def chance(measure: Measure | None) -> float | None:
    """What guessing reaches, where that is known."""
    if measure is None:
        return None
    known = of(measure.name).chance if measure.chance is None else measure.chance
    return known if known is not None and math.isfinite(known) else None


def chance_text(measure: Measure | None) -> str:
    """What guessing reaches as text."""
    known = chance(measure)
    return NONE if known is None else of(measure.name).form(known)


def pair_title(query: str, target: str, joint: str = " → ") -> str:
    """What is given and what is looked for: "Text + video → audio"; either may be empty."""
    title = joint.join(filter(None, (query, target))).replace("+", " + ")
    return title[:1].upper() + title[1:]


def clips(count: float) -> str:
    """A number of clips in words."""
    return f"{count:,.0f} clip{'s' * (count != 1)}"


# Tables -------------------------------------------------------------------------------------------


def card(title: str, notes: Sequence[str], body: str) -> str:
    """The box of the newest figures of a set."""
    note = f'<span class="note">{", ".join(notes)}</span>'
    return f'<section class="card"><h3>{escape(title)}{note}</h3>{body}</section>'


def warnings(sentences: Iterable[str]) -> str:
    """Sentences that stand beside figures and say why they mean little."""
    return "".join(f'<p class="warning">{escape(sentence)}.</p>' for sentence in sentences)


def headline(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table of large figures.

    Args:
      head: titles of the columns as HTML; a column without one has no heading.
      rows: HTML of each `<tr>`.
    """
    return table(head, rows, "headline")


def headline_cell(measure: Measure | None) -> str:
    """A large figure with chance below it."""
    known = "" if chance(measure) is None else f"chance {chance_text(measure)}"
    note = f'<span class="note">{known.replace(" %", "&nbsp;%")}</span>' if known else ""
    title = "" if measure is None else escape(of(measure.name).title)
    return f'<td data-title="{title}"><b>{text(measure)}</b>{note}</td>'


def share_cell(value: float, guessed: float | None = None) -> str:
    """A cell with a bar for a share 0..1, and a tick at what guessing reaches."""
    width = 100 * min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
    tick = "" if guessed is None else f'<i style="left:{100 * min(guessed, 1.0):.1f}%"></i>'
    bar = f'<div class="track"><b style="width:{width:.1f}%"></b>{tick}</div>'
    return f'<td class="share">{bar}</td>'


def by_step(columns: Sequence[Measures], above: str = "") -> str:
    """A table of all evaluations: one row per step, the newest first, the best in bold.

    Args:
      columns: the measures of each, of one figure.
      above: HTML of a row of headings above the titles.
    """
    shown = [of(column.each("name")[0]) for column in columns]
    best = [_best(figure, column) for figure, column in zip(shown, columns, strict=True)]
    rows = []
    for step in sorted({step for column in columns for step in column.steps()}, reverse=True):
        cells = []
        for column, first in zip(columns, best, strict=True):
            measure = column.at(step)
            bold = measure is not None and measure.value == first
            cells.append(f"<td>{f'<b>{text(measure)}</b>' if bold else text(measure)}</td>")
        rows.append(f'<tr><th scope="row">{step:,}</th>{"".join(cells)}</tr>')
    head = ["step", *(escape(figure.title) for figure in shown)]
    return table(head, rows, "data", left=("step",), above=above, tall=True)


def _best(figure: Figure, column: Measures) -> float | None:
    """The best value of several steps; None where there is none to be set off."""
    values = column.series()[1]
    finite = values[np.isfinite(values)]
    if figure.best is None or len(values) < 2 or not len(finite):
        return None
    return float(figure.best(finite))


# Charts -------------------------------------------------------------------------------------------


def curves(measures: Measures, names: Collection[str]) -> list[Series]:
    """A curve for each of these figures that has been measured, of one set and task.

    Args:
      measures: one figure of each name.
      names: of the figures, in the order of their colours.
    """
    logged = [(name, *measures.select(name=name).series()) for name in names]
    logged = [(name, steps, values) for name, steps, values in logged if len(steps)]
    return [Series(of(name).title, *points, i) for i, (name, *points) in enumerate(logged)]


def chance_curve(measures: Measures, label: str = "chance") -> list[Series]:
    """A dashed line at what guessing reaches by the newest measure; nothing if it is not known."""
    steps, latest = measures.series()[0], measures.latest()
    known = chance(latest[1]) if latest else None
    if known is None:
        return []
    return [Series(label, steps, np.full(len(steps), known), CHANCE_COLOR, True)]


def share_chart(series: Sequence[Series], title: str, note: str) -> str:
    """A chart of shares, whose axis goes from 0 to 100 %."""
    return line_chart(series, title, lower=0, upper=1, form=short_percent, note=note)


def grid(charts: Sequence[str]) -> str:
    """Charts beside each other, three in a row if there are as many; nothing without charts."""
    width = "grid three" if len(charts) > 2 else "grid"
    return f'<div class="{width}">{"".join(charts)}</div>' if charts else ""
