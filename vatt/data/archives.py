"""Arrays in `.npz` archives: their headers say how large they are before anything is unpacked.

    with Archive(path) as archive:
        archive.headers            # {"features": Header((12, 2048), dtype("float32"))}
        archive.array("features")

A small file can hold a member that unpacks to any size. What a header says is compared with the
size of the member; whether that is too much, the caller decides. Nothing is unpickled. What is
wrong with a file is a ValueError.
"""

from __future__ import annotations

import io
import math
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np

_MAX_HEADER = 10_000  # bytes, as NumPy's own limit
_MAX_RATIO, _SMALL = 1032, 1000  # of bytes to packed ones: more no deflated stream has; and beside
_LONGEST = 2**20  # a size of an array without numbers
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """How much memory the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class Archive:
    """An open archive."""

    def __init__(self, path: str | Path):
        """Reads the headers of all arrays.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is no archive of arrays.
        """
        try:
            self._size = os.stat(path).st_size
            self._zip = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as error:  # whatever another kind of file or a damaged one leads to
            raise ValueError(str(error)) from None
        members = self._zip.infolist()
        try:
            self._members = {member.filename.removesuffix(".npy"): member for member in members}
            self.headers = {name: self._header(name) for name in self._members}
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def _header(self, name: str) -> Header:
        member = self._members[name]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is packed in another way than NumPy packs")
        packed = min(member.compress_size, self._size)
        if member.file_size > _MAX_RATIO * packed + _SMALL:
            raise ValueError(f"{name} cannot have {member.file_size} bytes, packed into {packed}")
        try:
            with self._zip.open(member) as file:
                header, _, begin = _begun(file)
            size = begin + header.bytes
        except Exception as error:
            raise ValueError(f"{name} is no array ({error})") from None
        if header.dtype.hasobject:
            raise ValueError(f"{name} holds objects, not numbers")
        _check_empty(name, header)
        if size != member.file_size:
            raise ValueError(f"{name} should be {header}, but has {member.file_size} bytes")
        return header

    def array(self, name: str) -> np.ndarray:
        """Unpacks an array.

        Raises:
          ValueError: it is damaged.
        """
        try:
            with self._zip.open(self._members[name]) as file:
                with _unsaid():
                    array = np.lib.format.read_array(file, allow_pickle=False)
                return _with_texts(array)
        except Exception as error:
            raise ValueError(f"{name} cannot be unpacked ({error})") from None


def mapped(path: str | Path) -> np.ndarray:
    """Returns the array in a `.npy` file, not yet in memory.

    Raises:
      OSError: the file cannot be read.
      ValueError: it holds no array, or an archive of them.
    """
    try:
        with open(path, "rb") as file:
            header, fortran, begin = _begun(file)
        if header.dtype.hasobject:
            raise ValueError("it holds objects, not numbers")
        _check_empty("it", header)
        order = "F" if fortran else "C"
        array = np.memmap(path, header.dtype, "r", begin, header.shape, order)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(str(error)) from None
    return _with_texts(array)


def _begun(file: IO[bytes]) -> tuple[Header, bool, int]:
    """Returns what the header of an array says, whether it is in Fortran's order, and its end.

    Of the file no more is read than a header may take, whatever length it announces.
    """
    begin = io.BytesIO(file.read(_MAX_HEADER))
    version = np.lib.format.read_magic(begin)
    if version not in _READERS:
        raise ValueError(f"version {version}")
    with _unsaid():
        shape, fortran, dtype = _READERS[version](begin)
    return Header(shape, dtype), fortran, begin.tell()


@contextmanager
def _unsaid() -> Iterator[None]:
    """Leaves out what NumPy and Python say of headers that Python 2 has written, or nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _with_texts(array: np.ndarray) -> np.ndarray:
    """Returns an array, whose texts are such: Python does not look when it makes `str` of them."""
    if array.dtype.kind == "U" and array.nbytes:
        letters = np.dtype(np.uint32).newbyteorder(array.dtype.byteorder)
        if np.ascontiguousarray(array).view(letters).max() > sys.maxunicode:
            raise ValueError("texts with letters that there are none of")
    return array


def _check_empty(name: str, header: Header) -> None:
    """Refuses an array that no byte stands for, and whose length is any number all the same."""
    if not header.bytes and max(header.shape, default=0) > _LONGEST:
        raise ValueError(f"{name} is {header}, without any number")
