"""Sampling and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.data import sampling


def test_seeds_are_functions_of_everything_folded():
    root = sampling.root_seed(5)
    seeds = {
        tuple(sampling.fold(root, a, b).numpy()) for a in range(4) for b in (0, 1, 2**40, 2**40 + 1)
    }
    assert len(seeds) == 16
    assert tuple(sampling.fold(root, 1, 2).numpy()) in {
        tuple(sampling.fold(sampling.fold(sampling.root_seed(5), 1), 2).numpy())
    }
    for seed in (0, -1, 2**31, 2**63, 12345678901234567890):
        assert sampling.root_seed(seed).shape == (2,)
    assert (sampling.root_seed(1) != sampling.root_seed(2**32 + 1)).numpy().any()


def test_draws_are_equal_in_graph_and_eager():
    def draws(seed):
        rows = sampling.seeds_per_use(seed)
        return sampling.uniform(rows[0], (5,)), sampling.permutation(rows[1], 9)

    seed = sampling.fold(sampling.root_seed(3), 7)
    for eager, graph in zip(draws(seed), tf.function(draws)(seed), strict=True):
        np.testing.assert_array_equal(eager, graph)


def test_random_offset_reaches_every_start_and_no_more():
    root = sampling.root_seed(0)
    offsets = tf.map_fn(
        lambda i: sampling.random_offset(sampling.fold(root, i), tf.constant(12), 4, 3),
        tf.range(200),
    )
    assert set(offsets.numpy().tolist()) == {0, 1, 2}  # 12 - 3 * 3 starts
    assert sampling.random_offset(root, tf.constant(3), 4, 3) == 0


def test_scaled_below_stays_below():
    largest = np.nextafter(np.float32(1), np.float32(0))
    for limit in (1, 2, 3, 1000, 2**22 + 1):
        assert sampling.scaled_below(tf.constant(largest), tf.constant(limit)) == limit - 1
        assert sampling.scaled_below(tf.constant(0.0), tf.constant(limit)) == 0


def test_synchronised_offset():
    def start(offset, length=100, other=16000, steps=1600, stride=1):
        return int(
            sampling.synchronised_offset(
                tf.constant(offset), tf.constant(length), tf.constant(other), steps, stride
            )
        )

    assert start(0) == 0
    assert start(50) == 8000
    assert start(33) == 5280
    assert start(99) == 16000 - 1600  # the last start that needs no loop
    assert start(50, other=100, steps=1600) == 0


def test_permutation_holds_every_number_once():
    order = sampling.permutation(sampling.root_seed(1), 50).numpy()
    assert sorted(order) == list(range(50))
    assert (order != np.arange(50)).any()


def test_seeds_of_clips_and_views():
    seed = sampling.fold(sampling.root_seed(3), 7)
    seeds = sampling.view_seeds(seed, 3, 2).numpy()
    assert seeds.shape == (3, 2, sampling.ROWS, 2)
    np.testing.assert_array_equal(seeds[0, 0], sampling.seeds_per_use(seed))
    np.testing.assert_array_equal(seeds[:2, :1], sampling.view_seeds(seed, 2))
    of_clip, of_view = sampling.OF_CLIP, [r for r in range(16) if r not in sampling.OF_CLIP]
    assert set(of_clip) == {sampling.OFFSET, sampling.CAPTIONS, sampling.SHIFT}
    np.testing.assert_array_equal(seeds[:, 0, of_clip], seeds[:, 1, of_clip])
    assert len({row.tobytes() for row in seeds[:, 0, of_clip].reshape(-1, 2)}) == 3 * 3
    assert len({row.tobytes() for row in seeds[:, :, of_view].reshape(-1, 2)}) == 3 * 2 * 13
    with pytest.raises(ValueError, match="clips is 0"):
        sampling.view_seeds(seed, 0)
