"""What stands beside the code says what the code says."""

from __future__ import annotations

import configparser
from pathlib import Path

import yaml

import vatt

ROOT = Path(__file__).resolve().parents[1]


def supported():
    """The versions of Python in setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = [line.rpartition(" ")[2] for line in setup["metadata"]["classifiers"].splitlines()]
    return [name for name in named if name.startswith("3.")]


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
