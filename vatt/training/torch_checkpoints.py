"""Checkpoints in files of PyTorch: the weights in them by name, and what stands beside them.

    checkpoint = TorchCheckpoint("gdt_K400.pth")
    checkpoint.shapes              # {"video_network.base.stem.0.weight": (45, 3, 1, 7, 7), ...}
    checkpoint.get_tensor(name)

Nothing in a file is run (`vatt.data.torch_files`), and TensorFlow is not needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vatt.data.torch_files import Tensor, TorchFile
from vatt.errors import CheckpointError, nearest, short
from vatt.training import checkpoint_files

ENTRIES = ("state_dict", "model")  # where weights stand, the first that is there
_PARALLEL = "module."  # before the names of a model that was trained on several devices


class TorchCheckpoint:
    """A file of PyTorch with weights in it.

    Attributes:
      path: of the file.
      entry: where in it the weights stand; empty where they are all that there is.
      beginning: what every name begins with, left out here.
      shapes: of the weights, by name.
      beside: what else the file holds, by name.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Reads everything but the numbers.

        Raises:
          CheckpointError: no such file, one that is damaged or holds code, or one without weights.
        """
        self.path = Path(path)
        try:
            self._file = TorchFile(path)
        except FileNotFoundError:
            there = checkpoint_files.single_files(self.path.parent)
            known = f"; that folder has {', '.join(there[:5])}" if there else ""
            near = nearest(self.path.name, there)
            raise CheckpointError(f"{path}: no such file{known}.{near}") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        self.entry, weights = self._weights(self._file.content)
        parallel = all(name.startswith(_PARALLEL) for name in weights)
        self.beginning = _PARALLEL * parallel
        self._tensors = {name[len(self.beginning) :]: value for name, value in weights.items()}
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        whole = self._file.content
        others = [key for key in whole if key != self.entry] if self.entry else []
        self.beside = {_shown(key).strip("'"): whole[key] for key in others}

    def _weights(self, content: Any) -> tuple[str, dict[str, Tensor]]:
        if not isinstance(content, dict) or not content:
            what = "one tensor" if isinstance(content, Tensor) else f"a {type(content).__name__}"
            raise CheckpointError(f"{self.path}: holds {what}, not the weights of a model")
        entry = next((name for name in ENTRIES if isinstance(content.get(name), dict)), "")
        weights = content[entry] if entry else content
        for name, value in weights.items():
            if isinstance(name, str) and name.isprintable() and isinstance(value, Tensor):
                continue
            if not entry:
                names = ", ".join(map(_shown, list(content)[:5]))
                raise CheckpointError(
                    f"{self.path}: no weights in it, which stand under {' or '.join(ENTRIES)}; it"
                    f" holds {names}"
                )
            what = f"is no tensor but a {type(value).__name__}"
            if isinstance(value, Tensor):
                what = "is no name of weights"
            raise CheckpointError(f"{self.path}: {_shown(name)} in {entry} {what}")
        if not weights:
            raise CheckpointError(f"{self.path}: no weights in {entry}")
        return entry, weights

    def has_tensor(self, name: str) -> bool:
        """Returns whether there are weights of that name."""
        return name in self._tensors

    def get_tensor(self, name: str) -> np.ndarray:
        """Returns weights as they are in the file.

        Raises:
          CheckpointError: the file is damaged.
        """
        try:
            return self._file.array(self._tensors[name])
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path}: cannot read {name} ({error})") from error


def _shown(name: object) -> str:
    """Returns a name in a file for a message: whoever wrote it may have written anything."""
    return short(repr(name), 40) if isinstance(name, str | int | float | bytes) else "something"
