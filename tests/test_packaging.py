"""An installed wheel brings its experiments, cards and vocabularies along, and finds them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ASSETS = ("configs/pretrain/toy.yaml", "data/toy_howto.yaml", "misc_data/toy_en.txt")
NOT_SOURCE = (
    ".git",
    ".venv",
    "runs",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
)

PROGRAM = """
import json, sys
import vatt
from vatt import assets, configs
found = {name: str(assets.find(name)) for name in json.loads(sys.argv[1])}
config = configs.resolve(config_file="configs/pretrain/toy.yaml")
print(json.dumps({"package": vatt.__file__, "found": found, "arch": config.model_arch}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a clean copy: building leaves files behind that do not belong in a checkout."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed; requirements.txt has it")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    options = ["--no-index", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    result = subprocess.run([*command, *options], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    [made] = folder.glob("vatt-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds what is in the wheel, as site-packages would."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_assets_are_found_in_the_wheel_from_another_folder(installed, tmp_path):
    result = run(installed, tmp_path, "-c", PROGRAM, json.dumps(ASSETS))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert Path(report["package"]).parent == installed / "vatt"
    for name, path in report["found"].items():
        assert path.startswith(str(installed)), name
        assert Path(path).read_bytes() == (REPOSITORY / name).read_bytes(), name
    assert report["arch"] == "tx_fac_tiny"


@pytest.mark.slow
def test_every_asset_and_module_is_in_the_wheel(installed):
    kinds = [("configs", "*.yaml"), ("data", "*.yaml"), ("misc_data", "*.txt")]
    for folder, pattern in [*kinds, ("misc_data", "*.yaml")]:
        files = sorted((REPOSITORY / folder).rglob(pattern))
        assert files, folder
        for file in files:
            assert (installed / "vatt" / "asset_files" / file.relative_to(REPOSITORY)).is_file()
    of_package = [f for f in (REPOSITORY / "vatt").rglob("*") if f.is_file()]
    assert REPOSITORY / "vatt/trained/toy/ckpt-2000.index" in of_package
    for file in of_package:  # modules, weights, templates of pages
        if "__pycache__" not in file.parts:
            assert (installed / file.relative_to(REPOSITORY)).is_file(), file
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"vatt"}  # no tests, no data, no configs beside it


@pytest.mark.slow
def test_no_test_code_is_in_the_wheel(installed):
    modules = list(installed.rglob("*.py"))
    names = {file.name for file in modules}
    assert not [name for name in names if name.startswith(("test_", "conftest"))]
    assert not [file for file in modules if "tests.golden" in file.read_text()]


@pytest.mark.slow
def test_the_command_line_of_the_wheel_works_from_another_folder(installed, tmp_path):
    result = run(installed, tmp_path, "-m", "vatt.main", "--help")
    assert result.returncode == 0 and "--model_dir" in result.stdout, result.stderr
    [entry_points] = installed.glob("vatt-*.dist-info/entry_points.txt")
    assert "vatt = vatt.commands:entry" in entry_points.read_text()
    wrong = run(installed, tmp_path, "-m", "vatt.main", "--config_file=configs/pretrain/toi.yaml")
    assert wrong.returncode == 2
    assert "Did you mean 'configs/pretrain/toy.yaml'?" in wrong.stderr
