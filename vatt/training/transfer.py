"""Weights from any checkpoint, ours or published, into any model that can use them.

    report = load("ckpt-500000", model)          # a whole model: every variable must be there
    report = transfer("ckpt-500000", classifier) # the backbone of a fine-tuning model
    print(report.table())

A checkpoint of this project says in its manifest what it is; others are recognised by the methods
that know them (`vatt.training.layouts`). Whole models are matched variable by variable. A
fine-tuning model takes its backbone from a pre-training checkpoint or from another fine-tuned one;
position tables of another length are resampled. Everything is checked and read before the first
variable changes.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from vatt import methods
from vatt.errors import CheckpointError
from vatt.modeling.layers.positions import spline_matrix
from vatt.training.checkpoints import manifest_metadata, newest_in, open_checkpoint
from vatt.training.layouts import FINETUNE, Layout, Own, Shapes
from vatt.training.optimizers import FusedOptimizer

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/optimizer/"
_MASKS = ("/mask_embedding", "/masking/embedding")  # used in pre-training only


@dataclass(frozen=True)
class Source:
    """A checkpoint of a known kind.

    Attributes:
      prefix: path without ending.
      layout: what its tensors are called.
      shapes: shape of every tensor of the model by key, without suffix; no optimizer.
      slots: keys of optimizer slots and counters.
      others: keys of everything else.
    """

    prefix: str
    layout: Layout
    shapes: Mapping[str, tuple[int, ...]]
    slots: tuple[str, ...]
    others: tuple[str, ...]
    reader: tf.train.CheckpointReader = field(repr=False)

    def tensor(self, key: str) -> np.ndarray:
        """Returns the value stored under `key`.

        Raises:
          CheckpointError: the data file is damaged.
        """
        return _read(self.reader, self.stored(key), self.prefix)

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

    Raises:
      CheckpointError: no such checkpoint, a damaged or incomplete one, or one of another program.
    """
    prefix = newest_in(prefix) if Path(prefix).is_dir() else Path(prefix)
    reader = open_checkpoint(prefix)
    stored = reader.get_variable_to_shape_map()
    keys = {key.removesuffix(SUFFIX): tuple(stored[key]) for key in sorted(stored)}
    shapes = {key: s for key, s in keys.items() if key.startswith("model/") and SLOT not in key}
    slots = tuple(key for key in keys if key.startswith("optimizer/") or SLOT in key)
    others = tuple(key for key in keys if key not in shapes and key not in slots)
    layout = _layout(prefix, shapes, any(key.endswith(SUFFIX) for key in stored))
    if layout is None:
        some = ", ".join(list(keys)[:3])
        raise CheckpointError(
            f"{prefix}: not a checkpoint of a kind known here (it holds {some}, ...); accepted"
            " are checkpoints of this project and published pre-training and fine-tuned ones"
        )
    _check_size(reader, prefix)
    return Source(str(prefix), layout, shapes, slots, others, reader)


def _layout(prefix: Path, shapes: Shapes, object_graph: bool) -> Layout | None:
    """Returns the layout that the manifest says; without one, that which a method recognises."""
    metadata = manifest_metadata(prefix)
    if "kind" in metadata and shapes and not object_graph:
        if not _are_towers(metadata.get("towers")):
            raise CheckpointError(
                f"{prefix}.json: damaged, `towers` does not say where the backbones stand; bring "
                "the file back"
            )
        return Own(metadata, _model_name(shapes))
    recognise = (r for method in methods.known() for r in method.layouts())
    return next(filter(None, (r(shapes, object_graph) for r in recognise)), None)


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


def _read(reader: tf.train.CheckpointReader, name: str, prefix: str | os.PathLike) -> np.ndarray:
    try:
        return reader.get_tensor(name)
    except (IndexError, tf.errors.OpError) as error:
        files = ", ".join(map(str, data_files(prefix)))
        raise CheckpointError(
            f"{files}: damaged, cannot read {name.removesuffix(SUFFIX)} ({error})"
        ) from error


