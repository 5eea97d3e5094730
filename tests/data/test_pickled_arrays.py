"""Pickles of arrays and tensors are read as they were written, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
import random

import numpy as np
import pytest

from tests.torch_writer import (
    MACHINE,
    MAGIC,
    STORAGES,
    VERSION,
    Asked,
    Global,
    Stored,
    pickled,
    plain,
)
from vatt.data import pickled_arrays

ARRAYS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "float16": np.linspace(0, 1, 6, dtype=np.float16),
    "int64": np.arange(-3, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(4, dtype=">f4"),
    "empty": np.zeros((0, 2048), np.float32),
    "bool": np.array([True, False]),
    "long": np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32),
}


class Names(pickle._Pickler):
    """Writes the names of things that are not there."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_named(self, value: Global) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    dispatch[Global] = save_named


def dumped(content: object, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    Names(file, protocol).dump(content)
    return file.getvalue()


def read(tmp_path, content: object, protocol: int = 4) -> object:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return pickled_arrays.read(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_those_that_were_pickled(tmp_path, name, protocol):
    array = ARRAYS[name]
    (found,) = read(tmp_path, [array], protocol)
    assert found.shape == array.shape and found.dtype == array.dtype
    np.testing.assert_array_equal(found.array(), array)
    assert found.array().dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_values_and_numbers_of_numpy_stay_what_they_are(tmp_path, protocol):
    content = {"id": 7, "caption": ["a", "b"], "none": None, "deep": ({"x": 1.5},)}
    scalars = {"f": np.float32(0.5), "i": np.int64(3)}
    assert read(tmp_path, content | scalars, protocol) == content | {"f": 0.5, "i": 3}


def test_names_before_numpy_2_are_known(tmp_path):
    path = tmp_path / "a.pkl"
    content = pickle.dumps([ARRAYS["float32"]], 3).replace(b"numpy._core", b"numpy.core")
    path.write_bytes(content)
    np.testing.assert_array_equal(pickled_arrays.read(path)[0].array(), ARRAYS["float32"])


def storage(array: np.ndarray) -> bytes:
    """A storage as it is pickled outside of `torch.save`: a file of its own."""
    kind = Global(f"torch.{STORAGES[array.dtype.name]}Storage")
    content, _ = pickled(Stored("storage", kind, "0", "cpu", array.size, None))
    begin = plain(MAGIC, VERSION, MACHINE) + content + plain(["0"])
    return begin + np.int64(array.size).tobytes() + array.tobytes()


def tensor(array: np.ndarray, shape: tuple, strides: tuple, offset: int = 0) -> Asked:
    stored = Asked("torch.storage._load_from_bytes", storage(array))
    arguments = (stored, offset, shape, strides, False, Asked("collections.OrderedDict"))
    return Asked("torch._utils._rebuild_tensor_v2", *arguments)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", STORAGES)
def test_tensors_are_those_that_were_pickled(tmp_path, kind, protocol):
    path, numbers = tmp_path / "a.pkl", np.arange(120).astype(kind)
    path.write_bytes(dumped({"audio": tensor(numbers, (4, 30), (30, 1))}, protocol))
    found = pickled_arrays.read(path)["audio"]
    assert found.shape == (4, 30) and found.dtype == numbers.dtype
    np.testing.assert_array_equal(found.array(), numbers.reshape(4, 30))


def test_a_tensor_may_be_a_part_of_its_storage_and_turned(tmp_path):
    path, numbers = tmp_path / "a.pkl", np.arange(120, dtype=np.float32)
    path.write_bytes(dumped([tensor(numbers, (3, 10), (1, 3), offset=6)]))
    (found,) = pickled_arrays.read(path)
    np.testing.assert_array_equal(found.array(), numbers[6:36].reshape(10, 3).T)


def test_a_tensor_beyond_its_storage_and_code_in_a_storage_are_refused(tmp_path):
    path, numbers = tmp_path / "a.pkl", np.arange(12, dtype=np.float32)
    path.write_bytes(dumped([tensor(numbers, (5, 3), (3, 1))]))
    with pytest.raises(ValueError, match="not within its storage"):
        pickled_arrays.read(path)
    content, _ = pickled(Asked("os.system", "true"))
    inner = plain(MAGIC, VERSION, MACHINE) + content + plain([])
    path.write_bytes(dumped([Asked("torch.storage._load_from_bytes", inner)]))
    with pytest.raises(ValueError, match=r"asks for 'os\.system'"):
        pickled_arrays.read(path)


HOSTILE = {
    "os.system": Asked("os.system", "touch ran"),
    "posix.system": os.system,
    "random.Random": random.Random(),
    "numpy.load": Asked("numpy.load", "x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_is_refused_by_name_and_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(dumped([{"id": 1, "x": HOSTILE[name]}]))
    with pytest.raises(ValueError, match=f"asks for '{name}', code .* nothing of it was run"):
        pickled_arrays.read(path)
    assert not (tmp_path / "ran").exists()


def test_arrays_of_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not real numbers"):
        read(tmp_path, np.array([{}, None], object))


@pytest.mark.parametrize("content", [b"", b"\x80\x04", pickle.dumps([ARRAYS["long"]])[:-100]])
def test_what_is_cut_off_is_told(tmp_path, content):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"empty file|cut off|damaged"):
        pickled_arrays.read(path)


def test_bytes_that_do_not_fit_the_shape_are_refused(tmp_path):
    content = pickle.dumps([ARRAYS["float16"]], 4).replace(b"K\x06\x85", b"K\x07\x85")
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="12 bytes of an array"):
        pickled_arrays.read(path)
