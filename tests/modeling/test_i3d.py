"""I3D: golden numbers, names, options, precision, freezing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_conv import check_backbone, check_manifest

from vatt import configs
from vatt.errors import UserError
from vatt.methods.vatt import published
from vatt.modeling.backbones.i3d import ENDPOINTS, I3D, i3d

RANDOM = np.random.default_rng(0)
CLIP = RANDOM.normal(size=(2, 4, 16, 16, 3)).astype("float32")


def make(dtype="float32", **changes):
    config = configs.registry.backbone("i3d", **changes)
    layer = i3d(config, name="video", dtype=keras.dtype_policies.get(dtype))
    layer.build((None, 4, 16, 16, 3))
    return layer


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return make()


def test_golden_numbers(shared_dir):
    check_backbone(shared_dir / "conformance/backbones/i3d.npz", i3d)


@pytest.mark.parametrize(
    ("manifest", "root"),
    [
        ("ft_i3d_k400", published.BACKBONE_ROOT),
        ("mmv_fac", published.PRETRAIN_ROOTS["video"]),
    ],
)
def test_variables_are_the_published_ones(shared_dir, backbone, manifest, root):
    check_manifest(shared_dir / f"conformance/manifests/{manifest}.json", backbone, root)


def test_headless_parameters(backbone):
    assert backbone.count_params() == 12_301_824
    assert backbone.features_dim == 1024


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv3d_2c_3x3", (2, 2, 4, 4, 192)), ("mixed_4f", (2, 1, 1, 1, 832))],
)
def test_final_endpoint_chooses_features_but_not_pooling(backbone, name, shape):
    layer = make(final_endpoint=name)
    for one, two in zip(layer.variables, backbone.variables, strict=True):
        one.assign(two)
    outputs, whole = layer(CLIP, intermediates=True), backbone(CLIP)
    assert outputs["features"].shape == shape
    np.testing.assert_array_equal(outputs["features"], outputs["endpoints"][name])
    np.testing.assert_allclose(outputs["features_pooled"], whole["features_pooled"], atol=1e-6)
    assert tuple(outputs["endpoints"]) == ENDPOINTS


def test_pooled_is_the_mean_over_frames_and_positions(backbone):
    outputs = backbone(RANDOM.normal(size=(1, 16, 40, 64, 3)).astype("float32"))
    features = np.asarray(outputs["features"], np.float64)
    assert features.shape == (1, 2, 2, 2, 1024)
    np.testing.assert_allclose(
        outputs["features_pooled"], features.mean(axis=(1, 2, 3)), rtol=1e-5, atol=1e-6
    )


def test_bad_fields_are_refused():
    with pytest.raises(UserError, match=r"final_endpoint: 'mixed_5d'.*Did you mean 'mixed_5"):
        i3d(configs.registry.backbone("i3d", final_endpoint="mixed_5d"))
    with pytest.raises(UserError, match="final_endpoint: None"):
        i3d(configs.registry.backbone("i3d", final_endpoint=None))
    with pytest.raises(UserError, match="data_format: 'channels_first'"):
        i3d(configs.registry.backbone("i3d", data_format="channels_first"))


def test_width_multiplier_is_ignored_as_published():
    layer = make(width_multiplier=2, conv_weight_decay=0.1)
    assert layer.count_params() == 12_301_824
    assert not layer.losses


@pytest.mark.slow
def test_bfloat16_is_finite_and_close(backbone):
    half = make(dtype="mixed_bfloat16")
    for one, two in zip(half.variables, backbone.variables, strict=True):
        assert one.dtype == "float32"
        one.assign(two)
    exact = np.asarray(backbone(CLIP)["features_pooled"])
    ours = half(CLIP)["features_pooled"]
    assert ours.dtype == tf.bfloat16
    # 22 convolutions deep, each rounds to 8 bits: 4.7 to 8.3 % over eight seeds, by processor.
    assert np.abs(np.asarray(tf.cast(ours, "float32")) - exact).max() < 0.1 * np.abs(exact).max()
    raw = [v.value for v in half.trainable_variables]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(half(CLIP, training=True)["features_pooled"], "float32") ** 2)
    for gradient in tape.gradient(total, raw):
        assert np.isfinite(np.asarray(gradient)).all()


def test_frozen_backbone_neither_learns_nor_moves():
    layer = make(freeze_backbone=True)
    before = [v.numpy() for v in layer.variables]
    raw = [v.value for v in layer.variables]
    with tf.GradientTape() as tape:
        outputs = layer(CLIP, training=True)
        total = tf.reduce_sum(outputs["features"]) + tf.reduce_sum(outputs["features_pooled"])
    assert tape.gradient(total, raw) == [None] * len(raw)
    assert not layer.trainable_variables
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_config_rebuilds_the_layer(backbone):
    config = keras.saving.serialize_keras_object(backbone)
    twin = keras.saving.deserialize_keras_object(config)
    assert isinstance(twin, I3D)
    twin.build((None, 4, 16, 16, 3))
    assert [(v.path, v.shape) for v in twin.variables] == [
        (v.path, v.shape) for v in backbone.variables
    ]