@dataclass(frozen=True)
class Row:
    """What happened to one variable."""

    variable: str
    action: str  # 'restored', 'resampled', 'new' (keeps its first value), 'skipped' (does not fit)
    key: str | None = None
    shape: tuple[int, ...] = ()
    source_shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.action == "new":
            return f"{self.variable} {self.shape}: not in the checkpoint"
        if self.action == "skipped" and self.source_shape == self.shape:
            return f"{self.variable} {self.shape}: left out with the rest of the classifier"
        return f"{self.variable}: {self.source_shape} there, {self.shape} here"


@dataclass(frozen=True)
class Report:
    """What became of every variable of the model, and which of the checkpoint were not used.

    `left` are those unused that belong to this backbone: without them it computes something else.
    """

    source: Source
    rows: tuple[Row, ...]
    unused: tuple[str, ...]
    left: tuple[str, ...] = ()

    def of(self, action: str) -> list[Row]:
        """Rows with one action."""
        return [row for row in self.rows if row.action == action]

    def table(self) -> str:
        """Returns counts, then everything that was not simply restored."""
        counts = Counter(row.action for row in self.rows)
        head = ", ".join(f"{counts[a]} {a}" for a in ("restored", "resampled", "new", "skipped"))
        lines = [f"{self.source.prefix} ({self.source.layout.description}): {head}"]
        lines += [f"  {row.action:<9} {row}" for row in self.rows if row.action != "restored"]
        return "\n".join(lines + [f"  not used  {key}" for key in self.left])


def load(prefix: str | os.PathLike | Source, model: keras.Model) -> Report:
    """Gives every variable of `model` its value from a checkpoint of the same architecture.

    Raises:
      CheckpointError: not a checkpoint, or one of another architecture; names what differs.
    """
    source = prefix if isinstance(prefix, Source) else open_source(prefix)
    keys = source.layout.model_keys(model)
    rows = [_row(v, keys[v.path], source) for v in model.variables]
    unused = tuple(sorted(set(source.shapes) - set(keys.values())))
    wrong = [str(row) for row in rows if row.action != "restored"]
    if wrong or unused:
        ours = not source.layout.published
        name = f" of a model called '{source.model_name}'" if ours else ""
        message = (
            f"{source.prefix}: a {source.layout.description}{name}, which does not fit the model"
        )
        message += f" '{model.name}'"
        raise CheckpointError(_differences(message, wrong, unused, source))
    _assign_all(model.variables, rows, source)
    return Report(source, tuple(rows), unused)


def transfer(
    prefix: str | os.PathLike | Source, model: keras.Model, *, partial: bool = False
) -> Report:
    """Starts a fine-tuning model (`ClassificationModel`) from a checkpoint.

    The backbone is restored and its position tables resampled where their lengths differ; the
    classifier is restored only from a fine-tuned checkpoint with as many classes and layers.

    Args:
      prefix: a checkpoint, of any kind that has a backbone of this modality.
      model: built model; variables that are not restored keep their values.
      partial: also accept a checkpoint whose backbone lacks variables, has more of them or has
        them in other shapes; the published code always does.

    Raises:
      CheckpointError: not a checkpoint, nothing in it for this modality, or (unless `partial`)
        the backbone does not fit completely; names what differs.
    """
    source = prefix if isinstance(prefix, Source) else open_source(prefix)
    modality = "+".join(model.modalities)
    keys = source.layout.backbone_keys(model.backbone, modality)
    backbone = {v.path for v in model.backbone.variables}
    head = [v for v in model.variables if v.path not in backbone]
    if source.layout.kind == FINETUNE:
        keys |= {v.path: source.layout.classifier_key(v.name) for v in head}
    rows = [_row(v, keys.get(v.path), source, resample=True) for v in model.variables]
    unfit = [row for row in rows if row.variable in backbone and row.action in ("new", "skipped")]
    if len(unfit) == len(backbone) and all(row.action == "new" for row in unfit):
        raise CheckpointError(
            f"{source.prefix}: a {source.layout.description} with nothing that fits the"
            f" {modality} backbone: not one of its {len(unfit)} variables is there"
        )
    unused = tuple(sorted(set(source.shapes) - set(keys.values())))
    of_backbone = source.layout.of_backbone
    left = tuple(k for k in unused if of_backbone(k, modality) and not k.endswith(_MASKS))
    if len(unfit) == len(backbone) or (not partial and (unfit or left)):
        message = f"{source.prefix}: a {source.layout.description} that does not fit the"
        message += f" {modality} backbone{_projections_of(source, left, unfit)}"
        raise CheckpointError(_differences(message, list(map(str, unfit)), left, source))
    rows = _whole_classifier(rows, backbone, source.layout.classifier_key("gamma") in unused)
    _assign_all(model.variables, rows, source)
    return Report(source, tuple(rows), unused, left)


