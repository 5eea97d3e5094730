"""Golden files of whole models: checkpoints, transfers and manifests.

Real checkpoints lie beside the arrays; they are read by the code that reads them for a user.
"""

from __future__ import annotations

import json
import math
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.golden.checks import (
    CONVOLUTIONAL,
    FEATURES,
    GRADIENT,
    INTERPOLATED,
    LOSS,
    Arrays,
    Check,
    Checks,
    Golden,
    absolute,
    config_of,
    inputs_of,
    relative,
)
from tests.golden.vatt.evaluation import LOSSES
from vatt import configs
from vatt.methods.vatt import model as multimodal
from vatt.methods.vatt import objective as objectives
from vatt.methods.vatt import published
from vatt.modeling import factory
from vatt.training import optimizers, sources, transfer

STEPPED = 2e-3  # weights after an Adam step: entries without a gradient only amplify round-off
SLOT_FLOOR = 1e-7  # absolute, for slots that are themselves round-off


def checkpoint_file(golden: Golden) -> Checks:
    """`checkpoints/<name>.npz`: outputs and losses of checkpoints, and the step between them."""
    config = config_of(golden)
    handler = _pretrain_checkpoint if config["model"].get("backbone_config") else _tuned_checkpoint
    with _checkpoints(golden) as folder:
        if "source" in config:
            yield from _restore(golden, config, folder.parent)
        else:
            yield from handler(golden, config, folder)


@contextmanager
def _checkpoints(golden: Golden) -> Iterator[Path]:
    """Gives the folder with the checkpoints of a file, unpacked where they are packed."""
    folder = golden.path.with_suffix("")
    packed = sorted(folder.glob("*.tar.xz"))
    if not packed:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        for archive in packed:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
        yield next(Path(scratch).rglob("*.index")).parent


def _prefixes(folder: Path) -> list[Path]:
    return sorted(file.with_suffix("") for file in folder.glob("ckpt-*.index"))


# -- pre-training ----------------------------------------------------------------------------------


def _pretrain_checkpoint(golden: Golden, config: dict[str, Any], folder: Path) -> Checks:
    model_config = configs.registry.model(config["case"]["arch"], **config["model"])
    model = multimodal.build(model_config)
    inputs = {name: inputs_of(golden, f"in:{name}") for name in ("video", "audio", "text")}
    model.build_from({name: (None, *value.shape[1:]) for name, value in inputs.items()})
    keys = published.multimodal_keys(model)
    yield from _same_sets(golden, model, keys)
    objective = objectives.build(model_config.loss_config)
    masks = {name: golden[f"in:{name}"] for name in ("audio_mask", "text_mask")}
    convolutional = not hasattr(model.video, "encoder")

    def losses() -> tuple[dict[str, Any], dict[str, Any]]:
        outputs = model(inputs, training=False)
        return outputs, objective(outputs["head"], masks)

    for prefix in _prefixes(folder):
        case = prefix.name.replace("-", "")
        report = transfer.load(prefix, model)
        yield _count(f"{case} restored", len(report.of("restored")), len(model.variables))
        with tf.GradientTape() as tape:
            outputs, values = losses()
        ours = _flat({f"head_stack/bridge/{m}": v for m, v in outputs.pop("head").items()})
        ours |= _flat(outputs)
        yield from _outputs(golden, f"{case}/out:", ours, convolutional)
        values["regularization_loss"] = sum(model.losses)
        for name in (n for n in golden if n.startswith(f"{case}/loss:")):
            yield relative(name, values[name.partition(":")[2]], golden[name], LOSS)
        if case == "ckpt0" and "step/learning_rate" in golden:
            gradients = tape.gradient(values["total_loss"], _raw(model.trainable_variables))
            dense = [tf.convert_to_tensor(g) for g in gradients]
            norm = float(tf.linalg.global_norm(dense))
            yield relative("step/global_grad_norm", norm, golden["step/global_grad_norm"], GRADIENT)
            rate = float(golden["step/learning_rate"])
            yield from _step(model, keys, dense, optimizers.Adam(rate, name="optimizer"), folder)


