"""The conformance tool: golden files pass, wrong numbers fail, unknown files are not covered."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from vatt.tools import conformance


def passing(directory, capsys, *arguments) -> list[str]:
    assert conformance.main([str(directory), *arguments]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "." in line.split(" ")[0]]
    assert lines
    for line in lines:
        assert " pass " in line, line
    return lines


@pytest.mark.parametrize(
    "only",
    ["backbones/vit", "backbones/ut", "backbones/t5", "losses", "heads", "restore_ut"],
)
def test_some_golden_files_pass(shared_dir, capsys, only):
    passing(shared_dir / "conformance", capsys, "--only", only)


@pytest.mark.slow
def test_all_golden_files_pass(shared_dir, capsys):
    """Also the manifests, which build full-size models."""
    assert len(passing(shared_dir / "conformance", capsys)) > 60


def test_wrong_numbers_fail(shared_dir, tmp_path, capsys):
    with np.load(shared_dir / "conformance" / "spline.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["8_to_16/exact64:table"] = arrays["8_to_16/exact64:table"] + 1e-3
    np.savez(tmp_path / "spline.npz", **arrays)
    assert conformance.main([str(tmp_path)]) == 1
    assert "fail" in capsys.readouterr().out


def test_missing_weights_fail_with_their_name(shared_dir, tmp_path, capsys):
    with np.load(shared_dir / "conformance/backbones/wat.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if "agg_embedding" not in name}
    (tmp_path / "backbones").mkdir()
    np.savez(tmp_path / "backbones" / "wat.npz", **arrays)
    assert conformance.main([str(tmp_path)]) == 1
    assert "agg_embedding" in capsys.readouterr().out


def test_unknown_files_are_not_covered(tmp_path, capsys):
    np.savez(tmp_path / "something_new.npz", x=np.zeros(3))
    assert conformance.main([str(tmp_path)]) == 0
    assert "not-covered" in capsys.readouterr().out


def test_only(shared_dir, tmp_path, capsys):
    shutil.copy(shared_dir / "conformance" / "t5_relative_buckets.npz", tmp_path)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert conformance.main([str(tmp_path), "--only", "t5"]) == 0
    assert "other" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        conformance.main([str(tmp_path), "--only", "nothing"])
