"""Convolution with batch norm, and DropBlock, against NumPy."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.conv import ConvNorm, drop_block
from vatt.modeling.random import Randomness

RANDOM = np.random.default_rng(0)
NORM = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": True}


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def convolve(x, kernel, stride, before):
    """Cross-correlation over all axes between batch and channels, float64, zeros around `x`."""
    sides = kernel.shape[:-2]
    outside = [(pad, side + stride) for pad, side in zip(before, sides, strict=True)]
    x = np.pad(np.asarray(x, np.float64), [(0, 0), *outside, (0, 0)])
    total = 0.0
    for offset in itertools.product(*(range(side) for side in sides)):
        window = tuple(slice(start, None, stride) for start in offset)
        patch = x[(slice(None), *window)]
        total = _add(total, patch @ np.asarray(kernel[offset], np.float64))
    return total


def _add(total, term):
    if isinstance(total, float):
        return term
    common = tuple(slice(0, min(a, b)) for a, b in zip(total.shape, term.shape, strict=True))
    return total[common] + term[common]


@pytest.mark.parametrize(
    ("size", "side", "stride", "centred", "before"),
    [
        ((7, 6), 3, 1, True, (1, 1)),
        ((7, 6), 3, 2, True, (1, 1)),
        ((7, 6), 3, 2, False, (1, 0)),  # 'same' pads an even axis at its end only
        ((9, 8), 7, 2, True, (3, 3)),
        ((9, 8), 7, 2, False, (3, 2)),
        ((5, 8, 7), 7, 2, False, (3, 2, 3)),
        ((3, 4, 5), 3, 1, False, (1, 1, 1)),
    ],
)
def test_unit_against_numpy(size, side, stride, centred, before):
    rank = len(size)
    unit = ConvNorm(5, (side,) * rank, (stride,) * rank, NORM, centred=centred, name="unit")
    x = normal(2, *size, 3)
    unit.build(x.shape)
    for variable in unit.variables:
        value = normal(*variable.shape)
        variable.assign(np.abs(value) if "variance" in variable.path else value)
    bn = unit.bn
    gamma, beta = np.asarray(bn.gamma), np.asarray(bn.beta)
    mean, variance = np.asarray(bn.moving_mean), np.asarray(bn.moving_variance)
    out = [-(-n // stride) for n in size]
    convolved = convolve(x, np.asarray(unit.conv.kernel), stride, before)
    convolved = convolved[(slice(None), *(slice(0, n) for n in out))]
    reference = (convolved - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    ours = np.asarray(unit(x))
    assert ours.shape == (2, *out, 5)
    np.testing.assert_allclose(ours, np.maximum(reference, 0), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("shape", "options", "freedom"),
    [
        ((6, 4), {"synchronized": True}, 0),
        ((6, 4), {"synchronized": False}, 0),
        ((3, 2, 2, 4), {"synchronized": True}, 0),
        ((3, 2, 2, 4), {"synchronized": False}, 1),
        ((2, 2, 2, 2, 4), {"synchronized": True}, 0),
        ((2, 2, 2, 2, 4), {"synchronized": False}, 1),
        ((6, 4), {"synchronized": True, "unbiased": True}, 1),
        ((6, 4), {"synchronized": False, "unbiased": True}, 1),
        ((2, 2, 2, 2, 4), {"synchronized": True, "unbiased": True}, 1),
    ],
)
def test_moving_statistics(shape, options, freedom):
    layer = batch_norm.make({**NORM, **options}, "bn")
    layer.build(shape)
    x = normal(*shape) * 2 + 3
    outputs = layer(x, training=True)
    axes = tuple(range(len(shape) - 1))
    wide = x.astype(np.float64)
    mean, variance = wide.mean(axis=axes), wide.var(axis=axes)
    np.testing.assert_allclose(
        outputs, (wide - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    kept = wide.var(axis=axes, ddof=freedom)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * kept, rtol=1e-5)


def test_norm_that_is_not_trainable_keeps_its_statistics():
    layer = batch_norm.make(NORM, "bn")
    layer.build((None, 4))
    layer.trainable = False
    x = normal(6, 4)
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + 1e-5), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(4))


def test_norm_computes_in_float32_inside_a_bfloat16_model():
    layer = batch_norm.make(NORM, "bn", dtype=keras.dtype_policies.get("mixed_bfloat16"))
    layer.build((None, 8, 4))
    before = np.array([1.001, 1.002, 1.003, 1.004])  # all 1.0 in bfloat16
    layer.moving_mean.assign(before)
    x = tf.cast(normal(64, 8, 4) + 10.0, tf.bfloat16)
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.bfloat16
    wide = np.asarray(tf.cast(x, tf.float32), np.float64)
    mean = wide.mean(axis=(0, 1))
    np.testing.assert_allclose(layer.moving_mean, 0.9 * before + 0.1 * mean, rtol=1e-6)
    scaled = (wide - mean) / np.sqrt(wide.var(axis=(0, 1)) + 1e-5)
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), scaled, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("synchronized", "options"), [(True, {}), (False, {}), (True, {"unbiased": True})]
)
def test_norm_on_two_replicas(two_replicas, synchronized, options, dtype):
    norm = {**NORM, "synchronized": synchronized, **options}
    with two_replicas.scope():
        policy = keras.dtype_policies.get(dtype)
        layer = batch_norm.make(norm, "bn", dtype=policy)
        layer.build((None, 2, 2, 2, 4))
    rows = normal(2, 3, 2, 2, 2, 4) * 2 + 1
    rows = tf.cast(tf.cast(rows, policy.compute_dtype), tf.float32)

    @tf.function(autograph=False)
    def run():
        def replica():
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            return layer(tf.gather(rows, index), training=True)

        return two_replicas.run(replica)

    outputs = np.stack(
        [tf.cast(part, tf.float32) for part in two_replicas.experimental_local_results(run())]
    )
    wide = np.asarray(rows, np.float64)
    axes = tuple(range(0 if synchronized else 1, 5))
    mean, variance = wide.mean(axis=axes, keepdims=True), wide.var(axis=axes, keepdims=True)
    atol = 1e-5 if dtype == "float32" else 0.02
    np.testing.assert_allclose(outputs, (wide - mean) / np.sqrt(variance + 1e-5), atol=atol)
    kept = variance if synchronized else variance * 24 / 23
    kept = variance * 48 / 47 if options else kept
    kept = kept.reshape(-1, 4).mean(axis=0)  # plain layers: mean over replicas
    for copy in two_replicas.experimental_local_results(layer.moving_variance.value):
        np.testing.assert_allclose(copy, 0.9 + 0.1 * kept, rtol=1e-5)
    for copy in two_replicas.experimental_local_results(layer.moving_mean.value):
        np.testing.assert_allclose(copy, 0.1 * wide.reshape(-1, 4).mean(axis=0), atol=1e-6)


def test_bfloat16_gradient_of_a_kernel_longer_than_the_clip():
    """oneDNN returned garbage here."""
    x, cotangent = normal(2, 2, 7, 7, 32), normal(2, 2, 7, 7, 16)
    gradients = []
    for dtype in ("float32", "mixed_bfloat16"):
        policy = keras.dtype_policies.get(dtype)
        unit = ConvNorm(16, (3, 3, 3), (1, 1, 1), NORM, relu=False, name="unit", dtype=policy)
        unit.build(x.shape)
        unit.conv.kernel.assign(np.linspace(-0.1, 0.1, 27 * 32 * 16).reshape(3, 3, 3, 32, 16))
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.cast(unit(x), tf.float32) * cotangent)
        gradients.append(np.asarray(tape.gradient(total, unit.conv.kernel.value)))
    exact, half = gradients
    assert np.abs(half - exact).max() < 0.02 * np.abs(exact).max()


def test_drop_block_drops_squares_in_all_channels():
    x = np.ones((6, 9, 7, 3), "float32")
    outputs = np.asarray(
        drop_block(x, 0.8, 3, training=True, rng=Randomness([1, 2]), name="a"), np.float64
    )
    assert np.all(outputs == outputs[..., :1])
    gone = outputs[..., 0] == 0
    assert 0.02 < gone.mean() < 0.5
    for row, y, column in np.argwhere(gone):  # every dropped position lies in a dropped square
        squares = [
            gone[row, top : top + 3, left : left + 3].all()
            for top in range(max(0, y - 2), min(y, 6) + 1)
            for left in range(max(0, column - 2), min(column, 4) + 1)
        ]
        assert any(squares)


@pytest.mark.parametrize(("keep_prob", "size"), [(0.9, 1), (0.9, 3), (0.8, 7), (0.5, 2)])
def test_drop_block_keeps_its_share_and_the_mean(keep_prob, size):
    x = np.ones((4000, 6, 5, 1), "float32")
    rng = Randomness([3, 4])
    outputs = np.asarray(drop_block(x, keep_prob, size, training=True, rng=rng, name="a"))
    assert abs((outputs > 0).mean() - keep_prob) < 0.1  # approximate where squares overlap
    assert abs(outputs.mean() - 1.0) < 0.02


def test_drop_block_of_a_row_does_not_depend_on_the_batch():
    x = normal(6, 8, 8, 2)

    def run(rows, first):
        rng = Randomness([1, 2], first_row=first)
        return np.asarray(drop_block(x[rows], 0.7, 2, training=True, rng=rng, name="a"))

    whole = run(slice(0, 6), 0)
    np.testing.assert_array_equal(run(slice(2, 6), 2), whole[2:])


def test_drop_block_costs_nothing_when_off():
    x = tf.constant(normal(2, 4, 4, 1))
    assert drop_block(x, 0.5, 2, training=False, rng=None, name="a") is x
    assert drop_block(x, 1.0, 2, training=True, rng=None, name="a") is x
