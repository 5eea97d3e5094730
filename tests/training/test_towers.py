"""MBT classifiers from pre-trained towers: each strategy of encoders, one or two modalities."""

from __future__ import annotations

import numpy as np
import pytest

from vatt import configs, methods
from vatt.errors import CheckpointError
from vatt.methods.av_mae.config import EARLY, MID, SEPARATE, SHARED, DecoderConfig, ModelConfig
from vatt.modeling import factory
from vatt.training import checkpoints, layouts, transfer

SIZES = {"d_model": 12, "num_heads": 3, "d_kv": 4, "d_ff": 20, "num_layers": 3}
PATCHES = {"spatial_patch_size": 4, "audio_temporal_patch_size": 4, "audio_spectral_patch_size": 4}
SHAPES = {"video": (4, 8, 8, 3), "audio": (12, 8, 1)}
BOTH = ("video", "audio")


def pretrained(strategy, modalities=BOTH, folder=None):
    """A pre-trained model with weights of its own, and its checkpoint."""
    config = ModelConfig(
        **SIZES,
        **PATCHES,
        encoder_strategy=strategy,
        modalities=modalities,
        fusion_layers=1,
        decoder_config=DecoderConfig(**{**SIZES, "num_layers": 1}),
        use_modality_tokens=True,
    )
    model = methods.named("av_mae").model(config, SHAPES, "float32")
    random = np.random.default_rng(3)
    for variable in model.variables:
        variable.assign(random.normal(size=variable.shape))
    facts = layouts.metadata(model, layouts.PRETRAIN, "av_mae_test", "av_mae")
    return model, checkpoints.CheckpointStore(folder).save(
        7, checkpoints.variable_map(model), **facts
    )


def classifier(modalities=BOTH, **changes):
    options = {**SIZES, **PATCHES, "fusion_layer": 2, "modality_fusion": modalities, **changes}
    config = configs.registry.backbone("mbt_tiny", **options)
    model = factory.build_classifier(config, num_classes=5, multi_label=True)
    shapes = {m: (None, *SHAPES[m]) for m in modalities}
    model.build(shapes if len(shapes) > 1 else next(iter(shapes.values())))
    return model


def values(layer):
    return {v.path.removeprefix(f"{layer.path}/"): v.numpy() for v in layer.variables}


def expected_layer(model, modality, number):
    """The weights of a layer of a modality, counted through both encoders."""
    own = getattr(model, modality).encoder or model.encoder
    if number < len(own.blocks):
        return values(own.blocks[number])
    return values(model.fusion.blocks[number - len(own.blocks)])


@pytest.mark.parametrize("modalities", [BOTH, ("video",), ("audio",)])
@pytest.mark.parametrize("strategy", [SEPARATE, MID, EARLY, SHARED])
def test_every_strategy(strategy, modalities, tmp_path):
    before, checkpoint = pretrained(strategy, folder=tmp_path)
    model = classifier(modalities)
    first = {v.path: v.numpy() for v in model.variables}
    report = transfer.transfer(checkpoint, model)
    for modality in modalities:
        tower = getattr(model.backbone, modality)
        for name, value in values(tower.patches).items():
            np.testing.assert_array_equal(
                value, values(getattr(before, modality).embedding)[name], err_msg=name
            )
        for number, block in enumerate(tower.encoder.blocks):
            for name, value in expected_layer(before, modality, number).items():
                np.testing.assert_array_equal(values(block)[name], value, err_msg=name)
    norm = values(model.backbone.final_norm)
    shared = before.fusion or before.encoder
    for name, value in norm.items():
        kept = first[f"{model.backbone.path}/final_norm/{name}"]
        there = kept if shared is None else values(shared.final_norm)[name]
        np.testing.assert_array_equal(value, there)
    new = {row.variable.removeprefix(f"{model.backbone.path}/") for row in report.of("new")}
    assert new == {"bottleneck", *(v.path for v in model.classification.variables)}
    skipped = [row.variable for row in report.of("skipped")]
    assert len(skipped) == (2 if strategy == SEPARATE else 0)
    copied = {SEPARATE: 0, MID: 1, EARLY: 3, SHARED: 3}[strategy] if len(modalities) > 1 else 0
    assert len(report.of("copied twice")) == 2 * 16 * copied
    assert f"{2 * 16 * copied} copied twice" in report.table() or not copied


def test_sound_from_a_pre_training_on_sound_alone(tmp_path):
    """The published code fails there."""
    before, checkpoint = pretrained(MID, ("audio",), tmp_path)
    model = classifier(("audio",))
    transfer.transfer(checkpoint, model)
    for number, block in enumerate(model.backbone.audio.encoder.blocks):
        for name, value in expected_layer(before, "audio", number).items():
            np.testing.assert_array_equal(values(block)[name], value)
    with pytest.raises(CheckpointError, match="video"):
        transfer.transfer(checkpoint, classifier())


def test_the_published_restore_leaves_the_patches_of_sound_alone(tmp_path):
    _, checkpoint = pretrained(SEPARATE, folder=tmp_path)
    model = classifier(published_restore=True)
    first = values(model.backbone.audio.patches)
    report = transfer.transfer(checkpoint, model)
    for name, value in values(model.backbone.audio.patches).items():
        np.testing.assert_array_equal(value, first[name])
    assert "left out, model_config.published_restore" in report.table()


def test_other_depths_are_refused(tmp_path):
    _, checkpoint = pretrained(MID, folder=tmp_path)
    for layers in (2, 4):
        model = classifier(num_layers=layers, fusion_layer=1)
        before = {v.path: v.numpy() for v in model.variables}
        with pytest.raises(CheckpointError, match="layer_"):
            transfer.transfer(checkpoint, model)
        for variable in model.variables:
            np.testing.assert_array_equal(variable.numpy(), before[variable.path])


def test_shared_layers_are_those_of_the_first_modality(tmp_path):
    before, checkpoint = pretrained(SEPARATE, folder=tmp_path)
    model = classifier(share_encoder=True)
    transfer.transfer(checkpoint, model)
    for number, block in enumerate(model.backbone.encoder.blocks):
        for name, value in expected_layer(before, "video", number).items():
            np.testing.assert_array_equal(values(block)[name], value)


def test_a_fine_tuned_classifier_is_taken_whole(tmp_path):
    model = classifier()
    random = np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(random.normal(size=variable.shape))
    facts = layouts.metadata(model, layouts.FINETUNE, "mbt_tiny")
    store = checkpoints.CheckpointStore(tmp_path)
    checkpoint = store.save(3, checkpoints.variable_map(model), **facts)
    other = classifier()
    report = transfer.transfer(checkpoint, other)
    assert len(report.of("restored")) == len(other.variables)
    for one, two in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two)
