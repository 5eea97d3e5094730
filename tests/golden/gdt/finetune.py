"""Golden files of the benchmark: classifiers and views; learning rates with crops of maps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.golden.checks import Arrays, Checks, Note, absolute
from tests.golden.gdt import procedural
from tests.golden.gdt.recipe import PERCENT, Given, accuracies, of_videos
from vatt.methods.gdt import published
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.pooling import TemporalPooling
from vatt.objectives import classification
from vatt.training.published_names import TORCH_LEAVES

SMALL = 1e-4  # absolute, of small networks
LOSS = 1e-5  # absolute
NORM: batch_norm.NormOptions = {
    "momentum": 0.9,
    "epsilon": 1e-5,
    "scale": True,
    "synchronized": False,
}


def _views(arrays: Arrays) -> Checks:
    """The views of a video follow one another."""
    logits, labels = arrays["views/logits"], arrays["views/labels"]
    windows = len(logits) // len(labels)
    ids = np.repeat(np.arange(len(labels)), windows)
    reference = arrays["views/video_top1_top5"]
    yield absolute("views/video_top1_top5", of_videos(logits, ids, labels), reference, PERCENT)
    reference = arrays["views/clip_top1_top5"]
    yield absolute("views/clip_top1_top5", accuracies(logits, labels[ids]), reference, PERCENT)
    yield Note(
        "views: the published ones come window by window, ours crop by crop; the mean is one"
    )


def finetune_models_file(arrays: Arrays) -> Checks:
    """`finetune_models.npz`: classifiers on features and on maps; views of a video."""
    meta = json.loads(str(arrays["meta"]))
    for case in meta["cases"]:
        yield from _case(arrays, meta, case)
    yield from _views(arrays)


def _case(arrays: Arrays, meta: Mapping[str, Any], case: str) -> Checks:
    shapes, width = meta["cases"][case], meta["features"]
    steps = int(case.removeprefix("stica_map")) if case.startswith("stica_map") else None
    if steps is None:
        x = procedural.sample(meta["salt"], "input/features", (meta["batch"], width))
    else:
        shape = (meta["batch"], width, steps, 4, 4)
        x = procedural.sample(meta["salt"], f"input/map{steps}", shape).transpose(0, 2, 3, 4, 1)
    model = ClassificationModel(
        Given(width, None if steps is None else _pooling(width, shapes)),
        meta["classes"],
        ("video",),
        l2_norm=case.endswith("_l21"),
        norm=NORM if "classifier.0.weight" in shapes else None,
        name="classifier",
    )
    model.build((None, *x.shape[1:]))
    salt = f"{meta['salt']}{case}/"

    def stored(name: str) -> np.ndarray:
        return procedural.value(salt, name, shapes[name])

    procedural.fill(model.variables, _names(model), stored, list(shapes))
    logits = model(x)["logits"]
    yield absolute(f"{case}/logits", logits, arrays[f"{case}/logits"], SMALL)
    labels = np.eye(meta["classes"], dtype=np.float32)[arrays["labels"]]
    loss = classification.softmax_loss(logits, labels)
    yield absolute(f"{case}/loss", loss, arrays[f"{case}/loss"], LOSS)


def _pooling(width: int, shapes: Mapping[str, Any]) -> TemporalPooling:
    """Two layers, four heads, eight steps: that of all evaluations."""
    layers = {match[1] for name in shapes if (match := re.search(r"transformer\.(\d+)\.", name))}
    return TemporalPooling(
        width,
        num_layers=len(layers),
        num_heads=4,
        steps=8,
        positions=any("pos_embs" in name for name in shapes),
        project_values=any("v_lin" in name for name in shapes),
        name="pooling",
    )


def _names(model: ClassificationModel) -> dict[str, str]:
    """Returns {variable path: published name} of a classifier on `Given`."""
    pooling, norm = model.backbone.pooling, model.classification_norm
    names = {}
    if pooling is not None:
        names = published.layer_names(pooling, published.POOLING, "pooling_arch.2")
    for layer, place in ((norm, ".0"), (model.classification, "" if norm is None else ".1")):
        for variable in [] if layer is None else layer.variables:
            names[variable.path] = f"classifier{place}.{TORCH_LEAVES[variable.name]}"
    return names


HANDLERS = {"finetune_models.npz": finetune_models_file}
