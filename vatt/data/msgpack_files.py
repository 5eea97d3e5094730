"""Files of Flax's msgpack form, read as data: nothing in them is run, numbers stay on the disk.

    with MsgpackFile("checkpoint_100") as file:
        file.content["params"]["Dense_0"]["kernel"]          # Array((16, 24), float32)
        file.array(file.content["params"]["Dense_0"]["kernel"])

Beside plain values there are three extensions: 1 is an array and 3 a number, packed as (shape, name
of the type, bytes in C order), 2 is a complex number. An array of more than 2^30 bytes is a map of
`shape` and `chunks`. What is wrong with a file is a ValueError.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vatt.errors import short

_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # extensions
_TYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("float16", "float32", "float64", "bool"),
        *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    )
}
_MOST_ENTRIES, _DEEPEST, _MOST_AXES = 10**6, 64, 16


@dataclass(frozen=True)
class Array:
    """Shape and type of an array, and where its numbers stand: one place, or several in a row."""

    shape: tuple[int, ...]
    dtype: np.dtype
    places: tuple[tuple[int, int], ...]  # start and bytes of each

    @property
    def bytes(self) -> int:
        """How much memory the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize


class MsgpackFile:
    """An open file of one msgpack value.

    Attributes:
      path: of the file.
      content: what it holds: plain values, lists, mappings and `Array`s.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Reads everything but the numbers.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is damaged, cut off or holds something else.
        """
        self.path = Path(path)
        with open(self.path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("is empty")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.content = _Reader(self._bytes).whole()
        except BaseException:
            self._bytes.close()
            raise

    def __enter__(self) -> MsgpackFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bytes.close()

    def array(self, array: Array) -> np.ndarray:
        """Returns the numbers of an array.

        Raises:
          ValueError: it has no numbers, but sizes that no array can have.
        """
        parts = [self._bytes[start : start + size] for start, size in array.places]
        values = np.frombuffer(b"".join(parts), array.dtype).reshape(array.shape)
        return values.astype(array.dtype.newbyteorder("="))


class _Reader:
    """Reads values one after another; `place` is where the next one begins."""

    def __init__(
        self, source: mmap.mmap, place: int = 0, end: int | None = None, inside: bool = False
    ) -> None:
        self._source, self._place, self._inside = source, place, inside
        self._end = len(source) if end is None else end
        self._entries = 0

    def whole(self) -> Any:
        """Returns the only value.

        Raises:
          ValueError: it is not whole, or there is more.
        """
        value = self._value(0)
        if self._place != self._end:
            raise ValueError(f"{self._end - self._place} bytes after the end")
        return value

    def _take(self, size: int) -> int:
        """Returns where the next `size` bytes begin, and passes over them."""
        start = self._place
        if size > self._end - start:
            raise ValueError(f"cut off: {size} bytes wanted at {start}, {self._end - start} there")
        self._place += size
        return start

    def _number(self, form: str) -> Any:
        start = self._take(struct.calcsize(form))
        return struct.unpack_from(form, self._source, start)[0]

    def _value(self, depth: int) -> Any:
        self._entries += 1
        if depth > _DEEPEST or self._entries > _MOST_ENTRIES:
            raise ValueError("more values, or deeper in one another, than any model has")
        tag = self._number("B")
        if tag <= 0x7F:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag <= 0x8F:
            return self._map(tag & 0x0F, depth)
        if tag <= 0x9F:
            return self._list(tag & 0x0F, depth)
        if tag <= 0xBF:
            return self._text(tag & 0x1F)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._number(_NUMBERS[tag])
        if tag in _FIXED_EXTENSIONS:
            return self._extension(_FIXED_EXTENSIONS[tag])
        if tag in _SIZED:
            form, kind = _SIZED[tag]
            size = self._number(form)
            return kind(self, size, depth) if kind in _NESTED else kind(self, size)
        raise ValueError(f"byte {tag:#04x} at {self._place - 1} begins no value")

    def _list(self, size: int, depth: int) -> list[Any]:
        return [self._value(depth + 1) for _ in range(self._counted(size))]

    def _map(self, size: int, depth: int) -> Any:
        found: dict[str, Any] = {}
        for _ in range(self._counted(size)):
            key = self._value(depth + 1)
            if not isinstance(key, str):
                raise ValueError(f"{short(repr(key))} stands where a name should")
            if key in found:
                raise ValueError(f"{short(key)} is there twice")
            found[key] = self._value(depth + 1)
        return _joined(found) if _CHUNKED in found else found

    def _counted(self, size: int) -> int:
        """Returns a number of entries, each of which takes at least a byte."""
        if size > self._end - self._place:
            raise ValueError(f"cut off: {size} entries at {self._place}")
        return size

    def _text(self, size: int) -> str:
        start = self._take(size)
        try:
            return self._source[start : start + size].decode()
        except UnicodeDecodeError:
            raise ValueError(f"the text at {start} is not in UTF-8") from None

    def _binary(self, size: int) -> bytes:
        start = self._take(size)
        return self._source[start : start + size]

    def _extension(self, size: int) -> Any:
        kind, start = self._number("b"), self._take(size)
        if self._inside:
            raise ValueError(f"the extension at {start} stands in another one")
        inside = _Reader(self._source, start, start + size, inside=True)
        if kind == _COMPLEX:
            parts = inside.whole()
            plain = isinstance(parts, list) and all(type(part) in (int, float) for part in parts)
            if not plain or len(parts) != 2:
                raise ValueError(f"the complex number at {start} has not two parts")
            return complex(*parts)
        if kind not in (_ARRAY, _SCALAR):
            raise ValueError(f"extension {kind} at {start} is none of Flax")
        return inside._array(start)

    def _array(self, start: int) -> Array:
        """Reads what an extension for an array holds, but not its numbers."""
        if self._number("B") != 0x93:
            raise ValueError(f"the array at {start} has not shape, type and numbers")
        shape, name = self._value(1), self._value(1)
        if not isinstance(shape, list) or len(shape) > _MOST_AXES:
            raise ValueError(f"the array at {start} has no shape")
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"the array at {start} has the shape {short(repr(shape))}")
        if isinstance(name, bytes):
            name = name.decode("ascii", "replace")
        if not isinstance(name, str) or name not in _TYPES:
            raise ValueError(f"the array at {start} is of the type {short(repr(name))}")
        tag = self._number("B")
        if tag not in (0xC4, 0xC5, 0xC6):
            raise ValueError(f"the array at {start} has no numbers")
        size = self._number(_SIZED[tag][0])
        array = Array(tuple(shape), _TYPES[name], ((self._take(size), size),))
        if array.bytes != size or self._place != self._end:
            raise ValueError(f"the array at {start}, {name} {shape}, has {size} bytes of numbers")
        return array


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = dict(
    zip(
        range(0xCA, 0xD4), (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), strict=True
    )
)
_FIXED_EXTENSIONS = {0xD4 + power: 2**power for power in range(5)}
_NESTED = (_Reader._list, _Reader._map)
_SIZED: dict[int, tuple[str, Callable[..., Any]]] = {
    **{0xC4 + n: (form, _Reader._binary) for n, form in enumerate((">B", ">H", ">I"))},
    **{0xC7 + n: (form, _Reader._extension) for n, form in enumerate((">B", ">H", ">I"))},
    **{0xD9 + n: (form, _Reader._text) for n, form in enumerate((">B", ">H", ">I"))},
    **{0xDC + n: (form, _Reader._list) for n, form in enumerate((">H", ">I"))},
    **{0xDE + n: (form, _Reader._map) for n, form in enumerate((">H", ">I"))},
}


def _in_order(numbered: Any, what: str) -> list[Any]:
    """Returns the values of a map from "0", "1", ...: how Flax writes a tuple."""
    if not isinstance(numbered, dict) or set(numbered) != set(map(str, range(len(numbered)))):
        raise ValueError(f"the {what} of an array in chunks are not numbered")
    return [numbered[str(n)] for n in range(len(numbered))]


def _joined(parts: dict[str, Any]) -> Array:
    """Returns an array in chunks as one."""
    shape, chunks = (_in_order(parts.get(key), key) for key in ("shape", "chunks"))
    if not chunks or not all(isinstance(chunk, Array) for chunk in chunks):
        raise ValueError("an array in chunks has none")
    if len(shape) > _MOST_AXES or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"an array in chunks has the shape {short(repr(shape))}")
    places = tuple(place for chunk in chunks for place in chunk.places)
    array = Array(tuple(shape), chunks[0].dtype, places)
    same = {chunk.dtype for chunk in chunks} == {array.dtype}
    if not same or array.bytes != sum(size for _, size in places):
        raise ValueError(f"the chunks of an array {list(shape)} do not make it up")
    return array
