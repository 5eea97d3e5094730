"""Golden numbers of MBT classifiers pass, and wrong ones fail: what is compared is computed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.golden import __main__ as command

FOLDER = "conformance_av_mae"


def lines(directory, capsys, only) -> tuple[int, list[str]]:
    code = command.main([str(directory), "--method", "av_mae", "--only", only])
    found = capsys.readouterr().out.splitlines()
    return code, [line for line in found if " pass " in line or " fail " in line]


@pytest.mark.parametrize("only", ["finetune_tiny_stochastic", "metrics_extra", "losses_mixup"])
def test_some_golden_files_pass(shared_dir, capsys, only):
    code, found = lines(shared_dir / FOLDER, capsys, only)
    assert code == 0 and len(found) == 1 and " pass " in found[0], found


@pytest.mark.slow
@pytest.mark.parametrize("only", ["finetune_mbt", "optimiser", "schedules", "restore", "preproc"])
def test_golden_files_pass(shared_dir, capsys, only):
    code, found = lines(shared_dir / FOLDER, capsys, only)
    assert code == 0 and found and all(" pass " in line for line in found), found


def changed(shared_dir, tmp_path, name, key, change):
    with np.load(shared_dir / FOLDER / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays[key] = change(arrays[key])
    np.savez(tmp_path / f"{name}.npz", **arrays)


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("finetune_tiny_stochastic_depth", "in/drop/encoderblock_2_spec/mlp", lambda x: 1 - x),
        ("losses_mixup_metrics", "mixup/mixmod1/weights", lambda x: x[::-1]),
        ("metrics_extra", "topk/weights/top1_sum", lambda x: x + 1),
    ],
)
def test_wrong_numbers_fail(shared_dir, tmp_path, capsys, name, key, change):
    changed(shared_dir, tmp_path, name, key, change)
    code, found = lines(tmp_path, capsys, name)
    assert code == 1 and " fail " in found[0], found


@pytest.mark.slow
def test_another_mapping_fails(shared_dir, tmp_path, capsys):
    mapping = json.loads((shared_dir / FOLDER / "restore_mapping.json").read_text())
    case = mapping["separate_encoders -> rgb+spectrogram"]
    case["Transformer/encoder_norm/scale"] = "Transformer_rgb/encoder_norm/scale"
    (tmp_path / "restore_mapping.json").write_text(json.dumps(mapping))
    code, found = lines(tmp_path, capsys, "restore")
    assert code == 1 and "encoder_norm/scale" in found[0], found


@pytest.mark.slow
def test_a_file_of_flax_with_other_weights_beside_it_fails(shared_dir, tmp_path, capsys):
    shutil.copy(shared_dir / FOLDER / "checkpoint_finetune_layout.msgpack", tmp_path)
    changed(shared_dir, tmp_path, "optimiser_steps", "finetune/w5/bottleneck", lambda x: x + 1)
    code, found = lines(tmp_path, capsys, "checkpoint_finetune")
    assert code == 1 and "bottleneck after step 5" in found[0], found
