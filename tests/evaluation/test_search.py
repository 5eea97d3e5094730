"""Search block by block against brute force and against the whole matrix of scores."""

from __future__ import annotations

import numpy as np
import pytest

from vatt.evaluation import metrics
from vatt.evaluation.search import search


def brute_force_rank(row: np.ndarray, target: int) -> int:
    order = sorted(range(len(row)), key=lambda column: (-row[column], column))
    return order.index(target) + 1


@pytest.mark.parametrize("block", [64, 128, 4096])
@pytest.mark.parametrize(("rows", "columns"), [(150, 150), (70, 200), (200, 70), (1, 1)])
def test_search_by_blocks_equals_the_ranks_of_the_whole_matrix(block, rows, columns):
    rng = np.random.default_rng(rows + columns)
    left, right = (rng.integers(-1, 2, (n, 4)).astype(np.float32) for n in (rows, columns))
    scores = left @ right.T  # small integers: exact, and full of ties
    pairs = min(rows, columns)
    forth, back = search(left, right, block=block)
    for found, matrix in ((forth, scores), (back, scores.T)):
        expected = [brute_force_rank(row, i) for i, row in enumerate(matrix[:pairs])]
        np.testing.assert_array_equal(found.ranks[:pairs], expected)
        np.testing.assert_array_equal(found.ranks[:pairs], metrics.ranks(matrix[:pairs]))
        shared = metrics.ranks(matrix[:pairs], ties="mean")
        np.testing.assert_array_equal(found.shared[:pairs], shared)
        assert np.isnan(found.shared[pairs:]).all()
        assert np.isnan(found.ranks[pairs:]).all() and len(found.ranks) == len(matrix)
        np.testing.assert_array_equal(found.best, metrics.top_columns(matrix, 1)[:, 0])


def test_search_in_float64():
    rng = np.random.default_rng(8)
    truth = rng.normal(size=(300, 16))
    left, right = (truth + 2 * rng.normal(size=(300, 16)) for _ in range(2))
    forth, back = search(left, right, block=64)
    np.testing.assert_array_equal(forth.ranks, metrics.ranks(left @ right.T))
    np.testing.assert_array_equal(back.ranks, metrics.ranks(right @ left.T))


def test_search_does_not_depend_on_the_order_of_the_clips():
    rng = np.random.default_rng(9)
    left, right = rng.normal(size=(2, 200, 8))
    order = rng.permutation(200)
    one, two = search(left, right, block=64), search(left[order], right[order])
    for found, shuffled in zip(one, two, strict=True):
        np.testing.assert_array_equal(shuffled.ranks, found.ranks[order])
        np.testing.assert_array_equal(order[shuffled.best], found.best[order])


def test_equal_vectors_tie_exactly_however_the_blocks_fall():
    vector = np.random.default_rng(0).normal(size=301)
    collapsed = np.tile(vector, (333, 1))
    for found in search(collapsed, collapsed, block=64):
        np.testing.assert_array_equal(found.ranks, np.arange(1, 334))
        assert not found.best.any()
        assert metrics.rank_metrics(found.ranks) == metrics.chance_metrics(333)


def test_search_with_nan_has_no_rank_where_a_score_is_nan():
    left, right = np.eye(2 * 70)[:70], np.eye(2 * 70)[:70]
    left[66, 3] = np.nan
    forth, back = search(left, right, block=64)
    assert np.flatnonzero(np.isnan(forth.ranks)).tolist() == [66]
    assert np.isnan(back.ranks).all() and (back.best == -1).all()
    assert np.isnan(metrics.rank_metrics(forth.ranks)["MeanRank"])
    assert np.isnan(metrics.attribute_agreement(forth.best, {"a": ["x"] * 70})["a"])
    with pytest.raises(ValueError, match="common space"):
        search(np.zeros((2, 3)), np.zeros((2, 4)))
    empty, _ = search(np.zeros((0, 3)), np.zeros((5, 3)))
    assert empty.ranks.size == 0
