"""Fine-tuning of a backbone with the pooling over time that it was pretrained with."""

from __future__ import annotations

import numpy as np

from vatt import configs
from vatt.methods.stica.config import ModelConfig
from vatt.methods.stica.model import CroppedViews
from vatt.modeling import factory
from vatt.training import checkpoints, layouts, transfer

CLIP, CLASSES = (12, 32, 32, 3), 5


def pretrained():
    config = ModelConfig(
        video_backbone="r2plus1d_tiny",
        audio_backbone="resnet_tiny",
        num_layer=2,
        positional_emb=True,
        qkv_mha=True,
        transformer_time_dim=3,
        cross_modal_alpha=0.0,
        num_small_crops=1,
    )
    model = CroppedViews(config)
    model.build({"video": CLIP})
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(np.abs(rng.normal(size=variable.shape)) * 0.1 + 0.05)
    return model


def classifier(**options):
    config = configs.registry.backbone("r2plus1d_tiny", num_classes=CLASSES, **options)
    model = factory.build_classifier(config)
    model.build((None, *CLIP))
    return model


POOLING = {
    "pooling_layers": 2,
    "pooling_steps": 3,
    "pooling_positions": True,
    "pooling_values": True,
}


def test_the_pooling_of_pretraining_is_taken_over(tmp_path):
    source, model = pretrained(), classifier(**POOLING)
    facts = layouts.metadata(source, layouts.PRETRAIN, "stica_tiny", "stica")
    store = checkpoints.CheckpointStore(tmp_path)
    report = transfer.transfer(store.save(3, checkpoints.variable_map(source), **facts), model)
    new = {row.variable for row in report.of("new")}
    assert new == {"classifier/classification/kernel", "classifier/classification/bias"}
    assert not report.left
    assert "modality-agnostic" not in report.source.layout.description
    clips = np.random.default_rng(1).normal(size=(2, *CLIP)).astype("float32")
    expected = source.towers({"video": clips})["video"]["features_pooled"]
    found = model(clips)["features_pooled"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    mean = np.asarray(model(clips)["features"]).mean(axis=(1, 2, 3))
    assert np.abs(mean - found).max() > 1e-2
