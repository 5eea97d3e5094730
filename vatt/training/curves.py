"""Curves for TensorBoard: event files in a folder, each step once, under tags in groups.

The names of metrics.jsonl are not those of the curves: TensorBoard folds tags by what stands before
their first "/".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from vatt.data import framing
from vatt.files import make_folder, replacing, writing

_GROUPS = {
    "optimizer": ("learning_rate", "gradient_norm", "parameter_norm", "update_norm", "bad_steps"),
    "speed": ("steps_per_second", "clips_per_second", "data_wait", "model_flops"),
}


class Curves:
    """The event files of one folder, to which this process adds one."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder; writes nothing yet."""
        self._folder = folder
        self._writer: tf.summary.SummaryWriter | None = None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a step by tag; they are in the file when this returns.

        Raises:
          WriteError: the file cannot be written.
        """
        make_folder(self._folder)
        with writing(self._folder, tf.errors.OpError):
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self._folder))
            with self._writer.as_default(step=step):
                for tag, value in values.items():
                    tf.summary.scalar(tag, value)
            self._writer.flush()

    def close(self) -> None:
        """Ends the file; what is added later begins another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def keep(self, stays: Callable[[int], bool]) -> None:
        """Takes all other steps out of the files; nothing may be writing them."""
        self.close()
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if "tfevents" in path.name:
                _cut(path, stays)


def _cut(path: Path, stays: Callable[[int], bool]) -> None:
    whole = [record.data for record in framing.walk(path) if not record.problem]
    kept = [data for data in whole if (step := _step(data)) is None or stays(step)]
    if len(kept) == len(whole):
        return
    with (
        replacing(path) as partial,
        writing(path, tf.errors.OpError),
        tf.io.TFRecordWriter(str(partial)) as writer,
    ):
        for data in kept:
            writer.write(data)


def _step(event: bytes) -> int | None:
    """The step that an event is of; None where it is no event."""
    try:
        return tf.compat.v1.Event.FromString(event).step
    except DecodeError:
        return None


def of_training(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns what is logged of training by tag."""
    return {f"{_group(name)}/{name}": value for name, value in metrics.items()}


def _group(name: str) -> str:
    for group, beginnings in _GROUPS.items():
        if name.startswith(beginnings):
            return group
    return "loss" if name.endswith(("loss", "cross_entropy")) else "accuracy"
