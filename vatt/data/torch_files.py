"""Files of PyTorch's `torch.save`, read without PyTorch and without running what is in them.

    file = TorchFile("gdt_K400.pth")
    file.content["model"]          # {"video_network.base.stem.0.weight": Tensor(...), ...}
    file.array(file.content["model"]["video_network.base.stem.0.weight"])

There are two containers. The older one is a stream of five pickles (a magic number, a version, the
machine, the object, the keys of the storages) and behind them each storage, its length in front.
The newer one is a zip archive with `*/data.pkl` and `*/data/<key>`, unpacked. The pickles are read
by `vatt.data.pickles`; numbers stay on the disk until they are asked for. What is wrong with a file
is a ValueError, for anything else in it than tensors and plain values as well.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vatt.data import pickles
from vatt.errors import short

ENDINGS = (".pth", ".pth.tar", ".pt")
MAX_PICKLE = 2**25  # bytes; a model of 300 tensors takes 60 000
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
_MAX_AXES, _MAX_MEMBERS = 8, 100_000

_TYPES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "|i1",
    "Byte": "|u1",
    "Bool": "|b1",
}
# Numbers that NumPy has no type for, or that no model here takes.
_OTHER_TYPES = ("BFloat16", "ComplexFloat", "ComplexDouble", "QInt8", "QUInt8", "QInt32")
# What stands beside the weights; it is neither run nor used.
_INERT = (
    "argparse.Namespace",
    "collections.Counter",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    "torch.device",
    "torch.Size",
    "torch.optim.sgd.SGD",
    "torch.optim.adam.Adam",
    "torch.optim.adamw.AdamW",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.lr_scheduler.MultiStepLR",
    "torch.optim.lr_scheduler.StepLR",
)
_ONLY_NAMED = tuple(f"{m}.{n}" for m in ("builtins", "__builtin__") for n in ("dict", "list"))


@dataclass(frozen=True, eq=False)
class Storage:
    """A row of numbers that tensors are views of."""

    key: str
    dtype: np.dtype
    count: int
    begin: int = 0  # of a part of it, which is then `count` long
    whole: int | None = None

    @property
    def bytes(self) -> int:
        """Length of the whole row."""
        return (self.count if self.whole is None else self.whole) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Tensor:
    """Shape and type of a tensor, and where its numbers stand."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Type of its numbers."""
        return self.storage.dtype


class _Place(NamedTuple):
    """Where bytes stand in a file, with their checksum where it has one."""

    start: int
    size: int
    checksum: int | None = None


