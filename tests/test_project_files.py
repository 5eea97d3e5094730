"""What stands beside the code says what the code says."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

import vatt

ROOT = Path(__file__).resolve().parents[1]


def supported():
    """The versions of Python in setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = [line.rpartition(" ")[2] for line in setup["metadata"]["classifiers"].splitlines()]
    return [name for name in named if name.startswith("3.")]


def canonical(name: str) -> str:
    """The name of a package as indices have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, str]:
    """Versions by name in a lock file; each package has checksums, and there is nothing else."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    found = {}
    for entry in text.replace("\\\n", "").splitlines():
        pin, *checksums = entry.split()
        assert checksums and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", c) for c in checksums)
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", pin).groups()
        assert found.setdefault(canonical(name), version) == version
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_what_is_pinned_is_locked(name):
    """Run scripts/lock.sh after a change."""
    lines = (ROOT / f"{name}.txt").read_text().splitlines()
    pins = [line.partition("#")[0].strip().split("==") for line in lines]
    assert locked(f"{name}.lock") == {canonical(pin[0]): pin[1] for pin in pins if len(pin) == 2}


def test_everything_is_installed_from_what_is_locked():
    assert "--require-hashes" in (ROOT / "scripts/setup.sh").read_text()
    for script, files in (
        ("run.sh", ["requirements.lock"]),
        ("test.sh", ["requirements.lock", "requirements-dev.lock"]),
    ):
        [command] = re.findall(r"^set_up (.*)$", (ROOT / script).read_text(), re.MULTILINE)
        assert command.split() == files


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == vatt.__version__
    assert citation["license"] in (ROOT / "setup.cfg").read_text()
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_hosted_tests_are_those_of_the_script_on_every_python():
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    assert jobs["fast"]["strategy"]["matrix"]["python"] == supported()
    runs = {name: job["steps"][-1]["run"] for name, job in jobs.items()}
    assert runs == {"fast": "PYTHON=python ./test.sh", "all": "PYTHON=python ./test.sh --all"}
