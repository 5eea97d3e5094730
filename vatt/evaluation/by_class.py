"""Figures of a classifier over all clips and of each class, from logits [clips, classes]."""

from __future__ import annotations

import dataclasses

import numpy as np

from vatt.evaluation import metrics

MATRIX_CLASSES = 1000  # a confusion matrix of more classes is not kept

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was found.

    Attributes:
      values: figures over all clips by name.
      chance: what guessing reaches of some of them.
      arrays: `classes/...` and `confusion` of the artefact (`vatt.evaluation.classification`).
    """

    values: dict[str, float]
    chance: dict[str, float]
    arrays: Arrays


def single_label(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """Accuracies, and per class what is confused with what, of clips with one label each.

    Args:
      logits: [clips, classes]; NaN where not finite.
      labels: uint8 [clips, classes].
    """
    classes, labelled = labels.shape[1], labels.any(axis=1)
    logits, truth = logits[labelled], labels[labelled].argmax(axis=1)
    values = {f"top_{k}_accuracy": metrics.top_k_accuracy(logits, truth, k) for k in (1, 5)}
    broken = np.isnan(logits).any(axis=1)
    predicted = classes - 1 - np.where(broken[:, None], 0, logits)[:, ::-1].argmax(axis=1)
    clips = np.bincount(truth, minlength=classes)
    right = np.bincount(truth[(predicted == truth) & ~broken], minlength=classes)
    accuracy = np.divide(right, clips, out=np.full(classes, np.nan), where=clips > 0)
    accuracy[truth[broken]] = np.nan
    values["mean_class_accuracy"] = metrics.mean(accuracy[clips > 0])
    largest = np.sort(clips)[::-1] / max(len(truth), 1)
    chance = {f"top_{k}_accuracy": float(largest[:k].sum()) for k in (1, 5)}
    if not labelled.all():
        values["clips_without_label"] = float(np.sum(~labelled))

    confused = _confusions(truth[~broken], predicted[~broken], classes)
    return Figures(values, chance, {"classes/accuracy": accuracy, **confused})


def _confusions(truth: np.ndarray, predicted: np.ndarray, classes: int) -> Arrays:
    """Per class the most frequent wrong answer, and who was taken for whom."""
    pairs, counts = np.unique(truth * classes + predicted, return_counts=True)
    of, into = pairs // classes, pairs % classes
    confused_with, confused_clips = np.full(classes, -1, np.int64), np.zeros(classes, np.int64)
    for row in np.argsort(counts, kind="stable"):  # so that the most frequent one is written last
        if of[row] != into[row]:
            confused_with[of[row]], confused_clips[of[row]] = into[row], counts[row]
    arrays = {"classes/confused_with": confused_with, "classes/confused_clips": confused_clips}
    if classes <= MATRIX_CLASSES:
        arrays["confusion"] = np.zeros((classes, classes), np.int32)
        arrays["confusion"][of, into] = counts
    return arrays


def multilabel(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """mAP, AUC and d' with their values per class, of clips with any number of labels.

    A class in perfect order has an infinite d' (published), and with it the mean of all classes; it
    counts here as if half of one pair of a positive and a negative were in the wrong order.

    Args:
      logits: [clips, classes]; NaN where not finite. Unlike probabilities they have no ties where
        a sigmoid saturates.
      labels: uint8 [clips, classes].
    """
    by_class = metrics.multilabel_scores(logits, labels)
    prevalence = labels.mean(axis=0)
    kept = (prevalence > 0) & (prevalence < 1)
    pairs = np.maximum(labels.sum(axis=0, dtype=float) * (1 - labels).sum(axis=0, dtype=float), 1)
    area = np.clip(by_class["AUC"], 0.5 / pairs, 1 - 0.5 / pairs)
    by_class["d-prime"] = metrics.d_prime(area)
    means = {"mAP": by_class["AP"], "AUC": by_class["AUC"], "d-prime": by_class["d-prime"]}
    values = {f"sklearn_{name}": metrics.mean(array[kept]) for name, array in means.items()}
    total = metrics.mean(by_class["AUC"][kept])
    values["d-prime_of_mean_AUC"] = float(metrics.d_prime(np.array(total)))
    values["classes_left_out"] = float(np.sum(~kept))
    chance = {"sklearn_mAP": metrics.mean(prevalence[kept])}
    return Figures(values, chance, {f"classes/{name}": array for name, array in by_class.items()})
