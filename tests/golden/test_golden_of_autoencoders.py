"""Golden numbers of AV-MAE's pretraining: files pass, others like them do, wrong ones fail."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.golden import __main__ as command

FOLDER = "conformance_av_mae"
FILES = ("frontend", "targets", "optimiser", "schedules", "checkpoint_pretrain")
VARIANTS = (
    "concat_and_encode__separate",
    "separate_encoders__concat",
    "separate_encoders__same_decoder_audio_only",
    "pretrain_tiny_mid",
    "pretrain_tiny_same",
    "pretrain_tiny_separate",
)


def passing(capsys, folder, *arguments):
    assert command.main([str(folder), "--method", "av_mae", *arguments]) == 0
    out = capsys.readouterr().out
    assert " pass " in out and " 0 not-covered" in out
    return out


@pytest.mark.parametrize("only", FILES)
def test_files_without_a_model_pass(shared_dir, capsys, only):
    passing(capsys, shared_dir / FOLDER, "--only", only)


@pytest.mark.slow
@pytest.mark.parametrize("only", (*VARIANTS, "param_shapes"))
def test_models_pass(shared_dir, capsys, only):
    passing(capsys, shared_dir / FOLDER, "--only", only)


def test_a_changed_prediction_fails_and_a_part_of_the_values_is_enough(
    shared_dir, tmp_path, capsys
):
    name = "pretrain_separate_encoders__same_decoder_audio_only.npz"
    with np.load(shared_dir / FOLDER / name) as archive:
        arrays = {key: archive[key] for key in archive.files}
    few = {key: value for key, value in arrays.items() if not key.startswith("grad/")}
    np.savez(tmp_path / "pretrain_few.npz", **few)
    passing(capsys, tmp_path)
    few["out/logits_spectrogram"] = few["out/logits_spectrogram"] + 1e-3
    np.savez(tmp_path / "pretrain_few.npz", **few)
    assert command.main([str(tmp_path), "--method", "av_mae"]) == 1
    assert "logits_spectrogram" in capsys.readouterr().out


def test_files_of_models_that_there_are_not_fail(shared_dir, tmp_path, capsys):
    name = "pretrain_separate_encoders__same_decoder_audio_only.npz"
    with np.load(shared_dir / FOLDER / name) as archive:
        arrays = {key: archive[key] for key in archive.files}
    meta = json.loads(str(arrays["meta"]))
    meta["model"]["classifier"] = "token"
    np.savez(tmp_path / "pretrain_token.npz", **arrays | {"meta": np.array(json.dumps(meta))})
    assert command.main([str(tmp_path), "--method", "av_mae"]) == 1
    assert "classifier 'token' is not known here" in capsys.readouterr().out


def test_names_that_nothing_is_known_of_fail(tmp_path, capsys):
    np.savez(tmp_path / "targets_posemb.npz", video_4x4x2_upside=np.zeros(3), video=np.zeros(1))
    assert command.main([str(tmp_path), "--method", "av_mae"]) == 1
    assert "fail" in capsys.readouterr().out
