"""What a classifier says of each clip: probabilities, best classes, the table of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np

TOP = 5
THRESHOLD = 0.5  # probability from which on a class counts as heard or seen


def log_probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logarithms of the softmax or, with several labels, sigmoid: float64 [rows, classes]."""
    logits = np.asarray(logits, np.float64)
    if multi_label:
        with np.errstate(invalid="ignore"):  # NaN stays NaN, and no news
            return -np.logaddexp(0.0, -logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def best_first(logits: np.ndarray) -> np.ndarray:
    """Classes of each row, the best first; of equal logits the higher class, as in `metrics`."""
    return np.argsort(logits, axis=1, kind="stable")[:, ::-1]


def table(predictions: Mapping[str, np.ndarray], multi_label: bool) -> str:
    """The predictions as a table, one line per clip.

    `prediction` is the best class or, with several labels per clip, all from probability 0.5
    on, joined by "|" as the labels are. Clips with a logit that is not finite have none.
    `correct`, 0 or 1, is empty with several labels per clip, and for a clip without label.
    """
    names = predictions["class_names"].tolist()
    best = range(1, min(TOP, len(names)) + 1)
    head = ["index", "source", "label", "prediction", "correct", "probability"]
    head += [f"{column}_{place}" for place in best for column in ("class", "probability")]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for clip, logits in enumerate(predictions["logits"]):
        truth = np.flatnonzero(predictions["labels"][clip])
        row = {name: predictions[name][clip] for name in ("index", "source")}
        row["label"] = "|".join(names[which] for which in truth)
        predicted = np.zeros(0, np.int64)
        if np.isfinite(logits).all():
            shares = np.exp(log_probabilities(logits[None], multi_label)[0])
            order = best_first(logits[None])[0, :TOP]
            predicted = np.flatnonzero(shares >= THRESHOLD) if multi_label else order[:1]
            row["prediction"] = "|".join(names[which] for which in predicted)
            row["probability"] = "|".join(f"{shares[which]:.6g}" for which in predicted)
            row |= {f"class_{place}": names[order[place - 1]] for place in best}
            row |= {f"probability_{p}": f"{shares[order[p - 1]]:.6g}" for p in best}
        if len(truth) and not multi_label:
            row["correct"] = int(predicted.tolist() == [truth[0]])
        writer.writerow(row)
    return text.getvalue()
