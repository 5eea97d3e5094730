"""Losses, mixup and figures of classifiers: parts of several golden files."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tests.golden.checks import Arrays, Check, Checks, Note, absolute
from tests.golden.gdt.recipe import Given
from vatt.data import mixing, pipeline
from vatt.evaluation import by_class, metrics
from vatt.methods.av_mae.config import ModelConfig
from vatt.methods.av_mae.objective import ReconstructionLoss
from vatt.modeling.classifier import ClassificationModel
from vatt.objectives import classification

LOSS = 1e-5  # absolute and relative
MIXED = 1e-6
FIGURES = 1e-6


def close(name: str, ours: float, reference: float) -> Check:
    """Compares losses, absolutely below 1 and relatively above."""
    scale = max(abs(float(reference)), 1.0)
    return absolute(name, float(ours) / scale, np.asarray(reference) / scale, LOSS)


def losses_file(arrays: Arrays) -> Checks:
    """`losses_mixup_metrics.npz`: losses of classifiers, mixup, figures, views."""
    yield from _losses(arrays)
    yield from _distances(arrays)
    yield from _mixup(arrays)
    yield from _figures(arrays, "map")
    for name in arrays:
        if found := re.fullmatch(r"views/mean(\d+)", name):
            ours = averaged(arrays["views/logits"], int(found[1]))
            yield absolute(name, ours, arrays[name], FIGURES)


def metrics_file(arrays: Arrays) -> Checks:
    """`metrics_extra.npz`: accuracies and losses of weighted rows, views, scores with ties."""
    yield from _top_k(arrays)
    views, model = arrays["views/in"], {"logits": False, "softmax": True}
    for kind, probabilities in model.items():
        ours = averaged(views, len(views), probabilities)
        expected = arrays[f"views/{kind}_mean"]
        ours = np.asarray(tf.nn.softmax(ours)) if probabilities else ours
        yield absolute(f"views/{kind}_mean", ours, expected, FIGURES)
    yield from _figures(arrays, "map_ties")


# Losses ------------------------------------------------------------------------------------------


def of_rows(kind: str, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the loss of every row: the mean over any rows is what is minimised."""

    def one(row: int) -> float:
        pair = [tf.constant(x[row : row + 1], tf.float32) for x in (logits, labels)]
        if kind == "softmax":
            return float(classification.softmax_loss(*pair))
        return float(classification.sigmoid_loss(*pair, rarity=False))

    return np.array([one(row) for row in range(len(logits))])


def weighted(losses: np.ndarray, weights: np.ndarray | None) -> float:
    """Returns the published mean over rows, by what the batch mask says."""
    if weights is None:
        return float(np.mean(losses))
    return float(np.sum(weights * losses) / (np.sum(weights) + 1e-8))


def _losses(arrays: Arrays) -> Checks:
    logits = arrays["logits"]
    for name in arrays:
        found = re.fullmatch(r"(sigmoid|softmax)/ls(None|[\d.]+)/(none|weights)", name)
        if not found:
            continue
        kind, smoothing, weights = found.groups()
        labels = arrays["onehot" if kind == "softmax" else "multihot"]
        share = 0.0 if smoothing == "None" else float(smoothing)
        labels = np.asarray(pipeline.smooth_labels(labels, share)) if share else labels
        rows = of_rows(kind, logits, labels)
        ours = weighted(rows, None if weights == "none" else arrays["weights"])
        yield close(name, ours, arrays[name])
        if weights == "none":  # of a whole batch, as in training
            loss = classification.softmax_loss(logits, labels)
            if kind == "sigmoid":
                loss = classification.sigmoid_loss(logits, labels, rarity=False)
            yield close(f"{name}, at once", loss, arrays[name])


def _distances(arrays: Arrays) -> Checks:
    """The mean squared distance of pre-training, summed over the values of a token."""
    if "mse/value" not in arrays:
        return
    loss = ReconstructionLoss(ModelConfig(modalities=("audio",)))
    outputs = {"predicted": arrays["mse/pred"], "masked": arrays["mse/mask"]}
    found = loss.of_modality("audio", arrays["mse/target"], outputs)
    yield close("mse/value", found["mean_squared_error_audio"], arrays["mse/value"])


