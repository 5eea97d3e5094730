"""How each kind of golden file is recomputed; see `vatt.tools.conformance`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vatt import configs
from vatt.configs import base
from vatt.modeling import heads, published
from vatt.modeling.backbones import text
from vatt.modeling.layers import positions
from vatt.tools.conformance_backbones import backbone_file
from vatt.tools.conformance_checks import (
    FEATURES,
    GRADIENT,
    INTERPOLATED,
    LONG_SPLINE,
    SCHEDULE,
    TRAJECTORY,
    Arrays,
    Check,
    Checks,
    Golden,
    NotCoveredError,
    Note,
    absolute,
    assign,
    config_of,
    namespace,
    relative,
)
from vatt.tools.conformance_data import data_file, records_file
from vatt.tools.conformance_evaluation import classification_losses_file, metrics_file
from vatt.tools.conformance_losses import losses_file, losses_multi_replica_file
from vatt.tools.conformance_models import checkpoint_file, manifest_file
from vatt.training import optimizers, schedules


def heads_file(arrays: Arrays) -> Checks:
    """`heads.npz`: projection heads, inference, one training step and its gradients."""
    inputs = {m: tf.convert_to_tensor(arrays[f"in:{m}"]) for m in ("video", "audio", "text")}
    for case in arrays["case_names"]:
        stack = heads.build(
            SimpleNamespace(bridge=(namespace(config_of(arrays, f"{case}/config")),))
        )
        stack.build({m: x.shape[-1] for m, x in inputs.items()})
        keys = published.head_keys(stack, "head/_bridge_heads")
        assign(stack.variables, keys, arrays, f"{case}/w:")
        yield from _embedding_checks(arrays, f"{case}/infer:bridge", stack(inputs))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = stack(inputs, training=True)
            total = sum(
                tf.reduce_sum(value * arrays[f"{case}/R:bridge/{modality}/{target}"])
                for modality, values in outputs.items()
                for target, value in values.items()
            )
        yield from _embedding_checks(arrays, f"{case}/train:bridge", outputs)
        by_variable, by_input = tape.gradient(total, [_raw(stack.trainable_variables), inputs])
        for variable, gradient in zip(stack.trainable_variables, by_variable, strict=True):
            name = f"{case}/grad:{keys[variable.path]}"
            yield relative(name, gradient, arrays[name], GRADIENT)
        for modality, gradient in by_input.items():
            name = f"{case}/grad_in:{modality}"
            yield relative(name, gradient, arrays[name], GRADIENT)
        for variable in stack.non_trainable_variables:
            name = f"{case}/after_train_step:{keys[variable.path]}"
            yield absolute(name, variable.numpy(), arrays[name], FEATURES)


def _raw(variables: list[Any]) -> list[tf.Variable]:
    return [variable.value for variable in variables]


def _embedding_checks(
    arrays: Arrays, prefix: str, outputs: Mapping[str, Mapping[str, Any]]
) -> Checks:
    for modality, values in outputs.items():
        for target, value in values.items():
            name = f"{prefix}/{modality}/{target}"
            yield absolute(name, value, arrays[name], FEATURES)


def schedules_file(arrays: Arrays) -> Checks:
    """`schedules.npz`: learning rates at given steps."""
    cases = [name.removesuffix("/config") for name in arrays if name.endswith("/config")]
    for case in cases:
        config = config_of(arrays, f"{case}/config")
        steps, reference = arrays[f"{case}/steps"], arrays[f"{case}/lr"].astype(np.float64)
        ours = np.asarray(schedules.build(namespace(config))(steps), np.float64)
        ours = np.broadcast_to(ours, reference.shape)
        broken, after = np.isnan(reference), steps > config["total_steps"]
        if config["type"] == "LearningRate":
            after[:] = False
        compared = ~(broken | after)
        excess = np.abs(ours - reference)[compared] - 1e-9
        error = np.max(excess / np.maximum(np.abs(reference[compared]), 1e-30))
        yield Check(f"{case}/lr", max(float(error), 0.0), SCHEDULE)
        if broken.any():
            yield Check(f"{case}/lr finite", 0.0 if np.isfinite(ours).all() else np.inf, SCHEDULE)
            yield Note(
                f"{case}: published NaN at step {steps[broken].tolist()}, "
                f"ours {ours[broken].tolist()}"
            )
        if after.any():
            yield Note(f"{case}: {after.sum()} steps after total_steps, where ours stays constant")


OPTIMIZER_NAMES = {"SGD": "Momentum", "SGDW": "MomentumW", "Adam": "Adam", "AdamW": "AdamW"}


def _optimizer(config: dict[str, Any]) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a published OptimizerV2 config, whose numbers may be strings."""
    fields = {"momentum", "beta_1", "beta_2", "epsilon", "weight_decay"} & set(config)
    numbers = {field: float(config[field]) for field in fields}
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        rate = {
            "type": "CosineDecayLearningRate",
            "learning_rate_base": rate["init_learning_rate"],
            **{key: rate[key] for key in ("total_steps", "warmup_steps", "warmup_learning_rate")},
        }
    else:
        rate = {"type": "LearningRate", "learning_rate_base": float(rate)}
    nesterov = bool(config.get("nesterov", False))
    return optimizers.build(
        SimpleNamespace(
            name=OPTIMIZER_NAMES[config["name"]],
            learning_rate=namespace(rate),
            nesterov=nesterov,
            **numbers,
        )
    )


