"""The comparison with golden numbers: golden files pass, wrong numbers fail, methods stay apart."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import golden
from tests.golden import __main__ as command

REPOSITORY = Path(__file__).resolve().parents[2]
OTHER_METHOD = '''
"""Golden numbers of a made-up method."""
from tests.golden.checks import absolute

def schedules_file(arrays):
    yield absolute("rate", arrays["rate"], arrays["rate"], 0.0)

HANDLERS = {"schedules.npz": schedules_file}
INPUTS = ("shapes.json",)
'''


def passing(directory, capsys, *arguments) -> list[str]:
    assert command.main([str(directory), *arguments]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "." in line.split(" ")[0]]
    assert lines
    for line in lines:
        assert " pass " in line, line
    return lines


def refused(capsys, *arguments) -> str:
    """Returns the message of a command that is wrong."""
    with pytest.raises(SystemExit) as end:
        command.main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def other_method(tmp_path, monkeypatch) -> Iterator[str]:
    """A second method beside VATT: a package is all that it takes."""
    package = tmp_path / "packages" / "other"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(OTHER_METHOD)
    monkeypatch.setattr(golden, "__path__", [*golden.__path__, str(package.parent)])
    yield package.name
    sys.modules.pop("tests.golden.other", None)


def schedules(folder: Path) -> Path:
    """A folder with the `schedules.npz` of the made-up method."""
    folder.mkdir(parents=True)
    np.savez(folder / "schedules.npz", rate=np.zeros(3))
    (folder / "shapes.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "only",
    ["backbones/vit", "backbones/ut", "backbones/t5", "losses", "heads", "restore_ut"],
)
def test_some_golden_files_pass(shared_dir, capsys, only):
    passing(shared_dir / "conformance", capsys, "--only", only)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("conformance", 69),
        ("conformance_gdt", 20),
        ("conformance_av_mae", 39),
        ("conformance_eao", 26),
    ],
)
def test_all_golden_files_pass(shared_dir, folder, files):
    """Also those that build full-size models: in a process that gives the memory back."""
    arguments = [sys.executable, "-m", "tests.golden", str(shared_dir / folder)]
    result = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) pass, 0 fail, 0 not-covered", result.stdout)[1]) >= files


def test_wrong_numbers_fail(shared_dir, tmp_path, capsys):
    with np.load(shared_dir / "conformance" / "spline.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["8_to_16/exact64:table"] = arrays["8_to_16/exact64:table"] + 1e-3
    np.savez(tmp_path / "spline.npz", **arrays)
    assert command.main([str(tmp_path), "--method", "vatt"]) == 1
    assert "fail" in capsys.readouterr().out


def test_missing_weights_fail_with_their_name(shared_dir, tmp_path, capsys):
    with np.load(shared_dir / "conformance/backbones/wat.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if "agg_embedding" not in name}
    (tmp_path / "backbones").mkdir()
    np.savez(tmp_path / "backbones" / "wat.npz", **arrays)
    assert command.main([str(tmp_path), "--method", "vatt"]) == 1
    assert "agg_embedding" in capsys.readouterr().out


def test_unknown_files_are_not_covered(tmp_path, capsys):
    np.savez(tmp_path / "something_new.npz", x=np.zeros(3))
    np.savez(tmp_path / "metrics_extra.npz", x=np.zeros(3))  # begins like one that is known
    assert command.main([str(tmp_path), "--method", "vatt"]) == 0
    assert "0 pass, 0 fail, 2 not-covered" in capsys.readouterr().out


def test_only(shared_dir, tmp_path, capsys):
    shutil.copy(shared_dir / "conformance" / "t5_relative_buckets.npz", tmp_path)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert command.main([str(tmp_path), "--method", "vatt", "--only", "t5"]) == 0
    assert "other" not in capsys.readouterr().out
    assert "match 'nothing'" in refused(capsys, tmp_path, "--method", "vatt", "--only", "nothing")


def test_unknown_methods_are_refused(tmp_path, capsys):
    message = refused(capsys, tmp_path, "--method", "vat")
    assert "--method vat: " in message and "Did you mean 'vatt'?" in message
    for method in ("gdt", "stica", "av_mae", "eao"):
        if method not in command.methods():
            assert f"--method {method}: nothing" in refused(capsys, tmp_path, "--method", method)


def test_a_folder_says_its_method_by_its_name(tmp_path, capsys):
    known = ["gdt", "vatt"]
    for name, method in (
        ("conformance", "vatt"),
        ("conformance_vatt", "vatt"),
        ("conformance_gdt", "gdt"),
    ):
        assert command.method_of(tmp_path / name, None, known) == method
        assert command.method_of(tmp_path / name, "gdt", known) == "gdt"
    assert command.method_of(tmp_path, None, ["gdt"]) == "gdt"  # there is no other
    folder = schedules(tmp_path / "conformance_made_up")
    message = refused(capsys, folder)
    assert "conformance_made_up is of method made_up: nothing here" in message


def test_another_name_needs_a_method_where_there_are_several(tmp_path, capsys, other_method):
    folder = schedules(tmp_path / "numbers")
    message = refused(capsys, folder)
    assert "numbers: the name of the folder" in message
    assert f"name one of {', '.join(command.methods())} by --method" in message
    assert command.main([str(folder), "--method", other_method]) == 0


def test_schedules_of_another_method_are_not_those_of_vatt(tmp_path, capsys, other_method):
    folder = schedules(tmp_path / f"conformance_{other_method}")
    lines = passing(folder, capsys)
    assert [line.split()[0] for line in lines] == ["schedules.npz"]  # of shapes.json no line
    assert "1 values, worst rate" in lines[0]


def test_the_command_runs_from_the_checkout(tmp_path):
    arguments = [sys.executable, "-m", "tests.golden", str(tmp_path), "--method", "vat"]
    result = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 2 and "Did you mean 'vatt'?" in result.stderr, result.stderr
