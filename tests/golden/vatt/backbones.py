"""Golden files of single backbones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.golden.checks import (
    CONVOLUTIONAL,
    FEATURES,
    INTERPOLATED,
    Arrays,
    Check,
    Checks,
    Note,
    absolute,
    assign,
    config_of,
    inputs_of,
    relative,
)
from tests.golden.vatt.recipe import recipe_weights
from vatt import configs
from vatt.methods.vatt import published
from vatt.modeling import factory

CHECKSUM = 1e-6  # of the sum of a weight, relative to the sum of its absolute values


def backbone_file(arrays: Arrays) -> Checks:
    """`backbones/*.npz`: one backbone, inference."""
    config = config_of(arrays)
    kind, shape = config["kind"], config["input_shape"]
    layer = factory.build_backbone(configs.registry.backbone(config["arch"], **config["model"]))
    if kind == "unified":
        layer.build({m: (None, *sizes) for m, sizes in shape.items()})
        keys = published.unified_keys(layer)
    else:
        layer.build((None, *shape))
        keys = published.text_keys(layer) if kind == "text" else published.backbone_keys(layer)
    if config.get("weights") == "recipe":
        weights = recipe_weights(
            arrays["weight_keys"], map(json.loads, arrays["weight_shapes"]), config["salt"]
        )
        yield from _checksums(weights, arrays)
        assign(layer.variables, keys, weights, "")
    else:
        assign(layer.variables, keys, arrays, "w:")
    yield from _compare(_outputs(layer, kind, shape, arrays), arrays)


def _checksums(weights: Mapping[str, np.ndarray], arrays: Arrays) -> Checks:
    for key, stored in zip(arrays["weight_keys"], arrays["weight_checksum"], strict=True):
        value = weights[str(key)].astype(np.float64)
        yield Check(f"checksum {key}", abs(value.sum() - stored) / np.abs(value).sum(), CHECKSUM)


def _outputs(layer: Any, kind: str, shape: Any, arrays: Arrays) -> dict[str, Any]:
    """Returns everything the file may hold, by its name there."""
    if kind == "unified":
        outputs = layer({m: inputs_of(arrays, f"in:{m}") for m in shape})
        return {f"{m}/{name}": x for m, values in outputs.items() for name, x in values.items()}
    inputs = inputs_of(arrays, f"in:{kind}")
    ours = dict(layer(inputs, intermediates=True))
    for index, weights in enumerate(ours.pop("attention_weights", ())):
        ours[f"attention_weights/{index}"] = weights
    for name, endpoint in ours.pop("endpoints", {}).items():
        value = np.asarray(endpoint, np.float64)
        ours[f"endpoint_shape/{name}"] = value.shape
        ours[f"endpoint_stats/{name}"] = [value.mean(), value.std(), value.min(), value.max()]
        ours[f"endpoint_head/{name}"] = value.ravel()[:16]
    if kind == "text":
        ours["word_embeddings"] = ours["features"]
        ours["sentence_embeddings"] = ours["features_pooled"]
        unmasked = layer(inputs, word_mask=np.ones(inputs.shape, np.float32))
        ours["no_padding_mask/sentence_embeddings"] = unmasked["features_pooled"]
    return ours


def _compare(ours: Mapping[str, Any], arrays: Arrays) -> Checks:
    interpolated = "interpolated_buckets" in arrays
    convolutional = any(name.startswith("endpoint_shape/") for name in ours)
    for name in arrays:
        prefix, _, output = name.partition(":")
        if prefix == "out_exact64":
            yield absolute(name, ours[output], arrays[name], FEATURES)
        elif prefix == "out" and convolutional:
            yield relative(name, ours[output], arrays[name], CONVOLUTIONAL)
        elif prefix == "out" and (not interpolated or output == "embeddings"):
            # Raw patch projections come before the positions.
            yield absolute(name, ours[output], arrays[name], FEATURES)
        elif prefix == "out":
            exact = arrays.get(f"out_exact64:{output}")
            if exact is not None and np.max(np.abs(exact - arrays[name])) > INTERPOLATED:
                yield Note(
                    f"{name}: the published float32 spline is wrong here, exact64 compared instead"
                )
            elif exact is None and np.max(arrays["interpolated_buckets"]) > 64:
                yield Note(f"{name}: depends on the published float32 spline of a long table")
            else:
                yield absolute(name, ours[output], arrays[name], INTERPOLATED)
