"""Weights from any checkpoint, ours or published, into any model that can use them.

    report = load("ckpt-500000", model)          # a whole model: every variable must be there
    report = transfer("ckpt-500000", classifier) # the backbone of a fine-tuning model
    print(report.table())

What a checkpoint is, `vatt.training.sources` finds out. Whole models are matched variable by
variable. A fine-tuning model takes its backbone from a pre-training checkpoint or from another
fine-tuned one; position tables of another length are resampled. Everything is checked and read
before the first variable changes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from vatt.errors import CheckpointError
from vatt.modeling.layers.positions import spline_matrix
from vatt.training import towers
from vatt.training.layouts import FINETUNE
from vatt.training.optimizers import FusedOptimizer
from vatt.training.sources import SLOT, Source, open_source

COPIED = "copied twice"  # as another variable of the model
ACTIONS = ("restored", COPIED, "resampled", "new", "skipped")
_POOLING = r"pooling.*(?:layer_|transformer\.)(\d+)"  # layers of a pooling in keys
_MASKS = ("/mask_embedding", "/masking/embedding")  # used in pre-training only


@dataclass(frozen=True)
class Row:
    """What happened to one variable."""

    variable: str
    action: str  # of `ACTIONS`; what is 'new' or 'skipped' (does not fit) keeps its first value
    key: str | None = None
    shape: tuple[int, ...] = ()
    source_shape: tuple[int, ...] | None = None
    reason: str | None = None  # why it is skipped though it fits

    def __str__(self) -> str:
        if self.action == COPIED:
            return f"{self.variable} {self.shape}: from {self.key}"
        if self.reason is not None:
            return f"{self.variable} {self.shape}: left out, {self.reason}"
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
        shown = [action for action in ACTIONS if action != COPIED or counts[COPIED]]
        head = ", ".join(f"{counts[action]} {action}" for action in shown)
        lines = [f"{self.source.prefix} ({self.source.layout.description}): {head}"]
        lines += [f"  {row.action:<9} {row}" for row in self.rows if row.action != "restored"]
        lines += [f"  not used  {key}" for key in self.left]
        others = Counter(
            self.source.layout.part(key) for key in self.unused if key not in self.left
        )
        lines += [f"  not used  {count} of {part}" for part, count in others.items() if part]
        return "\n".join(lines)


def load(prefix: str | os.PathLike | Source, model: keras.Model) -> Report:
    """Gives every variable of `model` its value from a checkpoint of the same architecture.

    Raises:
      CheckpointError: not a checkpoint, or one of another architecture; names what differs.
    """
    source = prefix if isinstance(prefix, Source) else open_source(prefix)
    keys = source.layout.model_keys(model)
    rows = [_row(v, keys.get(v.path), source) for v in model.variables]
    unused = tuple(sorted(set(source.shapes) - set(keys.values())))
    wrong = [str(row) for row in rows if row.action != "restored"]
    if wrong or unused:
        ours = not source.layout.published
        name = f" of a model called '{source.model_name}'" if ours else ""
        message = (
            f"{source.prefix}: a {source.layout.description}{name}, which does not fit the model"
        )
        message += f" '{model.name}'"
        if not source.layout.fits(model):
            message += f", {source.layout.fix()}"
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
    found = towers.Found()
    if towers.are_sought(model.backbone, source.layout):
        found = towers.keys_of(source.layout, model.backbone)
        keys = {path: key for path, key in found.keys.items() if key is not None}
    else:
        keys = source.layout.backbone_keys(model.backbone, modality)
    own = found.keys.keys() - keys.keys()  # that no pre-trained model has
    backbone = {v.path for v in model.backbone.variables}
    head = [v for v in model.variables if v.path not in backbone]
    if source.layout.kind == FINETUNE:
        keys |= {v.path: source.layout.classifier_key(v.name) for v in head}
        if model.representation is not None:
            named = source.layout.representation_key
            keys |= {v.path: named(v.name) for v in model.representation.variables}
    rows = [_row(v, keys.get(v.path), source, resample=True) for v in model.variables]
    rows = _copied([_left_out(row, found.left_out) for row in rows])
    lost = [row for row in rows if row.variable in backbone and row.action in ("new", "skipped")]
    unfit = [row for row in lost if row.variable not in own]
    if len(lost) == len(backbone) and all(row.action == "new" for row in unfit):
        raise CheckpointError(
            f"{source.prefix}: a {source.layout.description} with nothing that fits the"
            f" {modality} backbone: not one of its {len(unfit)} variables is there"
        )
    unused = tuple(sorted(set(source.shapes) - set(keys.values())))
    of_backbone = source.layout.of_backbone
    left = tuple(k for k in unused if of_backbone(k, modality) and not k.endswith(_MASKS))
    if found.keys:
        left = found.left(source.layout, unused)
    if len(lost) == len(backbone) or (not partial and (unfit or left)):
        message = f"{source.prefix}: a {source.layout.description} that does not fit the"
        message += f" {modality} backbone{_options_of(source, left, unfit)}"
        raise CheckpointError(_differences(message, list(map(str, unfit)), left, source))
    rows = _whole_classifier(rows, backbone, source.layout.classifier_key("gamma") in unused)
    _assign_all(model.variables, rows, source)
    return Report(source, tuple(rows), unused, left)


def slot_keys(
    optimizer: FusedOptimizer, keys: Mapping[str, str]
) -> list[tuple[keras.Variable, str]]:
    """Returns (slot variable, published key) for every slot of a built optimizer.

    Args:
      optimizer: one of `vatt.training.optimizers`.
      keys: {variable path: published key} of what it was built with.
    """
    return [
        (slot, f"{keys[path]}{SLOT}{name}")
        for name, slots in optimizer.slot_variables().items()
        for path, slot in slots.items()
    ]


def _row(variable: keras.Variable, key: str | None, source: Source, resample: bool = False) -> Row:
    shape = tuple(variable.shape)
    if key is None or key not in source.shapes:
        return Row(variable.path, "new", key, shape)
    there = source.shape(key, variable.path)
    if there == shape:
        return Row(variable.path, "restored", key, shape, there)
    is_table = "/positions/" in variable.path and len(shape) == 2 and there[1:] == shape[1:]
    return Row(
        variable.path, "resampled" if resample and is_table else "skipped", key, shape, there
    )


def _left_out(row: Row, reasons: Mapping[str, str]) -> Row:
    """Returns the row, of a variable that is left out for a reason with that."""
    if row.variable not in reasons:
        return row
    return replace(row, action="skipped", reason=reasons[row.variable])


def _copied(rows: list[Row]) -> list[Row]:
    """Returns rows in which those that have one source are told from those that are alone."""
    counts = Counter(row.key for row in rows if row.action == "restored")
    return [
        replace(row, action=COPIED) if row.action == "restored" and counts[row.key] > 1 else row
        for row in rows
    ]


def _assign_all(variables: Sequence[keras.Variable], rows: list[Row], source: Source) -> None:
    """Reads everything before anything is changed."""
    values = {}
    for row in rows:
        if row.action in ("restored", COPIED, "resampled"):
            value = source.tensor(row.key, row.variable)
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


def _options_of(source: Source, left: tuple[str, ...], unfit: list[Row]) -> str:
    """Returns which fields give a model what this checkpoint has around its backbone."""
    layers = [int(n) for key in left for n in re.findall(_POOLING, key)]
    if layers:
        return (
            f" unless model_config has the checkpoint's pooling, pooling_layers: {max(layers) + 1}"
        )
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
