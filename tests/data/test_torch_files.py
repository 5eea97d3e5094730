"""Files of `torch.save`: what is in them is read, what they would run is not."""

from __future__ import annotations

import contextlib
import gc
import pickle
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import torch_writer
from tests.torch_writer import Asked, Global, Stored, tensor, write_stream, write_zip
from vatt.data.torch_files import Tensor, TorchFile

writers = pytest.mark.parametrize("write", [write_stream, write_zip], ids=["stream", "zip"])
FLOATS = Global("torch.FloatStorage")


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "conv": random.normal(size=(2, 3, 1, 4, 5)).astype(np.float32),
        "count": np.array(7),
        "half": random.normal(size=3).astype(np.float16),
        "double": random.normal(size=(2, 2)),
        "none": np.zeros((0, 4), np.float32),
        "flags": np.array([True, False]),
    }


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        TorchFile(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@writers
def test_tensors_come_back_bit_for_bit(tmp_path, write):
    stored = arrays()
    file = TorchFile(write(tmp_path / "a.pth", {"model": stored, "epoch": 3, "lr": [0.5, None]}))
    assert file.content["epoch"] == 3 and file.content["lr"] == [0.5, None]
    assert list(file.content["model"]) == list(stored)
    for name, value in stored.items():
        found = file.content["model"][name]
        assert found.shape == value.shape
        read = file.array(found)
        assert (read.dtype, read.shape, read.tobytes()) == (
            value.dtype,
            value.shape,
            value.tobytes(),
        )


@writers
def test_a_file_can_be_one_tensor(tmp_path, write):
    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    file = TorchFile(write(tmp_path / "a.pth", value))
    np.testing.assert_array_equal(file.array(file.content), value)


def test_views_of_one_storage(tmp_path):
    """Strides and offsets are those of the numbers, also where tensors share them."""
    numbers = np.arange(24, dtype=np.float32)

    def view(*where):
        return tensor(Stored("storage", FLOATS, "0", "cpu", 24, None), *where)

    content = {
        "whole": numbers,
        "turned": view(0, (4, 6), (1, 4)),
        "part": view(5, (2, 3), (6, 1)),
        "apart": tensor(Stored("storage", FLOATS, "0", "cpu", 24, ("v", 10, 4)), 1, (3,), (1,)),
    }
    for write in (write_stream, write_zip):
        file = TorchFile(write(tmp_path / "a.pth", content))
        read = {name: file.array(found) for name, found in file.content.items()}
        np.testing.assert_array_equal(read["turned"], numbers.reshape(6, 4).T)
        np.testing.assert_array_equal(read["part"], numbers[5:].take([[0, 1, 2], [6, 7, 8]]))
        np.testing.assert_array_equal(read["apart"], [11, 12, 13])


@writers
def test_what_stands_beside_weights_is_inert(tmp_path, write):
    """Arguments of the program, a schedule as an object, rates as NumPy has them."""
    optimizer = Asked("torch.optim.sgd.SGD", state={"param_groups": []})
    scalar = Asked("numpy.core.multiarray.scalar", Asked("numpy.dtype", "f8", 0, 1), "x")
    content = {
        "model": Asked("collections.OrderedDict", state={"_metadata": {}}),
        "args": Asked("argparse.Namespace", state={"device": Asked("torch.device", "cuda")}),
        "lr_scheduler": {"after_scheduler": optimizer, "milestones": Asked("collections.Counter")},
        "optimizer": {"state": Asked("collections.defaultdict", Global("builtins.dict"))},
        "lr": scalar,
    }
    read = TorchFile(write(tmp_path / "a.pth", content)).content
    assert read["args"].name == "argparse.Namespace"
    assert read["args"].state["device"].arguments == ("cuda",)
    assert read["model"] == {} and read["optimizer"]["state"] == {}


# What is refused ---------------------------------------------------------------------------------


@writers
@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "__builtin__.exec",
        "torch.load",
        "torch.hub.load",
        "torch._utils._rebuild_parameter.__globals__",
        "torch._utils._rebuild_sparse_tensor",
        "my.package.Model",
        "argparse.ArgumentParser",
    ],
)
def test_names_are_refused_and_nothing_runs(tmp_path, write, name):
    mark = tmp_path / "ran"
    path = write(tmp_path / "a.pth", {"model": {"x": Asked(name, f"touch {mark}")}})
    assert f"asks for '{name}'" in refused(path)
    assert not mark.exists()


