"""Features inside of a pickle: which rows it has, and the vectors of one.

    of_file(path)                      # [{"id": ..., "2d": Numbers, ...}, ...]
    read(root, "test.pkl#3/2d")        # [steps, width]: of row 3, counted from 0

How they are named in place of a file, `manifest.in_pickle` says.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from vatt.data import pickled_arrays
from vatt.data.ingest import manifest
from vatt.data.pickled_arrays import Array, TensorArray
from vatt.errors import DataError
from vatt.files import version

SPECTROGRAM = "audio"  # the entry that is [bands, steps]


def read(root: Path, name: str) -> np.ndarray:
    """Returns the real numbers [steps, width] that a name stands for.

    Raises:
      ValueError: they are not there, or their numbers cannot be read.
      DataError: the pickle cannot be used.
    """
    path, number, key = manifest.place_in_pickle(name)
    rows = of_file(manifest.locate(root, path))
    found = rows[number].get(key) if number < len(rows) else None
    if not isinstance(found, Array | TensorArray):
        raise ValueError(f"there is no array '{key}' in row {number}")
    array = found.array()
    return array.T if key == SPECTROGRAM else array


def of_file(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a pickle, which is read once for all that ask.

    Raises:
      DataError: it cannot be read, holds code, or is no list of mappings.
    """
    rows = content(path)
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise DataError(f"{path}: holds a {type(rows).__name__}, not a list of clips")
    return rows


def content(path: Path) -> Any:
    """Returns what a pickle holds (`vatt.data.pickled_arrays`).

    Raises:
      DataError: it cannot be read, or holds code.
    """
    return _content(path, *version(path))


@functools.lru_cache(maxsize=4)
def _content(path: Path, *_version: int) -> Any:
    try:
        return pickled_arrays.read(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: no pickle that is read here: {error}") from None
