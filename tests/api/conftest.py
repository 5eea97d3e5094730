"""A small pretrained run and a fine-tuned one, on files that lie beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import vatt

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Folder with media/, records/ and runs/tiny."""
    import small_runs

    return small_runs.make(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="session")
def model(place):
    """The pretrained model."""
    return vatt.load(place / "runs" / "tiny")


@pytest.fixture(scope="session")
def classifier(place):
    """A fine-tuned model, of the run runs/acts."""
    import small_runs

    return vatt.load(small_runs.fine_tuned(place / "records", place / "runs" / "acts"))
