"""Fine-tuning of a backbone with the pooling over time that it was pretrained with."""

from __future__ import annotations

import numpy as np
import pytest

from vatt import configs
from vatt.errors import CheckpointError
from vatt.modeling import factory
from vatt.modeling.layers.pooling import TemporalPooling
from vatt.modeling.pretraining import PretrainingModel
from vatt.modeling.random import Randomness
from vatt.training import checkpoints, layouts, transfer

CLIP, CLASSES = (12, 32, 32, 3), 5
POOLING = {
    "pooling_layers": 2,
    "pooling_steps": 3,
    "pooling_positions": True,
    "pooling_values": True,
}


class Pretrained(PretrainingModel):
    """A model whose backbone gives maps, which it pools itself."""

    modalities = ("video",)

    def __init__(self):
        super().__init__(name="pretrained")
        self.video = factory.build_backbone(configs.registry.backbone("r2plus1d_tiny"))
        options = {"num_layers": 2, "steps": 3, "positions": True, "project_values": True}
        self.pooling = TemporalPooling(self.video.features_dim, **options, name="pooling")

    def build(self, shapes):
        self.video.build((None, *shapes["video"]))
        self.pooling.build((None, None, None, None, self.video.features_dim))
        self.built = True

    def tower_paths(self):
        return {"video": {"": f"{self.video.path}/", "pooling/": f"{self.pooling.path}/"}}


@pytest.fixture
def pretrained():
    model = Pretrained()
    model.build({"video": CLIP})
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(np.abs(rng.normal(size=variable.shape)) * 0.1 + 0.05)
    return model


@pytest.fixture
def checkpoint(pretrained, tmp_path):
    facts = layouts.metadata(pretrained, layouts.PRETRAIN, "some_arch", "some_method")
    store = checkpoints.CheckpointStore(tmp_path)
    return store.save(3, checkpoints.variable_map(pretrained), **facts)


def classifier(**options):
    config = configs.registry.backbone("r2plus1d_tiny", num_classes=CLASSES, **options)
    model = factory.build_classifier(config)
    model.build((None, *CLIP))
    return model


def test_the_pooling_of_pretraining_is_taken_over(pretrained, checkpoint):
    model = classifier(**POOLING)
    report = transfer.transfer(checkpoint, model)
    new = {row.variable for row in report.of("new")}
    assert new == {"classifier/classification/kernel", "classifier/classification/bias"}
    assert not report.left
    assert "modality-agnostic" not in report.source.layout.description
    clips = np.random.default_rng(1).normal(size=(2, *CLIP)).astype("float32")
    expected = pretrained.pooling(pretrained.video(clips)["features"])
    found = model(clips)["features_pooled"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    mean = np.asarray(model(clips)["features"]).mean(axis=(1, 2, 3))
    assert np.abs(mean - found).max() > 1e-2


def test_a_backbone_without_the_pooling_is_refused(checkpoint):
    for options in ({}, POOLING | {"pooling_layers": 1}):
        with pytest.raises(CheckpointError, match="pooling_layers: 2"):
            transfer.transfer(checkpoint, classifier(**options))


def test_pooling_is_trained_and_frozen_with_its_backbone():
    model = classifier(**POOLING)
    names = {v.path for v in model.backbone.trainable_variables}
    assert "classifier/video/pooling/encoder/layer_1/attention/q/kernel" in names
    frozen = classifier(**POOLING, freeze_backbone=True)
    assert not frozen.backbone.trainable_variables
    dropping = classifier(**POOLING, pooling_dropout_rate=0.5)
    clips = np.ones((2, *CLIP), "float32")
    first, second = (
        np.asarray(dropping(clips, training=True, rng=Randomness([0, seed]))["features_pooled"])
        for seed in (1, 2)
    )
    assert np.abs(first - second).max() > 1e-3


def test_heads_must_divide_the_width():
    with pytest.raises(configs.ConfigError, match="pooling_heads = 5: expected a divisor"):
        configs.resolve(
            task="finetune",
            model_arch="r2plus1d_tiny",
            params_override="model_config={pooling_layers: 1, pooling_heads: 5}",
        )
