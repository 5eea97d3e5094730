"""Flax's msgpack: what is read, what is refused, and that nothing but data comes out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.flax_writer import packed
from vatt.data.msgpack_files import Array, MsgpackFile


def opened(tmp_path, content: bytes) -> MsgpackFile:
    path = tmp_path / "checkpoint_1"
    path.write_bytes(content)
    return MsgpackFile(path)


def test_arrays_and_plain_values(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    given = {"params": {"a": {"kernel": kernel}}, "step": np.int32(7), "empty": {}}
    given |= {"flags": [True, None, -3, 0.5]}
    with opened(tmp_path, packed(given)) as file:
        found = file.content["params"]["a"]["kernel"]
        assert (found.shape, found.dtype) == ((3, 4), np.float32)
        np.testing.assert_array_equal(file.array(found), kernel)
        assert file.array(file.content["step"]) == 7
        assert (file.content["empty"], file.content["flags"]) == ({}, [True, None, -3, 0.5])


def test_an_array_in_chunks_is_one(tmp_path):
    whole = np.arange(10, dtype=np.float32).reshape(2, 5)
    flat = whole.reshape(-1)
    chunks = {"0": flat[:6], "1": flat[6:]}
    given = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 5}, "chunks": chunks}
    with opened(tmp_path, packed({"kernel": given})) as file:
        np.testing.assert_array_equal(file.array(file.content["kernel"]), whole)
    with pytest.raises(ValueError, match="do not make it up"):
        opened(tmp_path, packed({"kernel": {**given, "shape": {"0": 3, "1": 5}}}))


def test_published_layout(shared_dir):
    folder = shared_dir / "conformance_av_mae"
    path = folder / "checkpoint_pretrain_layout.msgpack"
    with np.load(folder / "optimiser_steps.npz") as expected, MsgpackFile(path) as file:
        target = file.content["optimizer"]["target"]
        for name in ("embedding_rgb/kernel", "mask_token_rgb"):
            found = target
            for part in name.split("/"):
                found = found[part]
            assert isinstance(found, Array)
            np.testing.assert_array_equal(file.array(found), expected[f"pretrain/w5/{name}"])


WHOLE = packed({"kernel": np.arange(6, dtype=np.float32)})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (WHOLE[:-1], "cut off"),
        (WHOLE + b"\x00", "1 bytes after the end"),
        (b"\xc1", "begins no value"),
        (b"\xdf\xff\xff\xff\xff", "cut off: 4294967295 entries"),
        (b"\x91" * 100 + b"\xc0", "deeper"),
        (WHOLE.replace(b"float32", b"object_"), "type 'object_'"),
        (WHOLE.replace(b"float32", b"float64"), "has 24 bytes of numbers"),
        (b"\xd5\x05ab", "extension 5"),
        (packed({"a": 1}).replace(b"\xd9\x01a", b"\x05"), "where a name should"),
        (packed({"a": 1, "b": 2}).replace(b"\x01b", b"\x01a"), "a is there twice"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, content, told):
    with pytest.raises(ValueError, match=told):
        opened(tmp_path, content)
