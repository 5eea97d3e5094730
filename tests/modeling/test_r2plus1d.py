"""R(2+1)D and ResNet-9/-18: against NumPy, padding, sizes, first values, freezing, names."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_conv import convolve

from vatt import configs
from vatt.configs.problems import ConfigError
from vatt.data import pipeline
from vatt.methods.gdt import published
from vatt.modeling import factory, flops
from vatt.modeling.backbones.r2plus1d import (
    FlatConvNorm,
    SpaceTimeBlock,
    SpaceTimeConv,
    middle_channels,
)
from vatt.modeling.backbones.resnet_audio import SpectrogramBlock
from vatt.modeling.layers.conv import ConvNorm
from vatt.training.published_names import UnmappedVariableError

RANDOM = np.random.default_rng(0)
NORM = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": True, "unbiased": True}
NARROW = {"widths": (4, 5, 6, 7)}


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def make(name, dtype="float32", **changes):
    return factory.build_backbone(configs.registry.backbone(name, **changes), dtype=dtype)


def fill(layer):
    """Gives every variable numbers of its own; variances are positive."""
    for variable in layer.variables:
        fan_in = max(1.0, float(np.prod(variable.shape[:-1])))
        value = normal(*variable.shape) / np.sqrt(fan_in)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)


# Blocks against NumPy ----------------------------------------------------------------------------


def strided(x, kernel, strides):
    """Convolves in float64 with half a kernel of zeros on every side, and keeps every stride-th."""
    before = [side // 2 for side in kernel.shape[:-2]]
    everywhere = convolve(x, kernel, 1, before)
    sizes = x.shape[1:-1]
    kept = (slice(0, n, s) for n, s in zip(sizes, strides, strict=True))
    return everywhere[(slice(None), *kept)]


def unit(layer: ConvNorm, x, training):
    """A convolution with batch norm, and its relu."""
    bn, y = layer.bn, strided(x, np.asarray(layer.conv.kernel), layer.conv.strides)
    axes = tuple(range(y.ndim - 1))
    mean = y.mean(axis=axes) if training else np.asarray(bn.moving_mean)
    variance = y.var(axis=axes) if training else np.asarray(bn.moving_variance)
    y = (y - mean) / np.sqrt(variance + 1e-5) * np.asarray(bn.gamma) + np.asarray(bn.beta)
    return np.maximum(y, 0) if layer.relu else y


def block_in_numpy(block, x, training):
    y = x
    for convolution in (block.conv1, block.conv2):
        pair = isinstance(convolution, SpaceTimeConv)
        for layer in (convolution.spatial, convolution.temporal) if pair else (convolution,):
            y = unit(layer, y, training)
    shortcut = x if block.shortcut is None else unit(block.shortcut, x, training)
    return np.maximum(shortcut + y, 0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(5, 7, 6), (4, 6, 7), (1, 2, 3)])
@pytest.mark.parametrize(("filters", "stride"), [(6, 2), (4, 1), (6, 1), (4, 2)])
def test_blocks_against_numpy(filters, stride, size, training):
    for block_class, axes in ((SpaceTimeBlock, size), (SpectrogramBlock, size[1:])):
        block = block_class(4, filters, stride, NORM, name="block")
        x = normal(3, *axes, 4)
        block.build(x.shape)
        fill(block)
        assert (block.shortcut is None) == (filters == 4 and stride == 1)
        reference = block_in_numpy(block, x.astype("float64"), training)
        ours = np.asarray(block(x, training=training))
        assert ours.shape == (3, *(-(-n // stride) for n in axes), filters)
        np.testing.assert_allclose(ours, reference, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "strides"), [((1, 7, 7), (1, 2, 2)), ((3, 1, 1), (2, 1, 1)), ((3, 1, 1), (1, 1, 1))]
)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_two_axes_give_what_three_give(kernel, strides, dtype):
    """Values and gradients, also of clips shorter than the kernel, and of unknown size."""
    policy = keras.dtype_policies.get(dtype)
    flat, whole = (
        kind(5, kernel, strides, NORM, centred=True, name="unit", dtype=policy)
        for kind in (FlatConvNorm, ConvNorm)
    )
    for layer in (flat, whole):
        layer.build((None, None, None, None, 3))
        layer.conv.kernel.assign(np.linspace(-1, 1, 15 * np.prod(kernel)).reshape(*kernel, 3, 5))
    any_size = tf.function(flat.__call__, input_signature=[tf.TensorSpec([None] * 4 + [3])])
    tolerance = 1e-5 if dtype == "float32" else 0.05
    for frames in (1, 2, 6):
        x, results = tf.constant(normal(2, frames, 8, 9, 3)), []
        for layer, run in ((flat, any_size), (whole, whole)):
            with tf.GradientTape() as tape:
                y = tf.cast(run(x), "float32")
                total = tf.reduce_sum(y**2)
            results.append((y, tape.gradient(total, layer.conv.kernel.value)))
        for one, two in zip(*results, strict=True):
            scale = np.abs(np.asarray(two)).max()
            np.testing.assert_allclose(one, two, rtol=0, atol=tolerance * scale)


# Sizes -------------------------------------------------------------------------------------------


def test_middle_channels():
    """Those of the published networks, where 921.6 and 230.4 are rounded down."""
    pairs = ((64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    assert [middle_channels(*p) for p in pairs] == [144, 230, 288, 460, 576, 921, 1152]


@pytest.mark.parametrize(("frames", "steps"), [(30, 4), (60, 8), (90, 12), (120, 15)])
def test_maps_of_published_clips(frames, steps):
    """Of 112 pixels: 7 x 7 places, and so many time steps."""
    layer = make("r2plus1d_18", widths=(1, 1, 1, 2), stem_channels=1)
    layer.build((None, None, None, None, 3))
    outputs = layer(np.zeros((1, frames, 112, 112, 3), "float32"), intermediates=True)
    assert outputs["features"].shape == (1, steps, 7, 7, 2)
    assert flops.count(layer, (frames, 112, 112, 3)).grid == (steps, 7, 7)
    halves = [outputs["endpoints"][f"layer{n}"].shape[2] for n in range(1, 5)]
    assert halves == [56, 28, 14, 7]
    assert outputs["endpoints"]["stem"].shape[1:4] == (frames, 56, 56)


def test_maps_of_published_spectrograms():
    layer = make("resnet9", widths=(1, 1, 1, 2))
    layer.build((None, None, None, 1))
    for size, grid in (((99, 40), (4, 2)), ((199, 257), (7, 9))):
        outputs = layer(np.zeros((1, *size, 1), "float32"))
        assert outputs["features"].shape == (1, *grid, 2)
        assert outputs["features_pooled"].shape == (1, 2)
        assert flops.count(layer, (*size, 1)).grid == grid


@pytest.mark.parametrize(
    ("name", "shape"), [("r2plus1d_tiny", (5, 18, 21, 3)), ("resnet_tiny", (23, 18, 1))]
)
def test_pooled_is_the_mean_of_the_last_stage(name, shape):
    """Whatever `features` are."""
    layer = make(name, final_endpoint="layer2")
    layer.build((None, *shape))
    fill(layer)
    outputs = layer(normal(2, *shape), intermediates=True)
    features, last = (np.asarray(outputs["endpoints"][n]) for n in ("layer2", "layer4"))
    np.testing.assert_array_equal(outputs["features"], features)
    mean = last.astype("float64").mean(axis=tuple(range(1, last.ndim - 1)))
    np.testing.assert_allclose(outputs["features_pooled"], mean, rtol=1e-5, atol=1e-6)
    assert layer.features_dim == last.shape[-1] != features.shape[-1]


# First values ------------------------------------------------------------------------------------


def test_first_values():
    """Normal with variance 2 / fan_out; of the first convolution on sound uniform, of fan_in."""
    for name, channels in (("r2plus1d_18", 3), ("resnet18", 1)):
        keras.utils.set_random_seed(0)
        layer = make(name)
        layer.build((*(None,) * (3 if name == "resnet18" else 4), channels))
        kernels = {v.path: np.asarray(v) for v in layer.variables if v.path.endswith("kernel")}
        first = kernels.pop("audio/stem/conv/kernel", None)
        for path, kernel in kernels.items():
            deviation = np.sqrt(2 / (kernel.shape[-1] * np.prod(kernel.shape[:-2])))
            if kernel.size > 5000:
                assert kernel.std() == pytest.approx(deviation, rel=0.05), path
                assert np.abs(kernel).max() > 2.5 * deviation, path  # not cut off
        assert len({kernel.ravel()[:3].tobytes() for kernel in kernels.values()}) == len(kernels)
        if first is not None:
            assert 0.97 / 7 < np.abs(first).max() <= 1 / 7  # 49 values
            assert first.std() == pytest.approx(1 / 7 / np.sqrt(3), rel=0.03)
        for variable in layer.variables:
            if not variable.path.endswith("kernel"):
                ones = variable.path.endswith(("gamma", "moving_variance"))
                assert np.all(np.asarray(variable) == ones), variable.path


# Configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": [64, 128, 256]}, "widths.*four whole numbers >= 1, one for each stage"),
        ({"blocks": [2, 2, 0, 2]}, r"blocks.*item 2 is 0"),
        ({"final_endpoint": "layer5"}, "final_endpoint.*'stem'.*Did you mean 'layer"),
        ({"stem_chanels": 4}, "stem_chanels.*no such key.*stem_channels"),
    ],
)
def test_bad_fields_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        configs.registry.backbone("r2plus1d_34", **changes)


def test_spectrograms_only():
    """By default GDT's: 99 windows of a second, 40 bands."""
    override = "train.input.raw_audio=true"
    with pytest.raises(ConfigError, match=r"train\.input\.raw_audio.*reads spectrograms"):
        configs.resolve(task="finetune", model_arch="resnet9", params_override=override)
    second = "train.input.audio_seconds=1.0,eval.input.audio_seconds=1.0"
    config = configs.resolve(task="finetune", model_arch="ResNet9", params_override=second)
    for data in (config.train.input, config.eval.input):
        assert (data.raw_audio, data.audio_features) == (False, "filterbank")
        assert pipeline.clip_shapes(data)["audio"] == (99, 40, 1)


