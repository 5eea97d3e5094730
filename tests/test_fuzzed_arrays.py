"""Arrays of others, changed at random: what cannot be read is told in an error of ours, and soon.

With them go records, weights, pickles, word vectors and archives.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import flax_writer, fuzzing, torch_writer
from tests.fuzzing import FEW, MANY, Kind
from vatt.api import index
from vatt.data import cards, embeddings, framing, records, vocabulary
from vatt.data.ingest import features
from vatt.data.tokens import bpe, words
from vatt.tools import convert_embeddings
from vatt.training.flax_checkpoints import FlaxCheckpoint
from vatt.training.torch_checkpoints import TorchCheckpoint
from vatt.zoo import unpacking

sys.path.insert(0, str(Path(__file__).parent / "data"))
import corpus
import word_files

VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
HEADERS = (b"'<U0'", b"'|S0'", b"'|V0'", b"'|O'", b"'>f2'", b"(0, ", b", 0)", b"(99999999999, ")
OPERATIONS = tuple(bytes([code]) for code in b"(.0N]}lta)ebRQhjqrcsu\x81\x85\x86\x94\x8a\x8e\x95")
OPERATIONS += (b"cnumpy\ndtype\n", b"X\x02\x00\x00\x00f4", b"ctorch\nFloatStorage\n")
VALUES = (b"\x80", b"\x90", b"\xc0", b"\xc1", b"\xc4", b"\xc7", b"\xc9", b"\xd4", b"\xd5\x02",
          b"\xd9", b"\xdc", b"\xdd\xff\xff\xff\xff", b"\xdf", b"float16",
          b"\xd6\x02\x92")  # fmt: skip


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def member(name: str, **others: np.ndarray) -> Callable[[bytes], bytes]:
    """Makes archives of an array that was changed and others that were not."""
    beside = {other: npy(array) for other, array in others.items()}

    def packed(content: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for other, array in {**beside, name: content}.items():
                archive.writestr(f"{other}.npy", array)
        return file.getvalue()

    return packed


def parts(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Seeds of an archive: each of its arrays, behind its number, to be packed with the others."""
    content = {name: npy(array) for name, array in arrays.items()}

    def packed(changed: bytes) -> bytes:
        name = list(content)[changed[0] % len(content)] if changed else ""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for other, array in content.items():
                archive.writestr(f"{other}.npy", changed[1:] if other == name else array)
        return file.getvalue()

    seeds = tuple(bytes([number]) + array for number, array in enumerate(content.values()))
    return {"seeds": seeds, "packed": packed}


def written(write: Callable[..., Path], folder: Path, *arguments: object) -> bytes:
    return write(folder / "seed", *arguments).read_bytes()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.index", "ü" * 60):
            about = tarfile.TarInfo(name)
            about.size = 5
            archive.addfile(about, io.BytesIO(b"bytes"))
    return file.getvalue()[:3072]


# Readers ------------------------------------------------------------------------------------------


def framed(path: Path) -> None:
    for piece in framing.segments(path, 4)[0]:
        assert piece.records > 0
    framing.count(path)


def features_of(path: Path) -> None:
    name = f"{path.name}#0/2d" if path.suffix == ".pkl" else path.name
    np.array(features.read(path.parent, name), np.float32)


def index_of(path: Path) -> None:
    index.headers(path)
    index.clips(index.read(path)[1])


def weights(of: type) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        checkpoint = of(path)
        for name in checkpoint.shapes:
            checkpoint.get_tensor(name)
        if checkpoint.has_tensor("global_step"):
            checkpoint.get_tensor("global_step")

    return read


def vectors(path: Path) -> None:
    found = words.WordVectors(path)
    for word in word_files.VECTORS:
        found.find(word.encode())


def table_of(path: Path) -> None:
    embeddings.load_word_embeddings(path, *VECTORS.shape)


