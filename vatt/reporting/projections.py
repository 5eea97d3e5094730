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

from pathlib import Path

import numpy as np

from vatt import pages
from vatt.pages import Markup
from vatt.reporting.pieces import Arrays, html, of_artefact
from vatt.reporting.plots import html as charts
from vatt.reporting.plots import percent

COLOURS = 10  # k0, k1, ... of the style sheet; classes beyond them are grey
SIZE, MARGIN, RADIUS = 1000, 20, 7  # user units of a plot
GREY, EMPTY = "other", "none"  # classes of the style sheet


def section(path: Path) -> Markup:
    """The plots of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "projection", _section)


def _section(arrays: Arrays) -> Markup:
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
    heading = html.heading(3, name, summary)
    return pages.join([heading, html.grid(plots, "plane"), charts.plane_legend(legend)])


def _styles(label: np.ndarray, classes: list[str]) -> tuple[np.ndarray, list]:
    """Class of the style sheet for each clip, and the legend: style, class, clips, most first."""
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
    return of_class[label], entries


def _plot(
    title: str,
    note: str,
    points: np.ndarray,
    styles: np.ndarray,
    label: np.ndarray,
    classes: list[str],
    rows: np.ndarray,
) -> Markup:
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
        about = f"{named}, record {int(rows[clip])}"
        drawn.append((styles[clip], f"{x:.0f}", f"{y:.0f}", about))
    return charts.figure(title, note, charts.plane(title, SIZE, RADIUS, drawn))


def _places(points: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Points in user units, the cloud in the middle; rows that are not finite stay as they are."""
    if not finite.any():
        return points
    low, high = points[finite].min(axis=0), points[finite].max(axis=0)
    span = max(float((high - low).max()), 1e-12)
    scale = (SIZE - 2 * MARGIN) / span
    return SIZE / 2 + (points - (low + high) / 2) * scale * (1, -1)
