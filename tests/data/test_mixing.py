"""Mixup: which rows are mixed, by which shares."""

import numpy as np
import tensorflow as tf

from vatt.data import mixing, sampling


def seed():
    return sampling.root_seed(3)


def test_by_rows_every_row_has_its_own_share_and_partner():
    batch = np.eye(8, dtype=np.float32)
    how = mixing.by_rows(seed(), 8, 10.0, 2.0)
    mixed = mixing.mixed(tf.constant(batch[:, :, None]), *how).numpy()[..., 0]
    np.testing.assert_allclose(mixed.sum(axis=0), 1, atol=0.6)  # every row is someone's partner
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)
    shares, order = (value.numpy() for value in mixing.by_rows(seed(), 2000, 10.0, 2.0))
    assert sorted(order) == list(range(2000))
    assert abs(shares.mean() - 10 / 12) < 0.01 and len(set(shares)) > 1900


def test_by_batch_one_share_and_the_reversed_batch():
    share, order = mixing.by_batch(seed(), 6, 0.5)
    assert share.shape == (1,) and 0 < float(share[0]) < 1
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    expected = float(share[0]) * x + (1 - float(share[0])) * x[::-1]
    np.testing.assert_allclose(mixing.mixed(tf.constant(x), share, order), expected, rtol=1e-6)
    # Beta(0.5, 0.5) has half of its mass below 0.146 and above 0.854.
    seeds = (sampling.fold(seed(), number) for number in range(400))
    shares = np.array([float(mixing.by_batch(one, 2, 0.5)[0][0]) for one in seeds])
    assert abs(np.mean((shares < 0.1464) | (shares > 0.8536)) - 0.5) < 0.1
    assert abs(shares.mean() - 0.5) < 0.1


def test_draws_are_functions_of_the_seed():
    for draw in (lambda s: mixing.by_rows(s, 5, 1.0, 1.0), lambda s: mixing.by_batch(s, 5, 1.0)):
        first, again, other = draw(seed()), draw(seed()), draw(sampling.fold(seed(), 1))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert not np.array_equal(first[0], other[0])