def unpacked(path: Path) -> None:
    try:
        unpacking.unpack(path, path.parent / "unpacked")
    finally:
        shutil.rmtree(path.parent / "unpacked", ignore_errors=True)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    short = [corpus.example(i, frames=1, sound=False, captions=["a", "b"]) for i in range(4)]
    corpus.write_set(folder, "set", short, shards=1)
    card = cards.read(folder / "set" / "card.yaml")
    shard = next((folder / "set").glob("*.tfrecord")).read_bytes()
    model = {"model": {"fc.weight": VECTORS, "fc.bias": VECTORS[0]}, "epoch": 3}
    stream = written(torch_writer.write_stream, folder, model)
    one = written(torch_writer.write_stream, folder, VECTORS)
    archive = written(torch_writer.write_zip, folder, model)
    flat = {"optimizer": {"target": {"a": {"kernel": VECTORS}}}, "global_step": np.int32(3)}
    rows = [{"id": "a", "2d": VECTORS, "caption": ["x"], "width": np.float32(4)}]
    recipe = np.array(json.dumps({"model": "toy", "weights": "ckpt-1"}))
    whole = dict.fromkeys(("failures", "notices"), np.array([["a.mp4", "why"]]))
    whole |= {"recipe": recipe, "files": np.array(["a.mp4"] * 6)}
    whole |= {"versions": np.ones((6, 2), np.int64), "video/embeddings": VECTORS}
    whole |= {"video/file": np.arange(6)}
    table = {"word_embeddings": VECTORS}
    merges = b"#version\na b\nab c</w>\nd e\n"
    return {
        "shard": Kind("a.tfrecord", (shard,), framed),
        "record": Kind(
            "a.bin", (short[0],), lambda p: records.examine(p.read_bytes(), card), choosy=False
        ),
        "npy": Kind("a.npy", (npy(VECTORS),), features_of, HEADERS),
        "npz": Kind("a.npz", (npz(features=VECTORS),), features_of, HEADERS),
        "member": Kind("b.npz", (npy(VECTORS),), features_of, HEADERS, member("features")),
        "index": Kind("i.npz", (npz(**whole),), index_of, HEADERS),
        "files": Kind("j.npz", read=index_of, tokens=HEADERS, **parts(whole)),
        "table": Kind("w.npz", (npy(VECTORS),), table_of, HEADERS, member("word_embeddings")),
        "words": Kind("w.npy", (npy(np.array(["a", "bc"])),), vocabulary.words_of_array, HEADERS),
        "rows": Kind(
            "r.pkl", tuple(pickle.dumps(rows, n) for n in (2, 5)), features_of, OPERATIONS
        ),
        "pickle": Kind(
            "t.pkl", (pickle.dumps(table, 2),), convert_embeddings.read_pickle, OPERATIONS
        ),
        "tensor": Kind("t.pth", (one,), convert_embeddings.read_torch, OPERATIONS),
        "stream": Kind("m.pth", (stream,), weights(TorchCheckpoint), OPERATIONS),
        "archive": Kind("n.pth", (archive,), weights(TorchCheckpoint), OPERATIONS),
        "flax": Kind("checkpoint_1", (flax_writer.packed(flat),), weights(FlaxCheckpoint), VALUES),
        "word2vec": Kind("v.bin", (written(word_files.binary, folder),), vectors),
        "vectors": Kind("v.txt", (written(word_files.text, folder),), vectors),
        "merges": Kind(
            "m.txt", (merges, gzip.compress(merges, mtime=0)), bpe.ClipTokenizer, choosy=False
        ),
        "tar": Kind("a.tar", (tar(),), unpacked),
    }


NAMES = ("shard", "record", "npy", "npz", "member", "index", "files", "table", "words", "rows",
         "pickle", "tensor", "stream", "archive", "flax", "word2vec", "vectors", "merges",
         "tar")  # fmt: skip


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_array_is_read_or_refused(kinds, name, cases):
    fuzzing.check(name, kinds[name], cases)
