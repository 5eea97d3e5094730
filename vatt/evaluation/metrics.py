"""Retrieval and classification metrics.

    scores = similarity(text, clips, "embd")            # [queries, clips]
    retrieval_metrics(scores)                           # {"R1": .4, "R5": .7, "R10": .8, ...}
    attribute_top1(scores, {"colour": ["red", ...]})    # {"colour": .9}

    top_k_accuracy(probabilities, labels, 5)            # one label per row
    multilabel_metrics(probabilities, many_hot)         # {"mAP": .3, "AUC": .9, "d-prime": 1.8}

`vatt.evaluation.search` finds ranks where a matrix of scores does not fit into memory.

A query's true clip has the query's own row number: the truth is the diagonal of the matrix.

Ties are broken by position, the lower column first, as a stable sort of the negated scores does.
The order is therefore the same on every machine, and a collapsed model whose scores are all equal
lands exactly at chance (row i gets rank i + 1) instead of at the top. `top_k_accuracy` takes the
higher column first, as published. A row with a NaN has no rank: its rank is NaN and so is every
metric computed from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

RECALL_CUTS = (1, 5, 10)
Variant = Literal["embd", "cosine"]
Ties = Literal["position", "mean", "first"]


def normalize(embeddings: np.ndarray) -> np.ndarray:
    """Divides the last axis by its Euclidean norm, in float64; zero vectors stay zero."""
    embeddings = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(norms == 0.0, 1.0, norms)


def window_mean(
    embeddings: np.ndarray, variant: Variant = "embd", *, normalized: bool = True
) -> np.ndarray:
    """One vector per row, such that similarities averaged over windows are products of those.

    The mean of all window-to-window products is the product of the window means, so that neither
    variant needs anything of the size [queries, clips, windows].

    Args:
      embeddings: [rows, d] or [rows, windows, d].
      variant: "embd" averages the windows and normalises the average; "cosine" normalises every
        window and averages those (VATT evaluation, both reported).
      normalized: False leaves out the normalisation in both variants.

    Returns:
      float32 [rows, d].

    Raises:
      ValueError: an unknown variant or another shape.
    """
    if variant not in ("embd", "cosine"):
        raise ValueError(f"variant is {variant!r}; accepted: 'embd', 'cosine'")
    embeddings = _windows_axis(embeddings, "embeddings")
    if normalized and variant == "cosine":
        embeddings = normalize(embeddings)
    means = embeddings.mean(axis=1, dtype=np.float64)  # [rows, d]
    if normalized and variant == "embd":
        means = normalize(means)
    return means.astype(np.float32)


def similarity(
    queries: np.ndarray,
    clips: np.ndarray,
    variant: Variant = "embd",
    *,
    normalized: bool = True,
    published_single_window: bool = False,
) -> np.ndarray:
    """Similarity of every query with every clip, averaged over windows.

    Args:
      queries: [queries, d] or [queries, windows, d] (audio queries are windowed like clips).
      clips: [clips, d] or [clips, windows, d].
      variant: as of `window_mean`.
      normalized: False leaves the embeddings as they are in both variants.
      published_single_window: True repeats the published behaviour of leaving "embd" without
        normalisation when the clips have one window only (docs/differences.md).

    Returns:
      float32 [queries, clips].

    Raises:
      ValueError: an unknown variant, or embeddings whose shapes do not fit together.
    """
    queries, clips = _windows_axis(queries, "queries"), _windows_axis(clips, "clips")
    check_one_space(queries, clips)
    if published_single_window and variant == "embd" and clips.shape[1] == 1:
        normalized = False
    left, right = (window_mean(x, variant, normalized=normalized) for x in (queries, clips))
    return left @ right.T  # [queries, clips]


def ranks(
    scores: np.ndarray, targets: np.ndarray | None = None, ties: Ties = "position"
) -> np.ndarray:
    """1-based rank of the target column in every row, the highest score first.

    Args:
      scores: [rows, columns].
      targets: int [rows], the column looked for; None means the diagonal.
      ties: which place equal scores have: that of their column among them, all the mean of the
        places that they take, or all the first of those (too good: a collapsed model is always
        right).

    Returns:
      float64 [rows]; NaN for rows that contain a NaN.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {scores.shape}; accepted: [rows, columns]")
    count, columns = scores.shape
    targets = np.arange(count) if targets is None else np.asarray(targets).reshape(-1)
    if targets.shape != (count,) or (count and not 0 <= targets.min() <= targets.max() < columns):
        raise ValueError(f"targets must be {count} column numbers below {columns}")
    own = scores[np.arange(count), targets][:, None]  # [rows, 1]
    result = 1.0 + (scores > own).sum(axis=1)
    if ties == "mean":
        result += ((scores == own).sum(axis=1) - 1) / 2
    elif ties == "position":
        earlier = np.arange(columns)[None, :] < targets[:, None]
        result += ((scores == own) & earlier).sum(axis=1)
    result[np.isnan(scores).any(axis=1)] = np.nan
    return result


