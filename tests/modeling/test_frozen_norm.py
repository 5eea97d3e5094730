"""Batch norm whose statistics are frozen: as in evaluation, with scales and offsets that learn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt.modeling.layers import batch_norm

OPTIONS = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": False}


def test_frozen_statistics_are_those_of_evaluation_and_stay():
    model = keras.Sequential([keras.Sequential([batch_norm.make(OPTIONS, "norm")])])
    model.build((None, 3))
    x = np.random.default_rng(0).normal(2, 3, (8, 3)).astype(np.float32)
    model(x, training=True)
    statistics = [v.numpy() for v in model.non_trainable_variables]
    assert np.abs(statistics[0]).max() > 0.1  # they have moved
    assert batch_norm.freeze(model) == 1
    with tf.GradientTape() as tape:
        frozen = model(x, training=True)
        loss = tf.reduce_sum(frozen**2)
    np.testing.assert_array_equal(frozen, model(x, training=False))
    for before, variable in zip(statistics, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy())
    assert len(model.trainable_variables) == 2
    for gradient in tape.gradient(loss, [v.value for v in model.trainable_variables]):
        assert np.abs(gradient).max() > 0


def test_nothing_to_freeze():
    assert batch_norm.freeze(keras.Sequential([keras.layers.Dense(2)])) == 0


@pytest.mark.parametrize("unbiased", [False, True])
def test_others_move_as_before(unbiased):
    layer = batch_norm.BatchNorm(unbiased=unbiased, momentum=0.5, name="norm")
    layer.build((None, 2))
    layer(np.array([[0.0, 0.0], [2.0, 4.0]], np.float32), training=True)
    np.testing.assert_allclose(layer.moving_mean, [0.5, 1.0])
