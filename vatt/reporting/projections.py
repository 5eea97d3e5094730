"""Report section of features in the plane: principal components and t-SNE, coloured by class.

Artefacts, written as `eval/projections/<set>-<modality>-<step>.npz` (N clips, C classes):

    dataset, modality, step     scalars
    rows int64 [N]              record numbers in the split
    label int64 [N]             class of each clip, -1 for none
    classes unicode [C]         names
    pca float32 [N, 2], pca_explained float32 [2]     points, and the share of variance per axis
    tsne float32 [N, 2]         points; may be absent
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from vatt.reporting.pieces import Arrays, of_artefact
from vatt.reporting.plots import percent

COLOURS = 10  # k0, k1, ... of the style sheet; classes beyond them are grey
SIZE, MARGIN, RADIUS = 1000, 20, 7  # user units of a plot
GREY, EMPTY = "other", "none"  # classes of the style sheet


def section(path: Path) -> str:
    """The plots of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "projection", _section)


def _section(arrays: Arrays) -> str:
    name, modality = str(arrays["dataset"]), str(arrays["modality"])
    label, rows = arrays["label"], arrays["rows"]
    classes = arrays["classes"].tolist()
    if len(label) and not -1 <= label.min() <= label.max() < len(classes):
        raise ValueError(f"it has labels beyond its {len(classes)} classes")
    styles, legend = _styles(label, classes)
    shares = (percent(float(share)) for share in arrays["pca_explained"])
    note = f"{' and '.join(shares)} of the variance along the axes"
    plots = [_plot("Principal components", note, arrays["pca"], styles, label, classes, rows)]
    if "tsne" in arrays:
        note = "neighbours stay neighbours; axes and distances between groups mean nothing"
        plots.append(_plot("t-SNE", note, arrays["tsne"], styles, label, classes, rows))
    summary = f"{modality} features, step {int(arrays['step']):,}, {len(label):,} clips"
    return (
        f'<h3>{escape(name)}<span class="note">{escape(summary)}</span></h3>'
        f'<div class="grid plane">{"".join(plots)}</div><p class="legend points">{legend}</p>'
    )


def _styles(label: np.ndarray, classes: list[str]) -> tuple[np.ndarray, str]:
    """Class of the style sheet for each clip, and the legend: the most frequent classes first."""
    counts = np.bincount(label[label >= 0], minlength=len(classes))
    order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
    of_class = np.full(len(classes) + 1, GREY, object)
    of_class[-1] = EMPTY  # label -1
    for color, which in enumerate(order[:COLOURS]):
        of_class[which] = f"k{color}"
    entries = [(str(of_class[c]), classes[c], int(counts[c])) for c in order[:COLOURS]]
    if rest := order[COLOURS:]:
        many = f"{len(rest):,} other class{'es' * (len(rest) > 1)}"
        entries.append((GREY, many, int(counts[rest].sum())))
    if unlabelled := int((label < 0).sum()):
        entries.append((EMPTY, "no label", unlabelled))
    legend = (
        f'<span><i class="{style}"></i>{escape(text)} <span class="note">{count:,}</span></span>'
        for style, text, count in entries
    )
    return of_class[label], "".join(legend)


def _plot(
    title: str,
    note: str,
    points: np.ndarray,
    styles: np.ndarray,
    label: np.ndarray,
    classes: list[str],
    rows: np.ndarray,
) -> str:
    """Figure of points [N, 2], with the same scale along both axes; grey ones lie below."""
    points = np.asarray(points, np.float64)
    if points.shape != (len(label), 2) or len(rows) != len(label):
        raise ValueError(f"it has {len(label)} labels, points {points.shape}, {len(rows)} rows")
    finite = np.isfinite(points).all(axis=1)
    if lost := int((~finite).sum()):
        note += f"; {lost:,} not finite, not drawn"
    places = _places(points, finite)
    grey = np.isin(styles, (GREY, EMPTY))
    drawn = []
    for clip in [*np.flatnonzero(finite & grey), *np.flatnonzero(finite & ~grey)]:
        x, y = places[clip]
        named = classes[label[clip]] if label[clip] >= 0 else "no label"
        drawn.append(
            f'<circle class="{styles[clip]}" cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS}">'
            f"<title>{escape(named)}, record {int(rows[clip])}</title></circle>"
        )
    frame = f'<rect class="frame" width="{SIZE}" height="{SIZE}"/>'
    return (
        f'<figure><figcaption><b>{title}</b><span class="note">{escape(note)}</span></figcaption>'
        f'<svg class="points" viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="{title}">'
        f"{frame}{''.join(drawn)}</svg></figure>"
    )


def _places(points: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Points in user units, the cloud in the middle; rows that are not finite stay as they are."""
    if not finite.any():
        return points
    low, high = points[finite].min(axis=0), points[finite].max(axis=0)
    span = max(float((high - low).max()), 1e-12)
    scale = (SIZE - 2 * MARGIN) / span
    return SIZE / 2 + (points - (low + high) / 2) * scale * (1, -1)
