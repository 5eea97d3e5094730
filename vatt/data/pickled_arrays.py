"""Pickles of plain values with arrays of NumPy and tensors of PyTorch in them; no code is run.

    content = read("msrvtt_jsfusion_test.pkl")
    content[0]["2d"].shape, content[0]["2d"].array()     # (15, 2048), float32 [15, 2048]

The pickle is read by `vatt.data.pickles`; a name in it that neither arrays nor tensors need is
refused and told. The file is mapped: numbers come into memory when they are asked for. What is
wrong with a pickle is a ValueError.
"""

from __future__ import annotations

import math
import mmap
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vatt.data import pickles
from vatt.data.torch_files import Storage, Tensor, TorchFile, tensor
from vatt.errors import short

MAX_OPERATIONS = 2_000_000_000
_KIND = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_CORES = ("numpy.core", "numpy._core")  # before NumPy 2, since
_MAX_AXES = 8
_ORDERS = ("C", "F")


class DType(pickles.Stateful):
    """A type of numbers."""

    def __init__(self, kind: object) -> None:
        """Takes its name, as "f4"."""
        if not (isinstance(kind, str) and _KIND.fullmatch(kind)):
            raise ValueError(f"of type {short(repr(kind))}, not real numbers")
        self.dtype = np.dtype(kind)

    def set_state(self, state: Any) -> None:
        """Takes (version, order of bytes, ...)."""
        if not (isinstance(state, tuple) and state[1:2] and state[1] in ("<", ">", "|", "=")):
            raise ValueError("damaged: a type of numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(pickles.Stateful):
    """An array, whose numbers stand in the file.

    Attributes:
      shape: of the array.
      dtype: of its numbers.
    """

    def __init__(self, *state: Any) -> None:
        """Takes bytes, type, shape and order of axes; an array without them gets them later."""
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype(np.uint8)
        self._content, self._order = b"", "C"
        if state:
            self._take(*state)

    def set_state(self, state: Any) -> None:
        """Takes (version, shape, type, whether Fortran's order, bytes)."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise ValueError("damaged: an array")
        _, shape, kind, fortran, content = state
        self._take(content, kind, shape, "F" if fortran else "C")

    def _take(self, content: Any, kind: Any, shape: Any, order: Any) -> None:
        sizes = isinstance(shape, tuple) and len(shape) <= _MAX_AXES
        sizes = sizes and all(type(n) is int and 0 <= n < 2**62 for n in shape)
        if not (sizes and isinstance(kind, DType) and order in _ORDERS):
            raise ValueError("damaged: an array without shape, type or order")
        if isinstance(content, str):  # bytes of Python 2 that happen to be a text
            content = content.encode("utf-8", "surrogatepass")
        if not isinstance(content, bytes | memoryview):
            raise ValueError("an array of objects, not of numbers")
        if len(content) != math.prod(shape) * kind.dtype.itemsize:
            raise ValueError(f"damaged: {len(content)} bytes of an array {kind.dtype} {shape}")
        self.shape, self.dtype = shape, kind.dtype
        self._content, self._order = content, order

    def array(self) -> np.ndarray:
        """Returns the numbers."""
        native = self.dtype.newbyteorder("=")
        if not math.prod(self.shape):
            return np.zeros(self.shape, native)
        flat = np.frombuffer(self._content, self.dtype)
        return np.array(flat.reshape(self.shape, order=self._order), native)


class _Stored(NamedTuple):
    """The numbers of a tensor: a file of PyTorch in the pickle, with one storage."""

    file: TorchFile
    storage: Storage


class TensorArray(NamedTuple):
    """A tensor, as an `Array`."""

    file: TorchFile
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype:
        """Of its numbers."""
        return self.tensor.dtype

    def array(self) -> np.ndarray:
        """Returns the numbers."""
        return self.file.array(self.tensor)


Numbers = Array | TensorArray


def _storage(arguments: tuple[Any, ...]) -> _Stored:
    (content,) = arguments
    if not isinstance(content, bytes | memoryview):
        raise ValueError("damaged: a tensor without numbers")
    file = TorchFile(content)
    if not isinstance(file.content, Storage):
        raise ValueError("of something that is no storage")
    return _Stored(file, file.content)


def _tensor(arguments: tuple[Any, ...]) -> TensorArray:
    if not isinstance(arguments[0], _Stored):
        raise ValueError("of something that is no storage")
    file, storage = arguments[0]
    return TensorArray(file, tensor((storage, *arguments[1:])))


def _parameter(arguments: tuple[Any, ...]) -> TensorArray:
    if not arguments or not isinstance(arguments[0], TensorArray):
        raise ValueError("of something that is no tensor")
    return arguments[0]


def _scalar(arguments: tuple[Any, ...]) -> float | int | bool:
    kind, content = arguments
    return Array(content, kind, (), "C").array().item()


def _bytes(arguments: tuple[Any, ...]) -> bytes | memoryview:
    content = arguments[0] if arguments else b""
    if not isinstance(content, bytes | memoryview):
        raise ValueError("damaged: bytes of something else")
    return content


def _encoded(arguments: tuple[Any, ...]) -> bytes:
    text, encoding = arguments
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("damaged: bytes in another encoding")
    return text.encode("latin-1")


def _names() -> dict[str, pickles.Make]:
    """What a pickle may ask for, and what it gets."""
    table: dict[str, pickles.Make] = {
        "numpy.ndarray": pickles.refuse,  # only mentioned
        "numpy.dtype": lambda arguments: DType(*arguments[:1]),
        "_codecs.encode": _encoded,
        "collections.OrderedDict": lambda arguments: pickles.Mapped(),
        "torch.storage._load_from_bytes": _storage,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
    }
    for kind in ("bytes", "bytearray"):
        for module in ("builtins", "__builtin__"):
            table[f"{module}.{kind}"] = _bytes
    for core in _CORES:
        table[f"{core}.multiarray._reconstruct"] = lambda arguments: Array()
        table[f"{core}.multiarray.scalar"] = _scalar
        table[f"{core}.numeric._frombuffer"] = lambda arguments: Array(*arguments)
    return table


def read(path: str | Path) -> Any:
    """Returns what a pickle holds; arrays and tensors as `Numbers`.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged or cut off, or holds code or something else that is not read.
    """
    with open(path, "rb") as file:
        if not file.read(1):
            raise ValueError("an empty file")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pickles.read(content, 0, _names(), most=MAX_OPERATIONS)[0]
