"""What a model gives for many files in one `.npz`, kept as it comes: an interruption costs little.

    with Writer(path, recipe) as writer:
        todo = writer.missing(clips)
        for clip, (_, found) in zip(todo, model.embed_files(todo)):
            writer.add(clip, found)
    recipe, arrays = read("embeddings.npz")

The arrays (F files or pieces of files, R rows of a modality: windows of the files, in their order):

    recipe                              JSON: what decides the numbers
    files unicode [F]                   absolute paths
    pieces float64 [F, 2]               from where to where (s) of the file; NaN: its start, its end
    versions int64 [F, 2]               size and time of change (ns) of each
    failures unicode [N, 2]             files, or parts of them, of which there is nothing, and why
    notices unicode [M, 2]              files, and what was put right in them
    <modality>/file int64 [R]           which of the files a row is of
    <modality>/starts, <modality>/ends  float64 [R], s in the file
    <modality>/<space> float32 [R, d]   embeddings, and `features_pooled`; or "logits"

What is not yet in it stands in `<name>.parts/`, from which the same command goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vatt import locks
from vatt.api.inputs import Clip
from vatt.api.results import Windows
from vatt.data.archives import Archive, Header
from vatt.errors import DataError, UserError, nearest, short
from vatt.evaluation import artefacts
from vatt.files import parse_json, version

Arrays = dict[str, np.ndarray]

SAVED_S = 30.0  # between two parts
_FREE = ("model", "weights")  # of a recipe: names, which change no number
_LISTS = ("failures", "notices")
_ALWAYS = ("recipe", "files", "versions", *_LISTS)
_PIECES = "pieces"


def headers(path: str | Path) -> dict[str, Header]:
    """Returns shapes and types of the arrays of an index, in their order; none is unpacked.

    Raises:
      DataError: it is not one.
    """
    try:
        with Archive(path) as archive:
            return archive.headers
    except FileNotFoundError as error:
        folder = Path(path).parent
        hint = nearest(str(path), map(str, folder.glob("*.npz")))
        raise DataError(f"{path}: no index of embeddings ({error.strerror}).{hint}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no index of embeddings ({error})") from error


def read(path: str | Path, names: Collection[str] | None = None) -> tuple[dict[str, Any], Arrays]:
    """Returns the recipe and the arrays of an index.

    Those of the time before pieces of files could be asked for have whole files.

    Args:
      path: of the `.npz`.
      names: of the arrays of modalities that are wanted; all of them by default.

    Raises:
      DataError: it is not one.
    """
    arrays = artefacts.load(path, None if names is None else {*_ALWAYS, _PIECES, *names})
    try:
        recipe = parse_json(str(arrays.pop("recipe")))
        if not isinstance(recipe, dict) or not {*_ALWAYS} - {"recipe"} <= arrays.keys():
            raise ValueError("without recipe or files")
        if arrays["files"].ndim != 1 or arrays["files"].dtype.kind != "U":
            raise ValueError("files is no list of names")
        if not isinstance(recipe.get("records", {}), dict):
            raise ValueError("its recipe does not say how records are read")
        arrays.setdefault(_PIECES, np.full((arrays["files"].size, 2), np.nan))
        _check(arrays, names is None)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: no index of embeddings ({error})") from error
    return recipe, arrays


def _check(arrays: Arrays, whole: bool) -> None:
    """Refuses arrays that do not fit together; `whole`: all of an index are there."""
    count = arrays["files"].size
    wanted = {"files": ("U", (count,)), _PIECES: ("f", (count, 2)), "versions": ("i", (count, 2))}
    wanted |= {name: ("U", (len(arrays[name]) if arrays[name].ndim else 0, 2)) for name in _LISTS}
    for key, values in arrays.items():
        modality, _, field = key.rpartition("/")
        file = arrays.get(f"{modality}/file")
        if not modality and key in wanted:
            fits = (values.dtype.kind, values.shape) == wanted[key]
        elif field == "file":
            fits = (values.dtype.kind, values.ndim) == ("i", 1)
            fits = fits and bool(np.all((values >= 0) & (values < count)))
        else:
            fits = bool(modality) and values.ndim > 0
            fits = fits and (len(values) == file.size if file is not None else not whole)
        if not fits:
            raise ValueError(f"{short(key)} does not fit")


def as_stored(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recipe as one that was written and read again."""
    return json.loads(json.dumps(recipe))


