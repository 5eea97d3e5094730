"""Published files of MBT classifiers, and MBT classifiers from published pre-trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.flax_writer import nested, write
from vatt import configs
from vatt.errors import CheckpointError
from vatt.methods.av_mae import fine_tuned
from vatt.modeling import factory
from vatt.tools import convert_checkpoint
from vatt.training import layouts, sources, transfer

TUNED = "finetune_mbt_bottleneck.npz"
BEFORE = "pretrain_tiny_mid__same_decoder_inpainting_shuffled.npz"
CLASSES = 6
SIZES = {"d_model": 16, "num_heads": 4, "d_kv": 4, "d_ff": 24, "num_layers": 3}
OPTIONS = {**SIZES, "fusion_layer": 1, "num_bottlenecks": 3}
CLIPS = {"num_frames": 4, "frame_size": 32, "min_resize": 36, "test_resize": 32, "mel_bins": 32}
CLIPS |= {"audio_seconds": 0.48}


def arrays_of(shared_dir, name):
    with np.load(shared_dir / "conformance_av_mae" / name) as archive:
        return {key: archive[key] for key in archive.files}


def weights_of(arrays):
    return {name.removeprefix("w/"): v for name, v in arrays.items() if name.startswith("w/")}


def built(classes=CLASSES, shapes=None, **options):
    config = configs.registry.backbone("mbt_base", **{**OPTIONS, **options})
    model = factory.build_classifier(config, num_classes=classes, multi_label=True)
    model.build(shapes or {"video": (None, 4, 32, 32, 3), "audio": (None, 48, 32, 1)})
    return model


@pytest.fixture
def tuned(shared_dir, tmp_path):
    """A file as the trainer of fine-tuning leaves it, and what is in it."""
    arrays = arrays_of(shared_dir, TUNED)
    content = {"params": nested(weights_of(arrays)), "global_step": np.array(9)}
    content |= {"opt_state": {"inner_states": {}}, "model_state": {}, "rng": np.zeros(2, np.uint32)}
    return write(tmp_path / "checkpoint_9", content), arrays


def test_a_whole_classifier(tuned):
    path, arrays = tuned
    source = sources.open_source(path.parent)  # a folder stands for its newest file
    assert (source.layout.kind, source.step) == (layouts.FINETUNE, 9)
    model = built()
    report = transfer.load(source, model)
    assert not report.unused and len(report.of("restored")) == len(model.variables)
    inputs = {"video": arrays["in/rgb"], "audio": arrays["in/spectrogram"]}
    np.testing.assert_allclose(model(inputs)["logits"], arrays["out/eval_logits"], atol=2e-5)


def test_a_classifier_of_other_classes_keeps_its_own_head(tuned):
    path, arrays = tuned
    model = built(classes=4)
    report = transfer.transfer(path, model)
    head = {v.path for v in model.classification.variables}
    assert {row.variable for row in report.of("skipped")} == head
    names = fine_tuned.classifier_names(model)
    for variable in model.backbone.variables:
        expected = arrays[f"w/{names[variable.path]}"].reshape(variable.shape)
        np.testing.assert_array_equal(variable, expected)
    with pytest.raises(CheckpointError, match="published MBT fine-tuned checkpoint"):
        transfer.transfer(path, built(num_layers=2))


@pytest.mark.slow
def test_it_is_converted_with_a_certificate(tuned, tmp_path, capsys):
    path, _ = tuned
    settings = {
        "model_config": {**OPTIONS, "num_classes": CLASSES},
        "train": {"input": CLIPS},
        "eval": {"input": CLIPS},
    }
    override = [f"--params_override={json.dumps(settings)}", "--model_arch=mbt_base"]
    override += ["--task=finetune"]
    code = convert_checkpoint.main([str(path), str(tmp_path / "ours"), *override])
    assert code == 0, capsys.readouterr()
    model = built()
    report = transfer.load(tmp_path / "ours" / "ckpt-9", model)
    assert len(report.of("restored")) == len(model.variables)


def test_from_a_published_pre_training(shared_dir, tmp_path):
    before = weights_of(arrays_of(shared_dir, BEFORE))
    path = write(tmp_path / "checkpoint_7", {"optimizer": {"target": nested(before)}})
    shapes = {"video": (None, 4, 8, 8, 3), "audio": (None, 12, 8, 1)}
    sizes = {"d_kv": 8, "num_heads": 2, "spatial_patch_size": 4}
    sizes |= {"audio_temporal_patch_size": 4, "audio_spectral_patch_size": 4}
    model = built(shapes=shapes, **sizes)
    report = transfer.transfer(path, model)
    assert len(report.of("copied twice")) == 2 * 16
    names = fine_tuned.classifier_names(model)
    found = {names[v.path]: v.numpy() for v in model.variables}
    for ours, theirs in (
        ("embedding_spectrogram/kernel", "embedding_spectrogram/kernel"),
        ("embedding/kernel", "embedding_rgb/kernel"),
        ("Transformer/encoder_norm/scale", "Transformer_concat/encoder_norm/scale"),
        (
            "Transformer/encoderblock_1_spec/MlpBlock_0/Dense_0/kernel",
            "Transformer_spectrogram/encoderblock_1/MlpBlock_0/Dense_0/kernel",
        ),
        (
            "Transformer/encoderblock_2_spec/MlpBlock_0/Dense_0/kernel",
            "Transformer_concat/encoderblock_0/MlpBlock_0/Dense_0/kernel",
        ),
    ):
        np.testing.assert_array_equal(found[ours], before[theirs], err_msg=ours)
