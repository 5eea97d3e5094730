"""Backbones: shapes, DropToken, precision, freezing, options."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import registry
from vatt.errors import UserError
from vatt.modeling import factory
from vatt.modeling.backbones.language_models import relative_buckets
from vatt.modeling.random import Randomness


def build(config, shape, dtype="float32"):
    layer = factory.build_backbone(config, dtype=dtype)
    layer.build(shape)
    return layer


def test_vit_shapes(video_config, inputs, shapes):
    layer = build(video_config(), shapes["video"])
    outputs = layer(inputs["video"], intermediates=True)
    assert outputs["features_pooled"].shape == (4, 16)
    assert outputs["features"].shape == (4, 2, 4, 4, 16)
    assert outputs["embeddings"].shape == (4, 32, 16)
    assert outputs["hidden_states_last"].shape == (4, 33, 16)
    assert len(outputs["attention_weights"]) == 2
    assert np.all(np.asarray(outputs["random_mask"]) == 1.0)


def test_drop_token_keeps_half(video_config, inputs, shapes):
    layer = build(video_config(dropout_rate=0.0), shapes["video"])
    outputs = layer(inputs["video"], training=True, rng=Randomness([0, 0]), intermediates=True)
    assert outputs["features"].shape == (4, 16, 16)
    assert outputs["embeddings"].shape == (4, 16, 16)  # dropped patches were not projected


def test_drop_token_with_fewer_tokens_than_buckets(audio_config, inputs, shapes):
    config = audio_config(max_temporal_buckets=40)
    layer = build(config, shapes["audio"])
    outputs = layer(inputs["audio"], training=True, rng=Randomness([0, 0]))
    assert outputs["features"].shape == (4, 8, 16)


def test_training_without_randomness_is_refused(audio_config, inputs, shapes):
    layer = build(audio_config(), shapes["audio"])
    with pytest.raises(ValueError, match="DropToken is active"):
        layer(inputs["audio"], training=True)


def test_masking_projects_all_tokens_and_drops_after(video_config, inputs, shapes):
    config = video_config(use_masking=True, mask_rate=0.5, pre_projection=True)
    layer = build(config, shapes["video"])
    outputs = layer(inputs["video"], training=True, rng=Randomness([0, 0]), intermediates=True)
    assert outputs["embeddings"].shape == (4, 32, 16)
    assert outputs["features"].shape == (4, 16, 16)
    assert 0.2 < np.mean(outputs["random_mask"]) < 0.8


def test_projections_change_the_width(audio_config, inputs, shapes):
    layer = build(audio_config(post_projection=True, d_post_proj=10), shapes["audio"])
    assert layer.features_dim == 10
    assert layer(inputs["audio"])["features_pooled"].shape == (4, 10)


def test_frozen_backbone_has_no_gradient(audio_config, inputs, shapes):
    layer = build(audio_config(freeze_backbone=True), shapes["audio"])
    assert not layer.trainable_variables
    with tf.GradientTape() as tape:
        pooled = layer(inputs["audio"], training=True)["features_pooled"]
    assert tape.gradient(pooled, [v.value for v in layer.variables]) == [None] * len(
        layer.variables
    )


def test_other_lengths_resample_the_positions(audio_config, inputs, shapes):
    layer = build(audio_config(), shapes["audio"])
    assert layer(inputs["audio"][:, :320])["features"].shape == (4, 10, 16)


def test_t5_ignores_padding(text_config, shapes):
    layer = build(text_config(), shapes["text"])
    short = np.array([[5, 9, 3, 0, 0, 0]], "int32")
    pooled = layer(short)["features_pooled"]
    np.testing.assert_allclose(layer(short[:, :3])["features_pooled"], pooled, atol=1e-5)
    assert np.abs(layer(short, word_mask=np.ones((1, 6)))["features_pooled"] - pooled).max() > 1e-4


def test_text_outputs(text_config, inputs, shapes):
    layer = build(text_config(), shapes["text"])
    outputs = layer(inputs["text"])
    assert outputs["features"].shape == (8, 6, 16)
    np.testing.assert_array_equal(outputs["word_ids"], inputs["text"])
    np.testing.assert_array_equal(outputs["attention_mask"], inputs["text"] != 0)


@pytest.mark.parametrize("trainable", [True, False])
def test_embeddings_are_trained_only_when_asked(text_config, shapes, trainable):
    layer = build(text_config(trainable_embeddings=trainable), shapes["text"])
    assert any("embedding/embeddings" in v.path for v in layer.trainable_variables) == trainable


def test_relative_buckets_near_distances_are_their_own():
    buckets = relative_buckets(np.arange(-100, 101), 32, 64)
    assert buckets[100] == 0
    assert list(buckets[93:100]) == [7, 6, 5, 4, 3, 2, 1]  # keys before the query
    assert list(buckets[101:108]) == [17, 18, 19, 20, 21, 22, 23]  # keys after it
    assert buckets[0] == 15
    assert buckets[-1] == 31


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_bfloat16_is_finite_and_close(modality, request, inputs, shapes):
    config = request.getfixturevalue(f"{modality}_config")()
    exact = build(config, shapes[modality])
    half = build(config, shapes[modality], dtype="mixed_bfloat16")
    for one, two in zip(exact.variables, half.variables, strict=True):
        assert two.dtype == "float32"
        two.assign(one)
    with tf.GradientTape() as tape:
        outputs = half(inputs[modality], training=True, rng=Randomness([1, 1]))["features_pooled"]
        total = tf.reduce_sum(tf.cast(outputs, "float32") ** 2)
    assert outputs.dtype == tf.bfloat16
    for gradient in tape.gradient(total, [v.value for v in half.trainable_variables]):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()
    reference = np.asarray(exact(inputs[modality])["features_pooled"])
    ours = np.asarray(tf.cast(half(inputs[modality])["features_pooled"], "float32"))
    assert np.abs(ours - reference).max() < 0.1 * np.abs(reference).max()


def test_the_class_decides_what_is_built_and_another_label_is_refused(video_config):
    config = video_config()
    assert list(config.problems("model_config")) == []
    config.name = "vti_base"
    assert type(factory.build_backbone(config)) is type(factory.build_backbone(video_config()))
    [problem] = config.problems("model_config")
    assert (problem.path, problem.value) == ("model_config name", "vti_base")
    assert "expected 'vit_tiny': the architecture chooses the backbone" in problem.accepted


def test_layers_are_called_by_what_they_take(video_config, text_config):
    assert factory.build_backbone(video_config()).name == "video"
    assert factory.build_backbone(text_config()).name == "text"
    assert factory.build_backbone(registry.backbone("ut_tiny")).name == "unified"
    assert factory.build_backbone(video_config(), name="other").name == "other"


def test_only_backbones_that_are_fine_tuned_get_a_classifier(text_config):
    with pytest.raises(UserError, match="'t5_tiny' is none of the backbones that are fine-tuned"):
        factory.build_classifier(text_config(), num_classes=3)
