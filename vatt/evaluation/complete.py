"""Retrieval measured against a complete test set, whether or not all of its clips are there.

    vectors, ids = mean_by_id(embeddings, ids)      # clips of one video become one
    metrics(found.shared, total=1000)      # {"R1": .2, ..., "R50": .8, "MedianRank": ...}

The protocol of Everything at Once (arXiv:2112.04446), in which 968 clips of MSR-VTT that have sound
are counted against 1,000: a clip that is missing is a query without an answer in recalls, and
stands in nobody's way, as it is not in the gallery. Ranks are those of the clips that are there;
equal scores share the mean of their places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vatt.evaluation.metrics import mean_rank, median_rank

CUTS = (1, 5, 10, 50)
AVERAGED = ("R1", "R5", "R10")  # by the geometric mean
DROPPED = "-1"  # id of a clip that does not count


def mean_by_id(vectors: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Averages vectors of one id; leaves out those of `DROPPED`.

    Args:
      vectors: [clips, d].
      ids: of the clips.

    Returns:
      float64 [different ids, d], and the ids in their order as texts.
    """
    kept = np.asarray(ids, np.str_) != DROPPED
    names, groups, counts = np.unique(
        np.asarray(ids, np.str_)[kept], return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(names), vectors.shape[-1]), np.float64)
    np.add.at(sums, groups, np.asarray(vectors, np.float64)[kept])
    return sums / counts[:, None], names.tolist()


def metrics(ranks: np.ndarray, total: int) -> dict[str, float]:
    """Recalls among all clips of the complete set, their geometric mean, and ranks.

    Args:
      ranks: 1-based, of the clips that are there; equal scores share the mean of their places
        ("mean" of `metrics.ranks`).
      total: clips of the complete set.

    Returns:
      "R1", "R5", "R10", "R50" (shares, 0 to 1), "GeometricMean" of the first three, "MedianRank"
      and "MeanRank" of the clips that are there. NaN where there is no rank, or one is NaN.

    Raises:
      ValueError: more ranks than the complete set has clips.
    """
    ranks = np.asarray(ranks, np.float64)
    if len(ranks) > total:
        raise ValueError(f"{len(ranks)} ranks of a set that has {total} clips when complete")
    broken = not len(ranks) or np.isnan(ranks).any()
    # As published: within the first place stands only what shares it with nothing.
    shares = {f"R{k}": np.nan if broken else np.sum(_within(ranks, k)) / total for k in CUTS}
    product = np.prod([shares[name] for name in AVERAGED])
    found = {name: float(share) for name, share in shares.items()}
    found["GeometricMean"] = float(np.cbrt(product))
    return found | {"MedianRank": median_rank(ranks), "MeanRank": mean_rank(ranks)}


def chance(clips: int, total: int) -> dict[str, float]:
    """What `metrics` expects of a uniformly random order of `clips` clips."""
    shares = {f"R{k}": min(1.0, k / clips) * clips / total for k in CUTS}
    return shares | {"MedianRank": (clips + 1) / 2, "MeanRank": (clips + 1) / 2}


def _within(ranks: np.ndarray, k: int) -> np.ndarray:
    """Which 1-based ranks, perhaps halves, are among the first `k` places (0-based below `k`)."""
    return ranks == 1 if k == 1 else ranks < k + 1
