"""Checkpoints that weights are taken from, whoever wrote them: what is in them, under which keys.

    source = open_source("ckpt-500000")         # or a folder, or "gdt_K400.pth"
    source.layout.kind, source.shapes[key], source.tensor(key)

A checkpoint of this project says in its manifest what it is; others are recognised by the methods
that know them (`vatt.training.layouts`). Published ones are bundles of TensorFlow or files of
PyTorch or Flax.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from vatt import methods
from vatt.errors import CheckpointError, short
from vatt.training import layouts
from vatt.training.checkpoint_files import committed, is_flax, is_torch, newest_flax
from vatt.training.checkpoints import manifest_metadata, newest_in, open_checkpoint
from vatt.training.flax_checkpoints import FlaxCheckpoint
from vatt.training.layouts import Layout, Own, Shapes
from vatt.training.stored_checkpoints import fetched
from vatt.training.torch_checkpoints import TorchCheckpoint

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/optimizer/"


class Reader(Protocol):
    """Tensors by the names they have in a file."""

    def has_tensor(self, name: str) -> bool:
        """Returns whether there is one."""

    def get_tensor(self, name: str) -> np.ndarray:
        """Returns one."""


@dataclass(frozen=True)
class Source:
    """A checkpoint of a known kind.

    Attributes:
      prefix: path without ending; of a file of PyTorch or Flax, the path.
      layout: what its tensors are called.
      shapes: shape of every tensor of the model by key, without suffix; no optimizer.
      slots: keys of optimizer slots and counters.
      others: keys of everything else, with the reason why a method does not need it if one is
        known.
      files: that it consists of, those missing among them too.
      facts: what else there is to say of it.
    """

    prefix: str
    layout: Layout
    shapes: Shapes
    slots: tuple[str, ...]
    others: Mapping[str, str | None]
    files: tuple[Path, ...]
    facts: Mapping[str, object]
    reader: Reader = field(repr=False)

    def tensor(self, key: str, path: str | None = None) -> np.ndarray:
        """Returns the value stored under `key`, as the variable at `path` has it.

        Raises:
          CheckpointError: the data file is damaged.
        """
        value = _read(self.reader, self.stored(key), self.prefix)
        return value if path is None else self.layout.arranged(path, value)

    def shape(self, key: str, path: str) -> tuple[int, ...]:
        """Returns the shape of a tensor as the variable at `path` has it."""
        return self.layout.arranged(path, np.broadcast_to(np.uint8(0), self.shapes[key])).shape

    @property
    def step(self) -> int:
        """Number of updates behind these weights."""
        key = self.layout.step_key
        return int(self.tensor(key)) if self.has(key) else 0

    @property
    def model_name(self) -> str:
        """Name of the model, which keys of this project begin with."""
        return _model_name(self.shapes)

    def has(self, key: str) -> bool:
        """Returns whether there is a tensor of that key."""
        return self.reader.has_tensor(self.stored(key))

    def stored(self, key: str) -> str:
        """Returns the name of a key in the file."""
        return key + SUFFIX if self.reader.has_tensor(key + SUFFIX) else key


def open_source(prefix: str | os.PathLike) -> Source:
    """Opens a checkpoint and finds out its kind; a folder stands for its newest checkpoint.

    One in an object store is fetched first.

    Raises:
      CheckpointError: no such checkpoint, a damaged or incomplete one, or one of another program.
    """
    prefix = fetched(prefix)
    if not prefix.is_dir():
        if is_torch(prefix):
            return _of_torch(prefix)
        if is_flax(prefix):
            return _of_flax(prefix)
    elif not committed(prefix) and (newest := newest_flax(prefix)):
        return _of_flax(newest)
    prefix = newest_in(prefix) if prefix.is_dir() else prefix
    reader = open_checkpoint(prefix)
    stored = reader.get_variable_to_shape_map()
    keys = {key.removesuffix(SUFFIX): tuple(stored[key]) for key in sorted(stored)}
    shapes = {key: s for key, s in keys.items() if key.startswith("model/") and SLOT not in key}
    slots = tuple(key for key in keys if key.startswith("optimizer/") or SLOT in key)
    others = {key: None for key in keys if key not in shapes and key not in slots}
    graph = any(key.endswith(SUFFIX) for key in stored)
    metadata = manifest_metadata(prefix)
    if "kind" in metadata and shapes and not graph:
        if not _are_towers(metadata.get("towers")):
            raise CheckpointError(
                f"{prefix}.json: damaged, `towers` does not say where the backbones stand; bring "
                "the file back"
            )
        layout: Layout = Own(metadata, _model_name(shapes))
    else:
        naming = layouts.OBJECT_GRAPH if graph else layouts.PATHS
        layout = _recognised(prefix, shapes, naming, list(keys))
    _check_size(reader, prefix)
    files = (*data_files(prefix), Path(f"{prefix}.index"))
    facts = {"key_ending": SUFFIX}
    return Source(str(prefix), layout, shapes, slots, others, files, facts, reader)


def _of_torch(path: Path) -> Source:
    """Opens a file of PyTorch."""
    checkpoint = TorchCheckpoint(path)
    layout = _recognised(path, checkpoint.shapes, layouts.TORCH, list(checkpoint.shapes))
    others = {key: reason for key in checkpoint.shapes if (reason := layout.not_needed(key))}
    shapes = {key: shape for key, shape in checkpoint.shapes.items() if key not in others}
    facts = {"entry": checkpoint.entry, "key_beginning": checkpoint.beginning}
    if type(epoch := checkpoint.beside.get("epoch")) is int:
        facts["epoch"] = epoch
    beside = dict.fromkeys(checkpoint.beside)
    return Source(str(path), layout, shapes, (), others | beside, (path,), facts, checkpoint)


def _of_flax(path: Path) -> Source:
    """Opens a file of Flax."""
    checkpoint = FlaxCheckpoint(path)
    layout = _recognised(path, checkpoint.shapes, layouts.FLAX, list(checkpoint.shapes))
    beside = dict.fromkeys(checkpoint.beside)
    facts = {"entry": checkpoint.entry}
    return Source(str(path), layout, checkpoint.shapes, (), beside, (path,), facts, checkpoint)


def _recognised(prefix: Path, shapes: Shapes, naming: str, keys: list[str]) -> Layout:
    """Returns the layout that a method recognises.

    Raises:
      CheckpointError: none does.
    """
    recognise = (r for method in methods.known() for r in method.layouts())
    layout = next(filter(None, (r(shapes, naming) for r in recognise)), None)
    if layout is None:
        some = ", ".join(map(short, keys[:3]))
        raise CheckpointError(
            f"{prefix}: not a checkpoint of a kind known here (it holds {some},"
            " ...); accepted are checkpoints of this project and published pre-training and"
            " fine-tuned ones"
        )
    return layout


def _are_towers(towers: object) -> bool:
    """Whether it is {modality: {path in the backbone: path in the model}}."""
    return isinstance(towers, dict) and all(
        isinstance(paths, dict) and all(isinstance(path, str) for path in paths.values())
        for paths in towers.values()
    )


def _model_name(shapes: Shapes) -> str:
    return next(iter(shapes)).split("/")[1]


def data_files(prefix: str | os.PathLike) -> list[Path]:
    """Returns the data files of a checkpoint, those missing among them too."""
    prefix = Path(prefix)
    pattern = re.compile(re.escape(prefix.name) + r"\.data-\d{5}-of-(\d{5})")
    found = (pattern.fullmatch(entry.name) for entry in os.scandir(prefix.parent))
    count = max((int(match[1]) for match in found if match), default=1)
    return [prefix.with_name(f"{prefix.name}.data-{n:05d}-of-{count:05d}") for n in range(count)]


def _check_size(reader: tf.train.CheckpointReader, prefix: Path) -> None:
    """Refuses data files that are missing or too short for the tensors in the index.

    Tensors have checksums of their own; this finds a copy that was cut off before any is read,
    wherever the cut is.
    """
    files = data_files(prefix)
    if missing := [str(file) for file in files if not file.exists()]:
        raise CheckpointError(f"{prefix}: incomplete, without {', '.join(missing)}")
    needed, shapes = 0, reader.get_variable_to_shape_map()
    for key, dtype in reader.get_variable_to_dtype_map().items():
        if dtype == tf.string:  # stored as lengths of seven bits per byte, a checksum, characters
            texts = np.ravel(np.asarray(_read(reader, key, prefix), object))
            lengths = [len(text) for text in texts]
            needed += 4 + sum(n + max(1, -(-n.bit_length() // 7)) for n in lengths)
        else:
            needed += math.prod(shapes[key]) * dtype.size
    there = sum(file.stat().st_size for file in files)
    if there < needed:
        raise CheckpointError(
            f"{', '.join(map(str, files))}: cut off, {there} bytes of {needed}; copy it again"
        )


def _read(reader: Reader, name: str, prefix: str | os.PathLike) -> np.ndarray:
    try:
        return reader.get_tensor(name)
    except (IndexError, tf.errors.OpError) as error:
        files = ", ".join(map(str, data_files(prefix)))
        raise CheckpointError(
            f"{files}: damaged, cannot read {name.removesuffix(SUFFIX)} ({error})"
        ) from error