class TorchFile:
    """A file of `torch.save`.

    Attributes:
      source: path of the file, or its content.
      content: the object in it: plain values, lists, mappings, `Tensor`s and `Storage`s.
    """

    def __init__(self, source: str | os.PathLike | bytes | memoryview) -> None:
        """Reads everything but the numbers.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is of another kind, damaged, cut off, or holds code.
        """
        self.source = source if isinstance(source, bytes | memoryview) else Path(source)
        self._storages: dict[str, Storage] = {}
        with self._opened() as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            begin = file.read(4)
        if not begin:
            raise ValueError("an empty file")
        zipped = begin == _ZIP
        self.content, self._places = self._read_zip(size) if zipped else self._read_stream(size)
        for storage in self._storages.values():
            place = self._places.get(storage.key)
            if place is None:
                raise ValueError(f"storage {_shown(storage.key)} is not in the file")
            if place.size != storage.bytes:
                raise ValueError(
                    f"storage {_shown(storage.key)}: {place.size} bytes, announced are"
                    f" {storage.bytes}"
                )
        # In an archive, members can be made to lie on each other.
        if (total := sum(storage.bytes for storage in self._storages.values())) > size:
            raise ValueError(f"{total} bytes of numbers in a file of {size}")

    def _opened(self) -> BinaryIO:
        return open(self.source, "rb") if isinstance(self.source, Path) else io.BytesIO(self.source)

    def array(self, tensor: Tensor) -> np.ndarray:
        """Returns the numbers of a tensor.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is damaged, or was changed meanwhile.
        """
        storage = tensor.storage
        content = self._bytes(self._places[storage.key], f"storage {_shown(storage.key)}")
        item = storage.dtype.itemsize
        first, strides = storage.begin + tensor.offset, tuple(item * s for s in tensor.strides)
        if not math.prod(tensor.shape):
            return np.zeros(tensor.shape, storage.dtype)
        view = np.ndarray(tensor.shape, storage.dtype, content, first * item, strides)
        return np.array(view, order="C")

    def _bytes(self, place: _Place, name: str) -> bytes:
        with self._opened() as file:
            file.seek(place.start)
            content = file.read(place.size)
        if len(content) < place.size:
            raise ValueError(f"cut off: {name} has {len(content)} bytes of {place.size}")
        if place.checksum is not None and zlib.crc32(content) != place.checksum:
            raise ValueError(f"damaged: the checksum of {name} differs")
        return content

    # -- containers ------------------------------------------------------------------------

    def _read_stream(self, size: int) -> tuple[Any, dict[str, _Place]]:
        with self._opened() as file:
            begin = file.read(min(MAX_PICKLE, size))
        names = _names()
        try:
            magic, place = pickles.read(begin, 0, names)
        except pickles.UnknownNameError:
            raise
        except ValueError:
            magic = place = None
        if type(magic) is not int or magic != _MAGIC:
            raise ValueError("not a file of torch.save: it begins like neither of its two kinds")
        version, place = pickles.read(begin, place, names)
        if type(version) is not int or version != _VERSION:
            raise ValueError(f"a stream of version {_shown(version)}, known is {_VERSION}")
        machine, place = pickles.read(begin, place, names)
        if not (isinstance(machine, dict) and machine.get("little_endian") is True):
            raise ValueError("written on a big-endian machine, which is not read here")
        content, place = pickles.read(begin, place, names, self._storage)
        keys, place = pickles.read(begin, place, names)
        if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
            raise ValueError("damaged: no list of storages")
        return content, self._stream_places(keys, place, size)

    def _stream_places(self, keys: list[str], place: int, size: int) -> dict[str, _Place]:
        """Returns where the storages stand, one behind another, each with its length in front."""
        unknown = next((key for key in keys if key not in self._storages), None)
        if unknown is not None:
            raise ValueError(f"storage {_shown(unknown)} belongs to no tensor")
        needed = place + sum(8 + self._storages[key].bytes for key in keys)
        if size != needed:
            reason = "cut off" if size < needed else "something stands behind its end"
            raise ValueError(f"{reason}: {size} bytes, expected are {needed}; copy it again")
        places = {}
        with self._opened() as file:
            for key in keys:
                storage = self._storages[key]
                file.seek(place)
                (count,) = struct.unpack("<q", file.read(8))
                if count * storage.dtype.itemsize != storage.bytes:
                    announced = storage.bytes // storage.dtype.itemsize
                    raise ValueError(
                        f"storage {_shown(key)}: {count} numbers, announced are {announced}"
                    )
                places[key] = _Place(place + 8, storage.bytes)
                place += 8 + storage.bytes
        return places

    def _read_zip(self, size: int) -> tuple[Any, dict[str, _Place]]:
        places = self._members(size)
        roots = [name.removesuffix("data.pkl") for name in places if name.endswith("/data.pkl")]
        if len(roots) != 1 or roots[0].count("/") != 1:
            raise ValueError("a zip archive, but not of torch.save: no <name>/data.pkl in it")
        root = roots[0]
        order = places.get(f"{root}byteorder")
        if order and (order.size != 6 or self._bytes(order, "byteorder") != b"little"):
            raise ValueError("written on a big-endian machine, which is not read here")
        pickled = places[f"{root}data.pkl"]
        if pickled.size > MAX_PICKLE:
            raise ValueError(f"data.pkl has {pickled.size} bytes, more than {MAX_PICKLE}")
        buffer = self._bytes(pickled, "data.pkl")
        content, end = pickles.read(buffer, 0, _names(), self._storage)
        if end != len(buffer):
            raise ValueError("damaged: something stands behind the end of data.pkl")
        begin = f"{root}data/"
        found = {n.removeprefix(begin): p for n, p in places.items() if n.startswith(begin)}
        return content, found

    def _members(self, size: int) -> dict[str, _Place]:
        """Returns where the members of the archive stand; packed ones are not unpacked."""
        try:
            with self._opened() as file, zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except OSError:
            raise
        except Exception as error:  # whatever a damaged archive leads to
            raise ValueError(f"a zip archive, damaged or cut off ({short(error)})") from None
        if len(members) > _MAX_MEMBERS:
            raise ValueError(f"{len(members)} members, more than {_MAX_MEMBERS}")
        places: dict[str, _Place] = {}
        with self._opened() as file:
            for member in members:
                name = _shown(member.filename)
                if member.filename in places:
                    raise ValueError(f"{name} is in the archive twice")
                if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                    raise ValueError(f"{name} is packed or encrypted, torch.save does neither")
                file.seek(max(member.header_offset, 0))
                header = file.read(30)
                if member.header_offset < 0 or len(header) < 30 or header[:4] != _ZIP:
                    raise ValueError(f"damaged: no header of {name}")
                start = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
                if start + member.file_size > size:
                    raise ValueError(f"cut off: {name} ends behind the end of the file")
                places[member.filename] = _Place(start, member.file_size, member.CRC)
        return places

    # -- storages --------------------------------------------------------------------------

    def _storage(self, identifier: tuple[Any, ...]) -> Storage:
        """Returns the storage of an identifier: ("storage", type, key, device, count[, view])."""
        kind, *rest = identifier or (None,)
        if kind != "storage" or len(rest) not in (4, 5):
            raise ValueError(f"refers to {_shown(kind)}, something else than numbers")
        named, key, _, count, view = (*rest, None)[:5]
        if type(named) is not pickles.Name or named.text not in _STORAGES:
            text = named.text if type(named) is pickles.Name else _shown(named)
            raise ValueError(f"numbers as {text}, read are {', '.join(_STORAGES)}")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("damaged: a storage without a key or length")
        storage = Storage(key, _STORAGES[named.text], count)
        first = self._storages.setdefault(key, storage)
        if (first.dtype, first.count) != (storage.dtype, storage.count):
            raise ValueError(f"storage {_shown(key)} is of two types or lengths")
        if view is None:
            return first
        if type(view) is not tuple or len(view) != 3 or not _naturals(view[1:]):
            raise ValueError(f"damaged: a part of storage {_shown(key)}")
        _, begin, length = view
        if begin + length > count:
            raise ValueError(f"storage {_shown(key)}: a part behind its end")
        return Storage(key, storage.dtype, length, begin, count)


