"""Several runs side by side on one page: measures, curves, differences of their configurations.

    write("runs/a", "runs/b", output=Path("comparison.html"))

Of each run the newest evaluation counts; differences are those from the first run that has the
figure. One that was measured on other clips is shown, but neither marked nor subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vatt import pages
from vatt.evaluation import measures, summary
from vatt.evaluation.measures import Measure
from vatt.files import replace_text
from vatt.pages import Cell, Markup, Row
from vatt.reporting import about, figures, pieces, scores, training
from vatt.reporting.history import FIELDS, History, figure_of
from vatt.reporting.pieces import html
from vatt.reporting.plots import (
    Series,
    line_chart,
    number,
    overlaid,
    percent,
    short_percent,
)
from vatt.reporting.sides import (
    OWN,
    TASKS,
    Rows,
    Side,
    alike,
    group_of,
    not_alike,
    read_all,
    remarks,
    rows_of,
    text,
)

FILE_NAME = "comparison.html"

Values = dict[str, list[str]]  # by path, the value of each run


def write(*runs: Path | str, output: Path | None = None) -> Path:
    """Writes the page and returns its path.

    Args:
      runs: their folders.
      output: the page; `comparison.html` in the working directory if not given.

    Raises:
      UserError: a folder is that of no run, given twice, or one of too many.
    """
    output = output or Path(FILE_NAME)
    sides = read_all(runs)
    replace_text(output, _page(sides, output.parent))
    return output


def _page(sides: Sequence[Side], folder: Path) -> str:
    title = ", ".join(side.label for side in sides)
    heads = [pieces.linked(side.label, side.run.folder, folder) for side in sides]
    rows = rows_of(sides)
    telling = {figure_of(m) for side in sides for _, m in summary.telling(side.newest)}
    first = {figure: found for figure, found in rows.items() if figure in telling}
    body = [
        html.title(title, f"{len(sides)} runs side by side"),
        html.warnings(dict.fromkeys([*remarks(sides), *not_alike(rows)])),
        html.heading(2, "Runs"),
        _facts(sides, heads),
        _measures(sides, heads, first or rows, rows if first else {}),
        _curves(sides, first or rows),
        _configuration(sides, heads),
    ]
    return pages.render(title, body)


# Runs ---------------------------------------------------------------------------------------------


def _facts(sides: Sequence[Side], heads: Sequence[str]) -> Markup:
    columns = []
    for side in sides:
        facts = about.facts(side.run, side.history)
        if (speed := training.median(side.history, "clips_per_second")) is not None:
            facts["Speed"] = f"{number(speed)} clips/s"
        columns.append(facts)
    names = dict.fromkeys(name for column in columns for name in column)
    return _values(heads, {name: [c.get(name, pieces.NONE) for c in columns] for name in names})


# Measures -----------------------------------------------------------------------------------------


def _measures(sides: Sequence[Side], heads: Sequence[str], first: Rows, every: Rows) -> Markup:
    if not first:
        return Markup()
    steps = (pieces.NONE if side.step is None else f"{side.step:,}" for side in sides)
    titles = ["", "chance", *heads]
    shown = [[pages.head("step"), "", *steps], *_table_rows(first, len(titles))]
    note = (
        "The best is bold; below it, the difference from the first run that has the figure, of "
        "shares in percentage points. How far runs differ by their seeds alone, --seeds tells."
    )
    parts = [
        html.heading(2, "Measures"),
        html.warnings(summary.too_small(m for found in first.values() for m in found if m)),
        html.table(titles, shown, "data versus"),
        html.paragraph(note, "note"),
    ]
    if every:
        rows = _table_rows(every, len(titles))
        parts.append(html.folded("All figures", html.table(titles, rows, "data versus", tall=True)))
    return pages.join(parts)


def _table_rows(rows: Rows, width: int) -> list[Row]:
    parts: list[Row] = []
    before = None
    for found in rows.values():
        measure = next(filter(None, found))
        if (group := group_of(measure)) != before:
            before = group
            clips = summary.counts(measure) if alike(found) else "not the same clips"
            about_it = ", ".join(filter(None, (TASKS.get(group[1], group[1]), group[2], clips)))
            parts.append([Cell(group[0], about_it, columns=width)])
        known = figures.chance_text(measure) if alike(found) else pieces.NONE
        parts.append([pages.head(_title(measure)), Cell(known, style="chance"), *_cells(found)])
    return parts


def _title(measure: Measure) -> str:
    """What was measured, below the name of its set: "Text → video: R@10"."""
    title = figures.of(measure.name).title
    pair = figures.pair_title(measure.query, measure.target)
    other = measure.variant and measure.variant != measures.MAIN
    windows = f" ({scores.variant_title(measure.variant)})" if other else ""
    return ": ".join(filter(None, (pair, title))) + windows


def _cells(found: Sequence[Measure | None]) -> Iterator[Cell]:
    first = next(filter(None, found))
    same = alike(found)
    values = [m.value for m in found if m and math.isfinite(m.value)]
    choose = figures.of(first.name).best
    best = float(choose(values)) if choose and same and len(values) > 1 else None
    for measure in found:
        below = ""
        if measure is not None and measure is not first:
            below = figures.difference(measure, first)
        if measure is not None and not same:
            below = summary.counts(measure)
        bold = measure is not None and measure.value == best
        yield Cell(figures.text(measure), below, bold=bold)


# Curves -------------------------------------------------------------------------------------------


def _curves(sides: Sequence[Side], rows: Rows) -> Markup:
    logged = {side.label: side.history for side in sides}
    names = dict.fromkeys(name for own in logged.values() for name in own.names("train"))

    def of(name: str) -> list[Series]:
        return overlaid({label: own.series("train", name) for label, own in logged.items()})

    def chart(name: str, title: str, **how: Any) -> list[Markup]:
        return [line_chart(of(name), title, named=True, **how)] if name in names else []

    losses = [name for name in names if name.endswith(training.LOSS) and len(of(name)) > 1]
    main = chart(training.TOTAL, "Total loss", note=_objectives(sides))
    main += [_over_steps(logged, found) for found in rows.values()] if _several(sides) else []
    others = [c for name in losses if name != training.TOTAL for c in chart(name, name)]
    for name, title, how in (
        ("learning_rate", "Learning rate", {"lower": 0.0}),
        (training.GRADIENT_NORM, "Gradient norm", {}),
        ("parameter_norm", "Parameter norm", {}),
        ("clips_per_second", "Throughput", {"lower": 0.0, "note": "clips/s"}),
    ):
        others += chart(name, title, **how)
    if not main and not others:
        return Markup()
    folded = html.folded("Single losses, optimization and speed", html.grid(others))
    return pages.join([html.heading(2, "Over training"), html.grid(main), folded])


def _several(sides: Sequence[Side]) -> bool:
    return any(len(side.history.measures.steps()) > 1 for side in sides)


def _over_steps(logged: Mapping[str, History], found: Sequence[Measure | None]) -> Markup:
    measure = next(filter(None, found))
    figure = dict(zip(FIELDS, figure_of(measure), strict=True))
    curves = {label: own.measures.select(**figure).series() for label, own in logged.items()}
    how = figures.of(measure.name)
    note = ", ".join(filter(None, (measure.set, TASKS.get(measure.task, measure.task))))
    form = short_percent if how.form is percent else how.form
    return line_chart(overlaid(curves), _title(measure), form=form, note=note, named=True)


def _objectives(sides: Sequence[Side]) -> str:
    """What is said of losses that are not of one kind."""
    methods = {about.method(side.run) for side in sides}
    batches = {side.settings.get("train.input.batch_size") for side in sides}
    told = ["of different methods: heights do not compare"] if len(methods) > 1 else []
    told += ["batches of different sizes"] if len(batches) > 1 else []
    return "; ".join(told)


# Configuration ------------------------------------------------------------------------------------


def _configuration(sides: Sequence[Side], heads: Sequence[str]) -> Markup:
    differ, some, equal = _parted([side.settings for side in sides])
    shown = [html.heading(2, "Differences of configuration")]
    nothing = html.paragraph("No setting that all runs have differs.")
    shown.append(_values(heads, differ) if differ else nothing)
    shown.append(_folded(some, "that not all runs have", heads))
    shown.append(_folded({path: own[:1] for path, own in equal.items()}, "the same", ["all runs"]))
    differ, some, equal = _parted([dict(about.flatten(side.run.launch)) for side in sides])
    others = {path: own for path, own in (differ | some).items() if path not in OWN}
    if others:
        shown += [html.heading(2, "Differences of the launches"), _values(heads, others)]
    return pages.join(shown)


def _parted(trees: Sequence[Mapping[str, Any]]) -> tuple[Values, Values, Values]:
    """Values by path: those that differ, that some of the trees lack, that are equal."""
    differ, some, equal = {}, {}, {}
    for path in dict.fromkeys(path for tree in trees for path in tree):
        own = [text(tree.get(path)) if path in tree else pieces.NONE for tree in trees]
        lacking = any(path not in tree for tree in trees)
        (some if lacking else equal if len(set(own)) == 1 else differ)[path] = own
    return differ, some, equal


def _values(heads: Sequence[str], values: Values) -> Markup:
    """A table of texts by name, a column for each run."""
    rows = [[pages.head(name), *own] for name, own in values.items()]
    return html.table(["", *heads], rows, "data left prov versus")


def _folded(values: Values, told: str, heads: Sequence[str]) -> Markup:
    count = f"{len(values):,} setting{'s' * (len(values) != 1)} {told}"
    return html.folded(count, _values(heads, values)) if values else Markup()