def slot_keys(
    model: keras.Model, optimizer: FusedOptimizer, keys: Mapping[str, str]
) -> list[tuple[keras.Variable, str]]:
    """Returns (slot variable, published key) for every slot of a built optimizer.

    Args:
      model: the model whose trainable variables the optimizer was built with.
      optimizer: one of `vatt.training.optimizers`.
      keys: {variable path: published key} of the model.
    """
    return [
        (slot, f"{keys[variable.path]}{SLOT}{name}")
        for name, slots in optimizer.slot_variables().items()
        for variable, slot in zip(model.trainable_variables, slots, strict=True)
    ]


def _row(variable: keras.Variable, key: str | None, source: Source, resample: bool = False) -> Row:
    shape = tuple(variable.shape)
    if key is None or key not in source.shapes:
        return Row(variable.path, "new", key, shape)
    there = source.shapes[key]
    if there == shape:
        return Row(variable.path, "restored", key, shape, there)
    is_table = "/positions/" in variable.path and len(shape) == 2 and there[1:] == shape[1:]
    return Row(
        variable.path, "resampled" if resample and is_table else "skipped", key, shape, there
    )


def _assign_all(variables: Sequence[keras.Variable], rows: list[Row], source: Source) -> None:
    """Reads everything before anything is changed."""
    values = {}
    for row in rows:
        if row.action in ("restored", "resampled"):
            value = source.tensor(row.key)
            if row.action == "resampled":
                value = spline_matrix(len(value), row.shape[0]) @ value.astype(np.float64)
            values[row.variable] = value
    for variable in variables:
        if variable.path in values:
            variable.assign(values[variable.path].astype(np.float32))


def _whole_classifier(rows: list[Row], backbone: set[str], lacking: bool) -> list[Row]:
    """Returns rows in which a classifier is restored whole or not at all.

    `lacking`: that of the checkpoint has a batch norm, which this one has not.
    """
    head = [row for row in rows if row.variable not in backbone]
    if not lacking and all(row.action == "restored" for row in head):
        return rows
    return [
        replace(row, action="skipped") if row in head and row.action == "restored" else row
        for row in rows
    ]


def _projections_of(source: Source, left: tuple[str, ...], unfit: list[Row]) -> str:
    """Returns which fields give a model the projections around the encoder of this checkpoint."""
    fields = ["pre_projection: true"] if any("/pre_proj" in key for key in left) else []
    widths = [source.shapes[key][1] for key in left if re.search("/post_proj.*kernel", key)]
    fields += ["post_projection: true"] if widths else []
    widths += [
        row.source_shape[1]
        for row in unfit
        if "/post_projection/kernel" in row.variable and row.source_shape
    ]
    fields += [f"d_post_proj: {widths[0]}"] if widths else []
    if not fields:
        return ""
    return f" unless model_config has the checkpoint's projections, {', '.join(fields)}"


def _differences(
    message: str, wrong: list[str], unused: tuple[str, ...], source: Source, shown: int = 5
) -> str:
    extra = [f"{key} {source.shapes[key]}: in the checkpoint only" for key in unused]
    count, names = len(wrong) + len(extra), wrong[:shown] + extra[:shown]
    lines = [f"{message}; {count} variables differ:", *(f"  {name}" for name in names)]
    lines += [f"  ... and {count - len(names)} more"] if count > len(names) else []
    return "\n".join(lines)
