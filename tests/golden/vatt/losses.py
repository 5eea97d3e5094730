"""Golden files of the contrastive losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tests.golden.checks import GRADIENT, LOSS, Arrays, Checks, config_of, configured, relative
from tests.golden.replicas import simulate
from vatt.methods.vatt import config as configuration
from vatt.methods.vatt import objective
from vatt.objectives.replica import ALONE, Replica

FIELDS = ("temperature", "vid_txt_weight", "vid_aud_weight", "aud_txt_weight")


def _loss(config: dict[str, Any], mask_normalization: str) -> objective.PairLosses:
    values = {"name": f"{config['cls']}_nce", "mask_normalization": mask_normalization}
    values |= {field: config[field] for field in FIELDS}
    return objective.PairLosses(configured(configuration.BaseLossConfig(), values))


def _loss_inputs(arrays: Arrays, case: str) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns flat embeddings `{'video/toaud': ...}` and masks by modality."""
    prefix = f"{case}/in:"
    found = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    masks = {
        name.removesuffix("_mask"): value for name, value in found.items() if name.endswith("_mask")
    }
    flat = {name: tf.convert_to_tensor(value) for name, value in found.items() if "/" in name}
    return flat, {modality: tf.convert_to_tensor(value) for modality, value in masks.items()}


def _nested(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        modality, target = name.split("/")
        nested.setdefault(modality, {})[target] = value
    return nested


def losses_file(arrays: Arrays) -> Checks:
    """`losses.npz`: both contrastive losses on one replica, with gradients."""
    for case in arrays["case_names"]:
        loss = _loss(config_of(arrays, f"{case}/config"), "global")
        flat, masks = _loss_inputs(arrays, case)
        with tf.GradientTape() as tape:
            tape.watch(flat)
            values = loss(_nested(flat), masks, ALONE)
        for name in (n for n in arrays if n.startswith(f"{case}/out:")):
            yield relative(name, values[name.partition(":")[2]], arrays[name], LOSS)
        yield from _gradient_checks(arrays, case, flat, tape.gradient(values["total"], flat))


def _gradient_checks(arrays: Arrays, case: str, flat: Mapping[str, Any], gradients: Any) -> Checks:
    for key, value in flat.items():
        gradient = gradients[key] if gradients[key] is not None else tf.zeros_like(value)
        name = f"{case}/grad:{key}"
        if name in arrays:
            yield relative(name, gradient, arrays[name], GRADIENT)


def simulate_replicas(
    loss: Callable[..., dict[str, Any]],
    flat: Mapping[str, Any],
    masks: Mapping[str, Any],
    replicas: int,
) -> list[dict[str, Any]]:
    """Returns the losses of each of `replicas` replicas that split a global batch, replica-major.

    Args:
        loss: from nested embeddings, masks by modality and a replica to values by name.
        flat: embeddings of the global batch by `modality/target`.
        masks: by modality.
        replicas: their number.
    """

    def share(values: Mapping[str, Any], index: int) -> dict[str, Any]:
        return {name: tf.split(value, replicas)[index] for name, value in values.items()}

    def compute(index: int, replica: Replica) -> dict[str, Any]:
        return loss(_nested(share(flat, index)), share(masks, index), replica)

    return simulate(compute, replicas)


def losses_multi_replica_file(arrays: Arrays) -> Checks:
    """`losses_multi_replica.npz`: several replicas, with the published local normalisation."""
    for case in arrays["case_names"]:
        config = config_of(arrays, f"{case}/config")
        loss = _loss(config, "replica")
        flat, masks = _loss_inputs(arrays, case)
        with tf.GradientTape() as tape:
            tape.watch(flat)
            values = simulate_replicas(loss, flat, masks, config["replicas"])
            mean = tf.reduce_mean(tf.stack([value["total"] for value in values]))
        yield relative(f"{case}/out:mean", mean, arrays[f"{case}/out:mean"], LOSS)
        for name in (
            n for n in arrays if n.startswith(f"{case}/out:") and n.endswith("_per_replica")
        ):
            output = name.partition(":")[2].removesuffix("_per_replica")
            yield relative(name, [value[output] for value in values], arrays[name], LOSS)
        yield from _gradient_checks(arrays, case, flat, tape.gradient(mean, flat))
