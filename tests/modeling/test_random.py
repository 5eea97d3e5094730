"""Randomness: exact rates, independence of the replica split, reproducibility."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.modeling.layers.dropout import dropout
from vatt.modeling.random import Randomness

SEED = [17, 3]


def mask(rng, shape, rate=0.3):
    return np.asarray(rng.dropout_mask(shape, rate))


def test_rate_is_exact():
    kept = mask(Randomness(SEED), (64, 500, 50), rate=0.1)
    assert abs(kept.mean() - 0.9) < 4 * np.sqrt(0.09 / kept.size)


@pytest.mark.parametrize("axis", [0, 1])
def test_rate_holds_along_every_row_and_column(axis):
    kept = mask(Randomness(SEED), (2000, 2000), rate=0.5)
    deviation = np.abs(kept.mean(axis=axis) - 0.5) / np.sqrt(0.25 / 2000)
    assert deviation.max() < 5.5
    # The means scatter as those of independent draws do: neither too much nor too little.
    assert 0.8 < np.std(kept.mean(axis=axis)) / np.sqrt(0.25 / 2000) < 1.2


def test_rows_and_elements_are_uncorrelated():
    kept = mask(Randomness(SEED), (256, 4096), rate=0.5).astype(np.float64) - 0.5
    between_rows = kept @ kept.T / kept.shape[1] / 0.25
    np.fill_diagonal(between_rows, 0.0)
    assert np.abs(between_rows).max() < 6 / np.sqrt(kept.shape[1])


def test_places_on_the_inner_axes_are_uncorrelated():
    """As entries of attention are: heads, queries and keys, alone, in pairs and in rectangles."""
    kept = mask(Randomness(SEED), (2, 4, 64, 512), rate=0.5).astype(np.float64) - 0.5
    flat = 2 * kept.reshape(-1, 512)
    between = flat @ flat.T / 512
    np.fill_diagonal(between, 0.0)
    assert np.abs(between).max() < 6 / np.sqrt(512)
    assert 0.9 < np.std(between) * np.sqrt(512) < 1.1  # as those of independent draws
    columns = flat.T @ flat / len(flat)
    np.fill_diagonal(columns, 0.0)
    assert np.abs(columns).max() < 6 / np.sqrt(len(flat))
    rectangles = flat[:-1, :-1] * flat[1:, :-1] * flat[:-1, 1:] * flat[1:, 1:]
    assert abs(rectangles.mean()) < 5 / np.sqrt(rectangles.size)
    triples = flat[:-2] * flat[1:-1] * flat[2:]
    assert abs(triples.mean()) < 5 / np.sqrt(triples.size)


def test_mask_does_not_depend_on_the_replica_split():
    whole = mask(Randomness(SEED), (8, 5, 6))
    halves = [mask(Randomness(SEED, first_row=r), (4, 5, 6)) for r in (0, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_text_rows_follow_their_clips():
    whole = mask(Randomness(SEED).rows(3), (24, 7))
    halves = [mask(Randomness(SEED, first_row=r).rows(3), (12, 7)) for r in (0, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_places_and_steps_differ():
    root = Randomness(SEED)
    masks = [
        mask(r, (4, 1000), 0.5) for r in (root.child("a"), root.child("b"), Randomness([17, 4]))
    ]
    for i in range(3):
        for j in range(i):
            assert abs((masks[i] == masks[j]).mean() - 0.5) < 0.1
    np.testing.assert_array_equal(masks[0], mask(Randomness(SEED).child("a"), (4, 1000), 0.5))


def test_permutation_is_one():
    order = np.asarray(Randomness(SEED).permutation(100))
    assert sorted(order) == list(range(100))
    assert list(order) != list(range(100))


def test_permutations_of_rows_are_their_own_and_do_not_depend_on_the_replica_split():
    whole = np.asarray(Randomness(SEED).permutations(8, 50))
    assert (np.sort(whole) == np.arange(50)).all()
    assert len(np.unique(whole, axis=0)) == 8
    halves = [np.asarray(Randomness(SEED, first_row=r).permutations(4, 50)) for r in (0, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    # Each place comes first as often as any other.
    first = np.asarray(Randomness(SEED).permutations(6000, 6))[:, 0]
    assert np.abs(np.bincount(first, minlength=6) / 1000 - 1).max() < 0.15


def test_graph_and_xla_agree():
    def draw(seed):
        rng = Randomness(seed, first_row=2).child("x")
        return rng.dropout_mask((4, 33), 0.5), rng.permutation(20)

    seed = tf.constant(SEED)
    eager = draw(seed)
    for jit in (False, True):
        for one, two in zip(eager, tf.function(draw, jit_compile=jit)(seed), strict=True):
            np.testing.assert_array_equal(one, two)


def test_dropout_keeps_the_mean_and_costs_nothing_when_off():
    x = tf.ones((50, 1000))
    dropped = dropout(x, 0.25, training=True, rng=Randomness(SEED), name="x")
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert abs(float(tf.reduce_mean(dropped)) - 1.0) < 0.01
    assert dropout(x, 0.0, training=True, rng=None, name="x") is x
    assert dropout(x, 0.5, training=False, rng=None, name="x") is x


def test_missing_randomness_is_named():
    with pytest.raises(ValueError, match=r"dropout .*rng=Randomness"):
        dropout(tf.ones((2, 2)), 0.5, training=True, rng=None, name="x")
