"""Evaluation of a classifier on one data set: collect logits by batches, then score and illustrate.

    scores = Classification("toy_actions", labels=card.labels, modality="video", multi_label=False)
    for batch in batches:                     # NumPy dicts of pipeline.evaluation_batches
        scores.add(batch, logits)             # logits [B, classes], averaged over windows
    result = scores.result()
    published_names(result.measures)["top_1_accuracy"]
    result.save(model_dir, step=2000)         # eval/toy_actions-2000.npz for the report,
                                              # predictions/toy_actions-2000.csv and .npz

Figures, by how many labels a clip can have:

    one       top_1_accuracy, top_5_accuracy (chance: shares of the largest class and of the five
              largest, which is what always giving these answers scores), mean_class_accuracy,
              categorical_cross_entropy (of the softmax, in nats), clips_without_label if there are
              any
    several   sklearn_mAP (chance: mean share of positives), sklearn_AUC, sklearn_d-prime (mean of
              the classes, VATT), d-prime_of_mean_AUC (AV-MAE), classes_left_out (without
              positives or without negatives), binary_cross_entropy (of
              the sigmoid, mean over clips and classes)

Every clip with valid = 1 counts once, whatever the batch size. A clip without label has no part in
the accuracies. Of several labels of a clip in a set that gives each one, the first is what top-k
looks for (published). Equal logits: the higher class first, as in `metrics.top_k_accuracy`. A logit
that is not finite is never right: it turns the figures that need it into NaN.

The arrays of the artefact (C classes, M mistakes), written by `vatt.evaluation.artefacts`:

    dataset, modality, multi_label, step, num_clips, num_broken   scalars; broken: with such a logit
    classes/name unicode [C], classes/clips int64 [C]
    classes/accuracy float64 [C], classes/confused_with int64 [C] (the most frequent wrong answer,
        -1: none), classes/confused_clips int64 [C]               one label per clip
    classes/AP, classes/AUC, classes/d-prime float64 [C]          several; NaN: class left out
    confusion int32 [true, predicted]                             one label, up to 1000 classes
    mistakes/kind unicode [M]           "wrong", or "false alarm" and "miss" with several labels
    mistakes/class int64 [M]            the wrong answer, or the class that is missed
    mistakes/index int64 [M], mistakes/source unicode [M], mistakes/label uint8 [M, C],
        mistakes/probability float32 [M, C], mistakes/silent bool [M] (a record without sound)
    clips/jpeg, clips/jpeg_offsets      as of a retrieval artefact: frames of each mistake
    mistakes/envelope float16 [M, bins, 2], mistakes/spectrogram uint8 [M, frequency, time]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts, by_class, measures, metrics, predictions
from vatt.evaluation.measures import Measure
from vatt.evaluation.mistakes import Answer, Mistakes
from vatt.files import replace_text

VIDEO, AUDIO = "video", "audio"

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClassificationResult:
    """Measures, the artefact of the report, and what was predicted for each clip.

    `predictions`: index int64 [clips], source unicode [clips], logits float32 and labels uint8
    [clips, classes], class_names unicode [classes].
    """

    dataset: str
    multi_label: bool
    measures: list[Measure]
    artefact: Arrays
    predictions: Arrays

    def save(self, model_dir: Path | str, step: int) -> Path:
        """Writes artefact and predictions into folders of `model_dir`; returns the artefact's path.

        The files are `eval/<dataset>-<step>.npz`, `predictions/<dataset>-<step>.npz` and `.csv`.
        """
        model_dir, stem = Path(model_dir), f"{self.dataset}-{int(step)}"
        artefacts.save(model_dir / "predictions" / f"{stem}.npz", self.predictions)
        replace_text(model_dir / "predictions" / f"{stem}.csv", self.table())
        path = model_dir / "eval" / f"{stem}.npz"
        return artefacts.save(path, self.artefact | {"step": np.int64(step)})

    def table(self) -> str:
        """The predictions as CSV, see `vatt.evaluation.predictions.table`."""
        return predictions.table(self.predictions, self.multi_label)


class Classification:
    """Accumulates one pass over a labelled set.

    What it keeps per clip are logits, labels and the source; pictures only of the mistakes that are
    among the worst so far.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        labels: Sequence[str] | None = None,
        modality: str,
        multi_label: bool = False,
        split: str = "test",
        fold: str = "",
    ) -> None:
        """Starts an evaluation.

        Args:
          dataset_name: in measures and in names of files.
          labels: class names in order; those that are missing are named by their number.
          modality: what is classified, and so what mistakes are pictured by: "video" (also
            pictures), "audio", or both, joined by "+".
          multi_label: whether a clip can have several labels (sigmoid) or has one (softmax), as
            the card of the set says.
          split: that is measured.
          fold: number of the fold it belongs to; empty in sets without folds.
        """
        if not {VIDEO, AUDIO}.issuperset(modality.split("+")):
            raise ValueError(f"modality is {modality!r}; accepted: {VIDEO!r}, {AUDIO!r}, or both")
        self.dataset, self._split, self._modality = dataset_name, split, modality
        self._fold = fold
        self._multi_label = multi_label
        self._given_names = [str(name) for name in labels or ()]
        self._index: list[int] = []
        self._source: list[str] = []
        self._logits: list[np.ndarray] = []  # float32 [B, classes] each
        self._labels: list[np.ndarray] = []  # uint8 [B, classes] each
        self._losses: list[np.ndarray] = []  # cross-entropies, float64 [B] each
        self._mistakes = Mistakes(multi_label=multi_label, modality=modality)

    def __len__(self) -> int:
        return len(self._index)

    def add(self, batch: Mapping[str, np.ndarray], logits: np.ndarray) -> None:
        """Adds the valid rows of one batch.

        Args:
          batch: `label` [B, classes] of 0 and 1; optional `valid` [B], `index` int [B], `source`
            bytes [B] and, for pictures of mistakes, `thumbnail` uint8 [B, frames, h, w, 3],
            `audio` [B, windows, samples, 1] or [B, windows, time, mel, 1], `audio_mask` [B].
          logits: [B, classes], before softmax or sigmoid.

        Raises:
          ValueError: shapes that do not fit together or differ from those of earlier batches, or
            labels other than 0 and 1.
        """
        logits = np.asarray(logits, np.float32)
        labels, valid = self._checked(batch, logits)
        keep = np.flatnonzero(valid > 0.5)
        logits, labels = logits[keep], labels[keep].astype(np.uint8)
        known = np.where(np.isfinite(logits), logits, np.nan)
        scores = predictions.log_probabilities(known, self._multi_label)  # [rows, classes]
        losses = -np.sum(labels * scores, axis=1)
        if self._multi_label:
            others = predictions.log_probabilities(-known, self._multi_label)
            losses = -np.mean(np.where(labels, scores, others), axis=1)
        first = len(self)
        index, source = batch.get("index"), batch.get("source")
        self._index += [
            first + n if index is None else int(index[row]) for n, row in enumerate(keep)
        ]
        self._source += ["" if source is None else _text(source[row]) for row in keep]
        self._logits.append(logits)
        self._labels.append(labels)
        self._losses.append(losses)
        for n, row in enumerate(keep):
            if not np.isnan(known[n]).any():
                number = first + n
                clip = self._index[number], self._source[number], known[n], scores[n], labels[n]
                self._mistakes.add(Answer(number, *clip), batch, row)

    def result(self) -> ClassificationResult:
        """Measures, artefact and predictions of everything added.

        Raises:
          ValueError: nothing valid was added.
        """
        if not len(self):
            raise ValueError(f"{self.dataset}: no valid clip was added, nothing to evaluate")
        logits, labels = np.concatenate(self._logits), np.concatenate(self._labels)
        names = np.array(self._names(labels.shape[1]), dtype=np.str_)
        known = np.where(np.isfinite(logits), logits, np.float32(np.nan))
        losses = np.concatenate(self._losses)
        if self._multi_label:
            found = by_class.multilabel(known, labels)
            entropy = {"binary_cross_entropy": float(np.mean(losses))}
        else:
            found = by_class.single_label(known, labels)
            entropy = {"categorical_cross_entropy": metrics.mean(losses[labels.any(axis=1)])}
        arrays: Arrays = {
            "dataset": np.array(self.dataset),
            "modality": np.array(self._modality),
            "multi_label": np.bool_(self._multi_label),
            "num_clips": np.int64(len(self)),
            "num_broken": np.int64(np.sum(~np.isfinite(logits).all(axis=1))),
            "classes/name": names,
            "classes/clips": labels.sum(axis=0, dtype=np.int64),
        }
        predicted = {
            "index": np.array(self._index, np.int64),
            "source": np.array(self._source, dtype=np.str_),
            "logits": logits,
            "labels": labels,
            "class_names": names,
        }
        return ClassificationResult(
            self.dataset,
            self._multi_label,
            self._measures(found.values | entropy, found.chance),
            arrays | found.arrays | self._mistakes.arrays(),
            predicted,
        )

    def _measures(self, values: dict[str, float], chance: dict[str, float]) -> list[Measure]:
        return [
            Measure(
                self.dataset,
                measures.CLASSIFICATION,
                name,
                value,
                split=self._split,
                fold=self._fold,
                target=self._modality,
                chance=chance.get(name),
                samples=len(self),
            )
            for name, value in values.items()
        ]

    def _checked(
        self, batch: Mapping[str, np.ndarray], logits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels and validity of a batch that fits `logits`, as of `add`."""
        if batch.get("label") is None:
            raise ValueError(f"{self.dataset}: the batch has no 'label', there is nothing to score")
        labels = np.asarray(batch["label"])
        valid = np.asarray(batch.get("valid", np.ones(len(labels))))
        if logits.ndim != 2 or logits.shape != labels.shape or valid.shape != logits.shape[:1]:
            raise ValueError(
                f"{self.dataset}: logits have shape {logits.shape}, labels {labels.shape} and "
                f"valid {valid.shape}; accepted: [rows, classes] twice, then [rows]"
            )
        classes = logits.shape[1]
        if self._logits and self._logits[0].shape[1] != classes:
            raise ValueError(
                f"{self.dataset}: this batch has {classes} classes, those before had "
                f"{self._logits[0].shape[1]}"
            )
        if len(self._given_names) > classes:
            raise ValueError(
                f"{self.dataset}: {len(self._given_names)} class names for {classes} classes"
            )
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"{self.dataset}: labels hold values other than 0 and 1: neither smoothed nor "
                "mixed ones can be scored"
            )
        return labels, valid

    def _names(self, classes: int) -> list[str]:
        names = self._given_names + [""] * (classes - len(self._given_names))
        return [name or f"class {number}" for number, name in enumerate(names)]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
