"""Golden file of the projection heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tests.golden.checks import (
    FEATURES,
    GRADIENT,
    Arrays,
    Checks,
    absolute,
    assign,
    config_of,
    configured,
    relative,
)
from vatt.methods.vatt import config as configuration
from vatt.methods.vatt import heads, published


def heads_file(arrays: Arrays) -> Checks:
    """`heads.npz`: projection heads, inference, one training step and its gradients."""
    inputs = {m: tf.convert_to_tensor(arrays[f"in:{m}"]) for m in ("video", "audio", "text")}
    for case in arrays["case_names"]:
        values = {"bridge": [config_of(arrays, f"{case}/config")]}
        stack = heads.build(configured(configuration.HeadStack(), values))
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
