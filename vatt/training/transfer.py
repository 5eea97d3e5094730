"""Weights from any checkpoint, ours or published, into any model that can use them.

    report = load("ckpt-500000", model)          # a whole model: every variable must be there
    report = transfer("ckpt-500000", classifier) # the backbone of a fine-tuning model
    print(report.table())

The kind of a checkpoint is recognised from the names in the file. Whole models are matched
variable by variable. A fine-tuning model takes its backbone from a pre-training checkpoint
(modality-specific or -agnostic) or from another fine-tuned one; position tables of another length
are resampled.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from vatt.errors import CheckpointError, nearest
from vatt.modeling import published
from vatt.modeling.layers.positions import spline_matrix
from vatt.training.checkpoints import open_checkpoint

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/optimizer/"
_UNIFIED_WITHOUT_PROJECTIONS = (
    "a modality-agnostic checkpoint needs the projections around its encoder, or the features are"
    " wrong: set pre_projection: true, post_projection: true and d_post_proj: {width}"
)


@dataclass(frozen=True)
class Source:
    """A checkpoint of a known kind.

    Attributes:
        prefix: path without ending.
        published: written by the published code, else by this project.
        model: 'pretrain', 'unified' (modality-agnostic pre-training) or 'finetune'.
        shapes: shape of every tensor of the model by key, without suffix; no optimizer.
        slots: keys of optimizer slots and counters.
    """

    prefix: str
    published: bool
    model: str
    shapes: Mapping[str, tuple[int, ...]]
    slots: tuple[str, ...]
    reader: tf.train.CheckpointReader = field(repr=False)

    def tensor(self, key: str) -> np.ndarray:
        """Returns the value stored under `key`.

        Raises:
            CheckpointError: the data file is damaged.
        """
        try:
            return self.reader.get_tensor(key + SUFFIX if self.published else key)
        except (IndexError, tf.errors.OpError) as error:
            raise CheckpointError(f"{self.prefix}: damaged, cannot read {key} ({error})") from error

    @property
    def step(self) -> int:
        """Number of updates behind these weights."""
        key = "optimizer/iter" if self.published else "step"
        return int(self.tensor(key)) if self.reader.has_tensor(self._stored(key)) else 0

    def _stored(self, key: str) -> str:
        return key + SUFFIX if self.published else key

    def description(self) -> str:
        """Returns the kind in words."""
        author = "published" if self.published else "vatt"
        kinds = {"pretrain": "pre-training", "unified": "modality-agnostic pre-training"}
        return f"{author} {kinds.get(self.model, 'fine-tuned')} checkpoint"


def open_source(prefix: str | os.PathLike) -> Source:
    """Opens a checkpoint and recognises its kind.

    Raises:
        CheckpointError: no such checkpoint, a damaged one, or one of another program.
    """
    reader = open_checkpoint(prefix)
    stored = reader.get_variable_to_shape_map()
    is_published = any(key.endswith(SUFFIX) for key in stored)
    keys = {key.removesuffix(SUFFIX): tuple(shape) for key, shape in stored.items()}
    shapes = {key: s for key, s in keys.items() if key.startswith("model/") and SLOT not in key}
    slots = tuple(sorted(k for k in keys if k.startswith("optimizer/") or SLOT in k))
    if is_published:
        markers = {"unified": "/unified_backbone/", "pretrain": "/_base_layer/"}
        markers["finetune"] = f"{published.BACKBONE_ROOT}/"
    else:
        markers = {"unified": "/unified/", "pretrain": "/head/", "finetune": "/classification/"}
    model = next((m for m, part in markers.items() if any(part in key for key in shapes)), None)
    if model is None or any("tsm_blocks" in key for key in shapes):
        some = ", ".join(sorted(keys)[:3])
        raise CheckpointError(
            f"{prefix}: not a VATT checkpoint of a kind known here (it holds {some}, ...); accepted"
            " are checkpoints of this project and published pre-training and fine-tuned ones"
        )
    return Source(str(prefix), is_published, model, shapes, slots, reader)


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
        return f"{self.variable}: {self.source_shape} there, {self.shape} here"


@dataclass(frozen=True)
class Report:
    """What became of every variable of the model, and which of the checkpoint were not used."""

    source: Source
    rows: tuple[Row, ...]
    unused: tuple[str, ...]

    def of(self, action: str) -> list[Row]:
        """Rows with one action."""
        return [row for row in self.rows if row.action == action]

    def table(self) -> str:
        """Returns counts, then every variable that was not simply restored."""
        counts = Counter(row.action for row in self.rows)
        head = ", ".join(f"{counts[a]} {a}" for a in ("restored", "resampled", "new", "skipped"))
        lines = [f"{self.source.prefix} ({self.source.description()}): {head}"]
        for row in self.rows:
            if row.action != "restored":
                lines.append(f"  {row.action:<9} {row}")
        return "\n".join(lines)


def load(prefix: str | os.PathLike | Source, model: Any) -> Report:
    """Gives every variable of `model` its value from a checkpoint of the same architecture.

    Raises:
        CheckpointError: not a checkpoint, or one of another architecture; names what differs.
    """
    source = prefix if isinstance(prefix, Source) else open_source(prefix)
    keys = _own_keys(model, source)
    rows = [_row(v, keys[v.path], source) for v in model.variables]
    unused = tuple(sorted(set(source.shapes) - set(keys.values())))
    wrong = [str(row) for row in rows if row.action != "restored"]
    wrong += [f"{key} {source.shapes[key]}: in the checkpoint only" for key in unused]
    if wrong:
        hint = nearest(rows[0].key or "", source.shapes) if len(wrong) == len(rows) else ""
        raise CheckpointError(
            _first(f"{source.prefix}: of another model than {model.name}", wrong, hint)
        )
    _assign_all(model.variables, rows, source)
    return Report(source, tuple(rows), unused)


def transfer(prefix: str | os.PathLike | Source, model: Any, *, partial: bool = False) -> Report:
    """Starts a fine-tuning model (`ClassificationModel`) from a checkpoint.

    The backbone is restored and its position tables resampled where their lengths differ; the
    classifier is restored only from a fine-tuned checkpoint with the same classes.

    Args:
        prefix: a checkpoint, of any kind that has a backbone of this modality.
        model: built model; variables that are not restored keep their values.
        partial: also accept a checkpoint that lacks variables of the backbone, or has them in
            other shapes; the published code always does.

    Raises:
        CheckpointError: not a checkpoint, nothing in it for this modality, or (unless `partial`)
            the backbone does not fit completely; names what differs.
    """
    source = prefix if isinstance(prefix, Source) else open_source(prefix)
    keys = _backbone_source_keys(model, source)
    head = [v for v in model.variables if v.path not in keys]
    if source.model == "finetune":
        keys |= {v.path: key for v, key in zip(head, _classifier_keys(head, source), strict=True)}
    rows = [_row(v, keys.get(v.path), source, resample=True) for v in model.variables]
    backbone = {v.path for v in model.backbone.variables}
    unfit = [row for row in rows if row.variable in backbone and row.action in ("new", "skipped")]
    unused = tuple(sorted(set(source.shapes) - set(keys.values())))
    if len(unfit) == len(backbone):
        raise CheckpointError(
            f"{source.prefix}: a {source.description()} with nothing that fits the"
            f" {model.modality} backbone: not one of its {len(unfit)} variables is there"
        )
    if not partial:
        _refuse_missing_projections(source, model)
        if unfit:
            message = f"{source.prefix}: does not fit the {model.modality} backbone"
            raise CheckpointError(_first(message, [str(row) for row in unfit]))
    _assign_all(model.variables, rows, source)
    return Report(source, tuple(rows), unused)


def slot_keys(model: Any, optimizer: Any, keys: Mapping[str, str]) -> list[tuple[Any, str]]:
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


def _own_keys(model: Any, source: Source) -> dict[str, str]:
    if source.published:
        return published.model_keys(model)
    return {v.path: f"model/{v.path}" for v in model.variables}


def _backbone_source_keys(model: Any, source: Source) -> dict[str, str]:
    """Returns {variable path: key in the checkpoint} of the backbone's variables."""
    modality, backbone = model.modality, model.backbone
    if source.published and source.model == "unified":
        return published.unified_tower_keys(backbone, modality)
    if source.published:
        finetuned = source.model == "finetune"
        root = published.BACKBONE_ROOT if finetuned else published.PRETRAIN_ROOTS[modality]
        return published.backbone_keys(backbone, root)
    model_name = next(iter(source.shapes)).split("/")[1]
    keys = {}
    for variable in backbone.variables:
        local = variable.path.removeprefix(f"{backbone.path}/")
        if source.model != "unified":
            keys[variable.path] = f"model/{model_name}/{modality}/{local}"
        elif local.startswith("encoder/"):
            keys[variable.path] = f"model/{model_name}/unified/{local}"
        else:
            keys[variable.path] = f"model/{model_name}/unified/{modality}/{local}"
    return keys


def _classifier_keys(variables: list[Any], source: Source) -> list[str]:
    name = next(iter(source.shapes)).split("/")[1]
    root = published.CLASSIFIER_ROOT if source.published else f"model/{name}/classification"
    return [f"{root}/{variable.path.rpartition('/')[2]}" for variable in variables]


def _row(variable: Any, key: str | None, source: Source, resample: bool = False) -> Row:
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


def _assign_all(variables: list[Any], rows: list[Row], source: Source) -> None:
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


def _refuse_missing_projections(source: Source, model: Any) -> None:
    if source.model != "unified" or model.backbone.post_projection is not None:
        return
    widths = [s[1] for key, s in source.shapes.items() if "post_proj" in key and len(s) == 2]
    width = widths[0] if widths else 1024
    raise CheckpointError(f"{source.prefix}: {_UNIFIED_WITHOUT_PROJECTIONS.format(width=width)}")


def _first(message: str, problems: list[str], hint: str = "", shown: int = 8) -> str:
    lines = [f"{message}, {len(problems)} variables differ:{hint}"]
    lines += [f"  {problem}" for problem in problems[:shown]]
    lines += [f"  ... and {len(problems) - shown} more"] if len(problems) > shown else []
    return "\n".join(lines)
