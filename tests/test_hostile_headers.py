"""Headers that announce more than there is are refused before memory or time is spent on them."""

from __future__ import annotations

import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import fuzzing, torch_writer
from tests.data.test_archives import archive, npy
from vatt import files
from vatt.api import index
from vatt.data import archives, framing, pickled_arrays, vocabulary
from vatt.data.ingest import captions, features
from vatt.data.msgpack_files import MsgpackFile
from vatt.data.tokens import words
from vatt.data.torch_files import TorchFile
from vatt.errors import DataError, UserError
from vatt.evaluation import artefacts
from vatt.tools import convert_embeddings
from vatt.training.flax_checkpoints import FlaxCheckpoint

TB = 10**12


def claimed(path: Path, size: int, kind: int = zipfile.ZIP_STORED) -> Path:
    """An archive whose directory says that its array has `size` bytes, as the array does itself."""
    content = npy(f"({size},)", b"1234", "'|u1'")
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("features.npy", content)
        member = file.infolist()[0]
        member.file_size = size + len(content) - 4
    return path


def framed(path: Path) -> None:
    for found in framing.walk(path):
        assert found.data is None
    framing.count(path)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


REDUCE = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
COUNT = struct.pack("<q", 2**40)
HOSTILE = {
    "npy": ("a.npy", npy(f"({TB}, 300)", b"12345678"), features.read),
    "npy header": (
        "a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(20_000), features.read
    ),
    "no numbers": ("a.npy", npy(f"(0, {TB})"), features.read),
    "words": ("a.npy", npy(f"({TB},)", b"1234", "'<U0'"), vocabulary.words_of_array),
    "record": ("a.tfrecord", struct.pack("<Q", TB), framed),
    "frame": ("a.pkl", b"\x80\x04\x95" + b"\xff" * 8 + b"N.", convert_embeddings.read_pickle),
    "bytes": ("a.pkl", b"\x80\x04\x8e" + COUNT + b"1.", convert_embeddings.read_pickle),
    "memo": ("a.pkl", b"\x80\x02}r\xff\xff\xff\x7f.", convert_embeddings.read_pickle),
    "ndarray": (
        "a.pkl",
        b"\x80\x02}X\x0f\x00\x00\x00word_embeddings" + REDUCE + b"(\x8a\x05" + COUNT[:5]
        + b"K\x04tU\x02f4\x87Rs.",
        convert_embeddings.read_pickle,
    ),
    "storage": (
        "a.pth",
        torch_writer.plain(torch_writer.MAGIC, 1001, {}, 1, ["0"]) + COUNT,
        convert_embeddings.read_torch,
    ),
    "map": ("checkpoint_1", b"\xdf\xff\xff\xff\xff", FlaxCheckpoint),
    "text": ("checkpoint_1", b"\xdb\xff\xff\xff\xff", FlaxCheckpoint),
    "word2vec": ("a.bin", b"2000000000 100000\na 1234", words.WordVectors),
    "wide": ("a.bin", b"1 99999999999\na 1234", words.WordVectors),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_announced_is_not_allocated(tmp_path, name):
    file, content, read = HOSTILE[name]
    path = written(tmp_path / file, content)
    began = time.process_time()
    tracemalloc.start()
    try:
        with fuzzing.bounded_memory():
            if read is framed:
                with pytest.raises(DataError, match="does not end within"):
                    framed(path)
            else:
                with pytest.raises(UserError) as told:
                    read(tmp_path, file) if read is features.read else read(path)
                assert not fuzzing.of_memory(told.value)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_directory_of_an_archive_is_not_believed(tmp_path, kind):
    claimed(tmp_path / "a.npz", TB, kind)
    with fuzzing.bounded_memory(), pytest.raises(ValueError, match="cannot have 100000000"):
        archives.Archive(tmp_path / "a.npz")


def test_other_ways_of_packing_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("features.npy", npy("(1,)", b"1234"))
    with pytest.raises(ValueError, match="in another way than NumPy packs"):
        archives.Archive(tmp_path / "a.npz")


def test_names_of_files_without_a_byte_are_no_index(tmp_path):
    content = dict.fromkeys(("versions", "failures", "notices"), npy("()", b"1\0\0\0", "'<U1'"))
    content |= {"recipe": npy("()", b"{\0\0\0}\0\0\0", "'<U2'")}
    for files_, told in (
        (npy(f"({TB},)", b"", "'<U0'"), "without any number"),
        (npy("()", b"1\0\0\0", "'<U1'"), "no list of names"),
        (npy("(1,)", b"1234"), "no list of names"),
        (npy("(1,)", b"\xff" * 4, "'<U1'"), "letters that there are none of"),
    ):
        archive(tmp_path / "a.npz", **content, files=files_)
        with fuzzing.bounded_memory(), pytest.raises(DataError, match=told):
            index.read(tmp_path / "a.npz")
    archive(tmp_path / "a.npz", **content, files=npy("(1,)", b"a\0\0\0", "'<U1'"),
            pieces=npy("(2, 2)", bytes(16)))  # fmt: skip
    with pytest.raises(DataError, match="does not fit"):
        index.read(tmp_path / "a.npz")


def test_an_artefact_unpacks_to_no_more_than_a_hundred_times_its_size(tmp_path, monkeypatch):
    path = artefacts.save(tmp_path / "a.npz", {"a": np.zeros(10**6, np.uint8)})
    assert artefacts.load(path)["a"].shape == (10**6,)
    monkeypatch.setattr(artefacts, "SMALL", 0)
    with pytest.raises(DataError, match="it unpacks to 1000000 bytes"):
        artefacts.load(path)
    assert artefacts.load(path, ["b"]) == {}


def test_words_whose_letters_there_are_none_of(tmp_path):
    path = written(tmp_path / "a.npy", npy("(1,)", b"\xff" * 4, "'<U1'"))
    with pytest.raises(DataError, match="letters that there are none of"):
        vocabulary.words_of_array(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xc7\x06\x01\x93\x90\x81\xa1a\x01", "is of the type"),  # a map for the name of a type
        (b"\xd6\x02\x92\xa1a\x01", "has not two parts"),
        (b"\xc7\x04\x02\x92\xd4\x02\xc0", "stands in another one"),
    ],
)
def test_extensions_of_other_values(tmp_path, content, told):
    with pytest.raises(ValueError, match=told):
        MsgpackFile(written(tmp_path / "checkpoint_1", content))


