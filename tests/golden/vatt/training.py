"""Golden files of learning rate schedules and optimizers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.golden.checks import (
    SCHEDULE,
    TRAJECTORY,
    Arrays,
    Check,
    Checks,
    Note,
    absolute,
    config_of,
    configured,
)
from vatt.configs import experiment
from vatt.training import optimizers, schedules


def schedules_file(arrays: Arrays) -> Checks:
    """`schedules.npz`: learning rates at given steps."""
    cases = [name.removesuffix("/config") for name in arrays if name.endswith("/config")]
    for case in cases:
        config = config_of(arrays, f"{case}/config")
        steps, reference = arrays[f"{case}/steps"], arrays[f"{case}/lr"].astype(np.float64)
        schedule = schedules.build(configured(experiment.LearningRate(), config))
        ours = np.broadcast_to(np.asarray(schedule(steps), np.float64), reference.shape)
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
OPTIMIZER_NUMBERS = ("momentum", "beta_1", "beta_2", "epsilon", "weight_decay")


def _optimizer(config: dict[str, Any]) -> optimizers.FusedOptimizer:
    """Returns the optimizer of a published OptimizerV2 config, whose numbers may be strings."""
    values = {field: float(config[field]) for field in OPTIMIZER_NUMBERS if field in config}
    values |= {"name": OPTIMIZER_NAMES[config["name"]], "learning_rate": _rate(config)}
    if "nesterov" in config:
        values["nesterov"] = config["nesterov"]
    return optimizers.build(configured(experiment.OptimizerConfig(), values))


def _rate(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the learning rate of a published OptimizerV2 config as one of ours."""
    rate = config["learning_rate"]
    if not isinstance(rate, dict):
        return {"type": "LearningRate", "learning_rate_base": float(rate)}
    return {
        "type": "CosineDecayLearningRate",
        "learning_rate_base": rate["init_learning_rate"],
        "warmup_learning_rate": rate["warmup_learning_rate"],
        **{key: int(rate[key]) for key in ("total_steps", "warmup_steps")},
    }


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
