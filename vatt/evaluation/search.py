"""Ranks in galleries whose scores do not fit into memory, both directions at once.

    forth, back = search(window_mean(text), window_mean(clips))
    rank_metrics(forth.ranks), attribute_agreement(forth.best, {"colour": ["red", ...]})

The same figures as from a whole matrix of `vatt.evaluation.metrics.similarity`, ties too.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vatt.evaluation import metrics

SEARCH_BLOCK = 2048  # rows and columns of scores held at once, at most 65535


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search in one direction found.

    Attributes:
      ranks: float64 [queries], 1-based rank of each query's own partner; NaN without a partner or
        where a score is NaN.
      best: int64 [queries], the partner with the highest score; -1 where a score is NaN.
      shared: as `ranks`, but equal scores share the mean of the places that they take.
    """

    ranks: np.ndarray
    best: np.ndarray
    shared: np.ndarray


def search(
    left: np.ndarray,
    right: np.ndarray,
    *,
    absent: tuple[np.ndarray, np.ndarray] | None = None,
    block: int = SEARCH_BLOCK,
) -> tuple[Found, Found]:
    """Ranks of the partners when the rows of `left` are looked for in `right`, and the reverse.

    Row i of the one side is the partner of row i of the other; rows beyond the shorter side have
    none and only stand in the way. Scores are the products of `left` and `right`, of which one
    block is held at a time: beside the arguments, memory is 14 bytes * block^2 and a few numbers
    per row. Ties as in `ranks`.

    Args:
      left: [rows, d].
      right: [columns, d].
      absent: which rows of `left` and of `right` do not exist, bool [rows] and [columns]: nothing
        finds them, and they are not looked for. What they find themselves means nothing.
      block: rows and columns of scores held at once.

    Returns:
      What rows of `left` find in `right`, and what rows of `right` find in `left`.

    Raises:
      ValueError: sides of different widths.
    """
    left, right = np.asarray(left, np.float32), np.asarray(right, np.float32)
    metrics.check_one_space(left, right)
    # Equal vectors must have equal scores wherever they stand. The order in which a matrix product
    # sums depends on the place in the matrix (on some processors even within one tile), so sums are
    # made in float64 and rounded, over tiles of one shape, filled up with zeros.
    side = min(block, max(len(left), len(right), 1))
    side = -(-side // 64) * 64
    tiles = np.zeros((2, side, left.shape[-1]), np.float64)
    product = np.empty((side, side), np.float64)

    def scores(row: int, column: int) -> np.ndarray:
        counts = []
        for tile, vectors, start in ((tiles[0], left, row), (tiles[1], right, column)):
            part = vectors[start : start + side]
            tile[: len(part)], tile[len(part) :] = part, 0.0
            counts.append(len(part))
        np.matmul(tiles[0], tiles[1].T, out=product)
        return product[: counts[0], : counts[1]].astype(np.float32)

    pairs = min(len(left), len(right))
    truth = np.zeros(pairs, np.float32)
    for start in range(0, pairs, side):
        diagonal = scores(start, start).diagonal()
        truth[start : start + len(diagonal)] = diagonal
    forth, back = _Search(len(left), truth), _Search(len(right), truth)
    no_left, no_right = absent or (np.zeros(0, bool), np.zeros(0, bool))
    for row in range(0, len(left), side):
        for column in range(0, len(right), side):
            found = scores(row, column)
            hidden_left, hidden_right = no_left[row : row + side], no_right[column : column + side]
            forth.add(_without(found, hidden_right[None, :]), row, column, axis=1)
            back.add(_without(found, hidden_left[:, None]), column, row, axis=0)
    return forth.found(), back.found()


def _without(scores: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Scores in which what is absent stands behind everything."""
    return np.where(absent, np.float32(-np.inf), scores) if absent.any() else scores


class _Search:
    """Counts, block by block, what stands ahead of the partner of each query."""

    def __init__(self, queries: int, truth: np.ndarray) -> None:
        self._truth = np.full(queries, np.nan, np.float32)  # compares as false without a partner
        self._truth[: len(truth)] = truth
        self._pairs = len(truth)
        self._ahead, self._tied, self._tied_before = np.zeros((3, queries), np.int64)
        self._top = np.full(queries, -np.inf, np.float32)
        self._best = np.zeros(queries, np.int64)
        self._broken = np.zeros(queries, bool)

    def add(self, scores: np.ndarray, start: int, other: int, axis: int) -> None:
        """Adds candidates from number `other` on along `axis`, for queries from `start` on."""
        queries = slice(start, start + scores.shape[1 - axis])
        own = np.expand_dims(self._truth[queries], axis)
        tied = scores == own
        self._ahead[queries] += _counted(scores > own, axis)
        self._tied[queries] += _counted(tied, axis)
        if other < start:
            self._tied_before[queries] += _counted(tied, axis)
        elif other == start:
            lower = np.tri(*scores.shape, -1, dtype=bool)
            earlier = lower if axis == 1 else np.tri(*scores.shape[::-1], -1, dtype=bool).T
            self._tied_before[queries] += _counted(tied & earlier, axis)
        value = scores.max(axis=axis)
        self._broken[queries] |= np.isnan(value)
        better = np.flatnonzero(value > self._top[queries])
        self._top[queries][better] = value[better]
        self._best[queries][better] = other + scores.take(better, 1 - axis).argmax(axis)

    def found(self) -> Found:
        ranks_ = 1.0 + self._ahead + np.stack([self._tied_before, (self._tied - 1) / 2])
        ranks_[:, self._pairs :] = np.nan
        ranks_[:, self._broken] = np.nan
        return Found(ranks_[0], np.where(self._broken, -1, self._best), ranks_[1])


def _counted(which: np.ndarray, axis: int) -> np.ndarray:
    return which.view(np.uint8).sum(axis=axis, dtype=np.uint16)
