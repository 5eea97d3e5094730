"""Names that the terminal cannot show are printed escaped, and files are UTF-8 all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASCII = {"PYTHONIOENCODING": "ascii"}
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(module: str, *arguments: str, env=ASCII) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, capture_output=True, cwd=ROOT, env={**os.environ, **env}, timeout=600
    )


@pytest.mark.parametrize("env", [ASCII, NO_UTF8], ids=["ASCII", "C"])
def test_words_of_another_alphabet(tmp_path, env):
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path,caption\na.mp4,größer größer красный\n", encoding="utf-8")
    output = tmp_path / "w.txt"
    given = ["--manifest", str(manifest), "--output", str(output)]
    made = run("vatt.data.vocabulary", *given, env=env)
    assert made.returncode == 0 and not made.stderr, made.stderr
    words = output.read_text(encoding="utf-8").split()
    assert words[4:] == ["größer", "красный"]


def test_names_that_cannot_be_shown(tmp_path):
    for module, arguments in {
        "vatt.data.vocabulary": ["--captions", "ü.srt", "--output", "ä.txt"],
        "vatt.data.check": ["ü/card.yaml"],
        "vatt.tools.convert_embeddings": ["ü.pkl", "ü.npz"],
        "vatt.reporting.report": [str(tmp_path / "ü")],
        "vatt.main": ["--config_file=ü.yaml", f"--model_dir={tmp_path}"],
    }.items():
        ended = run(module, *arguments)
        assert ended.returncode in (2, 3), module
        assert b"Traceback" not in ended.stderr, module
        assert b"\\xfc" in ended.stderr, module


def test_a_printed_name_is_escaped(tmp_path):
    (tmp_path / "ü").mkdir()
    (tmp_path / "ü" / "metrics.jsonl").write_text('{"step": 1, "split": "train", "metrics": {}}\n')
    ended = run("vatt.reporting.report", str(tmp_path / "ü"))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.endswith(b"\\xfc/report.html\n")


def test_a_reader_that_has_seen_enough():
    command = [sys.executable, "-m", "vatt.main", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