def optimizers_file(arrays: Arrays) -> Checks:
    """`optimizers.npz`: parameters after each of five steps."""
    names = [name.removeprefix("init:") for name in arrays if name.startswith("init:")]
    for case in arrays["case_names"]:
        config = config_of(arrays, f"{case}/config")
        optimizer = _optimizer(config)
        variables = [keras.Variable(arrays[f"init:{name}"], name=name) for name in names]
        optimizer.build(variables)
        steps = len(arrays[f"grads:{names[0]}"])
        for step in range(steps):
            gradients = [tf.convert_to_tensor(arrays[f"grads:{name}"][step]) for name in names]
            optimizer.apply(gradients, variables)
            for name, variable in zip(names, variables, strict=True):
                reference = arrays[f"{case}/params:{name}"][step]
                yield absolute(
                    f"{case}/params:{name} step {step}", variable.numpy(), reference, TRAJECTORY
                )
        key = f"{case}/zero_grad_one_step_from_1_2"
        if key in arrays:
            variable = keras.Variable(np.array([1.0, 2.0], np.float32), name="x")
            optimizer = _optimizer(config)
            optimizer.build([variable])
            optimizer.apply([tf.zeros(2)], [variable])
            yield absolute(key, variable.numpy(), arrays[key], TRAJECTORY)


def spline_file(arrays: Arrays) -> Checks:
    """`spline.npz`: resampled position tables and the gradient of the table."""
    for case in arrays["case_names"]:
        table = tf.convert_to_tensor(arrays[f"{case}/in:table"])
        cotangent = arrays[f"{case}/in:R"]
        with tf.GradientTape() as tape:
            tape.watch(table)
            ours = positions.resample(table, len(cotangent))
            value = tf.reduce_sum(ours * cotangent)
        tolerance = FEATURES if len(table) < 100 else LONG_SPLINE
        yield absolute(f"{case}/exact64", ours, arrays[f"{case}/exact64:table"], tolerance)
        published_error = np.max(
            np.abs(arrays[f"{case}/out:table"] - arrays[f"{case}/exact64:table"])
        )
        if published_error > INTERPOLATED:
            yield Note(f"{case}: published float32 values are off by {published_error:.3g}")
        else:
            yield absolute(f"{case}/out", ours, arrays[f"{case}/out:table"], INTERPOLATED)
        if f"{case}/exact64:grad" in arrays:
            gradient = tape.gradient(value, table)
            yield relative(f"{case}/grad", gradient, arrays[f"{case}/exact64:grad"], GRADIENT)


