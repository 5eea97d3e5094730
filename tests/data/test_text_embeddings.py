"""Pretrained word vectors: where they are found, and tables that do not fit the model."""

from __future__ import annotations

import numpy as np
import pytest

from vatt import assets
from vatt.data import embeddings
from vatt.errors import DataError

TABLE = np.random.default_rng(0).normal(size=(6, 4))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of one's own for vocabularies and vectors, with one table."""
    monkeypatch.setenv(assets.MISC_DIR, str(tmp_path))
    np.savez(tmp_path / "vectors.npz", word_embeddings=TABLE, other=np.zeros(2))
    return tmp_path


@pytest.mark.parametrize("name", ["vectors", "vectors.npz", "{folder}/vectors.npz"])
def test_found_by_name_and_by_path(folder, name):
    found = embeddings.load_word_embeddings(name.format(folder=folder), 6, 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, TABLE.astype(np.float32))


def test_a_table_that_does_not_fit_the_model(folder):
    with pytest.raises(DataError, match=r"vectors of 6 words, .* is 7: set vocab_size to 6"):
        embeddings.load_word_embeddings("vectors", 7, 4)
    with pytest.raises(DataError, match=r"vectors of 4 values, .* is 300: set d_embedding to 4"):
        embeddings.load_word_embeddings("vectors", 6, 300)


def test_a_missing_table_says_how_to_make_it(folder):
    with pytest.raises(DataError) as caught:
        embeddings.load_word_embeddings("vector", 6, 4)
    message = str(caught.value)
    assert str(folder / "vector.npz") in message and "misc_data/vector.npz" in message
    assert "Did you mean 'vectors'?" in message
    assert "vatt.tools.convert_embeddings vector.pkl misc_data/vector.npz" in message
    assert "trainable_embeddings" in message


def test_other_files_are_refused(folder):
    np.savez(folder / "empty.npz", other=TABLE)
    np.save(folder / "plain.npy", TABLE)
    (folder / "text.npz").write_text("not an archive")
    (folder / "cut.npz").write_bytes((folder / "vectors.npz").read_bytes()[:-30])
    np.savez(folder / "objects.npz", word_embeddings=np.array([[{}]], object))
    for name in ("empty", "plain.npy", "text", "cut", "objects"):
        with pytest.raises(DataError, match=r"is not an \.npz file with an array"):
            embeddings.load_word_embeddings(name, 6, 4)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (TABLE[0], r"float64 \[4\]"),
        (TABLE.astype(np.int32), r"int32 \[6, 4\]"),
        (np.full((6, 4), np.inf), "not finite in float32"),
    ],
)
def test_other_arrays_are_refused(folder, table, found):
    np.savez(folder / "vectors.npz", word_embeddings=table)
    with pytest.raises(DataError, match=found):
        embeddings.load_word_embeddings("vectors", 6, 4)
