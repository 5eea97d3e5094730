"""How scores of clips are held against their labels, which are classes or many-hot rows.

truth = checked_labels("toy_actions", "test", one_hot, multi_label=False)   # int64 [clips]
scores_of(scores, truth, multi_label=False)    # {"top_1_accuracy": .4, "top_5_accuracy": .9}
chance(truth, classes=8, multi_label=False)    # {"top_1_accuracy": .125, ...}
"""

from __future__ import annotations

import math

import numpy as np

from vatt.errors import DataError
from vatt.evaluation import metrics

TOP = (1, 5)


def checked_labels(name: str, split: str, labels: np.ndarray, multi_label: bool) -> np.ndarray:
    """Class numbers int64 [clips] of one-hot labels; many-hot labels as uint8 [clips, classes].

    Raises:
      DataError: values other than 0 and 1, or clips without a label or with several ones in a
        set that gives each clip one.
    """
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{name}: {split} labels hold values other than 0 and 1")
    if multi_label:
        return labels.astype(np.uint8)
    count = labels.sum(axis=1)
    for wrong, what in ((count == 0, "no label"), (count > 1, "several labels")):
        if wrong.any():
            raise DataError(
                f"{name}: {wrong.sum()} of {len(count)} {split} clips have {what}, the first is "
                f"number {wrong.argmax()}; accepted: one each, unless the card says "
                "'multi_label: true'"
            )
    return labels.argmax(axis=1)


def scores_of(scores: np.ndarray, labels: np.ndarray, multi_label: bool) -> dict[str, float]:
    """top_1_accuracy and top_5_accuracy or, with several labels, mAP, AUC and d-prime.

    Args:
      scores: [clips, classes].
      labels: of `checked_labels`.
      multi_label: which of both.
    """
    if not multi_label:
        return {f"top_{k}_accuracy": metrics.top_k_accuracy(scores, labels, k) for k in TOP}
    values = metrics.multilabel_metrics(scores, labels)
    return {name: values[name] for name in ("mAP", "AUC", "d-prime")}


def chance(labels: np.ndarray, classes: int, multi_label: bool) -> dict[str, float]:
    """What `scores_of` expects of random scores; about, for mAP: the share of positives."""
    if not multi_label:
        return {f"top_{k}_accuracy": min(1.0, k / classes) for k in TOP}
    share = labels.mean(axis=0)
    rankable = (share > 0) & (share < 1)
    return {"mAP": float(share[rankable].mean()) if rankable.any() else math.nan}
