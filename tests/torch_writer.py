"""Files as `torch.save` leaves them, written without PyTorch.

    write_stream(path, {"model": {"fc.weight": array}, "epoch": 3})
    write_zip(path, {"model": {"fc.weight": array}})

Arrays become tensors; `Asked("os.system", "true")` is what a pickle makes by calling a name.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long"}
STORAGES |= {"int32": "Int", "uint8": "Byte", "bool": "Bool"}


class Global:
    """A name that a pickle asks for."""

    def __init__(self, name: str) -> None:
        self.module, _, self.name = name.rpartition(".")

    def __call__(self) -> None:
        """Needed by `pickle`, which only names what it can call."""


class Asked:
    """What a pickle makes by calling a name; then it sets `state`."""

    def __init__(self, name: str, *arguments: Any, state: Any = None) -> None:
        self.made = (Global(name), arguments) + (() if state is None else (state,))

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


class Stored:
    """A reference to a storage."""

    def __init__(self, *identifier: Any) -> None:
        self.identifier = identifier


def tensor(stored: Stored, *arguments: Any) -> Asked:
    """Returns a tensor by what is written of it: offset, shape, strides."""
    ordered = Asked("collections.OrderedDict")
    return Asked("torch._utils._rebuild_tensor_v2", stored, *arguments, False, ordered)


class Pickler(pickle._Pickler):
    """Writes arrays as tensors, whose numbers it collects in `storages`."""

    dispatch = pickle._Pickler.dispatch.copy()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: dict[str, np.ndarray] = {}

    def persistent_id(self, value: Any) -> Any:
        return value.identifier if isinstance(value, Stored) else None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        key = str(len(self.storages))
        self.storages[key] = np.ravel(value)
        kind = Global(f"torch.{STORAGES[value.dtype.name]}Storage")
        stored = Stored("storage", kind, key, "cuda:0", value.size, None)
        strides = tuple(stride // value.itemsize for stride in np.ascontiguousarray(value).strides)
        return tensor(stored, 0, value.shape, strides if value.ndim else ()).made

    def save_named(self, value: Global) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    dispatch[Global] = save_named


def pickled(value: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """Returns a pickle, and the numbers of the arrays in it by the keys of their storages."""
    file = io.BytesIO()
    pickler = Pickler(file)
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def plain(*values: Any) -> bytes:
    """Returns pickles of plain values, one behind another."""
    return b"".join(pickle.dumps(value, protocol=2) for value in values)


def write_stream(path: Path, value: Any, machine: dict[str, Any] | None = None) -> Path:
    """Writes the older container."""
    content, storages = pickled(value)
    keys = sorted(storages)
    data = [np.int64(storages[key].size).tobytes() + storages[key].tobytes() for key in keys]
    begin = plain(MAGIC, VERSION, MACHINE if machine is None else machine)
    path.write_bytes(begin + content + plain(keys) + b"".join(data))
    return path


def write_zip(path: Path, value: Any, packed: bool = False, order: bytes = b"little") -> Path:
    """Writes the newer container."""
    content, storages = pickled(value)
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    members = {"data.pkl": content, "byteorder": order, "version": b"3\n"}
    members |= {f"data/{key}": numbers.tobytes() for key, numbers in storages.items()}
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, member in members.items():
            # Of no time, so that the same values give the same file.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), member, kind)
    return path


WRITERS = {"stream": write_stream, "zip": write_zip}
