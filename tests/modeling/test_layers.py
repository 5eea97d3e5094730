"""Layers against independent NumPy computations."""

from __future__ import annotations

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.traced import graphs_left_by
from vatt import configs
from vatt.errors import UserError
from vatt.modeling import factory
from vatt.modeling.layers import activations, norm, sines
from vatt.modeling.layers.attention import Attention, padding_bias
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.layers.encoder import (
    Encoder,
    EncoderBlock,
    EncoderOptions,
    FeedForward,
    recomputed,
)
from vatt.modeling.layers.positions import (
    Positions,
    SequencePositions,
    resample,
    spline_matrix,
)
from vatt.modeling.layers.tokens import PatchEmbedding, TokenMasking, num_kept
from vatt.modeling.random import Randomness

RANDOM = np.random.default_rng(0)
SMALL = EncoderOptions(num_layers=2, d_model=8, num_heads=2, d_kv=4, d_ff=16)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def randomise(layer):
    for variable in layer.variables:
        variable.assign(normal(*variable.shape) * 0.3)
    return layer


def numeric_gradient(function, x, cotangent, step=1e-5):
    """Central differences of sum(function(x) * cotangent), float64."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = ((function(up) - function(down)) * cotangent).sum() / (2 * step)
    return gradient


def numpy_layer_norm(x, gamma, beta, epsilon=1e-6):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def numpy_gelu(x):
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def test_layer_norm_value_and_gradients():
    layer = norm.LayerNorm(name="n")
    layer.build((None, 6))
    randomise(layer)
    x, cotangent = normal(2, 3, 6), normal(2, 3, 6)
    gamma, beta = layer.gamma.numpy().astype("f8"), layer.beta.numpy().astype("f8")
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        outputs = layer(inputs)
        total = tf.reduce_sum(outputs * cotangent)
    by_x, by_gamma, by_beta = tape.gradient(total, [inputs, layer.gamma.value, layer.beta.value])
    wide = x.astype("f8")
    np.testing.assert_allclose(outputs, numpy_layer_norm(wide, gamma, beta), atol=1e-6)
    reference = numeric_gradient(lambda z: numpy_layer_norm(z, gamma, beta), wide, cotangent)
    np.testing.assert_allclose(by_x, reference, atol=1e-5)
    unit = numpy_layer_norm(wide, 1.0, 0.0)
    np.testing.assert_allclose(by_gamma, (unit * cotangent).sum((0, 1)), atol=1e-5)
    np.testing.assert_allclose(by_beta, cotangent.sum((0, 1)), atol=1e-5)


def test_gelu_value_and_gradient():
    x = np.linspace(-6, 6, 41).astype("float32")
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        outputs = activations.gelu(inputs)
    wide = x.astype("f8")
    np.testing.assert_allclose(outputs, numpy_gelu(wide), atol=2e-6)
    reference = numeric_gradient(numpy_gelu, wide, np.ones_like(wide))
    np.testing.assert_allclose(tape.gradient(outputs, inputs), reference, atol=2e-6)


def test_unknown_activation_is_refused():
    with pytest.raises(UserError, match="Did you mean 'gelu'"):
        activations.get("glu")


def numpy_attention(layer, x, mask, scaled):
    def dense(part, y):
        bias = part.bias.numpy() if part.use_bias else 0.0
        return y @ part.kernel.numpy().astype("f8") + bias

    batch, tokens, _ = x.shape

    def split(y):
        return y.reshape(batch, tokens, layer.num_heads, layer.d_kv).transpose(0, 2, 1, 3)

    q, k, v = (split(dense(part, x)) for part in (layer.q, layer.k, layer.v))
    scores = q @ k.transpose(0, 1, 3, 2) / (np.sqrt(layer.d_kv) if scaled else 1.0)
    scores = scores + (1.0 - mask)[:, None, None] * -1e9
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, -1)
    return dense(layer.o, mixed), weights


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_attention(use_bias, scaled):
    layer = Attention(10, num_heads=3, d_kv=4, use_bias=use_bias, scaled=scaled, name="a")
    layer.build((None, None, 10))
    randomise(layer)
    x, mask = normal(2, 5, 10), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "float32")
    outputs, weights = layer(x, bias=padding_bias(mask), return_weights=True)
    expected, expected_weights = numpy_attention(layer, x.astype("f8"), mask, scaled)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
    assert np.all(np.asarray(weights)[0, :, :, 3:] == 0.0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_row_without_any_token_stays_finite(dtype, training):
    """R16: as softmax of equal scores, not 0/0; so do its gradients."""
    layer = Attention(10, num_heads=3, d_kv=4, dtype=dtype, name="a")
    layer.build((None, None, 10))
    randomise(layer)
    x, mask = tf.constant(normal(2, 5, 10)), np.array([[0] * 5, [1, 1, 1, 0, 0]], "float32")
    x = tf.cast(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, _ = layer(x, bias=padding_bias(mask), training=training)
        total = tf.reduce_sum(tf.cast(outputs, "float32") ** 2)
    assert outputs.dtype == layer.compute_dtype
    found = [outputs, *tape.gradient(total, [x, *(v.value for v in layer.trainable_variables)])]
    for values in found:
        assert np.isfinite(tf.cast(values, "float32").numpy()).all()
    _, weights = layer(x, bias=padding_bias(mask), return_weights=True)
    rows = tf.cast(weights, "float32").numpy()
    np.testing.assert_allclose(rows.sum(-1), 1.0, atol=0.01)
    np.testing.assert_array_equal(rows[1, :, :, 3:], 0.0)


def test_gated_feed_forward():
    layer = FeedForward(6, 8, activation="geglu", name="f")
    layer.build((None, None, 6))
    randomise(layer)
    x = normal(2, 3, 6)
    gate = x @ layer.gate.kernel.numpy() + layer.gate.bias.numpy()
    hidden = numpy_gelu(x @ layer.wi.kernel.numpy() + layer.wi.bias.numpy()) * gate
    expected = hidden @ layer.wo.kernel.numpy() + layer.wo.bias.numpy()
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_post_norm_has_no_final_norm(pre_norm):
    encoder = Encoder(dataclasses.replace(SMALL, pre_norm=pre_norm), name="e")
    encoder.build((None, None, 8))
    assert any("final_norm" in v.path for v in encoder.variables) == pre_norm
    hidden, weights = encoder(normal(2, 3, 8), return_weights=True)
    assert hidden.shape == (2, 3, 8)
    assert [w.shape for w in weights] == [(2, 2, 3, 3)] * 2


@pytest.mark.parametrize("training", [False, True])
def test_attention_weights_come_only_when_asked_for(training):
    """And change nothing of what comes with them, dropout included."""
    encoder = Encoder(dataclasses.replace(SMALL, dropout_rate=0.3), name="e")
    encoder.build((None, None, 8))
    randomise(encoder)
    x, run = normal(2, 3, 8), {"training": training, "rng": Randomness([1, 2])}
    hidden, weights = encoder(x, **run)
    assert weights == []
    assert encoder.blocks[0](x, **run)[1] is None
    again, weights = encoder(x, **run, return_weights=True)
    np.testing.assert_allclose(again, hidden, atol=1e-6)
    assert len(weights) == 2


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("bias_shape", [None, (2, 1, 1, 5), (1, 3, 5, 5)])
def test_attention_has_the_gradients_of_its_formula(rate, bias_shape):
    """Against the single operations in float64; padding, and a bias that is learned."""
    layer = Attention(10, num_heads=3, d_kv=4, dropout_rate=rate, name="a")
    layer.build((None, None, 10))
    randomise(layer)
    x, towards = tf.constant(normal(2, 5, 10)), tf.constant(normal(2, 5, 10))
    given = [] if bias_shape is None else [tf.constant(normal(*bias_shape))]
    if bias_shape == (2, 1, 1, 5):
        given = [tf.concat([padding_bias(np.array([[1, 1, 0, 0, 0]], "float32")), given[0][1:]], 0)]
    rng = Randomness([3, 4])
    sources = [x, *given, *(v.value for v in layer.trainable_variables)]
    with tf.GradientTape() as tape:
        tape.watch(sources[: 1 + len(given)])
        outputs, _ = layer(x, *given, training=True, rng=rng)
    found = [outputs, *tape.gradient(outputs, sources, towards)]

    wide = [tf.cast(value, tf.float64) for value in sources]
    keep = rng.child("weights").dropout_mask((2, 3, 5, 5), rate)
    with tf.GradientTape() as tape:
        tape.watch(wide)
        weights = dict(zip((v.path for v in layer.trainable_variables), wide[-8:], strict=True))
        q, k, v = (
            tf.transpose(
                tf.reshape(
                    wide[0] @ weights[f"a/{n}/kernel"] + weights[f"a/{n}/bias"], (2, 5, 3, 4)
                ),
                (0, 2, 1, 3),
            )
            for n in "qkv"
        )
        scores = tf.matmul(q * 4**-0.5, k, transpose_b=True) + (wide[1] if given else 0.0)
        kept = tf.where(keep, tf.nn.softmax(scores) / (1 - rate), 0.0)
        mixed = tf.reshape(tf.transpose(kept @ v, (0, 2, 1, 3)), (2, 5, 12))
        expected = mixed @ weights["a/o/kernel"] + weights["a/o/bias"]
    expected = [expected, *tape.gradient(expected, wide, tf.cast(towards, tf.float64))]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_blocks_that_are_computed_again_have_the_same_gradients(biased):
    encoder = Encoder(dataclasses.replace(SMALL, dropout_rate=0.3), name="e")
    encoder.build((None, None, 8))
    randomise(encoder)
    x, bias = tf.constant(normal(2, 3, 8)), tf.constant(normal(1, 2, 3, 3))

    def step(again):
        @tf.function(autograph=False)
        def gradients(x, bias):
            with tf.GradientTape() as tape, recomputed(again):
                tape.watch((x, bias))
                hidden, _ = encoder(
                    x, bias=bias if biased else None, training=True, rng=Randomness([1, 2])
                )
                loss = tf.reduce_sum(hidden**3)
            variables = [v.value for v in encoder.trainable_variables]
            return loss, tape.gradient(loss, [x, *([bias] if biased else []), *variables])

        graph = gradients.get_concrete_function(x, bias).graph
        products = [op for op in graph.get_operations() if "MatMul" in op.type]
        return gradients(x, bias), len(products)

    (kept, before), (again, after) = step(False), step(True)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), kept, again)
    assert after > before


def test_encoder_options_of_a_configuration():
    options = EncoderOptions.from_config(configs.text.T5Small(dropout_rate=0.2))
    assert (options.num_layers, options.d_model, options.d_ff) == (6, 512, 2048)
    assert options.dropout_rate == 0.2
    assert options.pre_norm  # not a field of T5's: the default
    assert not EncoderOptions.from_config(configs.text.T5Small(), pre_norm=False).pre_norm
    with pytest.raises(TypeError, match="num_heads"):
        EncoderOptions.from_config(configs.text.LinearModel())


@pytest.mark.parametrize(("rows", "targets"), [(8, 16), (14, 20), (16, 9), (4, 7), (2, 5), (1, 3)])
def test_spline_against_scipy(rows, targets):
    interpolate = pytest.importorskip("scipy.interpolate")
    matrix = spline_matrix(rows, targets)
    if rows == 1:
        np.testing.assert_array_equal(matrix, np.ones((targets, 1)))
        return
    if rows == 2:
        query = np.arange(targets) * 2 / targets
        np.testing.assert_allclose(matrix, np.stack([1 - query, query], 1), atol=1e-12)
        return
    knots = np.arange(rows)[:, None] / rows
    radial = interpolate.RBFInterpolator(knots, np.eye(rows), kernel="cubic", degree=1)
    np.testing.assert_allclose(matrix, radial(np.arange(targets)[:, None] / targets), atol=1e-9)


def test_spline_reproduces_lines_and_its_own_rows():
    line = np.arange(1200) / 1200
    np.testing.assert_allclose(spline_matrix(1200, 1201) @ line, np.arange(1201) / 1201, atol=1e-12)
    np.testing.assert_allclose(spline_matrix(7, 14)[::2], np.eye(7), atol=1e-12)
    np.testing.assert_allclose(spline_matrix(9, 150).sum(1), 1.0, atol=1e-12)


def test_resampled_positions_are_differentiable():
    table = tf.Variable(normal(6, 4))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(resample(table, 9))
    np.testing.assert_allclose(
        tape.gradient(total, table)[:, 0], spline_matrix(6, 9).sum(0), atol=1e-5
    )


def test_positions_are_row_major_and_follow_kept_tokens():
    layer = Positions(("temporal", "vertical", "horizontal"), (2, 3, 4), 8, name="p")
    layer.build()
    randomise(layer)
    t, v, h = (table.numpy() for table in layer.tables)
    summed = np.array([t[i] + v[j] + h[k] for i in range(2) for j in range(3) for k in range(4)])
    gamma, beta = layer.layer_norm.gamma.numpy(), layer.layer_norm.beta.numpy()
    expected = numpy_layer_norm(summed, gamma, beta)
    np.testing.assert_allclose(layer.lookup((2, 3, 4)), expected, atol=1e-5)
    kept = np.array([5, 0, 23], "int32")
    tokens = layer(np.zeros((1, 3, 8), "float32"), grid=(2, 3, 4), kept=kept)
    np.testing.assert_allclose(tokens[0], expected[kept], atol=1e-5)


@pytest.mark.parametrize(
    ("patch", "stride", "shape"),
    [
        ((2, 4, 4), (2, 4, 4), (2, 5, 8, 9, 3)),
        ((4, 3), (4, 3), (2, 9, 7, 1)),
        ((8,), (8,), (2, 27, 1)),
        ((8,), (5,), (2, 27, 1)),
    ],
)
def test_patches_equal_a_strided_convolution(patch, stride, shape):
    layer = PatchEmbedding(patch, stride, 6, name="p")
    layer.build(shape)
    randomise(layer)
    x = normal(*shape)
    convolved = tf.nn.convolution(x, layer.kernel.value, strides=stride, padding="VALID")
    expected = tf.reshape(convolved + layer.bias.value, (shape[0], -1, 6))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    # Dropping before the projection is dropping after it.
    kept = np.array([1, 0], "int32")
    np.testing.assert_allclose(layer(x, kept=kept), tf.gather(expected, kept, axis=1), atol=1e-5)
    if stride == patch:
        of_rows = np.array([[1, 0], [0, 2]], "int32")
        expected = tf.gather(expected, of_rows, axis=1, batch_dims=1)
        np.testing.assert_allclose(layer(x, kept=of_rows), expected, atol=1e-5)


def test_input_shorter_than_a_patch_is_refused():
    layer = PatchEmbedding((8,), (8,), 6, name="p")
    with pytest.raises(ValueError, match="do not hold one patch"):
        layer.grid((1, 7, 1))


def test_first_patches_by_the_number_of_inputs_keep_the_size_of_values():
    layer = PatchEmbedding((2, 8, 8), (2, 8, 8), 64, "fan_in", name="p")
    layer.build((None, 2, 8, 8, 3))
    assert abs(np.asarray(layer(normal(50, 2, 8, 8, 3))).std() - 1.0) < 0.05


def test_sines_of_a_sequence_and_of_a_grid():
    table = sines.of_sequence(7, 10)
    for place, pair in ((0, 0), (3, 1), (6, 4)):
        angle = place / 10_000 ** (2 * pair / 10)
        expected = [math.sin(angle), math.cos(angle)]
        np.testing.assert_allclose(table[place, 2 * pair : 2 * pair + 2], expected, atol=1e-6)
    # Token 7 of a grid of 2 x 2 x 3 is at time 1, row 0, column 1: blocks of time, column, row.
    token = sines.of_grid((2, 2, 3), 12)[7]
    angles = np.array([1.0, 0.01])  # of place 1
    expected = [np.sin(angles), np.cos(angles), np.sin(angles), np.cos(angles), [0, 0], [1, 1]]
    np.testing.assert_allclose(token, np.concatenate(expected), atol=1e-6)
    with pytest.raises(ValueError, match="a multiple of 4"):
        sines.of_grid((2, 2), 10)


@pytest.mark.parametrize("learned", [False, True])
def test_positions_of_some_tokens_are_those_of_their_places(learned):
    layer = SequencePositions(learned, name="p")
    layer.build((None, 5, 8))
    assert len(layer.variables) == learned
    tokens, kept = normal(2, 5, 8), np.array([[4, 1], [0, 2]], "int32")
    everyone = layer(tokens)
    some = layer(tf.gather(tokens, kept, axis=1, batch_dims=1), kept)
    np.testing.assert_allclose(some, tf.gather(everyone, kept, axis=1, batch_dims=1), atol=1e-6)
    assert np.abs(np.asarray(everyone) - tokens).max() > 0.01


def test_stacks_without_a_last_norm():
    options = dataclasses.replace(SMALL, final_norm=False, feed_forward_bias_std=1e-2)
    encoder = Encoder(options, name="e")
    encoder.build((None, None, SMALL.d_model))
    assert not any("final_norm" in variable.path for variable in encoder.variables)
    biases = [v for v in encoder.variables if v.path.endswith(("wi/bias", "wo/bias"))]
    assert biases and all(0.003 < np.asarray(v).std() < 0.03 for v in biases)


def test_number_of_kept_tokens():
    assert num_kept(1568, 1568, 0.5) == 784
    assert num_kept(100, 1200, 0.5) == 50  # shorter than the tables: a share of what is there
    assert num_kept(2000, 1200, 0.5) == 600  # longer: the published count
    assert num_kept(10, 10, 1.0) == 10
    assert num_kept(1, 1, 0.1) == 1


def test_masking_shares():
    layer = TokenMasking(0.4, name="m")
    layer.build((None, None, 3))
    layer.embedding.assign([7.0, 7.0, 7.0])
    tokens = normal(100, 200, 3)
    masked, flags = layer(tokens, rng=Randomness([1, 2]))
    changed = np.any(np.asarray(masked) != tokens, axis=-1)
    hidden = np.all(np.asarray(masked) == 7.0, axis=-1)
    flags = np.asarray(flags).astype(bool)
    assert not np.any(changed & ~flags)
    assert abs(flags.mean() - 0.4) < 0.02
    assert abs(hidden[flags].mean() - 0.8) < 0.02
    assert abs((changed & ~hidden)[flags].mean() - 0.1) < 0.02


LAYERS = {  # made inside the test: collecting must not start TensorFlow
    "layer_norm": lambda: norm.LayerNorm(1e-5, name="n"),
    "rms_norm": lambda: norm.RMSNorm(1e-5, name="n"),
    "attention": lambda: Attention(8, 2, 4, dropout_rate=0.1, name="a"),
    "feed_forward": lambda: FeedForward(8, 16, "geglu", name="f"),
    "block": lambda: EncoderBlock(SMALL, name="b"),
    "encoder": lambda: Encoder(dataclasses.replace(SMALL, dropout_rate=0.1), name="e"),
    "positions": lambda: Positions(("temporal",), (4,), 8, name="p"),
    "sequence_positions": lambda: SequencePositions(True, name="p"),
    "patches": lambda: PatchEmbedding((2, 2), (2, 2), 8, name="p"),
    "masking": lambda: TokenMasking(0.3, name="m"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_config_round_trip(kind):
    layer = LAYERS[kind]()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


class Given(ConfiguredLayer):
    """Has arguments of every kind; keeps none of them."""

    def __init__(self, size, options, axes=(1, 2), *, part=None, rate=0.5, **kwargs):
        super().__init__(**kwargs)


OWN = ("size", "options", "axes", "part", "rate")


def own(layer):
    return {name: layer.get_config()[name] for name in OWN}


def test_arguments_are_noted_by_position_by_name_and_by_default():
    options = {"a": [1, {"b": [2]}]}
    layer = Given(3, options, [4], rate=0.25, name="g", dtype="mixed_bfloat16", trainable=False)
    options["a"][1]["b"].append(9)  # the layer has a copy
    copied = {"a": (1, {"b": (2,)})}
    assert own(layer) == {"size": 3, "options": copied, "axes": (4,), "part": None, "rate": 0.25}
    assert own(Given(3, {}, name="g"))["axes"] == (1, 2)
    assert set(layer.get_config()) == {*OWN, "name", "dtype", "trainable"}
    again = Given.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()
    assert (again.name, again.dtype_policy.name, again.trainable) == ("g", "mixed_bfloat16", False)


def test_layers_among_the_arguments_are_no_parts_of_the_layer():
    part = norm.LayerNorm(name="n")
    layer = Given(1, {"inside": [part]}, part=part, name="g")
    assert list(layer._flatten_layers(include_self=False)) == []
    assert own(layer)["part"] is part


def test_wrong_arguments_are_refused_by_the_constructor():
    with pytest.raises(TypeError, match=r"Given.__init__\(\) missing .* 'options'"):
        Given(1, name="g")
    with pytest.raises(TypeError, match="name"):
        Given(1, {})


@pytest.mark.parametrize(
    ("name", "more", "inputs"),
    [
        ("wat_base", {}, tf.TensorSpec((2, 512, 1))),
        ("bert_small", {"d_pre_proj": 16}, tf.TensorSpec((2, 7), tf.int32)),
    ],
)
def test_models_that_were_traced_without_training_are_forgotten(name, more, inputs):
    """TensorFlow remembers a gradient that a layer brings, with graph and weights, for ever."""

    def trace():
        options = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 4, "d_ff": 8}
        options |= more
        backbone = factory.build_backbone(configs.registry.backbone(name, **options))
        backbone.build((None, *inputs.shape[1:]))
        traced = tf.function(lambda x: backbone(x, training=False), autograph=False)
        traced.get_concrete_function(inputs)

    assert graphs_left_by(trace) <= 0
