"""Learning rates, and accuracy of averaged views: parts of several golden files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tests.golden.checks import Arrays, Check, Checks, absolute
from tests.golden.gdt.objectives import feature_crops
from vatt.configs import experiment
from vatt.evaluation import metrics
from vatt.modeling.classifier import ClassificationModel
from vatt.training import schedules

RATE = 1e-6  # relative, plus 1e-9 absolute
PERCENT = 1e-4  # absolute


def rates_and_views(arrays: Arrays) -> Checks:
    """`lr/*` and `agg/*` of `sampling_augment_schedule.npz`."""
    for name in arrays:
        if name.startswith("lr/"):
            yield by_epoch(name, arrays[name])
    found = of_videos(arrays["agg/logits"], arrays["agg/video_ids"], arrays["agg/labels"])
    yield absolute("agg/top1_top5", found, arrays["agg/top1_top5"], PERCENT)


def schedules_crops_file(arrays: Arrays) -> Checks:
    """`schedules_crops.npz`: learning rates, and boxes of crops of feature maps."""
    options = json.loads(str(arrays["meta"]))["stica"]
    for name in arrays:
        if name.startswith(("gdt/", "finetune/")):
            yield by_epoch(name, arrays[name])
        elif name.startswith("stica/"):
            yield by_step(name, arrays[name], options)
    yield from feature_crops(arrays)


# Learning rates ----------------------------------------------------------------------------------

_BY_EPOCH = re.compile(
    r"base(?P<base>[\d.e-]+)_(?:mult(?P<multiplier>\d+)_warm(?P<warmup>\d+)|nowarm)"
    r"_miles(?P<milestones>[\d,]*)_gamma(?P<gamma>[\d.]+)"
)


def by_epoch(name: str, reference: np.ndarray) -> Check:
    """Compares a schedule of epochs, which its name describes, with the rate of each.

    Published milestones after a warm-up take effect an epoch later than they say.
    """
    found = _BY_EPOCH.search(name)
    warmup = int(found["warmup"] or 0)
    late = int(found["warmup"] is not None)
    milestones = [int(epoch) + late for epoch in found["milestones"].split(",") if epoch]
    steps = 3  # of an epoch
    config = experiment.MultiStepLearningRate(
        learning_rate_base=float(found["base"]),
        total_steps=steps * len(reference),
        steps_per_epoch=steps,
        warmup_epochs=warmup,
        multiplier=float(found["multiplier"] or 1),
        milestones=tuple(milestones),
        gamma=float(found["gamma"]),
    )
    return _rates(name, config, np.repeat(reference, steps))


def by_step(name: str, reference: np.ndarray, options: Mapping[str, Any]) -> Check:
    """Compares a schedule with warm-up by steps; its name says what follows."""
    steps = options["steps_per_epoch"]
    config = experiment.LinearWarmupLearningRate(
        learning_rate_base=options["base"],
        total_steps=steps * options["epochs"],
        warmup_learning_rate=options["start"],
        warmup_steps=steps * options["warmup_epochs"],
        final_learning_rate=options["final"] if name.endswith("cosine") else None,
    )
    return _rates(name, config, reference)


def _rates(name: str, config: experiment.LearningRate, reference: np.ndarray) -> Check:
    steps = np.arange(len(reference))
    ours = np.broadcast_to(np.asarray(schedules.build(config)(steps), np.float64), reference.shape)
    excess = np.abs(ours - reference) - 1e-9
    worst = np.max(excess / np.maximum(np.abs(reference), 1e-30))
    return Check(name, max(float(worst), 0.0), RATE)


# Views -------------------------------------------------------------------------------------------


def accuracies(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """Returns top-1 and top-5 accuracy in percent."""
    return [100.0 * metrics.top_k_accuracy(logits, labels, k) for k in (1, 5)]


def of_videos(logits: np.ndarray, video_ids: np.ndarray, labels: np.ndarray) -> list[float]:
    """Returns accuracies of videos, whose views a classifier of ours averages."""
    videos, counts = np.unique(video_ids, return_counts=True)
    width, means = logits.shape[1], []
    for video, count in zip(videos, counts, strict=True):
        model = ClassificationModel(
            Given(width), width, ("video",), num_test_samples=int(count), name="classifier"
        )
        model.build((None, width))
        model.classification.kernel.assign(np.eye(width))
        means.append(np.asarray(model(logits[video_ids == video])["logits"]))
    return accuracies(np.concatenate(means), labels[videos])


class Given(keras.layers.Layer):
    """A backbone whose inputs are its features, pooled if it has something to pool them with."""

    def __init__(self, features_dim: int, pooling: keras.layers.Layer | None = None) -> None:
        super().__init__(name="video")
        self.features_dim, self.pooling = features_dim, pooling

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.pooling is not None:
            self.pooling.build(input_shape)

    def call(self, x: Any, training: bool = False, rng: Any = None) -> dict[str, Any]:
        pooled = x if self.pooling is None else self.pooling(x, training=training, rng=rng)
        return {"features_pooled": pooled, "features": x}


HANDLERS = {"schedules_crops.npz": schedules_crops_file}