_STORAGES = {f"torch.{name}Storage": np.dtype(dtype) for name, dtype in _TYPES.items()}


def _names() -> Mapping[str, pickles.Make]:
    """Returns what a file may ask for, and what it gets."""
    table = {name: pickles.inert(name) for name in _INERT}
    table |= dict.fromkeys((*_ONLY_NAMED, *_STORAGES), pickles.refuse)
    table |= {f"torch.{n}Storage": pickles.refuse for n in _OTHER_TYPES}
    mapping = dict.fromkeys(("collections.OrderedDict", "collections.defaultdict"), _mapping)
    tensors = {
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": _parameter,
    }
    return table | mapping | tensors


def _mapping(arguments: tuple[Any, ...]) -> pickles.Mapped:
    """Makes an empty mapping; what is in it comes later, with all files of Python 3."""
    if arguments and not isinstance(arguments[0], pickles.Name):
        raise ValueError("begins with content, which only Python 2 writes")
    return pickles.Mapped()


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    if not arguments or type(arguments[0]) is not Tensor:
        raise ValueError("of something that is no tensor")
    return arguments[0]


def tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Makes a tensor of (storage, offset, shape, strides, ...).

    Raises:
      ValueError: it does not lie within its storage.
    """
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Storage:
        raise ValueError("of something that is no storage")
    if not (_naturals((offset,)) and type(shape) is type(strides) is tuple):
        raise ValueError("damaged: a tensor without offset, shape or strides")
    if not (_naturals(shape) and _naturals(strides) and len(shape) == len(strides) <= _MAX_AXES):
        raise ValueError("damaged: a tensor whose shape or strides are no sizes")
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise ValueError(
            f"shape {shape} with strides {strides} from {offset}: not within its"
            f" storage of {storage.count} numbers"
        )
    return Tensor(storage, offset, shape, strides)


def _naturals(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _shown(value: object) -> str:
    """Returns a value of a pickle for a message; what holds others may be endless."""
    plain = type(value) in (str, int, float, bool, type(None))
    return short(repr(value)) if plain else f"a {type(value).__name__}"