def test_weights_without_numbers_but_with_sizes(tmp_path):
    array = b"\x93\x93\x00\xcf" + struct.pack(">Q", 2**62) + b"\xcf" + struct.pack(">Q", 2**62)
    array += b"\xa7float32\xc4\x00"
    content = b"\x81\xa6params\x81\xa1a\xc7" + bytes([len(array)]) + b"\x01" + array
    checkpoint = FlaxCheckpoint(written(tmp_path / "checkpoint_1", content))
    with pytest.raises(UserError, match="cannot read a"):
        checkpoint.get_tensor("a")


def test_a_text_takes_the_memory_of_its_file(tmp_path):
    path = written(tmp_path / "a.json", b"[1]")
    tracemalloc.start()
    assert files.read_json(path) == [1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_shard_of_headers_alone_is_walked_in_time(tmp_path):
    """Each header is intact and says that half of the rest of the file is its payload."""
    count = 40_000
    lengths = [struct.pack("<Q", 8 * (count - number)) for number in range(count)]
    headers = [length + struct.pack("<I", framing.masked_checksum(length)) for length in lengths]
    path = written(tmp_path / "a.tfrecord", b"xxxx".join([b"", *headers, bytes(8)]))
    began = time.process_time()
    assert all(record.data is None for record in framing.walk(path))
    assert time.process_time() - began < 5.0


def test_a_shard_without_a_header_is_walked_in_time(tmp_path):
    good = struct.pack("<Q", 0)
    good += struct.pack("<I", framing.masked_checksum(good)) + struct.pack(
        "<I", framing.masked_checksum(b"")
    )
    path = written(tmp_path / "a.tfrecord", (good + b"damage") * 1_000 + bytes(2**21))
    began = time.process_time()
    assert sum(record.data is not None for record in framing.walk(path)) == 1_000
    assert time.process_time() - began < 5.0


def test_times_of_captions_are_shown_in_part(tmp_path):
    path = written(tmp_path / "a.vtt", b"WEBVTT\n\n00:01 --> " + b"9" * 50_000 + b"\nx\n")
    with pytest.raises(DataError) as told:
        captions.read_captions(path)
    assert len(str(told.value)) < 1000
    path = written(tmp_path / "a.csv", b"start,end,text\n1," + b"9" * 50_000 + b"x,y\n")
    with pytest.raises(DataError) as told:
        captions.read_captions(path)
    assert len(str(told.value)) < 1000


def test_pickles_of_the_first_protocol_and_of_python_2(tmp_path):
    content = {"a": [1, True, None, 2**70, 0.5, "ü\n"], "b": (1,), "c": {}}
    path = written(tmp_path / "a.pkl", pickle.dumps(content, 0))
    assert pickled_arrays.read(path) == content
    path = written(tmp_path / "a.pkl", b"(lp0\nS'a\\n'\np1\naS'\\xff'\na.")
    assert pickled_arrays.read(path) == ["a\n", b"\xff"]


def test_tensors_are_within_their_file(tmp_path):
    path = torch_writer.write_zip(tmp_path / "a.pth", {"model": {"a": np.zeros(4, np.float32)}})
    path.write_bytes(path.read_bytes().replace(b"K\x04", b"K\x7f"))
    with pytest.raises(ValueError):
        TorchFile(path)


@pytest.mark.parametrize("claimed", [2**31, 2**62, 2**64 - 1])
def test_a_record_whose_end_is_no_place_in_any_file(tmp_path, claimed):
    length = struct.pack("<Q", claimed)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(length + struct.pack("<I", framing.masked_checksum(length)) + bytes(100))
    assert [record.data for record in framing.walk(path)] == [None]
