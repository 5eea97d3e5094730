"""ResNet on spectrograms: golden numbers, names, widths, options, DropBlock, freezing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_conv import check_backbone, check_manifest

from vatt import configs
from vatt.errors import UserError
from vatt.methods.vatt import published
from vatt.modeling.backbones.resnet2d import Bottleneck, ResNet2D, resnet2d
from vatt.modeling.random import Randomness

RANDOM = np.random.default_rng(0)
SPECTROGRAM = RANDOM.normal(size=(4, 64, 48, 1)).astype("float32")
NORM = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": True}
NARROW = 0.125


def make(arch="resnet2d_50", dtype="float32", width_multiplier=NARROW, **changes):
    config = configs.registry.backbone(arch, width_multiplier=width_multiplier, **changes)
    layer = resnet2d(config, name="audio", dtype=keras.dtype_policies.get(dtype))
    layer.build((None, 64, 48, 1))
    return layer


def pooled_and_gradients(layer, **kwargs):
    raw = [v.value for v in layer.variables]
    with tf.GradientTape() as tape:
        pooled = layer(SPECTROGRAM, training=True, **kwargs)["features_pooled"]
        total = tf.reduce_sum(tf.cast(pooled, "float32") ** 2)
    paths = [v.path for v in layer.variables]
    return pooled, dict(zip(paths, tape.gradient(total, raw), strict=True))


def test_golden_numbers(shared_dir):
    check_backbone(shared_dir / "conformance/backbones/resnet2d_50.npz", resnet2d)


def test_variables_are_the_published_ones(shared_dir):
    layer = make(width_multiplier=1)
    folder = shared_dir / "conformance/manifests"
    check_manifest(folder / "ft_resnet2d_50_audioset.json", layer, published.BACKBONE_ROOT)
    check_manifest(folder / "mmv_fac.json", layer, published.PRETRAIN_ROOTS["audio"])
    assert layer.count_params() == 23_554_880


@pytest.mark.parametrize(
    ("width", "dim"),
    [
        (0.125, 256),
        (0.3, 614),
        *(pytest.param(n, 2048 * n, marks=pytest.mark.slow) for n in (1, 2)),
    ],
)
def test_width_multiplier_scales_all_channels(width, dim):
    layer = resnet2d(configs.registry.backbone("resnet2d_50", width_multiplier=width))
    layer.build((None, 64, 48, 1))
    assert layer.features_dim == dim
    shapes = {v.path.removeprefix("audio/"): tuple(v.shape) for v in layer.variables}
    assert shapes["stem/conv/kernel"] == (7, 7, 1, int(64 * width))
    # each convolution rounds down by itself: 4 * 512 * 0.3 is 614.4, 4 * int(512 * 0.3) is 612
    assert shapes["group_3/block_2/conv_2/conv/kernel"] == (1, 1, int(512 * width), dim)


@pytest.mark.slow
def test_resnet101_has_23_blocks_in_its_third_group():
    layer = make("resnet2d_101")
    assert [len(group.blocks) for group in layer.groups] == [3, 4, 23, 3]
    key = f"{published.BACKBONE_ROOT}/block_groups/2/layers/22/conv_relu_dropblock_layers/6/conv2d"
    assert f"{key}/kernel" in published.backbone_keys(layer).values()
    assert layer(SPECTROGRAM)["features"].shape == (4, 2, 2, 256)


@pytest.mark.parametrize(
    ("cifar_stem", "sizes"),
    [(False, [(38, 20), (19, 10), (10, 5), (5, 3)]), (True, [(150, 80), (75, 40), (38, 20)])],
)
def test_strides(cifar_stem, sizes):
    outputs = make(cifar_stem=cifar_stem)(np.zeros((1, 150, 80, 1), "float32"), intermediates=True)
    for index, size in enumerate(sizes):
        assert outputs["endpoints"][f"unit_out_{index}"].shape[1:3] == size


def test_final_endpoint_chooses_features_but_not_pooling():
    layer = make(final_endpoint="unit_out_1")
    outputs = layer(SPECTROGRAM, intermediates=True)
    assert outputs["features"].shape == (4, 8, 6, 64)
    np.testing.assert_allclose(
        outputs["features_pooled"],
        np.asarray(outputs["endpoints"]["last_conv"], np.float64).mean(axis=(1, 2)),
        rtol=1e-5,
    )


def test_residual_branches_start_at_zero():
    block = Bottleneck(4, 1, NORM, projection=False, name="block")
    block.build((None, None, None, 16))
    x = RANDOM.normal(size=(2, 5, 3, 16)).astype("float32")
    np.testing.assert_array_equal(block(x, training=True), np.maximum(x, 0))


def test_norm_without_scale():
    layer = make(batch_norm_scale=False)
    assert not any(v.path.endswith("gamma") for v in layer.variables)
    assert np.isfinite(layer(SPECTROGRAM)["features_pooled"]).all()


@pytest.mark.parametrize("point", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 4))])
def test_stop_gradient_point_freezes_what_lies_before(point):
    layer = make(stop_gradient_point=point)
    before = {v.path: v.numpy() for v in layer.variables}
    _, gradients = pooled_and_gradients(layer)
    frozen = ("audio/stem/", *(f"audio/group_{index}/" for index in range(point)))
    trained = {v.path for v in layer.trainable_variables}
    for variable in layer.variables:
        path = variable.path
        if path.startswith(frozen):
            assert gradients[path] is None
            assert path not in trained
            np.testing.assert_array_equal(variable, before[path])
        elif "moving_" in path:
            assert np.abs(np.asarray(variable) - before[path]).max() > 0
        else:
            assert gradients[path] is not None
            assert path in trained


def test_frozen_backbone_neither_learns_nor_moves():
    layer = make(freeze_backbone=True)
    before = [v.numpy() for v in layer.variables]
    _, gradients = pooled_and_gradients(layer)
    assert set(gradients.values()) == {None}
    assert not layer.trainable_variables
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_drop_block_acts_in_its_groups_and_only_in_training():
    plain = make()
    layer = make(dropblock_keep_probs=[1.0, 1.0, 0.9, 1.0], dropblock_size=2)
    for one, two in zip(layer.variables, plain.variables, strict=True):
        one.assign(two)
    run = {"training": True, "intermediates": True}
    dropped = layer(SPECTROGRAM, rng=Randomness([0, 1]), **run)["endpoints"]
    whole = plain(SPECTROGRAM, **run)["endpoints"]
    np.testing.assert_allclose(dropped["unit_out_1"], whole["unit_out_1"], atol=1e-6)
    gone = np.asarray(dropped["unit_out_2"]).max(axis=-1) == 0  # positions without any channel
    assert 0.1 < gone.mean() < 0.95
    for one, two in zip(layer.variables, plain.variables, strict=True):
        one.assign(two)
    np.testing.assert_array_equal(layer(SPECTROGRAM)["features"], plain(SPECTROGRAM)["features"])


def test_drop_block_without_randomness_is_refused():
    layer = make(dropblock_keep_probs=[1.0, 1.0, 0.9, 0.9], dropblock_size=2)
    with pytest.raises(ValueError, match=r"DropBlock .* is active in training"):
        layer(SPECTROGRAM, training=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": ""}, "backbone: '' is not one of .'resnet50', 'resnet101'"),
        ({"final_endpoint": "last_conf"}, "final_endpoint: 'last_conf'.*Did you mean 'last_conv'"),
        ({"data_format": "channels_first"}, "data_format: 'channels_first'"),
        ({"width_multiplier": 0.01}, "width_multiplier: 0.01 leaves no channel"),
        ({"dropblock_keep_probs": [0.9], "dropblock_size": 7}, "has 1 numbers, expected 4"),
        ({"dropblock_keep_probs": [0.9] * 4}, "dropblock_size: None"),
    ],
)
def test_bad_fields_are_refused(changes, message):
    config = configs.registry.backbone("resnet2d_50", **changes)
    with pytest.raises(UserError, match=message):
        resnet2d(config)


@pytest.mark.slow
def test_bfloat16_is_finite_and_close():
    exact, half = make(), make(dtype="mixed_bfloat16")
    for one, two in zip(half.variables, exact.variables, strict=True):
        assert one.dtype == "float32"
        one.assign(two)
    ours, gradients = pooled_and_gradients(half)
    reference, _ = pooled_and_gradients(exact)
    assert ours.dtype == tf.bfloat16
    error = np.abs(np.asarray(tf.cast(ours, "float32")) - reference)
    assert error.max() < 0.1 * np.abs(reference).max()
    for path, gradient in gradients.items():
        assert gradient is not None or "moving_" in path
        assert gradient is None or np.isfinite(np.asarray(gradient)).all()


@pytest.mark.slow
def test_config_rebuilds_the_layer():
    layer = make(dropblock_keep_probs=[1.0, 1.0, 0.9, 0.8], dropblock_size=3, cifar_stem=True)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(twin, ResNet2D)
    twin.build((None, 64, 48, 1))
    for one, two in zip(twin.variables, layer.variables, strict=True):
        assert one.path == two.path
        one.assign(two)
    run = {"training": True, "rng": Randomness([5, 6])}
    np.testing.assert_array_equal(
        twin(SPECTROGRAM, **run)["features"], layer(SPECTROGRAM, **run)["features"]
    )
