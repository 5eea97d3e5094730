"""The set-up that run.sh and test.sh share: makes .venv once, repairs it, then costs nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def set_up(folder: Path, python: str = sys.executable) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", "set -euo pipefail; source setup.sh; set_up requirements.txt"],
        cwd=folder, env={**os.environ, "PYTHON": python}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    shutil.copy(REPOSITORY / "scripts" / "setup.sh", tmp_path)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    return tmp_path


@pytest.mark.slow
def test_made_once_and_repaired_when_half_made(folder):
    first = set_up(folder)
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stdout
    started = time.perf_counter()
    second = set_up(folder)
    assert (second.returncode, second.stdout) == (0, "")
    assert time.perf_counter() - started < 2
    [marker] = (folder / ".venv").glob("installed-*")
    marker.unlink()  # as if interrupted while installing: packages are finished, .venv is kept
    third = set_up(folder)
    assert third.returncode == 0
    assert "Installing" in third.stdout
    assert "Making" not in third.stdout
    shutil.rmtree(folder / ".venv" / "bin")  # as if interrupted while making .venv
    assert "Making .venv" in set_up(folder).stdout
    assert (folder / ".venv" / "bin" / "python").exists()


@pytest.mark.slow
def test_changed_requirements_are_installed(folder):
    assert set_up(folder).returncode == 0
    (folder / "requirements.txt").write_text("# nothing at all\n")
    assert "Installing" in set_up(folder).stdout


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_an_unusable_interpreter_is_refused(folder, python):
    result = set_up(folder, python)
    assert result.returncode != 0
    assert f"error: PYTHON={python} does not start or is not Python 3.11" in result.stderr
    assert not (folder / ".venv").exists()


def test_no_interpreter_at_all_is_refused(folder):
    tools = folder / "bin"
    tools.mkdir()
    for tool in ("bash", "sha256sum", "tr", "cat"):
        (tools / tool).symlink_to(shutil.which(tool))
    result = subprocess.run(
        [str(tools / "bash"), "-c", "set -euo pipefail; source setup.sh; set_up requirements.txt"],
        cwd=folder, env={"PATH": str(tools)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stderr