def test_all_ways_to_ask_for_a_name(tmp_path):
    mark = tmp_path / "ran"
    argument = b"X" + struct.pack("<I", len(f"touch {mark}")) + f"touch {mark}".encode()
    ways = [
        b"cos\nsystem\n(" + argument + b"tR.",  # GLOBAL
        b"\x80\x04\x8c\x02os\x8c\x06system\x93(" + argument + b"tR.",  # STACK_GLOBAL
        b"(" + argument + b"ios\nsystem\n.",  # INST
        b"(cos\nsystem\n" + argument + b"o.",  # OBJ
    ]
    for way in ways:
        path = tmp_path / "a.pth"
        for begin in (b"", torch_writer.plain(torch_writer.MAGIC, 1001, torch_writer.MACHINE)):
            path.write_bytes(begin + way)
            assert "asks for 'os.system'" in refused(path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", way)
        assert "asks for 'os.system'" in refused(path)
    with pytest.raises(ValueError, match="operation b'\\\\x82'"):  # the copyreg registry
        path.write_bytes(torch_writer.plain(torch_writer.MAGIC, 1001) + b"\x80\x02\x82\x01.")
        TorchFile(path)
    assert not mark.exists()


@writers
def test_only_what_is_there_can_be_called_or_built(tmp_path, write):
    class Listed:
        def __reduce__(self):
            return Global("torch.FloatStorage"), (3,)

    assert "torch.FloatStorage: calls what cannot be called" in refused(
        write(tmp_path / "a.pth", Listed())
    )
    for begin, message in (
        (b"\x80\x02]}b.", "sets attributes of a list"),
        (b"\x80\x02K\x05}b.", "sets attributes of a int"),
        (b"\x80\x02X\x01\x00\x00\x00a)R.", "calls a str, which is no name"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.", "sets attributes of a Name"),
    ):
        path = tmp_path / "b.pth"
        path.write_bytes(torch_writer.plain(torch_writer.MAGIC, 1001, torch_writer.MACHINE) + begin)
        assert message in refused(path)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ((0, (25,), (1,)), "not within its storage of 24"),
        ((1, (24,), (1,)), "not within its storage of 24"),
        ((0, (4, 6), (7, 1)), "not within its storage of 24"),
        ((0, (10**12,), (0,)), "not within its storage of 24"),
        ((0, (2**40, 2**40), (0, 0)), "not within its storage of 24"),
        ((-1, (2,), (1,)), "without offset"),
        ((0, (-2,), (1,)), "no sizes"),
        ((0, (2,), (-1,)), "no sizes"),
        ((0, (2,), (1, 1)), "no sizes"),
        ((0, (2.0,), (1,)), "no sizes"),
        ((0, (1,) * 40, (1,) * 40), "no sizes"),
        ((0, [2], (1,)), "without offset"),
    ],
)
@writers
def test_tensors_must_lie_in_their_storage(tmp_path, write, where, message):
    view = tensor(Stored("storage", FLOATS, "0", "cpu", 24, None), *where)
    path = write(tmp_path / "a.pth", [np.arange(24, dtype=np.float32), view])
    assert message in refused(path)


@writers
def test_storages_must_be_those_in_the_file(tmp_path, write):
    def with_storage(*identifier):
        view = tensor(Stored(*identifier), 0, (2,), (1,))
        return refused(write(tmp_path / "a.pth", [np.arange(24, dtype=np.float32), view]))

    assert "two types or lengths" in with_storage("storage", FLOATS, "0", "cpu", 25, None)
    longs = Global("torch.LongStorage")
    assert "two types or lengths" in with_storage("storage", longs, "0", "cpu", 24, None)
    assert "storage '9' is not in the file" in with_storage("storage", FLOATS, "9", "cpu", 9, None)
    assert "something else" in with_storage("module", FLOATS, "a.py", "import os")
    bfloat = Global("torch.BFloat16Storage")
    assert "numbers as torch.BFloat16Storage" in with_storage("storage", bfloat, "1", "cpu", 2)
    assert "asks for 'torch.QUInt4x2Storage'" in with_storage(
        "storage", Global("torch.QUInt4x2Storage"), "1", "cpu", 2
    )


@writers
def test_every_cut_is_told(tmp_path, write):
    path = write(tmp_path / "a.pth", {"model": arrays()})
    content = path.read_bytes()
    for length in [*range(0, len(content), 41), len(content) - 1]:
        path.write_bytes(content[:length])
        refused(path)
    path.write_bytes(content + b"more")
    if write is write_stream:
        assert "something stands behind its end" in refused(path)


@writers
def test_damaged_bytes_never_lead_to_another_error(tmp_path, write):
    """Whatever byte is changed: read, or told."""
    path = write(tmp_path / "a.pth", {"model": arrays()})
    content, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(400):
        changed = bytearray(content)
        changed[random.integers(len(changed))] = random.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):
            file = TorchFile(path)
            model = file.content.get("model") if isinstance(file.content, dict) else None
            for found in model.values() if isinstance(model, dict) else ():
                if isinstance(found, Tensor):
                    file.array(found)