def relative_buckets_file(arrays: Arrays) -> Checks:
    """`t5_relative_buckets.npz`: bucket ids, exact."""
    for case in arrays["case_names"]:
        buckets, distance, direction = str(case).split("_")
        ours = text.relative_buckets(
            arrays["relative_position"],
            int(buckets.removeprefix("buckets")),
            int(distance.removeprefix("maxdist")),
            bidirectional=direction == "bidirectional",
        )
        yield absolute(str(case), ours, arrays[case], 0.0)


def config_defaults_file(published_defaults: Mapping[str, Any]) -> Checks:
    """`config_defaults.json`: every published field exists with its published default."""
    for name, entry in published_defaults.items():
        if name.endswith(".Config"):
            continue
        module, class_name = name.split(".")
        config_class = getattr(getattr(configs, module), class_name, None)
        if config_class is None:
            yield Check(f"{name} missing", np.inf, 0.0)
            continue
        yield from _field_checks(name, config_class().as_dict(), entry["fields"])


def _field_checks(path: str, ours: Any, theirs: Any) -> Checks:
    """Compares a published value with ours, down to the leaves; added ones are ignored."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key == "__class__":
                continue
            if key not in ours:
                yield Check(f"{path}.{key} missing", np.inf, 0.0)
            else:
                yield from _field_checks(f"{path}.{key}", ours[key], value)
    elif isinstance(theirs, list) and isinstance(ours, list | tuple) and len(theirs) == len(ours):
        for index, (mine, value) in enumerate(zip(ours, theirs, strict=True)):
            yield from _field_checks(f"{path}[{index}]", mine, value)
    elif _same(ours, theirs):
        yield Check(path, 0.0, 0.0)
    else:
        yield from _difference(path, ours, theirs)


def _same(ours: Any, theirs: Any) -> bool:
    return ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool)


def _difference(path: str, ours: Any, theirs: Any) -> Checks:
    for documented, (old, new, reason) in base.DOCUMENTED_DIFFERENCES.items():
        if path.rpartition(".")[2] == documented.rpartition(".")[2] and (old, new) == (
            theirs,
            ours,
        ):
            yield Note(f"{path}: {theirs!r} published, {ours!r} here: {reason}")
            return
    yield Check(f"{path}: {ours!r} instead of {theirs!r}", np.inf, 0.0)


def config_registry_file(published_tables: Mapping[str, Mapping[str, str]]) -> Checks:
    """`config_registry.json`: every published name selects the class it selected."""
    from vatt.configs import backbones, registry

    for table, entries in published_tables.items():
        ours = getattr(registry, table, None) or getattr(backbones, table, {})
        for name, class_name in entries.items():
            found = ours[name].__name__ if name in ours else None
            yield Check(f"{table}.{name} {found}", 0.0 if found == class_name else np.inf, 0.0)


HANDLERS: tuple[tuple[str, str, Callable[[Any], Checks]], ...] = (
    ("backbones/", ".npz", backbone_file),
    ("checkpoints/", ".npz", checkpoint_file),
    ("manifests/", ".json", manifest_file),
    ("classification_losses", ".npz", classification_losses_file),
    ("metrics", ".npz", metrics_file),
    ("heads", ".npz", heads_file),
    ("losses_multi_replica", ".npz", losses_multi_replica_file),
    ("losses", ".npz", losses_file),
    ("schedules", ".npz", schedules_file),
    ("optimizers", ".npz", optimizers_file),
    ("spline", ".npz", spline_file),
    ("t5_relative_buckets", ".npz", relative_buckets_file),
    ("config_defaults", ".json", config_defaults_file),
    ("config_registry", ".json", config_registry_file),
    ("data/", ".npz", data_file),
    ("data/records", ".json", records_file),
)


def checks_of(path: Path, root: Path) -> Checks:
    """Yields the comparisons of one golden file.

    Raises:
        NotCoveredError: nothing here recomputes this file.
    """
    relative_path = path.relative_to(root).as_posix()
    for prefix, suffix, handler in HANDLERS:
        if relative_path.startswith(prefix) and path.suffix == suffix:
            yield from handler(_load(path))
            return
    raise NotCoveredError(relative_path)


def _load(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else Golden(path, {"items": content})
    with np.load(path) as archive:
        return Golden(path, {name: archive[name] for name in archive.files})
