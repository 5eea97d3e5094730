"""What a classifier says of each clip: probabilities, best classes, the table of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

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


def of_windows(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Probabilities of the mean of the windows' logits [windows, classes]: float64 [classes]."""
    return np.exp(log_probabilities(logits.mean(axis=0)[None], multi_label)[0])


def columns(top: int, classes: int) -> list[str]:
    """The columns that `cells` fills."""
    best = range(1, min(top, classes) + 1)
    pairs = [f"{column}_{place}" for place in best for column in ("class", "probability")]
    return ["prediction", "probability", *pairs]


def predicted(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Classes that logits [classes] predict: the best or, with several, all from probability 0.5.

    A logit that is not finite predicts nothing.
    """
    if not np.isfinite(logits).all():
        return np.zeros(0, np.int64)
    if multi_label:
        return np.flatnonzero(np.exp(log_probabilities(logits[None], True)[0]) >= THRESHOLD)
    return best_first(logits[None])[0, :1]


def cells(
    logits: np.ndarray, names: Sequence[str], multi_label: bool, top: int = TOP
) -> dict[str, str]:
    """What a table says of logits [classes], by column; nothing where one is not finite.

    `prediction` is what is `predicted`, joined by "|", `probability` how probable each is.
    """
    if not np.isfinite(logits).all():
        return {}
    shares = np.exp(log_probabilities(logits[None], multi_label)[0])
    chosen = predicted(logits, multi_label)
    row = {
        "prediction": "|".join(names[which] for which in chosen),
        "probability": "|".join(f"{shares[which]:.6g}" for which in chosen),
    }
    for place, which in enumerate(best_first(logits[None])[0, :top], start=1):
        row |= {f"class_{place}": names[which], f"probability_{place}": f"{shares[which]:.6g}"}
    return row


def table(predictions: Mapping[str, np.ndarray], multi_label: bool) -> str:
    """The predictions as a table, one line per clip; labels are joined by "|" as predictions are.

    `correct`, 0 or 1, is empty with several labels per clip, and for a clip without label.
    """
    names = predictions["class_names"].tolist()
    said = columns(TOP, len(names))
    head = ["index", "source", "label", said[0], "correct", *said[1:]]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for clip, logits in enumerate(predictions["logits"]):
        truth = np.flatnonzero(predictions["labels"][clip])
        row = {name: predictions[name][clip] for name in ("index", "source")}
        row["label"] = "|".join(names[which] for which in truth)
        row |= cells(logits, names, multi_label)
        if len(truth) and not multi_label:
            row["correct"] = int(predicted(logits, multi_label).tolist() == [truth[0]])
        writer.writerow(row)
    return text.getvalue()
