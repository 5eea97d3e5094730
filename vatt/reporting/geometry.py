"""Report section of how the embeddings of two modalities lie in their common space.

Metrics `<set>_geometry_<left>_<right>_<figure>` of `vatt.evaluation.geometry.pair_geometry`, whose
uniformities are called by their modality (`uniformity_video`).
"""

from __future__ import annotations

import math
import re
from html import escape

from vatt.reporting.history import History
from vatt.reporting.pieces import NONE, table
from vatt.reporting.plots import Series, line_chart, number

PAIRS = (("video", "text"), ("video", "audio"), ("audio", "text"))
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
_PAIR = "|".join(map("_".join, PAIRS))
_NAME = re.compile(
    rf"(?P<set>.+)_geometry_(?P<pair>{_PAIR})_"
    "(modality_gap|alignment|uniformity_(video|audio|text))"
)


def names(history: History) -> set[str]:
    """The metrics that this section shows."""
    return {name for name in history.names("eval") if _NAME.fullmatch(name)}


def section(history: History) -> str:
    """Tables and, once there are several evaluations, curves; empty if nothing was logged."""
    matches = map(_NAME.fullmatch, history.names("eval"))
    sets = list(dict.fromkeys(match["set"] for match in matches if match))
    if not sets:
        return ""
    told = "".join(f"<li><b>{title}</b>: {text}.</li>" for title, text in FIGURES.values())
    return (
        "<h2>Geometry of the common space</h2><p>Embeddings have length 1, so that distances lie "
        f'between 0 and 2.</p><ul class="told">{told}</ul>'
        f"{''.join(_table(history, name) + _charts(history, name) for name in sets)}"
    )


def _columns(left: str, right: str) -> dict[str, str]:
    """Metric -> which modality it is of, empty for those of both."""
    both = {"modality_gap": "", "alignment": ""}
    return both | {f"uniformity_{modality}": modality for modality in (left, right)}


def _table(history: History, name: str) -> str:
    rows, newest = [], 0
    for left, right in PAIRS:
        cells: list[str] = []
        found = False
        for metric, modality in _columns(left, right).items():
            latest = history.latest("eval", f"{name}_geometry_{left}_{right}_{metric}")
            found |= latest is not None
            newest = max(newest, latest[0] if latest else 0)
            note = f' <span class="note">{modality}</span>' if modality else ""
            cells.append(f"<td>{_figure(latest[1]) + note if latest else NONE}</td>")
        if found:
            rows.append(f'<tr><th scope="row">{_title(left, right)}</th>{"".join(cells)}</tr>')
    gap, alignment, uniformity = (title for title, _ in FIGURES.values())
    head = (
        f'<tr><td></td><th scope="col">{gap}</th><th scope="col">{alignment}</th>'
        f'<th colspan="2" scope="colgroup">{uniformity}</th></tr>'
    )
    shown = table([], rows, "data classes", above=head)
    return f'<h3>{escape(name)}<span class="note">step {newest:,}</span></h3>{shown}'


def _charts(history: History, name: str) -> str:
    """Charts of the figures over training steps; empty with one evaluation only."""
    charts = []
    for figure, (title, _) in FIGURES.items():
        series = []
        for pair, (left, right) in enumerate(PAIRS):
            for metric, modality in _columns(left, right).items():
                if not metric.startswith(figure):
                    continue
                points = history.series("eval", f"{name}_geometry_{left}_{right}_{metric}")
                label = _title(left, right)
                label = f"{modality} ({label})" if modality else label
                color = 2 * pair + (modality == right) if modality else pair
                if len(points[0]):
                    series.append(Series(label, *points, color))
        if max((len(s.steps) for s in series), default=0) > 1:
            bounds = {"upper": 0.0} if figure == "uniformity" else {"lower": 0.0}
            charts.append(line_chart(series, title, form=_figure, **bounds))
    return f'<div class="grid three">{"".join(charts)}</div>' if charts else ""


def _title(left: str, right: str) -> str:
    return f"{left}–{right}"  # noqa: RUF001


def _figure(value: float) -> str:
    return number(value) if not math.isfinite(value) else f"{value:.2f}".replace("-", "−")  # noqa: RUF001
