"""How embeddings lie in their space: how far apart modalities are, how spread out, and as pictures.

    pair_geometry(text, video)      # {"modality_gap": .8, "alignment": 1.1, "uniformity_left": ...}
    view = project(features, "tsne")
    view.points, labels[view.rows]  # to be drawn, coloured by class

All figures are of embeddings of length 1, so that distances lie between 0 and 2.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from vatt.evaluation import metrics

UNIFORMITY_ROWS = 4096  # of all pairs of so many rows
PROJECTED_ROWS = 2000
BLOCK_ROWS = 2**14  # brought to float64 at once
TSNE_DIMENSIONS = 50  # principal components that t-SNE starts from
PERPLEXITY = 30.0
FEWEST_ROWS = 4  # of a projection
FLAT = 1e-6  # embeddings that differ less are one point: it is the rounding of float32


@dataclasses.dataclass(frozen=True)
class Projection:
    """Points in the plane.

    Attributes:
      points: float32 [n, 2].
      rows: int64 [n], ascending: which of the embeddings given the points are.
      explained: shares of the variance along both axes; NaN for t-SNE, whose axes have no
        meaning.
    """

    points: np.ndarray
    rows: np.ndarray
    explained: tuple[float, float]


def pair_geometry(left: np.ndarray, right: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Figures of embeddings of the same clips in two modalities.

    - `modality_gap`: distance between the centres of both (Liang et al. 2022). 0 when they cannot
      be told apart by their place; 2 when each is one point, opposite to the other.
    - `alignment`: mean squared distance of the two embeddings of a clip (Wang and Isola 2020). 0 is
      perfect, and is also reached when everything has collapsed into one point.
    - `uniformity_left`, `uniformity_right`: log of the mean of exp(-2 squared distance) over pairs
      of different clips (same paper). 0 when collapsed, -4 or nearly when spread out evenly.

    Args:
      left: [clips, d] or [clips, windows, d], whose windows are averaged.
      right: the same clips in the same order, in the same space.
      seed: of the choice of clips for the uniformity of large sets.

    Returns:
      The figures; NaN where an embedding that counts is NaN, or for less than two clips.

    Raises:
      ValueError: shapes that do not fit together.
    """
    left, right = np.asarray(left), np.asarray(right)
    averaged = [(len(x), x.shape[-1]) for x in (left, right)]
    if averaged[0] != averaged[1]:
        raise ValueError(
            f"embeddings have shapes {averaged[0]} and {averaged[1]} after averaging windows; "
            "accepted: the same clips in the same space"
        )
    count, width = averaged[0]
    apart, squared = np.zeros(width), 0.0
    for start in range(0, count, BLOCK_ROWS):  # a large set would not fit in float64
        difference = _vectors(left[start : start + BLOCK_ROWS])
        difference -= _vectors(right[start : start + BLOCK_ROWS])
        apart += difference.sum(axis=0)
        squared += np.square(difference).sum()
    nothing = float("nan")
    return {
        "modality_gap": float(np.linalg.norm(apart / count)) if count else nothing,
        "alignment": float(squared / count) if count else nothing,
        "uniformity_left": _uniformity(left, seed),
        "uniformity_right": _uniformity(right, seed),
    }


def project(
    embeddings: np.ndarray,
    method: Literal["pca", "tsne"] = "pca",
    *,
    seed: int = 0,
    most: int = PROJECTED_ROWS,
) -> Projection:
    """Embeddings in the plane, by principal components or t-SNE, the same for the same seed.

    Args:
      embeddings: [rows, d] or [rows, windows, d], whose windows are averaged. To see modalities
        beside each other, concatenate them.
      method: "pca" or "tsne" (2,000 rows take t-SNE ten to twenty seconds).
      seed: of the choice of rows and of t-SNE.
      most: number of points; of more rows as many are drawn at random.

    Raises:
      ValueError: another method, fewer than four rows, or embeddings that are not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method not in ("pca", "tsne"):
        raise ValueError(f"method is {method!r}; accepted: 'pca', 'tsne'")
    embeddings = np.asarray(embeddings)
    if len(embeddings) < FEWEST_ROWS:
        raise ValueError(f"{len(embeddings)} embeddings; a projection needs {FEWEST_ROWS} or more")
    rows = _chosen(len(embeddings), most, seed)
    vectors = metrics.window_mean(embeddings[rows])
    if not np.isfinite(vectors).all():
        raise ValueError("embeddings that are not finite cannot be projected")
    dimensions = TSNE_DIMENSIONS if method == "tsne" else 2
    if vectors.shape[1] < 2:
        vectors = np.pad(vectors, [(0, 0), (0, 2 - vectors.shape[1])])
    with np.errstate(invalid="ignore"):  # the shares of no variance at all
        pca = PCA(min(dimensions, *vectors.shape), svd_solver="full").fit(vectors)
    points = pca.transform(vectors)
    if method == "pca":
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        return Projection(points.astype(np.float32), rows, (float(shares[0]), float(shares[1])))
    nowhere = (float("nan"), float("nan"))
    spread = points[:, 0].std()
    if spread < FLAT:  # one point, on which sklearn's t-SNE crashes the process
        return Projection(np.zeros((len(rows), 2), np.float32), rows, nowhere)
    start = (points[:, :2] / spread * 1e-4).astype(np.float32)  # as with init="pca"
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(points)
    return Projection(found.astype(np.float32), rows, nowhere)


def _chosen(count: int, most: int, seed: int) -> np.ndarray:
    """At most `most` different numbers below `count`, drawn at random, ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _vectors(embeddings: np.ndarray) -> np.ndarray:
    """One vector per clip, float64."""
    return metrics.window_mean(embeddings).astype(np.float64)


def _uniformity(embeddings: np.ndarray, seed: int) -> float:
    vectors = _vectors(embeddings[_chosen(len(embeddings), UNIFORMITY_ROWS, seed)])
    if len(vectors) < 2:
        return float("nan")
    lengths = np.square(vectors).sum(axis=1)  # 1, or 0 of an embedding of zeros
    squared = lengths[:, None] + lengths[None, :] - 2.0 * vectors @ vectors.T
    upper = squared[np.triu_indices(len(vectors), 1)]
    return float(np.log(np.mean(np.exp(-2.0 * np.maximum(upper, 0.0)))))