def _step(
    model: keras.Model, keys: Mapping[str, str], gradients: list[Any], optimizer: Any, folder: Path
) -> Checks:
    """Compares weights and slots after one step of ours with the stored `ckpt-1`."""
    optimizer.build(model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    after = sources.open_source(folder / "ckpt-1")
    for variable in model.trainable_variables:
        key = keys[variable.path]
        yield absolute(f"step {key}", variable.numpy(), after.tensor(key), STEPPED)
    for slot, slot_key in transfer.slot_keys(optimizer, keys):
        reference = after.tensor(slot_key)
        excess = np.abs(np.asarray(slot) - reference) - SLOT_FLOOR
        scale = max(float(np.max(np.abs(reference))), 1e-30)
        yield Check(f"step {slot_key}", max(float(np.max(excess)), 0.0) / scale, GRADIENT)
    yield _count("step counter", int(optimizer.iterations), after.step)


# -- fine-tuning -----------------------------------------------------------------------------------


def _tuned_model(case: Mapping[str, Any], values: Mapping[str, Any], shape: Any) -> keras.Model:
    config = configs.registry.backbone(case["arch"], **{**values, "num_test_samples": 1})
    model = factory.build_classifier(config)
    model.build((None, *shape))
    return model


def _tuned_checkpoint(golden: Golden, config: dict[str, Any], folder: Path) -> Checks:
    case = config["case"]
    model = _tuned_model(case, config["model"], case["shape"])
    keys = published.classifier_keys(model)
    yield from _same_sets(golden, model, keys)
    inputs = next(inputs_of(golden, name) for name in ("in:images", "in:audio") if name in golden)
    loss = LOSSES[case["kind"]]
    for prefix in _prefixes(folder):
        name = prefix.name.replace("-", "")
        transfer.load(prefix, model)
        for clips in (1, 2, 4):
            model.num_test_samples = clips
            outputs = model(inputs, training=False)
            group = f"{name}/out:" if clips == 1 else f"{name}/out_clips{clips}:"
            yield from _outputs(golden, group, outputs, False)
        model.num_test_samples = 1
        with _watched_positions(model.backbone) as rows, tf.GradientTape(persistent=True) as tape:
            rows.tape = tape
            value = loss(model(inputs, training=False)["logits"], golden["in:labels"])
        losses = {"model_loss": value, "total_loss": value, "regularization_loss": 0.0}
        for key in (n for n in golden if n.startswith(f"{name}/loss:")):
            yield relative(key, losses[key.partition(":")[2]], golden[key], LOSS)
        if name == "ckpt0":
            yield from _tuned_step(golden, model, keys, value, tape, rows.values, folder)


class _Rows:
    """Position rows read in a forward pass, one per token, watched by a tape."""

    def __init__(self) -> None:
        self.tape: tf.GradientTape | None = None
        self.values: list[tf.Tensor] = []


@contextmanager
def _watched_positions(backbone: Any) -> Iterator[_Rows]:
    """Watches the sum of position rows of every token while a model runs."""
    rows, layer = _Rows(), backbone.positions
    original = layer.layer_norm.call

    def call(x: Any) -> Any:
        rows.tape.watch(x)
        rows.values.append(x)
        return original(x)

    layer.layer_norm.call = call
    try:
        yield rows
    finally:
        layer.layer_norm.call = original


def _tuned_step(
    golden: Golden,
    model: keras.Model,
    keys: Mapping[str, str],
    loss: tf.Tensor,
    tape: tf.GradientTape,
    rows: list[tf.Tensor],
    folder: Path,
) -> Checks:
    """The published step: two gradient groups, the backbone's clipped by its published norm."""
    variables = model.trainable_variables
    gradients = tape.gradient(loss, _raw(variables))
    dense = {v.path: tf.convert_to_tensor(g) for v, g in zip(variables, gradients, strict=True)}
    classifier = {p for p in dense if keys[p].startswith(published.CLASSIFIER_ROOT)}
    group = sorted(keys[p] for p in classifier)
    yield Check("cls_group_keys", 0.0 if group == sorted(golden["cls_group_keys"]) else np.inf, 0.0)
    tables = {p for p in dense if "_position_embeddings/" in keys[p]}
    squares = {p: float(tf.reduce_sum(tf.square(g))) for p, g in dense.items()}
    # A table read by plain lookup counts one row per token and axis, not their sums (spec 8).
    by_row = float(tf.reduce_sum(tf.square(tape.gradient(loss, rows[0])))) * len(tables)
    backbone = sum(s for p, s in squares.items() if p not in classifier and p not in tables)
    norm = math.sqrt(backbone + by_row)
    yield relative("step/backbone_grad_norm", norm, golden["step/backbone_grad_norm"], GRADIENT)
    head_norm = math.sqrt(sum(squares[p] for p in classifier))
    yield relative("step/cls_grad_norm", head_norm, golden["step/cls_grad_norm"], GRADIENT)
    scale = min(1.0, float(golden["step/clip_norm"]) / norm)
    clipped = [g if v.path in classifier else g * scale for v in variables for g in [dense[v.path]]]
    rate = float(golden["step/learning_rate"])
    optimizer = optimizers.SGD(rate, momentum=0.9, name="optimizer")
    yield from _step(model, keys, clipped, optimizer, folder)


def _restore(golden: Golden, config: dict[str, Any], root: Path) -> Checks:
    """`restore_*.npz`: a fine-tuning model started from a pre-training checkpoint."""
    case = config["case"]
    model = _tuned_model(case, config["model"], case["shape"])
    keys = published.classifier_keys(model)
    for variable in model.variables:
        if (name := f"w:{keys[variable.path]}") in golden:
            variable.assign(golden[name])
    report = transfer.transfer(root / config["source"], model, partial=True)
    rows = {keys[row.variable]: row for row in report.rows}
    sources = json.loads(str(golden["key_map"]))
    interpolated = set(golden["interpolated_keys"].tolist())
    actions = {
        "restored": set(golden["restored_keys"].tolist()) - interpolated,
        "resampled": interpolated,
    }
    for action, expected in actions.items():
        ours = {keys[row.variable] for row in report.of(action)}
        yield Check(f"{action} {sorted(ours ^ expected)[:2]}", _differs(ours, expected), 0.0)
    skipped = {keys[row.variable] for row in report.rows if row.action in ("new", "skipped")}
    yield Check("skipped_keys", _differs(skipped, set(golden["skipped_keys"].tolist())), 0.0)
    for key in actions["restored"] | interpolated:
        if key in sources:
            yield Check(f"source of {key}", 0.0 if rows[key].key == sources[key] else np.inf, 0.0)
    for variable in model.variables:
        name = f"exact64:{keys[variable.path]}"
        if name in golden:
            long = variable.shape[0] >= 100
            yield absolute(name, variable.numpy(), golden[name], 1e-4 if long else FEATURES)
    inputs = next(inputs_of(golden, name) for name in ("in:images", "in:audio") if name in golden)
    outputs = model(inputs, training=False)
    exact = any(name.startswith("out_exact64:") for name in golden)
    for name in golden:
        group, _, output = name.partition(":")
        if group == "out_exact64":
            yield absolute(name, outputs[output], golden[name], FEATURES)
        elif group == "out":
            tolerance = INTERPOLATED if exact else FEATURES
            yield absolute(name, outputs[output], golden[name], tolerance)


# -- manifests -------------------------------------------------------------------------------------


def manifest_file(manifest: Mapping[str, Any]) -> Checks:
    """`manifests/*.json`: names, shapes and counts of a full-size model."""
    shapes, values = manifest["input_shapes"], manifest["model_config"]
    if values.get("backbone_config"):
        model = multimodal.build(configs.registry.model(manifest["arch"], **values))
        model.build_from({name: (None, *shape) for name, shape in shapes.items()})
        keys = published.multimodal_keys(model)
        specs = {name: tf.TensorSpec([2, *shape]) for name, shape in shapes.items()}
    else:
        (shape,) = shapes.values()
        model = _tuned_model(manifest, values, shape)
        keys = published.classifier_keys(model)
        specs = tf.TensorSpec([2, *shape])
    ours = {keys[v.path]: list(v.shape) for v in model.variables}
    theirs = manifest["variables"]
    for key in sorted(set(ours) ^ set(theirs)):
        yield Check(f"{key}: only {'here' if key in ours else 'published'}", np.inf, 0.0)
    for key in set(ours) & set(theirs):
        yield Check(f"{key} {ours[key]}", _differs(ours[key], theirs[key]), 0.0)
    fixed = {keys[v.path] for v in model.non_trainable_variables}
    yield Check("non_trainable", _differs(fixed, set(manifest["non_trainable"])), 0.0)
    counts = {
        "num_variables": len(model.variables),
        "total_params": sum(math.prod(v.shape) for v in model.variables),
        "trainable_params": sum(math.prod(v.shape) for v in model.trainable_variables),
    }
    for name, count in counts.items():
        yield _count(name, count, manifest[name])
    # Traced, not run: shapes of the outputs without the work.
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(specs)
    outputs = dict(traced.structured_outputs)
    head = {f"head_stack/bridge/{m}": v for m, v in outputs.pop("head", {}).items()}
    flat = _flat(outputs) | _flat(head)
    for name, shape in manifest["output_shapes"].items():
        found = [None, *flat[name].shape[1:]] if name in flat else None
        yield Check(f"output {name} {found}", _differs(found, shape), 0.0)


# -- common ----------------------------------------------------------------------------------------


def _same_sets(golden: Arrays, model: keras.Model, keys: Mapping[str, str]) -> Checks:
    groups = {"trainable_keys": model.trainable_variables}
    groups["non_trainable_keys"] = model.non_trainable_variables
    for name, variables in groups.items():
        if name in golden:
            ours = {keys[v.path] for v in variables}
            yield Check(name, _differs(ours, set(golden[name].tolist())), 0.0)


def _outputs(golden: Golden, prefix: str, ours: Mapping[str, Any], scaled: bool) -> Checks:
    for name in (n for n in golden if n.startswith(prefix)):
        value = ours[name.removeprefix(prefix)]
        if scaled:
            yield relative(name, value, golden[name], CONVOLUTIONAL)
        else:
            yield absolute(name, value, golden[name], FEATURES)


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{name}": inner for name, inner in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _differs(ours: Any, theirs: Any) -> float:
    return 0.0 if ours == theirs else np.inf


def _count(name: str, ours: int, theirs: int) -> Check:
    return Check(f"{name} {ours} of {theirs}", float(abs(ours - theirs)), 0.0)


def _raw(variables: list[Any]) -> list[tf.Variable]:
    return [variable.value for variable in variables]
