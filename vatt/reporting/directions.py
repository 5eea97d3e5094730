"""Every direction of retrieval at once: what is given by rows, what is looked for by columns."""

from __future__ import annotations

from collections.abc import Sequence

from vatt import pages
from vatt.configs import sides
from vatt.evaluation.measures import COMPLETE
from vatt.pages import Cell, Markup, Row, head
from vatt.reporting import figures
from vatt.reporting.history import Measures
from vatt.reporting.pieces import NONE, html

FIGURE = "R10"


def has_joint_sides(newest: Measures) -> bool:
    """Whether embeddings of several modalities were searched with or for."""
    found = {side for pair in newest.combinations("query", "target") for side in pair}
    return any(len(sides.modalities(side)) > 1 for side in found)


def matrices(newest: Measures, main: str) -> Markup:
    """Tables of recall within ten for all directions, of each protocol; nothing without joint ones.

    Args:
      newest: measures of one set and step.
      main: the variant that is shown first.
    """
    if not has_joint_sides(newest):
        return Markup()
    shown = (main, COMPLETE) if COMPLETE in newest.each("variant") else (main,)
    return pages.join(_matrix(newest.select(variant=variant, name=FIGURE)) for variant in shown)


def _matrix(measures: Measures) -> Markup:
    found = {(m.query, m.target): m for _, m in measures}
    if not found:
        return Markup()
    names = _ordered([side for pair in found for side in pair])
    rows: list[Row] = []
    for query in names:
        values = [m.value for (given, _), m in found.items() if given == query]
        if not values:
            continue
        row: Row = [head(figures.pair_title(query, ""))]
        for target in names:
            measure = found.get((query, target))
            best = measure is not None and len(values) > 1 and measure.value == max(values)
            row.append(Cell(figures.text(measure) if measure else NONE, bold=best))
        rows.append(row)
    titles = ["given ↓, looked for →", *map(sides.title, names)]
    first = next(iter(found.values()))
    of = " of the complete set" if first.variant == COMPLETE else ""
    title = html.heading(4, f"{figures.of(FIGURE).title}{of}", "best of each row in bold")
    return title + html.table(titles, rows, "data")


def _ordered(found: Sequence[str]) -> list[str]:
    """Single modalities first, then those encoded together, then those added up."""
    rank = {side: (len(sides.modalities(side)), sides.ADDED in side) for side in found}
    return sorted(dict.fromkeys(found), key=rank.__getitem__)
