"""Which checkpoints a folder has, by the names of its files; needs no TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vatt.data.torch_files import ENDINGS
from vatt.errors import CheckpointError, nearest

MANIFEST = re.compile(r"ckpt-(\d+)\.json$")
_NUMBERED = r"checkpoint_\d+"
_FLAX = re.compile(rf"{_NUMBERED}|.*\.msgpack", re.IGNORECASE)
BUNDLE = re.compile(r"ckpt-(\d+)\.(index|data-\d{5}-of-\d{5})$")


Best = Callable[[Sequence[int]], int | None]  # the best of some steps, None for none


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a run stay.

    Attributes:
      last: so many of the newest ones; 0 removes none.
      every: beside them those whose step is a multiple of it; 0 for none.
      best: chooses one more from the steps of all, if any.
    """

    last: int = 0
    every: int = 0
    best: Best | None = None

    def superfluous(self, steps: Sequence[int]) -> list[int]:
        """Returns which of the steps of all checkpoints, oldest first, do not stay."""
        older = steps[: -self.last] if self.last > 0 else []
        best = self.best(steps) if older and self.best else None
        return [s for s in older if s != best and not (self.every and s % self.every == 0)]


def committed(folder: str | os.PathLike) -> list[int]:
    """Steps of the checkpoints that have their manifest, oldest first (not verified)."""
    return _steps(Path(folder), MANIFEST)


def without_manifest(folder: str | os.PathLike) -> list[int]:
    """Steps of files that do not count, oldest first: not ours, or the manifest is lost."""
    return sorted(set(_steps(Path(folder), BUNDLE)) - set(committed(folder)))


def _steps(folder: Path, name: re.Pattern) -> list[int]:
    if not folder.is_dir():
        return []
    found = (name.match(entry.name) for entry in os.scandir(folder))
    return sorted({int(match[1]) for match in found if match})


def is_torch(path: str | os.PathLike) -> bool:
    """Returns whether a checkpoint is a file of PyTorch, by its name."""
    return str(path).lower().endswith(ENDINGS)


def is_flax(path: str | os.PathLike) -> bool:
    """Returns whether a checkpoint is a file of Flax, by its name: checkpoint_100, *.msgpack."""
    return _FLAX.fullmatch(Path(path).name) is not None


def is_single(path: str | os.PathLike) -> bool:
    """Returns whether a checkpoint is a file by itself, given with its ending, by its name."""
    return is_torch(path) or is_flax(path)


def single_files(folder: str | os.PathLike) -> list[str]:
    """Names of the checkpoints in a folder that are files by themselves."""
    if not Path(folder).is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if is_single(entry.name))


def newest_flax(folder: str | os.PathLike) -> Path | None:
    """The file of Flax with the highest number in a folder, None where there is none."""
    newest = highest_flax(single_files(folder))
    return None if newest is None else Path(folder) / newest


def highest_flax(names: Iterable[str]) -> str | None:
    """The one of files of Flax with the highest number, None where there is none."""
    numbered = [name for name in names if re.fullmatch(_NUMBERED, name)]
    return max(numbered, key=lambda name: int(name.rpartition("_")[2]), default=None)


def newest_published(folder: str | os.PathLike) -> Path:
    """Prefix of the newest checkpoint of a folder, whether or not it has a manifest.

    Raises:
      CheckpointError: no checkpoint there.
    """
    names = (re.fullmatch(r"ckpt-(\d+)\.index", entry.name) for entry in os.scandir(folder))
    steps = [int(name[1]) for name in names if name]
    if not steps:
        raise CheckpointError(f"{folder}: no checkpoint (ckpt-<step>.index) in that folder")
    return Path(folder) / f"ckpt-{max(steps)}"


def of_prefix(prefix: str | os.PathLike) -> list[str]:
    """Names of the files of a checkpoint, its index first.

    Raises:
      CheckpointError: no such checkpoint, or one without data.
    """
    prefix = Path(prefix)
    index = Path(f"{prefix}.index")
    if prefix.suffix in (".index", ".json"):
        raise CheckpointError(
            f"{prefix}: give the checkpoint without its ending: {prefix.with_suffix('')}"
        )
    if not index.exists():
        there = [f"ckpt-{step}" for step in committed(prefix.parent)]
        there += single_files(prefix.parent)
        known = f"; that folder has {', '.join(there[-5:])}" if there else ""
        folder = "" if prefix.parent.is_dir() else f" (no folder {prefix.parent})"
        raise CheckpointError(
            f"{prefix}: no checkpoint there, expected {index.name}{folder}{known}."
            + nearest(prefix.name, there)
        )
    begin = f"{prefix.name}.data-"
    data = [entry.name for entry in os.scandir(prefix.parent) if entry.name.startswith(begin)]
    if not data:
        raise CheckpointError(f"{prefix}: its data file {begin}00000-of-00001 is missing")
    return [index.name, *data]