def recall_at_k(ranks_: np.ndarray, k: int) -> float:
    """Share of 1-based ranks that are at most k; NaN if there is no rank or one is NaN."""
    ranks_ = np.asarray(ranks_, np.float64)
    if ranks_.size == 0 or np.isnan(ranks_).any():
        return float("nan")
    return float(np.mean(ranks_ <= k))


def median_rank(ranks_: np.ndarray) -> float:
    """Median of 1-based ranks (1 is perfect); NaN if there is no rank or one is NaN."""
    ranks_ = np.asarray(ranks_, np.float64)
    return float(np.median(ranks_)) if ranks_.size else float("nan")


def mean_rank(ranks_: np.ndarray) -> float:
    """Mean of 1-based ranks (1 is perfect); NaN if there is no rank or one is NaN."""
    ranks_ = np.asarray(ranks_, np.float64)
    return float(np.mean(ranks_)) if ranks_.size else float("nan")


def rank_metrics(ranks_: np.ndarray) -> dict[str, float]:
    """R1, R5, R10 (shares, 0 to 1), MedianRank and MeanRank (1-based) of ranks [queries]."""
    recalls = {f"R{k}": recall_at_k(ranks_, k) for k in RECALL_CUTS}
    return recalls | {"MedianRank": median_rank(ranks_), "MeanRank": mean_rank(ranks_)}


def retrieval_metrics(scores: np.ndarray) -> dict[str, float]:
    """`rank_metrics` of a [queries, clips] similarity."""
    return rank_metrics(ranks(scores))


def chance_metrics(num_clips: int) -> dict[str, float]:
    """What `rank_metrics` expects of a uniformly random order of `num_clips` clips."""
    if num_clips < 1:
        return {}
    recalls = {f"R{k}": min(1.0, k / num_clips) for k in RECALL_CUTS}
    return recalls | {"MedianRank": (num_clips + 1) / 2, "MeanRank": (num_clips + 1) / 2}


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of rows whose label is among the last k of an ascending, stable sort of the scores.

    Equal scores are therefore taken from the highest column down, unlike in `ranks`: published.

    Args:
      scores: [rows, classes].
      labels: int [rows] or [rows, 1].
      k: number of guesses; with k >= classes the result is 1.
    """
    backwards = np.asarray(scores)[..., ::-1]
    return recall_at_k(ranks(backwards, backwards.shape[-1] - 1 - np.asarray(labels)), k)


def multilabel_scores(scores: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Average precision, area under the ROC curve and d' of every class.

    d' is sqrt(2) times the normal quantile of the area: 0 at chance, infinite for a perfect order
    and minus infinite for a perfectly wrong one.

    Args:
      scores: [rows, classes]; only the order within a class matters.
      labels: [rows, classes], 1 where the row has the class, else 0.

    Returns:
      "AP", "AUC" and "d-prime", float64 [classes]; NaN for a class without positives or without
      negatives, where there is nothing to rank, and for a class with a NaN score.

    Raises:
      ValueError: shapes that differ, or labels other than 0 and 1.
    """
    from sklearn import metrics  # a second to import, and only needed here

    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(
            f"scores have shape {scores.shape} and labels {labels.shape}; "
            "accepted: [rows, classes] for both"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels hold values other than 0 and 1: neither smoothed nor mixed ones")
    precision, area = np.full((2, scores.shape[1]), np.nan)
    for column in np.flatnonzero(_rankable(labels) & ~np.isnan(scores).any(axis=0)):
        truth, values = labels[:, column], scores[:, column]
        precision[column] = metrics.average_precision_score(truth, values)
        area[column] = metrics.roc_auc_score(truth, values)
    return {"AP": precision, "AUC": area, "d-prime": d_prime(area)}


def multilabel_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Means of `multilabel_scores` over the classes that have positives and negatives.

    Returns:
      "mAP", "AUC" and "d-prime", with "classes_left_out", the number of other classes. A mean is
      NaN if no class is left or one has a NaN score.
    """
    by_class, kept = multilabel_scores(scores, labels), _rankable(labels)
    means = {name: mean(values[kept]) for name, values in by_class.items()}
    return {"mAP": means.pop("AP"), **means, "classes_left_out": float(np.sum(~kept))}


def d_prime(area: np.ndarray) -> np.ndarray:
    """sqrt(2) times the normal quantile of areas under the ROC curve, float64."""
    areas = np.asarray(area, np.float64)
    limits = {0.0: -math.inf, 1.0: math.inf}
    quantiles = [limits[a] if a in limits else NormalDist().inv_cdf(a) for a in areas.flat]
    return math.sqrt(2.0) * np.reshape(quantiles, areas.shape)


def top_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best columns of every row, best first, ties by position: int64 [rows, <= k]."""
    return np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]