def clips(arrays: Mapping[str, np.ndarray]) -> list[Clip]:
    """Returns what the arrays of an index are of, by number."""
    times = np.where(np.isnan(arrays[_PIECES]), None, arrays[_PIECES]).tolist()
    return [Clip(path, *piece) for path, piece in zip(arrays["files"].tolist(), times, strict=True)]


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Returns in which fields two recipes differ, so that their numbers cannot be compared."""
    keys = [key for key in dict.fromkeys([*a, *b]) if key not in _FREE]
    first, second = ({**r, "records": {**r.get("records", {}), "told_by": ""}} for r in (a, b))
    return [key for key in keys if first.get(key) != second.get(key)]


class Writer:
    """Keeps what comes of files; at the end all is in the file."""

    def __init__(self, path: str | Path, recipe: Mapping[str, Any]) -> None:
        """Reads what earlier commands left.

        Args:
          path: of the `.npz`.
          recipe: what decides the numbers.

        Raises:
          UserError: the file holds results of another recipe, or is something else.
        """
        self.path, self._recipe = Path(path), as_stored(recipe)
        self._folder = self.path.with_name(f"{self.path.name}.parts")
        self._parts: list[Arrays] = []
        self._new, self._saved = _Part(), time.monotonic()
        self._lock = locks.held(self.path.with_name(f"{self.path.name}.lock"), "another command")

    def __enter__(self) -> Writer:
        """Keeps others out."""
        self._lock.__enter__()
        try:
            self._parts = [self._checked(p) for p in (self.path, *self._kept()) if p.exists()]
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def _kept(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.npz"))

    def _checked(self, path: Path) -> Arrays:
        recipe, arrays = read(path)
        if differing := same(recipe, self._recipe):
            raise UserError(
                f"{path} holds what was made otherwise: {', '.join(differing)}. Give "
                "another --output, or remove it"
            )
        return arrays

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Files, or parts of them, of which there is nothing, and why; the newest word on each."""
        found: dict[str, list[str]] = {}
        for part in (*self._parts, self._new.arrays()):
            told: dict[str, list[str]] = {}
            for name, reason in part["failures"].tolist():
                told.setdefault(name, []).append(reason)
            for clip in clips(part):
                found.pop(str(clip), None)
            found |= told
        return [(name, reason) for name, reasons in found.items() for reason in reasons]

    def rows(self) -> dict[str, int]:
        """Returns how many windows there are, by modality."""
        keys = {key for part in self._parts for key in part if key.endswith("/file")}
        return {
            key.removesuffix("/file"): sum(len(part.get(key, ())) for part in self._parts)
            for key in sorted(keys, reverse=True)
        }

    def _done(self) -> dict[Clip, tuple[int, int]]:
        """The version of each file that is there."""
        return {
            clip: tuple(stat)
            for part in (*self._parts, self._new.arrays())
            for clip, stat in zip(clips(part), part["versions"].tolist(), strict=True)
        }

    def missing(self, given: Sequence[Clip]) -> list[Clip]:
        """Returns what is not there yet, or has changed since."""
        done = self._done()
        return [clip for clip in given if done.get(clip) != version(Path(clip.path))]

    def add(self, clip: Clip, found: Mapping[str, Windows] | DataError) -> None:
        """Takes what was made of a file or a piece of it; now and then it is written."""
        self._new.add(clip, found)
        if time.monotonic() - self._saved > SAVED_S:
            self.save()

    def save(self) -> None:
        """Writes what is new into a part."""
        arrays = self._new.arrays()
        if len(arrays["files"]) or len(arrays["failures"]):
            number = len(self._kept())
            target = self._folder / f"part-{number:05d}.npz"
            artefacts.save(target, arrays | {"recipe": np.array(json.dumps(self._recipe))})
            self._parts.append(arrays)
        self._new, self._saved = _Part(), time.monotonic()

    def close(self) -> None:
        """Writes the file and removes the parts."""
        failures = self.failures
        self.save()
        joined = _joined(self._parts)
        joined["failures"] = _pairs(failures)
        artefacts.save(self.path, joined | {"recipe": np.array(json.dumps(self._recipe))})
        shutil.rmtree(self._folder, ignore_errors=True)
        self._parts = [joined]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Writes everything; after an error only the parts."""
        try:
            if kind is None:
                self.close()
            elif not issubclass(kind, OSError):
                self.save()
        finally:
            self._lock.__exit__(kind, error, trace)


class _Part:
    """What there is of some files."""

    def __init__(self) -> None:
        self._clips: list[Clip] = []
        self._versions: list[tuple[int, int]] = []
        self._lists: dict[str, list[tuple[str, str]]] = {name: [] for name in _LISTS}
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, clip: Clip, found: Mapping[str, Windows] | DataError) -> None:
        if isinstance(found, DataError):
            self._lists["failures"].append((str(clip), str(found)))
            return
        number = len(self._clips)
        self._clips.append(clip)
        self._versions.append(version(Path(clip.path)))
        for modality, one in found.items():
            rows = {"file": np.full(len(one), number), "starts": one.starts, "ends": one.ends}
            for name, values in (rows | dict(one.spaces)).items():
                self._rows.setdefault(f"{modality}/{name}", []).append(values)
        for name, told in (("failures", "gaps"), ("notices", "notices")):
            texts = dict.fromkeys(text for one in found.values() for text in getattr(one, told))
            self._lists[name] += [(str(clip), text) for text in texts]

    def arrays(self) -> Arrays:
        pieces = [(clip.start, clip.end) for clip in self._clips]
        return {
            "files": np.array([clip.path for clip in self._clips], dtype=np.str_),
            _PIECES: np.array(pieces, np.float64).reshape(-1, 2),  # None becomes NaN
            "versions": np.array(self._versions, np.int64).reshape(-1, 2),
            **{name: _pairs(pairs) for name, pairs in self._lists.items()},
            **{name: np.concatenate(parts) for name, parts in self._rows.items()},
        }


def _pairs(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    return np.array(pairs, dtype=np.str_).reshape(-1, 2)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """All parts as one; of a file that is in several the last one counts."""
    inside = [clips(part) for part in parts]
    last = {clip: number for number, found in enumerate(inside) for clip in found}
    found: dict[str, list[np.ndarray]] = {}
    begin = 0
    for number, part in enumerate(parts):
        stays = np.array([last[clip] == number for clip in inside[number]], bool)
        places = begin + np.cumsum(stays) - 1
        begin += int(stays.sum())
        names = {str(clip) for clip, kept in zip(inside[number], stays, strict=True) if kept}
        for key, values in part.items():
            modality, _, field = key.rpartition("/")
            if key in _LISTS:
                kept = values[np.array([name in names for name in values[:, 0].tolist()], bool)]
            elif not modality:
                kept = values[stays]
            else:
                kept = values[stays[part[f"{modality}/file"]]]
                kept = places[kept] if field == "file" else kept
            found.setdefault(key, []).append(kept)
    return {key: np.concatenate(values) for key, values in found.items()}
