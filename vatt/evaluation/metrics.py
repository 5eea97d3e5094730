"""Retrieval and ranking metrics, NumPy only.

    scores = similarity(text, clips, "embd")            # [queries, clips]
    retrieval_metrics(scores)                           # {"R1": .4, "R5": .7, "R10": .8, ...}
    attribute_top1(scores, {"colour": ["red", ...]})    # {"colour": .9}

A query's true clip has the query's own row number: the truth is the diagonal of the matrix.

Ties are broken by position, the lower column first, as a stable sort of the negated scores does.
The order is therefore the same on every machine, and a collapsed model whose scores are all equal
lands exactly at chance (row i gets rank i + 1) instead of at the top. A row with a NaN has no rank:
its rank is NaN and so is every metric computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

RECALL_CUTS = (1, 5, 10)
Variant = Literal["embd", "cosine"]


def normalize(embeddings: np.ndarray) -> np.ndarray:
    """Divides the last axis by its Euclidean norm, in float64; zero vectors stay zero."""
    embeddings = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(norms == 0.0, 1.0, norms)


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
        variant: "embd" averages the windows first and normalises the averages; "cosine" normalises
            every window and averages the similarities (VATT evaluation, both reported).
        normalized: False leaves the embeddings as they are in both variants.
        published_single_window: True repeats the published behaviour of leaving "embd" without
            normalisation when the clips have one window only (docs/differences.md).

    Returns:
        float32 [queries, clips].

    Raises:
        ValueError: an unknown variant, or embeddings whose shapes do not fit together.
    """
    if variant not in ("embd", "cosine"):
        raise ValueError(f"variant is {variant!r}; accepted: 'embd', 'cosine'")
    queries, clips = _windows_axis(queries, "queries"), _windows_axis(clips, "clips")
    if queries.shape[-1] != clips.shape[-1]:
        raise ValueError(
            f"queries have {queries.shape[-1]} dimensions and clips {clips.shape[-1]}: "
            "both must come from the same common space"
        )
    if published_single_window and variant == "embd" and clips.shape[1] == 1:
        normalized = False
    # The mean of all window-to-window products is the product of the window means, so one matrix
    # product serves both variants and nothing of the size [queries, clips, windows] is made.
    if normalized and variant == "cosine":
        queries, clips = normalize(queries), normalize(clips)
    queries, clips = queries.mean(axis=1, dtype=np.float64), clips.mean(axis=1, dtype=np.float64)
    if normalized and variant == "embd":
        queries, clips = normalize(queries), normalize(clips)
    return queries.astype(np.float32) @ clips.astype(np.float32).T  # [queries, clips]


def ranks(scores: np.ndarray, targets: np.ndarray | None = None) -> np.ndarray:
    """1-based rank of the target column in every row, the highest score first.

    Args:
        scores: [rows, columns].
        targets: int [rows], the column looked for; None means the diagonal.

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
    earlier = np.arange(columns)[None, :] < targets[:, None]
    ahead = (scores > own) | ((scores == own) & earlier)
    result = 1.0 + ahead.sum(axis=1)
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


def retrieval_metrics(scores: np.ndarray) -> dict[str, float]:
    """R1, R5, R10 (shares, 0 to 1) and MedianRank (1-based) of a [queries, clips] similarity."""
    found = ranks(scores)
    metrics = {f"R{k}": recall_at_k(found, k) for k in RECALL_CUTS}
    return metrics | {"MedianRank": median_rank(found)}


def chance_metrics(num_clips: int) -> dict[str, float]:
    """What `retrieval_metrics` expects of a uniformly random order of `num_clips` clips."""
    if num_clips < 1:
        return {}
    metrics = {f"R{k}": min(1.0, k / num_clips) for k in RECALL_CUTS}
    return metrics | {"MedianRank": (num_clips + 1) / 2}


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of rows whose label is among the k highest scores.

    Args:
        scores: [rows, classes].
        labels: int [rows] or [rows, 1].
        k: number of guesses; with k >= classes the result is 1.
    """
    return recall_at_k(ranks(scores, labels), k)


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
    broken = bool(np.isnan(scores).any())
    best = scores.argmax(axis=1) if scores.size else np.zeros(0, np.int64)
    shares = {}
    for name, values in attributes.items():
        if len(values) != scores.shape[1]:
            raise ValueError(f"{name}: {len(values)} values for {scores.shape[1]} clips")
        right = [values[best[i]] == values[i] for i in range(len(best)) if values[i] is not None]
        shares[name] = float(np.mean(right)) if right and not broken else float("nan")
    return shares


def attribute_chance(attributes: Mapping[str, Sequence[str | None]]) -> dict[str, float]:
    """`attribute_top1` expected of a match drawn uniformly from all clips."""
    shares = {}
    for name, values in attributes.items():
        counts: dict[str, int] = {}
        for value in values:
            if value is not None:
                counts[value] = counts.get(value, 0) + 1
        queries = sum(counts.values())
        agree = sum(count * count for count in counts.values())
        shares[name] = agree / (queries * len(values)) if queries else float("nan")
    return shares


def _windows_axis(embeddings: np.ndarray, what: str) -> np.ndarray:
    embeddings = np.asarray(embeddings)
    if embeddings.ndim == 2:
        return embeddings[:, None, :]
    if embeddings.ndim != 3:
        raise ValueError(
            f"{what} have shape {embeddings.shape}; accepted: [rows, d] or [rows, windows, d]"
        )
    return embeddings
