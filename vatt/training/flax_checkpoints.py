"""Checkpoints in files of Flax: the weights in them by name, and what stands beside them.

    checkpoint = FlaxCheckpoint("checkpoint_435240")
    checkpoint.shapes              # {"Transformer/encoder_norm/scale": (1024,), ...}
    checkpoint.get_tensor(name)

Nothing in a file is run (`vatt.data.msgpack_files`), and TensorFlow is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vatt.data.msgpack_files import Array, MsgpackFile
from vatt.errors import CheckpointError, short

ENTRIES = ("params", "optimizer/target/params", "optimizer/target")  # the first that is there
STEP = "global_step"


class FlaxCheckpoint:
    """A file of Flax with weights in it.

    Attributes:
      path: of the file.
      entry: where in it the weights stand.
      shapes: of the weights, by name, the parts of a name joined by "/".
      beside: what else the file holds, by the first names on the way to it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Reads everything but the numbers.

        Raises:
          CheckpointError: no such file, one that is damaged, or one without weights.
        """
        self.path = Path(path)
        try:
            self._file = MsgpackFile(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise CheckpointError(f"{path}: no checkpoint of Flax, or damaged ({error})") from error
        everything = dict(_flat(self._file.content))
        self.entry = next((entry for entry in ENTRIES if _weights(everything, entry)), "")
        if not self.entry:
            held = ", ".join(map(short, list(everything)[:5]))
            raise CheckpointError(
                f"{path}: no weights in it, which stand under {' or '.join(ENTRIES)}; it holds"
                f" {held or 'nothing'}"
            )
        self._tensors = _weights(everything, self.entry)
        self.shapes = {name: array.shape for name, array in self._tensors.items()}
        self._step = everything.get(STEP)
        self.beside = _beside(self._file.content, self.entry)

    def has_tensor(self, name: str) -> bool:
        """Returns whether there are weights of that name, or the number of updates."""
        return name in self._tensors or (name == STEP and self._step is not None)

    def get_tensor(self, name: str) -> np.ndarray:
        """Returns weights, or the number of updates, as they are in the file.

        Raises:
          CheckpointError: they are no array.
        """
        value = self._tensors.get(name, self._step)
        try:
            return self._file.array(value) if isinstance(value, Array) else np.asarray(value)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: cannot read {name} ({error})") from error


def everything(path: str | os.PathLike) -> dict[str, Any]:
    """Returns all that is in a file, arrays unpacked, by its path.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged.
    """
    with MsgpackFile(path) as file:
        return {
            name: file.array(value) if isinstance(value, Array) else value
            for name, value in _flat(file.content)
        }


def _beside(content: dict[str, Any], entry: str) -> tuple[str, ...]:
    """Returns the names beside the way to the weights, without the number of updates."""
    found, above = [], ""
    for part in entry.split("/"):
        found += [f"{above}{name}" for name in content if name != part and above + name != STEP]
        content, above = content[part], f"{above}{part}/"
    return tuple(found)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what is not a map by the names on the way to it; maps without entries are none."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{path}/{key}" if path else key)


def _weights(everything: dict[str, Any], entry: str) -> dict[str, Array]:
    below = f"{entry}/"
    return {
        name.removeprefix(below): value
        for name, value in everything.items()
        if name.startswith(below) and isinstance(value, Array)
    }
