"""The bottleneck transformer: who sees whom, what is shared, what is left out, first values."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.modeling import factory
from vatt.modeling.layers.encoder import EncoderBlock, EncoderOptions
from vatt.modeling.layers.tokens import PatchEmbedding
from vatt.modeling.random import Randomness
from vatt.training import optimizers

SIZES = {"d_model": 12, "num_heads": 3, "d_kv": 4, "d_ff": 20, "num_layers": 3, "fusion_layer": 1}
PATCHES = {"spatial_patch_size": 4, "audio_temporal_patch_size": 4, "audio_spectral_patch_size": 4}
SHAPES = {"video": (4, 8, 8, 3), "audio": (12, 8, 1)}


def backbone(**changes):
    config = configs.registry.backbone("mbt_tiny", **{**SIZES, **PATCHES, **changes})
    layer = factory.build_backbone(config)
    shapes = {m: (None, *SHAPES[m]) for m in config.modalities}
    layer.build(shapes if len(shapes) > 1 else next(iter(shapes.values())))
    random = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(random.normal(size=variable.shape) / 3)
    return layer


def inputs(seed=0, rows=3):
    random = np.random.default_rng(seed)
    return {m: random.normal(size=(rows, *s)).astype("float32") for m, s in SHAPES.items()}


def pooled(layer, x, **options):
    found = layer(x, **options)["pooled_by_modality"]
    return {m: np.asarray(value) for m, value in found.items()}


def sees_the_other(layer, **options):
    """Whether what is made of video depends on the sound."""
    one, two = inputs(), {**inputs(), "audio": inputs(1)["audio"]}
    first, second = (pooled(layer, x, **options)["video"] for x in (one, two))
    return not np.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"use_bottleneck": False}, {"share_encoder": True}])
def test_modalities_meet_from_the_fusion_layer_on(options):
    assert sees_the_other(backbone(**options))
    assert sees_the_other(backbone(**options, fusion_layer=0))
    assert not sees_the_other(backbone(**options, fusion_layer=3))


def test_modalities_may_meet_in_training_only():
    layer = backbone(test_with_bottlenecks=False)
    assert not sees_the_other(layer)
    assert sees_the_other(layer, training=True)


def test_one_layer_of_fusion_goes_through_the_bottleneck_alone():
    """In the first of them both begin with the same vectors: what they tell comes a layer later."""
    assert not sees_the_other(backbone(fusion_layer=2))
    assert sees_the_other(backbone(fusion_layer=1))
    assert sees_the_other(backbone(fusion_layer=2, use_bottleneck=False))


def test_a_bottleneck_that_nothing_reads_is_not_trained():
    assert backbone().bottleneck.trainable
    assert not backbone(fusion_layer=3).bottleneck.trainable
    assert not backbone(modality_fusion=["audio"]).bottleneck.trainable
    assert backbone(use_bottleneck=False).bottleneck is None


def test_shared_layers_are_there_once():
    apart, shared = backbone(), backbone(share_encoder=True)
    of_layers = sum("/layer_" in v.path for v in apart.variables)
    assert sum("/layer_" in v.path for v in shared.variables) == of_layers // 2
    assert shared.blocks("video") is shared.blocks("audio")


@pytest.mark.parametrize("pooling", ["mean", "max", "sum", "token"])
def test_poolings(pooling):
    layer = backbone(pooling=pooling)
    features, tokens = layer(inputs()), layer(inputs(), intermediates=True)["hidden_states_last"]
    assert {m: x.shape[1] for m, x in tokens.items()} == (
        {"video": 9, "audio": 7} if pooling == "token" else {"video": 8, "audio": 6}
    )
    function = {"mean": np.mean, "max": np.max, "sum": np.sum}.get(pooling)
    for modality, states in tokens.items():
        expected = states[:, 0] if function is None else function(states, axis=1)
        found = features["pooled_by_modality"][modality]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    both = np.mean([*features["pooled_by_modality"].values()], axis=0)
    np.testing.assert_allclose(features["features_pooled"], both, rtol=1e-5, atol=1e-6)


def test_rates_of_layers():
    layer = backbone(pooling="token", modality_vectors=True)
    scales = optimizers.layer_scales(layer, 0.5)
    for name, above in {
        "video/patches/kernel": 4,
        "audio/patches/bias": 4,
        "audio/modality": 4,
        "video/class_token": 4,
        "audio/class_token": 0,
        "video/encoder/layer_0/attention/q/kernel": 3,
        "audio/encoder/layer_2/feed_forward/wo/bias": 1,
        "bottleneck": 0,
        "final_norm/gamma": 0,
    }.items():
        assert scales[f"{layer.path}/{name}"] == 0.5**above, name
    shared = optimizers.layer_scales(backbone(share_encoder=True), 0.5)
    assert shared["fused/encoder/layer_1/attention_norm/beta"] == 0.25


# Stochastic depth --------------------------------------------------------------------------------


def block(index, rate=0.6, layers=4):
    options = EncoderOptions(layers, 8, 2, 4, 12, stochastic_depth=rate)
    layer = EncoderBlock(options, index, name=f"layer_{index}")
    layer.build((None, 5, 8))
    return layer


def test_rows_leave_out_parts_of_a_layer_and_the_rest_is_not_scaled():
    layer, x = block(3), tf.random.stateless_normal((2000, 5, 8), [1, 2])
    layer.feed_forward.wo.kernel.assign(tf.zeros_like(layer.feed_forward.wo.kernel))
    whole = layer(x)[0] - x  # attention alone
    found = layer(x, training=True, rng=Randomness([3, 4]))[0] - x
    left = np.abs(found).max(axis=(1, 2)) == 0
    assert abs(left.mean() - 0.6) < 0.04
    np.testing.assert_allclose(found[~left], whole[~left], atol=1e-6)
    # A row has the same draws whatever replica holds it.
    later = layer(x[1000:], training=True, rng=Randomness([3, 4], first_row=1000))[0] - x[1000:]
    np.testing.assert_array_equal(np.abs(later).max(axis=(1, 2)) == 0, left[1000:])


def test_earlier_layers_are_left_out_less_often():
    assert [block(index).left_out for index in range(4)] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert block(0, layers=1).left_out == 0.0
    x = tf.random.stateless_normal((4, 5, 8), [1, 2])
    with pytest.raises(ValueError, match="stochastic depth"):
        block(1)(x, training=True)


# First values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["fan_in", "central", "average"])
def test_first_values_of_patches(init):
    keras.utils.set_random_seed(0)
    layer = PatchEmbedding((4, 8, 8), (4, 8, 8), 64, init, name="patches")
    layer.build((None, 4, 8, 8, 3))
    frames = np.asarray(layer.kernel)
    inputs_of_one = 8 * 8 * 3
    if init == "fan_in":
        assert frames.std() == pytest.approx((4 * inputs_of_one) ** -0.5, rel=0.02)
    elif init == "central":
        assert not frames[[0, 1, 3]].any()
        assert frames[2].std() == pytest.approx(inputs_of_one**-0.5, rel=0.02)
    else:
        np.testing.assert_array_equal(frames, np.broadcast_to(frames[:1], frames.shape))
        assert frames.sum(axis=0).std() == pytest.approx(inputs_of_one**-0.5, rel=0.02)
