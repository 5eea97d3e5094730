"""Archives of arrays: what would not fit is refused by its header, nothing is unpacked for it."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from vatt.data import archives, embeddings
from vatt.data.ingest import features
from vatt.errors import DataError

GIB = 2**30


def npy(shape: str, values: bytes = b"", descr: str = "'<f4'", version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + values


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """About 1 MB that unpack to 1 GiB."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("word_embeddings.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(f"({GIB // 1200}, 300)"))
        for _ in range(GIB // 1200 // 1000):
            member.write(bytes(1_200_000))
        member.write(bytes(GIB // 1200 % 1000 * 1200))
    assert path.stat().st_size < 6 * 2**20
    return path


@pytest.mark.filterwarnings("error")
def test_headers_that_python_2_wrote_are_read_without_a_word(tmp_path):
    content = npy("(1L,)", b"\0\0\x80?")
    (tmp_path / "a.npy").write_bytes(content)
    assert archives.mapped(tmp_path / "a.npy").tolist() == [1.0]
    with archives.Archive(archive(tmp_path / "a.npz", a=content)) as opened:
        assert opened.array("a").tolist() == [1.0]


@pytest.mark.slow
def test_a_bomb_is_refused_by_its_header(bomb):
    tracemalloc.start()
    with pytest.raises(DataError, match=f"vectors of {GIB // 1200} words, .* is 100"):
        embeddings.load_word_embeddings(bomb, 100, 300)
    with archives.Archive(bomb) as opened:
        assert opened.headers == {
            "word_embeddings": archives.Header((GIB // 1200, 300), np.dtype("float32"))
        }
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_nothing_is_unpacked_for_a_table_of_another_size(tmp_path, monkeypatch):
    monkeypatch.setattr(archives.Archive, "array", lambda *_: pytest.fail("unpacked"))
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((1000, 300), np.float32))
    path = archive(tmp_path / "a.npz", word_embeddings=zeros.getvalue())
    with pytest.raises(DataError, match="1000 words"):
        embeddings.load_word_embeddings(path, 100, 300)
    with pytest.raises(DataError, match=r"float32 \[1000, 300, 1\]"):
        archive(path, word_embeddings=npy("(1000, 300, 1)", bytes(1_200_000)))
        embeddings.load_word_embeddings(path, 1000, 300)
    monkeypatch.setattr(features, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        features.read(tmp_path, "a.npz")


HEADERS = {
    "more than there is": npy("(1000000000000, 300)", b"12345678"),
    "less than there is": npy("(1, 1)", b"12345678"),
    "too large for a number": npy(f"({'9' * 400}, 1)"),
    "thousands of digits": npy(f"({'9' * 5000}, 1)"),
    "negative": npy("(-1, 4)", b"1234"),
    "no shape": npy("'x'"),
    "deep": npy("(" * 900 + ")" * 900),
    "signs": npy("(" + "-" * 9000 + "1,)"),
    "objects": npy("(1, 1)", b"12345678", "'|O'"),
    "header of a gigabyte": b"\x93NUMPY\x02\x00" + (GIB).to_bytes(4, "little") + bytes(20_000),
    "version": npy("(1, 1)", b"1234", version=9),
    "text": b"no array at all",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_wrong(tmp_path, name):
    archive(tmp_path / "a.npz", features=HEADERS[name], word_embeddings=HEADERS[name])
    with pytest.raises(ValueError, match=r"^features "):
        archives.Archive(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz: cannot be read as features: features "):
        features.read(tmp_path, "a.npz")
    with pytest.raises(DataError, match=r"a\.npz is not an \.npz file"):
        embeddings.load_word_embeddings(tmp_path / "a.npz", 1, 1)
    (tmp_path / "a.npy").write_bytes(HEADERS[name])
    if name not in ("less than there is",):  # what follows an array in a file of its own is unused
        with pytest.raises(DataError, match=r"a\.npy: cannot be read as features: "):
            features.read(tmp_path, "a.npy")


def test_damage_and_other_files(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", features=np.random.default_rng(0).normal(size=(50, 4)))
    whole = (tmp_path / "a.npz").read_bytes()
    middle = len(whole) // 2
    for content in (
        b"",
        b"text",
        whole[:-30],
        whole[: middle - 40] + bytes(80) + whole[middle + 40 :],
    ):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: cannot be read as features: "):
            features.read(tmp_path, "a.npz")
    with pytest.raises(FileNotFoundError):
        archives.Archive(tmp_path / "b.npz")


def test_arrays_of_all_kinds_are_read(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a/b": rng.normal(size=(3, 4)),
        "text": np.array(["ü", "long"]),
        "none": np.zeros((0, 5), np.int16),
        "scalar": np.array(7),
        "turned": np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float16)),
        "yes": np.array([True, False]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        with archives.Archive(tmp_path / "a.npz") as opened:
            assert list(opened.headers) == list(arrays)
            for name, array in arrays.items():
                assert opened.headers[name] == (array.shape, array.dtype)
                np.testing.assert_array_equal(opened.array(name), array)
