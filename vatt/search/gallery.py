"""What is searched: the windows of an index, ranked by their products with a vector. Exact.

    gallery = Gallery("embeddings.npz")
    gallery.find("video", "video_totxt", vector, top=10)      # hits, best first

A space is unpacked when it is asked for first, and kept with rows of length 1: a search is one
product of matrix and vector, 0.1 s for a million windows of 256 numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np

from vatt.api import index
from vatt.errors import DataError, UserError
from vatt.evaluation import artefacts
from vatt.files import version

MODALITIES = ("video", "audio")  # in the order in which they are searched where none is named
_TIMES = ("file", "starts", "ends")
_ROUNDING = 1e-6  # of a product in float32
_NEVER = -2.0  # lower than any cosine
_MOST_EQUAL = 4096  # windows that are compared again in float64
_BLOCK = 65536  # rows that are normalised at a time


@dataclasses.dataclass(frozen=True)
class Hit:
    """A window that was found.

    Attributes:
      number: of the file in the index.
      file: its path.
      modality: what of it was searched.
      row: of the window among those of its modality.
      start: s in the file.
      end: s in the file; of a still picture the same.
      score: cosine of the angle to what was asked with.
    """

    number: int
    file: str
    modality: str
    row: int
    start: float
    end: float
    score: float

    @property
    def when(self) -> str:
        """Start and end as a clock shows them; empty for a still picture."""
        return "" if self.end <= self.start else f"{clock(self.start)}-{clock(self.end)}"


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of a modality, file by file: number of the file, start and end (s) of each.

    `first` has the row at which each of the files begins that has any.
    """

    file: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray
    order: np.ndarray | None  # of the rows in the index, where they do not lie file by file