def test_frozen_backbones_neither_learn_nor_move():
    for name, shape in (("r2plus1d_tiny", (4, 16, 16, 3)), ("resnet_tiny", (16, 16, 1))):
        layer = make(name, freeze_backbone=True)
        layer.build((None, *shape))
        before = [v.numpy() for v in layer.variables]
        raw = [v.value for v in layer.variables]
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(normal(2, *shape), training=True)["features_pooled"])
        assert tape.gradient(total, raw) == [None] * len(raw)
        assert not layer.trainable_variables
        for variable, value in zip(layer.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)


# Published names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part", "modality"),
    [("r2plus1d_18", "video_network.base.", "video"), ("resnet9", "audio_network.base.", "audio")],
)
def test_variables_are_the_published_ones(shared_dir, name, part, modality):
    """Names and shapes, all of them, in both directions."""
    text = (shared_dir / "conformance_gdt/state_dict_shapes.json").read_text()
    shapes = json.loads(text)["av_gdt"]
    expected = {k: tuple(s) for k, s in shapes.items() if k.startswith(part)}
    expected = {k: s for k, s in expected.items() if not published.SKIPPED.fullmatch(k)}
    layer = make(name)
    layer.build((*(None,) * (4 if modality == "video" else 3), 3 if modality == "video" else 1))
    of_layer = published.PARTS[modality]
    names = published.layer_names(layer, of_layer.rules, of_layer.root)
    found = {}
    for variable in layer.variables:
        value = np.broadcast_to(np.float32(0), variable.shape)
        theirs = published.to_published(variable.path, value)
        found[names[variable.path]] = theirs.shape
        assert published.from_published(variable.path, theirs).shape == variable.shape
    assert found == expected


def test_layouts():
    """Axes that have a meaning: the first of sound is time here, and frequency there."""
    video, sound, dense = normal(7, 6, 3, 1, 1), normal(7, 6, 2, 3), normal(7, 6)
    kernel = published.from_published("video/stem/temporal/conv/kernel", video)
    assert kernel.shape == (3, 1, 1, 6, 7) and kernel[2, 0, 0, 5, 4] == video[4, 5, 2, 0, 0]
    kernel = published.from_published("audio/stem/conv/kernel", sound)
    assert kernel.shape == (3, 2, 6, 7) and kernel[2, 1, 5, 4] == sound[4, 5, 1, 2]
    assert published.from_published("head/dense/kernel", dense).shape == (6, 7)
    assert published.from_published("text/words/embeddings", dense) is dense
    for path, value in (("x/kernel", video), ("x/kernel", sound), ("x/kernel", dense)):
        again = published.to_published(path, published.from_published(path, value))
        np.testing.assert_array_equal(again, value)


def test_variables_without_a_published_name_are_refused():
    layer = make("vit_tiny")
    layer.build((None, 16, 64, 64, 3))
    with pytest.raises(UnmappedVariableError, match="no published name for video/"):
        published.layer_names(layer, published.VIDEO)