def test_a_changed_number_in_an_archive_is_told(tmp_path):
    value = np.full(100, 3.0, np.float32)
    path = write_zip(tmp_path / "a.pth", {"x": value})
    path.write_bytes(path.read_bytes().replace(value.tobytes(), value.tobytes()[:-1] + b"!"))
    file = TorchFile(path)
    with pytest.raises(ValueError, match="checksum of storage '0' differs"):
        file.array(file.content["x"])


def test_packed_archives_are_not_unpacked(tmp_path):
    """16 MiB of zeros take 16 KiB."""
    path = write_zip(tmp_path / "a.pth", {"x": np.zeros(2**22, np.float32)}, packed=True)
    assert path.stat().st_size < 100_000
    assert "data.pkl' is packed" in refused(path)


def test_members_that_lie_on_each_other_are_told(tmp_path):
    """One row of zeros, named by many entries of the archive's list."""
    path = write_zip(tmp_path / "a.pth", [np.zeros(5000, np.float32) + n for n in range(20)])
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("archive/data/0")
        for member in archive.infolist():
            if "/data/" in member.filename:
                member.header_offset, member.CRC = first.header_offset, first.CRC
        archive._didModify = True
    kept = path.read_bytes()
    end = first.header_offset + 30 + len(first.filename) + first.file_size
    small = kept[:end] + kept[kept.find(b"PK\x01\x02") :]
    path.write_bytes(small[:-6] + struct.pack("<I", end) + small[-2:])  # where the list begins
    assert f"400000 bytes of numbers in a file of {path.stat().st_size}" in refused(path)


def test_other_kinds_of_files(tmp_path):
    path = tmp_path / "a.pth"
    for content, message in (
        (b"", "an empty file"),
        (b"hello", "not a file of torch.save"),
        (pickle.dumps({"model": 1}, protocol=2), "not a file of torch.save"),
        (b"\x1f\x8b\x08" + bytes(100), "not a file of torch.save"),
        (torch_writer.plain(torch_writer.MAGIC, 1002), "a stream of version 1002"),
        (torch_writer.plain(torch_writer.MAGIC, [[]]), "a stream of version a list"),
    ):
        path.write_bytes(content)
        assert message in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "no <name>/data.pkl" in refused(path)


def test_big_endian_files_are_told(tmp_path):
    machine = torch_writer.MACHINE | {"little_endian": False}
    assert "big-endian" in refused(write_stream(tmp_path / "a.pth", {}, machine))
    assert "big-endian" in refused(write_zip(tmp_path / "a.pth", {}, order=b"big"))


def test_lengths_of_a_stream_must_be_those_announced(tmp_path):
    value = np.arange(6, dtype=np.float32)
    path = write_stream(tmp_path / "a.pth", {"x": value})
    content = path.read_bytes()
    at = len(content) - value.nbytes - 8
    for count in (5, 7, -1, 2**62):
        path.write_bytes(content[:at] + struct.pack("<q", count) + content[at + 8 :])
        assert f"storage '0': {count} numbers, announced are 6" in refused(path)


@pytest.mark.parametrize(
    "body",
    [
        b")" + b"\x85" * 300_000,  # nested
        b")" + b"q\x00h\x00\x86" * 60,  # doubled: 2^60 to whoever follows
        b"}" + b")" + b"q\x00h\x00\x86" * 60 + b"Ns",  # and its hash
        b"}("
        + b"".join(
            b"\x8a\x0a" + (n * (2**61 - 1) + 1).to_bytes(10, "little") + b"N"
            for n in range(1, 100_000)
        )
        + b"u",  # numbers of one hash
        b"]q\x00h\x00a",  # in itself
        b"(" * 1_000_000 + b"t" * 1_000_000,
        b"N" * 3_000_000,
        b"X\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"T\xff\xff\xff\xff",
        b"\x8a\xff",
    ],
    ids=[
        "nested",
        "doubled",
        "hash",
        "hashes",
        "circle",
        "marks",
        "many",
        "long text",
        "long bytes",
        "less than nothing",
        "long number",
    ],
)
def test_bombs_take_no_time(tmp_path, body):
    path, began = tmp_path / "a.pth", time.process_time()
    begin = torch_writer.plain(torch_writer.MAGIC, 1001, torch_writer.MACHINE)
    path.write_bytes(begin + b"\x80\x02" + body + b"." + torch_writer.plain([]))
    try:
        content = TorchFile(path).content
    except ValueError as error:
        assert len(str(error)) < 400
    else:
        assert not isinstance(content, Tensor)
        del content
    gc.collect()
    assert time.process_time() - began < 20


def test_bombs_within_the_list_of_storages(tmp_path):
    path = tmp_path / "a.pth"
    begin = torch_writer.plain(torch_writer.MAGIC, 1001, torch_writer.MACHINE, {})
    path.write_bytes(begin + b"\x80\x02](" + b")" + b"q\x00h\x00\x86" * 60 + b"e.")
    assert "no list of storages" in refused(path)
