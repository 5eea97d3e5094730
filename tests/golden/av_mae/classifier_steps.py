"""Steps of fine-tuning: layer-wise rates, clipping by the norm of all, momentum, learning rates."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import tensorflow as tf

from tests.golden.av_mae.pretraining import near
from tests.golden.checks import Arrays, Checks, absolute
from vatt.configs import experiment
from vatt.configs.multimodal import MBTBase
from vatt.methods.av_mae import fine_tuned
from vatt.modeling.factory import build_classifier
from vatt.training import optimizers, schedules, updates

STEP = (2e-6, 1e-5)
RATE = 1e-6  # of the largest rate
SHARE = 1e-12
# Of `schedules.npz`, which does not say them.
AUDIOSET = {
    "base_learning_rate": 1.6,
    "steps_per_epoch": 3976,
    "epochs": 50,
    "warmup_epochs": 2.5,
}


def published_scales(layers: int, decay: float) -> dict[str, float]:
    """Returns factors of the learning rate by published name, of every variable there may be."""
    found: dict[str, float] = {}
    for pooling in ("token", "mean"):
        config = MBTBase(
            d_model=4,
            num_heads=2,
            d_kv=2,
            d_ff=4,
            num_layers=layers,
            fusion_layer=0,
            spatial_patch_size=2,
            pooling=pooling,
            modality_vectors=True,
            cls_representation=4,
        )
        model = build_classifier(config, num_classes=3, multi_label=True)
        model.build({"video": (None, 2, 2, 2, 3), "audio": (None, 16, 16, 1)})
        scales = optimizers.layer_scales(model.backbone, decay)
        names = fine_tuned.classifier_names(model)
        found |= {name: scales.get(path, 1.0) for path, name in names.items()}
    return found


def optimiser_file(arrays: Arrays) -> Checks:
    """The part `finetune` of `optimiser_steps*.npz`."""
    if "finetune/meta" not in arrays:
        return
    meta = json.loads(str(arrays["finetune/meta"]))
    rate = schedules.CosineDecay(
        meta["base_learning_rate"], meta["total_steps"], 0.0, meta["warmup_steps"]
    )
    optimizer = updates.TorchSGD(rate, meta["momentum"])
    first = "finetune/w0/"
    names = [name.removeprefix(first) for name in arrays if name.startswith(first)]
    variables = [
        keras.Variable(arrays[first + name], name=name.replace("/", ".")) for name in names
    ]
    scales = published_scales(meta["num_layers"], meta["layerwise_decay"])
    pairs = zip(names, variables, strict=True)
    optimizer.build(variables, {variable.path: scales[name] for name, variable in pairs})
    for step, expected in enumerate(arrays["finetune/base_lr"]):
        tolerance = RATE * meta["base_learning_rate"]
        yield absolute(f"finetune/base_lr {step}", optimizer.rate_at(step), expected, tolerance)
        gradients = [tf.constant(arrays[f"finetune/grad{step}/{name}"]) for name in names]
        norm = tf.linalg.global_norm(gradients)
        stored = arrays["finetune/grad_norm_before_clip"][step]
        yield near(f"finetune/grad_norm_before_clip {step}", norm, np.asarray(stored), STEP)
        if meta["max_grad_norm"]:
            gradients, _ = tf.clip_by_global_norm(gradients, meta["max_grad_norm"], norm)
        optimizer.apply(gradients, variables)
        for name, variable in zip(names, variables, strict=True):
            key = f"finetune/w{step + 1}/{name}"
            yield near(key, variable, arrays[key], STEP)


def schedules_file(arrays: Arrays) -> Checks:
    """Fine-tuning in `schedules*.npz`: learning rates, and their layer-wise factors."""
    for name in sorted(arrays):
        if re.match(r"finetune_\w+/lr$", name):
            yield from _rates(name, arrays)
        elif name.endswith("/multipliers_json"):
            yield from _multipliers(name, json.loads(str(arrays[name])))


def _rates(name: str, arrays: Arrays) -> Checks:
    case = name.rpartition("/")[0]
    meta = f"{case}/meta"
    meta = json.loads(str(arrays[meta])) if meta in arrays else AUDIOSET
    epoch, base = meta["steps_per_epoch"], meta["base_learning_rate"]
    total, warmup = round(epoch * meta["epochs"]), epoch * meta["warmup_epochs"]
    if warmup == int(warmup):
        config = experiment.CosineDecayLearningRate(
            learning_rate_base=base, warmup_steps=int(warmup), total_steps=total
        )
        schedule = schedules.build(config)
    else:
        schedule = schedules.CosineDecay(base, total, 0.0, warmup)
    steps = arrays[f"{case}/steps"]
    inside = steps < total  # published: it begins again after the last step
    found = np.array([float(schedule(step)) for step in steps[inside]])
    yield absolute(name, found, arrays[name][inside], RATE * base)


def _multipliers(name: str, expected: dict[str, float]) -> Checks:
    decay = float(re.search(r"decay([\d.]+)/", name)[1])
    layers = int(re.search(r"num_layers(\d+)/", name)[1])
    scales = published_scales(layers, decay)
    for parameter, value in expected.items():
        found = scales[parameter]
        yield absolute(f"{name} {parameter}", found, np.asarray(value), SHARE)


HANDLERS = {"optimiser_steps*.npz": optimiser_file, "schedules*.npz": schedules_file}
