"""Golden files of the contrastive losses; see `vatt.tools.conformance`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from vatt.objectives import contrastive
from vatt.tools.conformance_checks import GRADIENT, LOSS, Arrays, Checks, config_of, relative


def _loss(config: dict[str, Any], mask_normalization: str) -> Any:
    fields = ("temperature", "vid_txt_weight", "vid_aud_weight", "aud_txt_weight")
    loss = SimpleNamespace(
        name=f"{config['cls']}_nce",
        loss_weight=1.0,
        mask_normalization=mask_normalization,
        **{field: config[field] for field in fields},
    )
    return contrastive.build(SimpleNamespace(bridge=(loss,))).losses[0]


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
            values = loss(_nested(flat), masks, contrastive.identity)
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

    The gather is simulated: a first pass records what each replica sends, a second one hands out
    the concatenation,
    inside the caller's gradient tape.
    """
    parts = [
        (_nested({k: tf.split(v, replicas)[r] for k, v in flat.items()}),
         {k: tf.split(v, replicas)[r] for k, v in masks.items()})
        for r in range(replicas)
    ]  # fmt: skip
    sent: list[list[Any]] = []
    for embeddings, local_masks in parts:
        sent.append([])

        def record(x: Any) -> Any:
            sent[-1].append(x)
            return tf.concat([x] * replicas, axis=0)

        loss(embeddings, local_masks, record)
    results = []
    for embeddings, local_masks in parts:
        calls = iter(zip(*sent, strict=True))
        results.append(
            loss(embeddings, local_masks, lambda _, calls=calls: tf.concat(next(calls), axis=0))
        )
    return results


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