def attribute_top1(
    scores: np.ndarray, attributes: Mapping[str, Sequence[str | None]]
) -> dict[str, float]:
    """For each attribute the share of queries whose best match has the query's value.

    It tells what a model knows when it misses the very clip: one that sees colour and nothing else
    has a high value for colour and chance for the rest.

    Args:
      scores: [queries, clips], truth on the diagonal.
      attributes: attribute name -> value of each clip; None where a clip has none. Queries
        without a value are left out; a match without a value is wrong.

    Returns:
      Attribute name -> share; NaN where no query has the attribute or a score is NaN.
    """
    scores = np.asarray(scores)
    best = scores.argmax(axis=1) if scores.size else np.zeros(0, np.int64)
    best = np.where(np.isnan(scores).any(axis=1), -1, best)
    for name, values in attributes.items():
        if len(values) != scores.shape[1]:
            raise ValueError(f"{name}: {len(values)} values for {scores.shape[1]} clips")
    return attribute_agreement(best, attributes)


def attribute_agreement(
    best: np.ndarray,
    attributes: Mapping[str, Sequence[str | None]],
    queries: Sequence[int] | None = None,
) -> dict[str, float]:
    """`attribute_top1` of best matches int [clips], of which -1 says that there is none.

    `queries` are the numbers of the clips that were asked with; None means all.
    """
    queries = range(len(best)) if queries is None else queries
    broken = any(best[i] < 0 for i in queries)
    shares = {}
    for name, values in attributes.items():
        right = [values[best[i]] == values[i] for i in queries if values[i] is not None]
        shares[name] = float(np.mean(right)) if right and not broken else float("nan")
    return shares


def attribute_chance(
    attributes: Mapping[str, Sequence[str | None]],
    queries: Sequence[int] | None = None,
    gallery: Sequence[int] | None = None,
) -> dict[str, float]:
    """`attribute_top1` expected of a match drawn uniformly from the clips of `gallery`.

    `queries` and `gallery` are numbers of clips; None means all.
    """
    shares = {}
    for name, values in attributes.items():
        candidates = values if gallery is None else [values[i] for i in gallery]
        counts = Counter(candidates)
        asked = values if queries is None else [values[i] for i in queries]
        alike = [counts[value] for value in asked if value is not None]
        chances = len(alike) * len(candidates)
        shares[name] = sum(alike) / chances if chances else float("nan")
    return shares


def _rankable(labels: np.ndarray) -> np.ndarray:
    """Which classes of 0 / 1 labels, [rows, classes], have positives and negatives."""
    positive = np.asarray(labels) == 1
    return positive.any(axis=0) & ~positive.all(axis=0)


def mean(values: np.ndarray) -> float:
    """Mean of all values, NaN of none."""
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, and no news
        return float(np.mean(values)) if values.size else float("nan")


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of figures of several folds (divided by n - 1); None of one."""
    with np.errstate(invalid="ignore"):
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _windows_axis(embeddings: np.ndarray, what: str) -> np.ndarray:
    embeddings = np.asarray(embeddings)
    if embeddings.ndim == 2:
        return embeddings[:, None, :]
    if embeddings.ndim != 3:
        raise ValueError(
            f"{what} have shape {embeddings.shape}; accepted: [rows, d] or [rows, windows, d]"
        )
    return embeddings


def check_one_space(queries: np.ndarray, clips: np.ndarray) -> None:
    """Raises ValueError for embeddings of different widths."""
    if queries.shape[-1] != clips.shape[-1]:
        raise ValueError(
            f"queries have {queries.shape[-1]} dimensions and clips {clips.shape[-1]}: "
            "both must come from the same common space"
        )
