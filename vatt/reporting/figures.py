"""How figures of evaluations are shown: titles and units, beside chance, in tables, with curves.

    figures.of("R10").title               # "R@10"
    figures.text(measure)                 # "81.9 %"
    figures.by_step([recall, rank])       # a table of all evaluations, the best in bold

A figure that is not in `FIGURES` is shown under its own name, as a number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from vatt.configs import sides
from vatt.evaluation.measures import Measure
from vatt.pages import Cell, Markup, Row, head
from vatt.reporting.history import Measures
from vatt.reporting.pieces import NONE, html
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
    "R50": Figure("R@50", percent, np.max),
    "GeometricMean": Figure("Geometric mean of R@1, R@5, R@10", percent, np.max),
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


def difference(measure: Measure, first: Measure) -> str:
    """By how much a measure is above or below another one: "+1.2", "−0.5"."""
    apart = measure.value - first.value
    if not math.isfinite(apart):
        return ""
    size = of(measure.name).form(abs(apart)).removesuffix(" %")
    return f"{'+' if apart > 0 else '−' if apart else '±'}{size}"  # noqa: RUF001


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
    """What is given and what is looked for: "Text & video → audio"; either may be empty."""
    title = joint.join(sides.title(side) for side in (query, target) if side)
    return title[:1].upper() + title[1:]


def clips(count: float) -> str:
    """A number of clips in words."""
    return f"{count:,.0f} clip{'s' * (count != 1)}"


# Tables -------------------------------------------------------------------------------------------


def headline_cell(measure: Measure | None) -> Cell:
    """A large figure with chance below it."""
    known = "" if chance(measure) is None else f"chance {chance_text(measure)}"
    title = "" if measure is None else of(measure.name).title
    return Cell(text(measure), known.replace(" %", "\N{NO-BREAK SPACE}%"), bold=True, title=title)


def bar(value: float, guessed: float | None = None) -> tuple[float, float | None]:
    """A share 0..1 and what guessing reaches, in percent of the width of a bar."""
    width = 100 * min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
    return width, None if guessed is None else 100 * min(guessed, 1.0)


def share_cell(value: float, guessed: float | None = None) -> Cell:
    """A cell with a bar for a share 0..1, and a tick at what guessing reaches."""
    return Cell(style="share", bar=bar(value, guessed))


def by_step(columns: Sequence[Measures], above: Sequence[tuple[str, int]] = ()) -> Markup:
    """A table of all evaluations: one row per step, the newest first, the best in bold.

    Args:
      columns: the measures of each, of one figure.
      above: headings above the titles, each with its number of columns.
    """
    shown = [of(column.each("name")[0]) for column in columns]
    best = [_best(figure, column) for figure, column in zip(shown, columns, strict=True)]
    rows: list[Row] = []
    for step in sorted({step for column in columns for step in column.steps()}, reverse=True):
        row: Row = [head(f"{step:,}")]
        for column, first in zip(columns, best, strict=True):
            measure = column.at(step)
            row.append(Cell(text(measure), bold=measure is not None and measure.value == first))
        rows.append(row)
    titles = ["step", *(figure.title for figure in shown)]
    return html.table(titles, rows, "data", left=("step",), above=above, tall=True)


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


def share_chart(series: Sequence[Series], title: str, note: str) -> Markup:
    """A chart of shares, whose axis goes from 0 to 100 %."""
    return line_chart(series, title, lower=0, upper=1, form=short_percent, note=note)


def grid(charts: Sequence[Markup]) -> Markup:
    """Charts beside each other, three in a row if there are as many; nothing without charts."""
    return html.grid(charts, "three" if len(charts) > 2 else "")