class Gallery:
    """An index in memory.

    Attributes:
      path: of the index.
      recipe: what decided its embeddings.
      files: unicode [files], paths.
      failures: how many files, or parts of them, have no embeddings.
      spaces: names of the embeddings by modality, in their order.
      folder: that all files are in; empty where there is none.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads what is small; embeddings later.

        Raises:
          DataError: it is no index, or an empty one.
        """
        self.path, self._version = Path(path), version(Path(path))
        self._headers = index.headers(path)
        self.recipe, arrays = index.read(path, ())
        self.files, self._versions = arrays["files"], arrays["versions"]
        self.failures = len(arrays["failures"])
        self.spaces = {
            modality: [name for m, _, name in map(_parts, self._headers)
                       if m == modality and name not in _TIMES]
            for modality in MODALITIES
            if f"{modality}/file" in self._headers
        }  # fmt: skip
        self._check()
        self.folder = _folder(self.files.tolist())
        self.windows = functools.cache(self._windows)
        self._vectors = functools.cache(self._at_length_one)

    def _check(self) -> None:
        if not self.spaces:
            told = f" ({self.failures} files cannot be used)" if self.failures else ""
            raise DataError(f"{self.path}: an index without embeddings{told}")
        for modality, spaces in self.spaces.items():
            rows = self._headers[f"{modality}/file"].shape
            times = [self._headers.get(f"{modality}/{name}") for name in _TIMES]
            vectors = [self._headers[f"{modality}/{name}"] for name in spaces]
            fits = all(h is not None and h.shape == rows and len(rows) == 1 for h in times)
            fits &= all(h.shape[:1] == rows and len(h.shape) == 2 for h in vectors)
            fits &= all(h.dtype.kind == "f" for h in vectors)
            fits &= self.files.dtype.kind == "U" and self._versions.shape == (len(self.files), 2)
            if not (fits and spaces and len(self.files)):
                raise DataError(f"{self.path}: no index of embeddings ({modality} does not fit)")

    @property
    def made_with(self) -> str:
        """The model and its step, in words."""
        names = (str(self.recipe.get(key, "?")) for key in ("model", "step"))
        return ", step ".join(names)

    def check_modality(self, modality: str | None) -> None:
        """Refuses a modality that the index does not have."""
        if modality is not None and modality not in self.spaces:
            raise UserError(
                f"modality: {modality!r}; {self.path} has {', '.join(self.spaces)}"
                " (vatt embed --modalities)"
            )

    def _windows(self, modality: str) -> Windows:
        """When the windows of a modality begin and end, and which file each is of."""
        arrays = self._read(*(f"{modality}/{name}" for name in _TIMES))
        file, starts, ends = (arrays[f"{modality}/{name}"] for name in _TIMES)
        outside = (file < 0) | (file >= len(self.files))
        if file.dtype.kind != "i" or outside.any():
            raise DataError(f"{self.path}: {modality}/file names files that are not there")
        if not all(
            times.dtype.kind == "f" and np.isfinite(times).all() for times in (starts, ends)
        ):
            raise DataError(f"{self.path}: {modality} has windows without times")
        order = None
        if np.any(np.diff(file) < 0):
            order = np.argsort(file, kind="stable")
            file, starts, ends = file[order], starts[order], ends[order]
        first = np.flatnonzero(np.diff(file, prepend=-1))
        return Windows(file, starts, ends, first, order)

    def _at_length_one(self, modality: str, space: str) -> np.ndarray:
        """The embeddings of all windows at length 1; vectors of zeros stay as they are."""
        key = f"{modality}/{space}"
        vectors = self._read(key)[key].astype(np.float32, copy=False)
        order = self.windows(modality).order
        vectors = vectors if order is None else vectors[order]
        for start in range(0, len(vectors), _BLOCK):
            block = vectors[start : start + _BLOCK]
            norms = np.linalg.norm(block, axis=1, keepdims=True)
            block /= np.where(norms == 0.0, 1.0, norms)
        return vectors

    def _read(self, *names: str) -> index.Arrays:
        if version(self.path) != self._version:
            raise DataError(f"{self.path}: has changed since it was opened: start again")
        try:
            return artefacts.load(self.path, names)
        except MemoryError as error:
            sizes = sum(self._headers[name].bytes for name in names) / 2**30
            raise DataError(f"{self.path}: {sizes:.1f} GiB do not fit into memory") from error

    def width(self, modality: str, space: str) -> int:
        """Returns how many numbers an embedding has."""
        return self._headers[f"{modality}/{space}"].shape[1]

    def find(
        self, modality: str, space: str, vector: np.ndarray, top: int = 10, *, every: bool = False
    ) -> list[Hit]:
        """Returns the windows that are most like a vector, best first.

        Those that are equally like it stand in the order of the index. Windows whose embedding is
        not finite are never found.

        Args:
          modality: "video" or "audio".
          space: name of the embeddings.
          vector: [d], of length 1.
          top: how many.
          every: every window counts; else the best one of each file.
        """
        windows, vectors = self.windows(modality), self._vectors(modality, space)
        scores = vectors @ vector.astype(np.float32)  # [windows]
        scores[~np.isfinite(scores)] = _NEVER
        if not len(scores):
            return []
        if every:
            rows = _best(scores, top)
        else:
            files = _best(np.maximum.reduceat(scores, windows.first), top)
            ends = np.append(windows.first[1:], len(scores))
            parts = zip(windows.first[files], ends[files], strict=True)
            rows = np.array([begin + scores[begin:end].argmax() for begin, end in parts], int)
        rows = np.sort(rows[scores[rows] > _NEVER])
        exact = vectors[rows].astype(np.float64) @ vector.astype(np.float64)
        exact = np.round(exact, 7)
        best = np.argsort(-exact, kind="stable")[:top]
        return [self._hit(modality, int(rows[i]), float(exact[i])) for i in best]

    def _hit(self, modality: str, row: int, score: float) -> Hit:
        windows = self.windows(modality)
        number = int(windows.file[row])
        times = (float(windows.starts[row]), float(windows.ends[row]))
        return Hit(number, str(self.files[number]), modality, row, *times, score)

    def hit(self, modality: str, row: int) -> Hit | None:
        """Returns a window by its row, None where there is none."""
        if modality in self.spaces and 0 <= row < len(self.windows(modality).file):
            return self._hit(modality, row, float("nan"))
        return None

    def has(self, modality: str, number: int) -> bool:
        """Returns whether a file has windows of a modality."""
        file = self.windows(modality).file
        place = int(np.searchsorted(file, number))
        return place < len(file) and int(file[place]) == number

    def changed(self, number: int) -> str:
        """Returns what has become of a file since it was indexed, in words; empty: nothing."""
        now = version(Path(str(self.files[number])))
        if now == (-1, -1):
            return "the file is no longer there"
        if now != tuple(self._versions[number]):
            return "the file has changed since it was indexed: times may not fit"
        return ""


def clock(seconds: float) -> str:
    """Returns a time as m:ss.s or h:mm:ss.s."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _folder(names: list[str]) -> str:
    """The folder that all files are in; what the first and the last one share, all do."""
    try:
        return os.path.commonpath([os.path.dirname(name) for name in (min(names), max(names))])
    except ValueError:  # absolute and relative ones
        return ""


def _parts(key: str) -> tuple[str, str, str]:
    return key.partition("/")


def _best(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest values, and of those that rounding may have put behind them."""
    if count >= len(values):
        return np.arange(len(values))
    last = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > last + _ROUNDING)
    return np.append(above, np.flatnonzero(np.abs(values - last) <= _ROUNDING)[:_MOST_EQUAL])