# Mixup -------------------------------------------------------------------------------------------


def _mixup(arrays: Arrays) -> Checks:
    cases = sorted({match[1] for name in arrays if (match := re.match(r"(mixup/mixmod\d)/", name))})
    for case in cases:
        labels = arrays[f"{case}/in_labels"]
        apart = case.endswith("1")
        weights = arrays[f"{case}/weights"]
        prefix = f"{case}/in_"
        modalities = sorted(n.removeprefix(prefix) for n in arrays if n.startswith(prefix))
        modalities.remove("labels")
        for place, modality in enumerate(modalities):
            share = tf.constant(weights[place : place + 1] if apart else weights[:1])
            how = (share, tf.range(len(labels))[::-1])
            for of, x in ((modality, arrays[prefix + modality]), (f"label_{modality}", labels)):
                name = f"{case}/out_{of}"
                yield absolute(name, mixing.mixed(tf.constant(x), *how), arrays[name], MIXED)
        if (name := f"{case}/out_label_all") in arrays:
            share = tf.constant(weights[:1])
            found = mixing.mixed(tf.constant(labels), share, tf.range(len(labels))[::-1])
            yield absolute(name, found, arrays[name], MIXED)


# Figures -----------------------------------------------------------------------------------------


def _figures(arrays: Arrays, case: str) -> Checks:
    scores, labels = arrays[f"{case}/logits"], arrays[f"{case}/labels"]
    found = by_class.multilabel(scores, labels)
    areas = found.arrays["classes/AP"]
    for number, ours in enumerate(areas):
        name = f"{case}/per_class_average_precision_{number}"
        if name in arrays and np.isfinite(ours):
            yield absolute(name, ours, arrays[name], FIGURES)
    ours = {
        "nanmean_average_precision": found.values["sklearn_mAP"],
        "mAP": found.values["sklearn_mAP"],
        "AUC": found.values["sklearn_AUC"],
        "d-prime": found.values["d-prime_of_mean_AUC"],
    }
    if found.values["classes_left_out"]:
        yield Note(f"{case}: classes with or without all clips are left out of our means")
        ours = {name: ours[name] for name in ("nanmean_average_precision",)}
    for name, value in ours.items():
        if f"{case}/{name}" in arrays:
            yield absolute(f"{case}/{name}", value, arrays[f"{case}/{name}"], FIGURES)


def averaged(logits: np.ndarray, views: int, probabilities: bool = False) -> np.ndarray:
    """Returns what a classifier makes of the logits of so many views of each clip."""
    width = logits.shape[1]
    model = ClassificationModel(
        Given(width),
        width,
        ("video",),
        num_test_samples=views,
        average_probabilities=probabilities,
        name="classifier",
    )
    model.build((None, width))
    model.classification.kernel.assign(np.eye(width))
    return np.asarray(model(logits)["logits"])


def _top_k(arrays: Arrays) -> Iterator[Check]:
    logits, labels = arrays["topk/logits"], arrays["topk/onehot"]
    truth = labels.argmax(axis=1)

    def right(k: int) -> np.ndarray:
        rows = range(len(logits))
        return np.array(
            [metrics.top_k_accuracy(logits[r : r + 1], truth[r : r + 1], k) for r in rows]
        )

    # Published: a row without label is of class 0 for top-1, and never right for top-5.
    losses = of_rows("softmax", logits, labels)
    for case in ("none", "weights"):
        weights = np.ones(len(logits)) if case == "none" else arrays["topk/weights"]
        ours = {
            "top1_sum": np.sum(right(1) * weights),
            "top5_sum": np.sum(right(5) * weights * labels.any(axis=1)),
            "normaliser": np.sum(weights),
        }
        for name, value in ours.items():
            yield absolute(f"topk/{case}/{name}", value, arrays[f"topk/{case}/{name}"], FIGURES)
        name = f"topk/{case}/loss_sum"
        yield close(name, np.sum(losses * weights), arrays[name])


HANDLERS = {"losses_mixup_metrics*.npz": losses_file, "metrics_extra*.npz": metrics_file}
