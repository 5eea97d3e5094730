"""An index of a few small files, and a stand-in for its model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "data"),
                str(Path(__file__).parents[1])]  # fmt: skip


@pytest.fixture(scope="session")
def indexed(tmp_path_factory):
    """Folder with media/ and embeddings.npz."""
    import small_indexes

    folder = tmp_path_factory.mktemp("search")
    small_indexes.write(folder / "embeddings.npz", small_indexes.write_media(folder / "media"))
    return folder


@pytest.fixture
def finder(indexed):
    """What searches it."""
    import small_indexes

    return small_indexes.finder(indexed / "embeddings.npz")
