"""Pooling over time and projection heads against independent NumPy computations."""

from __future__ import annotations

from math import erf

import keras
import numpy as np
import pytest

from vatt.configs.model import ProjectionConfig
from vatt.modeling import flops
from vatt.modeling.layers import dense, pooling, projection
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.random import Randomness

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("f4")


def randomised(layer):
    for variable in layer.variables:
        variable.assign(normal(*variable.shape) * 0.3)
    return layer


@pytest.mark.parametrize(("length", "count"), ((4, 4), (8, 4), (7, 4), (3, 4), (2, 8), (15, 8)))
def test_bins_are_means_from_floor_to_ceil(length, count):
    x = normal(length)
    means = [
        x[int(np.floor(i * length / count)) : int(np.ceil((i + 1) * length / count))].mean()
        for i in range(count)
    ]
    np.testing.assert_allclose(pooling.bins(length, count) @ x, means, rtol=1e-5)


def numpy_layer(x, get, heads, values):
    """One post-norm layer; `get(name)` is a variable by the end of its path."""
    rows, steps, width = x.shape

    def dense(x, name):
        return x @ get(f"{name}/kernel") + get(f"{name}/bias")

    def split(x):
        return x.reshape(rows, steps, heads, width // heads).transpose(0, 2, 1, 3)

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        unit = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return unit * get(f"{name}/gamma") + get(f"{name}/beta")

    q, k = split(dense(x, "attention/q")), split(dense(x, "attention/k"))
    v = split(dense(x, "attention/v") if values else x)
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(width // heads)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(rows, steps, width)
    x = norm(x + (dense(mixed, "attention/o") if values else mixed), "attention_norm")
    inner = dense(x, "feed_forward/wi")
    inner = inner * 0.5 * (1 + np.vectorize(erf)(inner / np.sqrt(2)))
    return norm(x + dense(inner, "feed_forward/wo"), "feed_forward_norm")


@pytest.mark.parametrize("values", (False, True))
@pytest.mark.parametrize("positions", (False, True))
def test_temporal_pooling(values, positions):
    layer = pooling.TemporalPooling(
        8, 2, 2, steps=4, positions=positions, project_values=values, name="pooling"
    )
    x = normal(3, 5, 2, 3, 8)
    layer.build((None, *x.shape[1:]))
    randomised(layer)
    stored = {v.path: v.numpy().astype("f8") for v in layer.variables}
    assert any("attention/v/" in path for path in stored) == values
    sequence = np.einsum("st,ntc->nsc", pooling.bins(5, 4), x.mean(axis=(2, 3)).astype("f8"))
    if positions:
        sequence = sequence + stored["pooling/positions/embeddings"][:4]
    for index in range(2):
        start = f"pooling/encoder/layer_{index}/"
        sequence = numpy_layer(sequence, lambda name, s=start: stored[s + name], 2, values)
    np.testing.assert_allclose(layer(x), sequence[:, 0], atol=2e-5)


def test_pooling_without_layers_is_the_mean_of_any_map():
    layer = pooling.TemporalPooling(8, 0, positions=True, name="pooling")
    layer.build((None, 4, 7, 7, 8))
    x = normal(2, 3, 4, 5, 8)
    assert not layer.variables
    np.testing.assert_allclose(layer(x), x.mean(axis=(1, 2, 3)), atol=1e-6)
    rebuilt = pooling.TemporalPooling.from_config(layer.get_config())
    assert rebuilt.encoder is None and rebuilt.steps == 4


def test_pooling_begins_as_published():
    keras.utils.set_random_seed(0)
    layer = pooling.TemporalPooling(64, 2, positions=True, name="pooling")
    layer.build((None, 4, 1, 1, 64))
    values = {v.path: v.numpy() for v in layer.variables}
    kernels = [v for path, v in values.items() if path.endswith("kernel")]
    assert all(abs(k.std() - 0.02) < 2e-3 for k in kernels)
    assert not np.array_equal(
        *(values[f"pooling/encoder/layer_0/attention/{n}/kernel"] for n in "qk")
    )
    assert all(not v.any() for path, v in values.items() if path.endswith("bias"))
    assert abs(values["pooling/positions/embeddings"].std() - 1) < 0.05


def test_dropout_of_the_pooling_leaves_the_feed_forward_part_alone():
    options = EncoderOptions(1, 8, 2, 4, 16, dropout_rate=0.5, feed_forward_dropout=False)
    (block,) = Encoder(options, name="encoder").blocks
    assert block.feed_forward.dropout_rate == 0.0 and block.attention.dropout_rate == 0.5
    with_all = EncoderOptions(1, 8, 2, 4, 16, dropout_rate=0.5)
    assert Encoder(with_all, name="encoder").blocks[0].feed_forward.dropout_rate == 0.5


def test_products_of_unprojected_values_are_not_counted():
    def forward(values):
        layer = pooling.TemporalPooling(8, 1, 2, steps=4, project_values=values, name="pooling")
        return flops.pooling(layer).forward

    assert forward(True) - forward(False) == 2 * 4 * 8 * 8 * 2


# Heads -------------------------------------------------------------------------------------------


def head(**fields):
    config = ProjectionConfig(d_model=4, d_hidden=6, **fields)
    layer = projection.build(config, name="head")
    layer.build((None, 5))
    for variable in layer.variables:
        low = 0.5 if "variance" in variable.path else -1.0
        variable.assign(RANDOM.uniform(low, 1.0, size=variable.shape))
    return layer, {v.path.removeprefix("head/"): v.numpy() for v in layer.variables}


def numpy_head(x, w, mean, variance):
    x = (x @ w["hidden/kernel"] - mean) / np.sqrt(variance + 1e-5)
    x = np.maximum(x * w["norm/gamma"] + w["norm/beta"], 0)
    return x @ w["output/kernel"] + w["output/bias"]


def test_a_head_in_evaluation_and_in_training():
    layer, w = head(dropout_rate=0.0)
    x = normal(7, 5)
    mean, variance = w["norm/moving_mean"], w["norm/moving_variance"]
    wanted = numpy_head(x, w, mean, variance)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(layer(x), wanted, atol=1e-5)
    hidden = x @ w["hidden/kernel"]
    wanted = numpy_head(x, w, hidden.mean(0), hidden.var(0))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(layer(x, training=True), wanted, atol=1e-5)
    kept = 0.9 * variance + 0.1 * hidden.var(0, ddof=1)
    np.testing.assert_allclose(layer.norm.moving_variance, kept, rtol=1e-5)


def test_a_head_of_one_layer_has_no_dropout():
    layer, w = head(use_mlp=False, norm_feat=False)
    x = normal(7, 5)
    wanted = x @ w["linear/kernel"] + w["linear/bias"]
    np.testing.assert_allclose(layer(x, training=True), wanted, atol=1e-5)


def test_dropout_of_a_head_is_a_function_of_the_global_row():
    layer, _ = head(dropout_rate=0.5)
    layer.norm.trainable = False  # its statistics would be of other rows
    x = np.ones((4, 5), "f4")
    whole = layer(x, training=True, rng=Randomness([1, 2]))
    half = layer(x[2:], training=True, rng=Randomness([1, 2], first_row=2))
    np.testing.assert_allclose(whole[2:], half, atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3


def test_zero_rows_stay_zero():
    x = np.array([[0.0, 0.0], [3e-7, 4e-7], [3.0, 4.0]], "f4")
    np.testing.assert_allclose(
        projection.unit_length(x), [[0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6
    )


def test_dense_layers_begin_within_the_root_of_their_inputs():
    keras.utils.set_random_seed(0)
    layer = dense.FanInDense(400, name="dense")
    layer.build((None, 100))
    for value in (layer.kernel.numpy(), layer.bias.numpy()):
        assert np.abs(value).max() <= 0.1 and np.abs(value).max() > 0.095
        assert abs(value.std() - 0.1 / np.sqrt(3)) < 5e-3
