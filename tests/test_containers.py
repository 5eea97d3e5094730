"""The recipes in containers/, read as text: what they copy is there, what they pin agrees."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.test_project_files import ROOT, locked, supported

CPU, GPU = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "Dockerfile.gpu"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Returns (instruction, arguments) of a recipe, lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def arguments(path: Path, instruction: str) -> list[str]:
    """Returns what follows each instruction of a kind."""
    return [rest for name, rest in instructions(path) if name == instruction]


def copied() -> list[str]:
    """Returns the names that are copied into the image."""
    return [name for rest in arguments(CPU, "COPY") for name in shlex.split(rest)[:-1]]


def is_sent(name: str) -> bool:
    """Whether .dockerignore lets a file or folder at the top through; the last rule counts."""
    sent = True
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if rule and not rule.startswith("#") and fnmatch.fnmatch(name, rule.lstrip("!")):
            sent = rule.startswith("!")
    return sent


def test_what_is_copied_is_there_and_nothing_else_is_sent():
    assert all((ROOT / name).exists() and is_sent(name) for name in copied())
    sent = {path.name for path in ROOT.iterdir() if is_sent(path.name)}
    assert sent == set(copied())


def test_the_package_that_is_built_has_all_of_its_parts():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["package_dir"].split("\n")
    folders = {line.partition("=")[2].strip() for line in lines if line}
    named = {setup["metadata"]["license_files"], "README.md", "setup.cfg", "pyproject.toml"}
    assert folders | named <= set(copied())


def test_versions_are_those_of_the_project():
    [base] = arguments(CPU, "FROM")
    assert re.fullmatch(r"python:(3\.\d+)-slim", base)[1] in supported()
    pinned = re.findall(r"^[\w.-]+==[\w.]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    # The package is built with what requirements.txt brings, nothing else is fetched.
    assert {"setuptools", "wheel"} <= {name.partition("==")[0] for name in pinned}
    installs = [rest for rest in arguments(CPU, "RUN") if rest.startswith("pip")]
    assert installs == [
        "pip install --require-hashes -r requirements.lock",
        "pip install --no-deps --no-build-isolation .",
    ]


def test_the_image_for_gpus_adds_what_is_locked_and_changes_no_version():
    [copied] = arguments(GPU, "COPY")
    lock, folder = shlex.split(copied)
    assert (ROOT / lock).is_file() and is_sent(lock)
    [command] = arguments(GPU, "RUN")
    assert command.startswith(f"pip install --require-hashes -r {folder}{Path(lock).name} &&")
    added, own = locked(lock), locked("requirements.lock")
    assert {name: version for name, version in added.items() if name in own}.items() <= own.items()
    assert "tensorflow" in added and any(name.startswith("nvidia-") for name in added)


@pytest.mark.parametrize("path", [CPU, GPU], ids=lambda path: path.name)
def test_nothing_runs_as_root(path):
    assert arguments(path, "USER")[-1] == "vatt"


def test_the_image_is_the_command_and_its_volumes_belong_to_the_user():
    assert json.loads(arguments(CPU, "ENTRYPOINT")[0]) == ["vatt"]
    [made] = [rest for rest in arguments(CPU, "RUN") if "useradd" in rest]
    for folder in json.loads(arguments(CPU, "VOLUME")[0]):
        assert folder in made.split() and folder.startswith(arguments(CPU, "WORKDIR")[-1])
