"""Six steps of the main model, in training and with frozen batch norm: `train_step.npz`."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tests.golden.av_mae.pretraining import near
from tests.golden.checks import Checks, Golden, load
from tests.golden.eao.models import EMBEDDING, built, configured, inputs_of, weights_of
from vatt.configs import experiment
from vatt.methods.eao import published
from vatt.methods.eao.config import LossConfig
from vatt.methods.eao.objective import CombinatorialLoss
from vatt.training import optimizers

LOSS = (1e-3, 1e-3)
TRAINED = (1e-4, 1e-3)  # statistics of a few rows enlarge rounding
GRADIENT = (1e-5, 2e-3)
RATE = (1e-12, 1e-6)


def steps_file(arrays: Golden) -> Checks:
    """Losses, gradients and statistics of steps from the weights of `model_main.npz`."""
    meta, main = json.loads(str(arrays["meta"])), load(arrays.path.parent / "model_main.npz")
    for mode in ("train", "eval"):
        yield from _mode(arrays, main, meta, mode)


def _mode(arrays: Golden, main: Golden, meta: Mapping[str, object], mode: str) -> Checks:
    weights = weights_of(main)
    config = configured(weights, json.loads(str(main["meta"])))
    config.loss_config = LossConfig(**{n: float(w) for n, w in meta["weights"].items()})
    model, inputs = built(config, weights), inputs_of(main, "b/in/")
    loss, optimizer = CombinatorialLoss(config), _optimizer(meta)
    optimizer.build(model.trainable_variables)
    for step in range(len(arrays[f"{mode}/loss"])):
        with tf.GradientTape() as tape:
            outputs = model.train_outputs(model.towers(inputs, training=mode == "train"))
            found = loss(outputs)
        variables = model.trainable_variables
        gradients = tape.gradient(found["total_loss"], [v.value for v in variables])
        yield near(f"{mode}/loss {step}", found["total_loss"], arrays[f"{mode}/loss"][step], LOSS)
        for place, term in enumerate(meta["terms"]):
            ours = found[f"combinatorial/{term}_loss"]
            yield near(f"{mode}/{term} {step}", ours, arrays[f"{mode}/terms"][step, place], LOSS)
        yield near(f"{mode}/lr {step}", optimizer.rate_at(step), arrays[f"{mode}/lr"][step], RATE)
        if step == 0:
            yield from _first(arrays, f"{mode}/step0", model, outputs, gradients)
        optimizer.apply(gradients, variables)


def _optimizer(meta: Mapping[str, object]) -> object:
    schedule = experiment.MultiStepLearningRate(
        learning_rate_base=meta["lr"],
        total_steps=1000,
        steps_per_epoch=meta["steps_per_epoch"],
        milestones=tuple(range(1, 500)),
        gamma=meta["gamma"],
    )
    config = experiment.FlaxAdamOptimizer(weight_decay=0.0, beta_2=0.999, learning_rate=schedule)
    return optimizers.build(config)


def _first(arrays: Golden, prefix: str, model, outputs, gradients) -> Checks:
    """Outputs, gradients of every tensor as published, and statistics after the step."""
    for name, ours in outputs.items():
        if (key := f"{prefix}/out/{name}") in arrays:
            yield near(key, ours, arrays[key], TRAINED if "train/" in prefix else EMBEDDING)
    names, found = published.model_names(model), {}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        value = published.to_published(variable.path, np.asarray(tf.convert_to_tensor(gradient)))
        found.setdefault(names[variable.path], {})[variable.path] = value
    # Of what nothing uses there is no gradient in either.
    expected = {
        n.removeprefix(f"{prefix}/grad_norm/") for n in arrays if f"{prefix}/grad_norm/" in n
    }
    assert expected == set(found), sorted(expected ^ set(found))
    for name, parts in found.items():
        value = published.joined(parts)
        key = f"{prefix}/grad_norm/{name}"
        yield near(key, np.linalg.norm(value.astype(np.float64)), arrays[key], GRADIENT)
        if (key := f"{prefix}/grad/{name}") in arrays:
            yield near(key, value, arrays[key], GRADIENT)
    state = published.state_dict(model)
    for key in (k for k in arrays if k.startswith(f"{prefix}/buffer/")):
        name = key.removeprefix(f"{prefix}/buffer/")
        yield near(key, state[name], arrays[key], EMBEDDING)


HANDLERS = {"train_step.npz": steps_file}
