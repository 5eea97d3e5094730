"""`vatt export` refuses what cannot be done before TensorFlow starts."""

from __future__ import annotations

import sys

import pytest

from vatt.errors import EXIT_CHECKPOINT, EXIT_USAGE
from vatt.export import formats
from vatt.tools import export


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    """Whatever builds a model fails the test."""
    monkeypatch.setitem(sys.modules, "vatt.export.exporting", None)


def refused(capsys, *arguments: str) -> str:
    code = export.main(list(arguments))
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    return f"{code}: {told}"


def test_a_missing_package_names_its_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    told = refused(capsys, "runs/toy", str(tmp_path / "out"), "--format=litert")
    assert told.startswith(f"{EXIT_USAGE}: error: --format=litert needs ai-edge-litert")
    assert "pip install 'vatt[litert]'" in told
    told = refused(capsys, "runs/toy", str(tmp_path / "out"), "--format=onnx")
    assert "onnx, onnxruntime, tf2onnx" in told and "pip install 'vatt[onnx]'" in told


def test_what_is_there_is_not_replaced(capsys, tmp_path):
    (tmp_path / "mine").touch()
    told = refused(capsys, "runs/toy", str(tmp_path), "--format=saved_model")
    assert f"{EXIT_USAGE}: error: {tmp_path}: is there already" in told


def test_unknown_runs_formats_and_clips(capsys, tmp_path):
    out = str(tmp_path / "out")
    told = refused(capsys, "tx_fac_tinny", out, "--format=saved_model")
    assert told.startswith(f"{EXIT_CHECKPOINT}: ") and "Did you mean 'tx_fac_tiny'?" in told
    told = refused(capsys, "tx_fac_tiny", out, "--format=keras", "--clips", f"{out}.mp4")
    assert f"--clips: {out}.mp4: there is no such file" in told
    with pytest.raises(SystemExit) as ended:
        export.main(["tx_fac_tiny", out, "--format=tensorrt"])
    assert ended.value.code == EXIT_USAGE and "onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
