"""Report section of how the embeddings of two modalities lie in their common space.

The measures are those of `vatt.evaluation.geometry.pair_geometry` for each pair of modalities,
whose uniformities are called by their modality (`uniformity_video`).
"""

from __future__ import annotations

from collections.abc import Sequence

from vatt import pages
from vatt.configs import sides
from vatt.evaluation.measures import GEOMETRY, Measure
from vatt.pages import Cell, Markup, Row, head
from vatt.reporting import figures
from vatt.reporting.figures import Pair
from vatt.reporting.history import History, Measures
from vatt.reporting.pieces import NONE, html
from vatt.reporting.plots import COLORS, Series, line_chart

FIGURES = {
    "modality_gap": (
        "Modality gap",
        "distance between the centres of both modalities: 0 if they cannot be told apart by their "
        "place, 2 if they are two opposite points",
    ),
    "alignment": (
        "Alignment",
        "mean squared distance between the two embeddings of a clip: lower is better, 2 if they "
        "have nothing to do with each other, and 0 also if everything has collapsed into one point",
    ),
    "uniformity": (
        "Uniformity",
        "how evenly the embeddings of a modality fill the space: lower is better, 0 if they have "
        "collapsed into one point, close to −4 if they are spread out evenly",  # noqa: RUF001
    ),
}
PAIRS_OF_A_CHART = COLORS // 2  # each has two curves of uniformity


def shows(measure: Measure) -> bool:
    """Whether a measure is among those of this section."""
    return measure.task == GEOMETRY and measure.name in _columns(measure.query, measure.target)


def section(history: History) -> Markup:
    """Tables and, once there are several evaluations, curves; empty if nothing was logged."""
    sets = history.measures.where(shows).by_set()
    if not sets:
        return Markup()
    about = "Embeddings have length 1, so that distances lie between 0 and 2."
    parts = [html.heading(2, "Geometry of the common space"), html.paragraph(about)]
    parts.append(html.meanings(list(FIGURES.values())))
    for title, own in sets.items():
        parts += [_table(title, own), _charts(own)]
    return pages.join(parts)


def _columns(left: str, right: str) -> dict[str, str]:
    """Name of a figure -> which modality it is of, empty for those of both."""
    both = {"modality_gap": "", "alignment": ""}
    return both | {f"uniformity_{modality}": modality for modality in (left, right)}


def _table(title: str, measures: Measures) -> Markup:
    rows = []
    for pair in _pairs(measures):
        row: Row = [head(_title(pair))]
        for name, modality in _columns(*pair).items():
            latest = _of(measures, pair, name).latest()
            text = figures.decimals(latest[1].value) if latest else NONE
            row.append(Cell(text, sides.title(modality) if latest else ""))
        rows.append(row)
    gap, alignment, uniformity = (heading for heading, _ in FIGURES.values())
    above = [("", 0), (gap, 0), (alignment, 0), (uniformity, 2)]
    table = html.table([], rows, "data classes", above=above)
    return pages.join([html.heading(3, title, f"step {measures.steps()[-1]:,}"), table])


def _charts(measures: Measures) -> Markup:
    """Charts of the figures over training steps; empty with one evaluation only."""
    pairs, charts = _pairs(measures), []
    for start in range(0, len(pairs), PAIRS_OF_A_CHART):
        some = pairs[start : start + PAIRS_OF_A_CHART]
        for figure, (title, _) in FIGURES.items():
            series = _series(measures, some, figure)
            if max((len(s.steps) for s in series), default=0) > 1:
                bounds = {"upper": 0.0} if figure == "uniformity" else {"lower": 0.0}
                charts.append(line_chart(series, title, form=figures.decimals, **bounds))
    return html.grid(charts, "three")


def _series(measures: Measures, pairs: Sequence[Pair], figure: str) -> list[Series]:
    """The curves of a figure: one of each pair, or of each modality of each pair."""
    series = []
    for place, (left, right) in enumerate(pairs):
        for name, modality in _columns(left, right).items():
            if not name.startswith(figure):
                continue
            steps, values = _of(measures, (left, right), name).series()
            label = _title((left, right))
            label = f"{sides.title(modality)} ({label})" if modality else label
            color = 2 * place + (modality == right) if modality else place
            if len(steps):
                series.append(Series(label, steps, values, color))
    return series


def _pairs(measures: Measures) -> list[Pair]:
    return [(left, right) for left, right in measures.combinations("query", "target")]


def _of(measures: Measures, pair: Pair, name: str) -> Measures:
    return measures.select(query=pair[0], target=pair[1], name=name)


def _title(pair: Pair) -> str:
    several = any(len(sides.modalities(side)) > 1 for side in pair)
    return (" – " if several else "–").join(map(sides.title, pair))  # noqa: RUF001
