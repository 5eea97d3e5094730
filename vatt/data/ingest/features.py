"""Reads extracted features from the side files of a clip: `.npy` or `.npz`, [steps, width].

    kinds = plan(rows, {"resnet152": 1.0}, root)  # rates by name; widths from the first files
    files = of_row(row, kinds, root)
    vectors = of_clip(files, start, end)          # {"resnet152": float32 [steps, 2048]}

Vector k of a file is of the time from k / rate to (k + 1) / rate. A clip has those of which some
part lies in it; one that is a whole file has all of them. An archive (`.npz`) has the vectors under
the key `features`, or has one key. Of a file that is called `*_spec.npz`, as published ones are,
the array is [width, steps]. Vectors may also stand in a pickle, of which no code is run
(`vatt.data.ingest.pickled`).
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vatt.data import archives
from vatt.data.features import RECORD
from vatt.data.ingest import manifest, pickled
from vatt.data.ingest.manifest import Row
from vatt.errors import DataError, UserError, nearest

ENDINGS = (".npy", ".npz")
KEY = "features"
TURNED = "_spec.npz"  # ending of files with [width, steps]
MAX_BYTES = 2**30  # of the features of one clip, and of an unpacked file: a record is below 2 GiB
UNEQUAL = "features of unequal length"  # a notice
_TOLERANCE = 1e-6  # of a vector, for times that are no binary fractions
_ALIKE = 0.05  # share of the time by which lengths may differ, beside two vectors


@dataclass(frozen=True)
class Kind:
    """A kind of features; `width` is None where no file could be read."""

    name: str
    rate: float  # vectors per second
    width: int | None = None  # values per vector
    example: str = ""  # the file that says the width

    def __str__(self) -> str:
        width = "no file could be read" if self.width is None else f"{self.width} values"
        return f"{self.name}: {width}, {self.rate:g} per second"


def plan(rows: Sequence[Row], rates: Mapping[str, float], root: Path) -> tuple[Kind, ...]:
    """Returns the kinds of features that rows name, in order of names.

    All files of a kind must have one width: that of the first, in order of paths, that can be read.

    Raises:
      UserError: a kind has no rate, or a rate is for no kind.
    """
    files: dict[str, set[str]] = {}
    for row in rows:
        for name, path in row.features:
            files.setdefault(name, set()).add(path)
    for name in sorted(files.keys() - rates.keys()):
        raise UserError(
            f"{RECORD.feature}{name}: its rate is not known; say how many vectors there are per "
            f"second by --feature_rate {name}=NUMBER.{nearest(name, rates)}"
        )
    for name in sorted(rates.keys() - files.keys()):
        known = ", ".join(sorted(files)) or "none"
        raise UserError(
            f"--feature_rate: '{name}' is no feature of the input; there are: {known}."
            f"{nearest(name, files)}"
        )
    kinds = (Kind(name, rates[name]) for name in sorted(files))
    return tuple(_with_width(kind, sorted(files[kind.name]), root) for kind in kinds)


def _with_width(kind: Kind, paths: Sequence[str], root: Path) -> Kind:
    for path in paths:
        try:
            width = read(root, path).shape[1]
        except DataError:
            continue  # each of its clips fails, with the reason
        return dataclasses.replace(kind, width=width, example=path)
    return kind


def read(root: Path, name: str) -> np.ndarray:
    """Returns the real numbers [steps, width] in a file under `root`; of `.npy` not yet in memory.

    Raises:
      DataError: there is no such file, it leads out of `root`, or holds something else.
    """
    try:
        place = manifest.place_in_pickle(name)
        vectors = pickled.read(root, name) if place else _of_file(root, name)
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file of features") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read as features: {error}") from None
    if vectors.dtype.kind not in "fiu":
        raise DataError(f"{name}: holds values of type {vectors.dtype}, not real numbers")
    if vectors.ndim != 2 or not vectors.shape[1]:
        shape = list(vectors.shape)
        raise DataError(f"{name}: has the shape {shape}, not [steps, width]")
    return vectors


def _of_file(root: Path, name: str) -> np.ndarray:
    """The array in a file."""
    try:
        path = manifest.locate(root, name)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
    if path.suffix.lower() not in ENDINGS:
        raise DataError(
            f"{name}: features must be one of {', '.join(ENDINGS)}, not '{path.suffix}'"
        )
    vectors = _unpacked(path) if zipfile.is_zipfile(path) else archives.mapped(path)
    return vectors.T if name.endswith(TURNED) and vectors.ndim == 2 else vectors


def _unpacked(path: Path) -> np.ndarray:
    with archives.Archive(path) as archive:
        keys = list(archive.headers)
        if KEY not in keys and len(keys) != 1:
            shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
            raise ValueError(
                f"it has the keys {shown or '(none)'}; needed: {KEY}, or one key only."
                f"{nearest(KEY, keys)}"
            )
        key = KEY if KEY in keys else keys[0]
        if archive.headers[key].bytes > MAX_BYTES:
            raise ValueError(f"{key} has more than {MAX_BYTES} bytes")
        return archive.array(key)


class File(NamedTuple):
    """The features of one kind that a row names."""

    kind: Kind
    path: str
    vectors: np.ndarray  # [steps, width], real numbers of any type

    @property
    def seconds(self) -> float:
        """How much time there are vectors of."""
        return len(self.vectors) / self.kind.rate

    def error(self, reason: str) -> DataError:
        """What is wrong with it, as an error."""
        return DataError(f"{RECORD.feature}{self.kind.name}: {self.path}: {reason}")


def of_row(row: Row, kinds: Sequence[Kind], root: Path) -> list[File]:
    """Returns the files of features that a row names; `.npy` is not yet in memory.

    Raises:
      DataError: one cannot be used.
    """
    by_name = {kind.name: kind for kind in kinds}
    files = []
    for name, path in row.features:
        try:
            file = File(by_name[name], path, read(root, path))
        except DataError as error:
            raise DataError(f"{RECORD.feature}{name}: {error}") from None
        width, expected = file.vectors.shape[1], file.kind.width
        if width != expected:
            raise file.error(f"vectors of {width} values, but {expected} in {file.kind.example}")
        if not len(file.vectors):
            raise file.error("there is no vector in it")
        files.append(file)
    return files


def unequal(files: Sequence[File]) -> str:
    """Says how long features of one clip last where they are not about equally long; else ""."""
    if not files:
        return ""
    shortest, longest = (choose(files, key=lambda file: file.seconds) for choose in (min, max))
    slack = 2.0 * max(1.0 / file.kind.rate for file in files) + _ALIKE * longest.seconds
    if longest.seconds - shortest.seconds <= slack:
        return ""
    return ", ".join(f"{file.kind.name} {file.seconds:.1f} s" for file in files)


def of_clip(files: Sequence[File], start: float, end: float) -> dict[str, np.ndarray]:
    """Returns the features of a clip from `start` to `end` (s), float32 [steps, width], by name.

    Raises:
      DataError: a file has no vector of that time, or a value that is not finite.
    """
    found, size = {}, 0
    for file in files:
        rate, count = file.kind.rate, len(file.vectors)
        piece = cut(file.vectors, rate, start, end)
        if not len(piece):
            raise file.error(
                f"its {count} vectors, {rate:g} per second, end at {file.seconds:.2f} s, before "
                f"the clip begins ({start:.2f} s)"
            )
        size += piece.size * 4
        if size > MAX_BYTES:
            raise file.error(f"the features of the clip exceed {MAX_BYTES} bytes")
        with np.errstate(over="ignore"):
            vectors = np.array(piece, np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            number = _first(rate, start) + int(finite.argmin())
            raise file.error(f"vector {number} (from 0) is not finite")
        found[file.kind.name] = vectors
    return found


def cut(vectors: np.ndarray, rate: float, start: float, end: float) -> np.ndarray:
    """Returns those of vectors, [steps, width], that have some time in `start` to `end` (s)."""
    first = _first(rate, start)
    if end == math.inf:
        return vectors[first:]
    return vectors[first : max(math.ceil(end * rate - _TOLERANCE), first + 1)]


def _first(rate: float, start: float) -> int:
    return math.floor(start * rate + _TOLERANCE)
