"""Evaluation of a classifier on one data set: collect logits by batches, then score and illustrate.

    scores = Classification("toy_actions", labels=card.labels, modality="video", multi_label=False)
    for batch in batches:                     # NumPy dicts of pipeline.evaluation_batches
        scores.add(batch, logits)             # logits [B, classes], averaged over windows
    result = scores.result()
    result.metrics["top_1_accuracy"]
    result.save(model_dir, step=2000)         # eval/toy_actions-2000.npz for the report,
                                              # predictions/toy_actions-2000.csv and .npz

Metrics:

    video   top_1_accuracy, top_5_accuracy, categorical_cross_entropy (of the softmax, in nats)
    audio   sklearn_mAP, sklearn_AUC, sklearn_d-prime, binary_cross_entropy (of the sigmoid, mean
            over clips and classes), chance_sklearn_mAP (mean share of positives), classes_left_out
            (without positives or without negatives); top_1_accuracy and top_5_accuracy as well if
            every clip has one label
    both    num_clips; with the accuracies also mean_class_accuracy, chance_top_1_accuracy and
            chance_top_5_accuracy (shares of the largest class and of the five largest, which is
            what always giving these answers scores), clips_without_label if there are any

Every clip with valid = 1 counts once, whatever the batch size. A clip without label has no part in
the accuracies. Of several labels of a clip the first one is what top-k looks for (published). Equal
logits: the higher class first, as in `metrics.top_k_accuracy`. A logit that is not finite is never
right: it turns the metrics that need it into NaN.

The arrays of the artefact (C classes, M mistakes), written by `vatt.evaluation.artefacts`:

    dataset, modality, multi_label, step, num_clips, num_broken   scalars; broken: with such a logit
    classes/name unicode [C], classes/clips int64 [C]
    classes/accuracy float64 [C], classes/confused_with int64 [C] (the most frequent wrong answer,
        -1: none), classes/confused_clips int64 [C]               one label per clip
    classes/AP, classes/AUC, classes/d-prime float64 [C]          audio; NaN: class left out
    confusion int32 [true, predicted]                             one label, up to 1000 classes
    mistakes/kind unicode [M]           "wrong", or "false alarm" and "miss" with several labels
    mistakes/class int64 [M]            the wrong answer, or the class that is missed
    mistakes/index int64 [M], mistakes/source unicode [M], mistakes/label uint8 [M, C],
        mistakes/probability float32 [M, C], mistakes/silent bool [M] (a record without sound)
    clips/jpeg, clips/jpeg_offsets      as of a retrieval artefact: frames of each mistake
    mistakes/envelope float16 [M, bins, 2], mistakes/spectrogram uint8 [M, frequency, time]
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import heapq
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vatt.evaluation import artefacts, metrics
from vatt.files import replace_text

VIDEO, AUDIO = "video", "audio"
MISTAKES = 12  # of each kind
TOP = 5
MATRIX_CLASSES = 1000  # a confusion matrix of more classes is not kept
THRESHOLD = 0.5  # probability from which on a class counts as heard

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClassificationResult:
    """Metrics (name -> value), the artefact of the report, and what was predicted for each clip.

    `predictions`: index int64 [clips], source unicode [clips], logits float32 and labels uint8
    [clips, classes], class_names unicode [classes].
    """

    dataset: str
    modality: str
    multi_label: bool
    metrics: dict[str, float]
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
        """The predictions as a table, one line per clip.

        `prediction` is the best class or, with several labels per clip, all from probability 0.5
        on, joined by "|" as the labels are. Clips with a logit that is not finite have none.
        `correct`, 0 or 1, is empty with several labels per clip, and for a clip without label.
        """
        predictions, names = self.predictions, self.predictions["class_names"].tolist()
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
                shares = np.exp(_log_probabilities(logits[None], self.modality)[0])
                order = _best_first(logits[None])[0, :TOP]
                predicted = np.flatnonzero(shares >= THRESHOLD) if self.multi_label else order[:1]
                row["prediction"] = "|".join(names[which] for which in predicted)
                row["probability"] = "|".join(f"{shares[which]:.6g}" for which in predicted)
                row |= {f"class_{place}": names[order[place - 1]] for place in best}
                row |= {f"probability_{p}": f"{shares[order[p - 1]]:.6g}" for p in best}
            if len(truth) and not self.multi_label:
                row["correct"] = int(predicted.tolist() == [truth[0]])
            writer.writerow(row)
        return text.getvalue()


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
        modality: Literal["video", "audio"],
        multi_label: bool = False,
    ) -> None:
        """Starts an evaluation.

        Args:
            dataset_name: in the names of files.
            labels: class names in order; those that are missing are named by their number.
            modality: "video" (also pictures): softmax; "audio": sigmoid.
            multi_label: whether a clip can have several labels; only sets of sounds can.
        """
        if modality not in (VIDEO, AUDIO):
            raise ValueError(f"modality is {modality!r}; accepted: {VIDEO!r}, {AUDIO!r}")
        self.dataset = dataset_name
        self._modality = modality
        self._single = modality == VIDEO or not multi_label
        self._given_names = [str(name) for name in labels or ()]
        self._index: list[int] = []
        self._source: list[str] = []
        self._logits: list[np.ndarray] = []  # float32 [B, classes] each
        self._labels: list[np.ndarray] = []  # uint8 [B, classes] each
        self._losses: list[np.ndarray] = []  # cross-entropies, float64 [B] each
        kinds = ("wrong",) if self._single else ("false alarm", "miss")
        self._mistakes = {kind: _Ranking(MISTAKES) for kind in kinds}

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
        scores = _log_probabilities(known, self._modality)  # [rows, classes]
        losses = -np.sum(labels * scores, axis=1)
        if self._modality == AUDIO:
            others = _log_probabilities(-known, self._modality)
            losses = -np.mean(np.where(labels, scores, others), axis=1)
        first = len(self)
        index = batch.get("index")
        source = batch.get("source")
        self._index += [
            first + n if index is None else int(index[row]) for n, row in enumerate(keep)
        ]
        self._source += ["" if source is None else _text(source[row]) for row in keep]
        self._logits.append(logits)
        self._labels.append(labels)
        self._losses.append(losses)
        for number, row in enumerate(keep):
            if not np.isnan(known[number]).any():
                pictures = functools.partial(_pictures, batch, row, self._modality)
                clip = known[number], scores[number], labels[number]
                self._note_mistakes(first + number, *clip, pictures)

    def result(self) -> ClassificationResult:
        """Metrics, artefact and predictions of everything added.

        Raises:
            ValueError: nothing valid was added.
        """
        if not len(self):
            raise ValueError(f"{self.dataset}: no valid clip was added, nothing to evaluate")
        logits, labels = np.concatenate(self._logits), np.concatenate(self._labels)
        names = np.array(self._names(labels.shape[1]), dtype=np.str_)
        broken = ~np.isfinite(logits).all(axis=1)
        known = np.where(np.isfinite(logits), logits, np.float32(np.nan))
        losses = np.concatenate(self._losses)
        values: dict[str, float] = {}
        arrays: Arrays = {
            "dataset": np.array(self.dataset),
            "modality": np.array(self._modality),
            "multi_label": np.bool_(not self._single),
            "num_clips": np.int64(len(self)),
            "num_broken": np.int64(broken.sum()),
            "classes/name": names,
            "classes/clips": labels.sum(axis=0, dtype=np.int64),
        }
        if self._modality == AUDIO:
            found, of_classes = multilabel(known, labels)
            values |= found | {"binary_cross_entropy": float(np.mean(losses))}
            arrays |= of_classes
        if self._single:
            found, of_classes = single_label(known, labels)
            values |= found
            arrays |= of_classes
        if self._modality == VIDEO:
            values["categorical_cross_entropy"] = _mean(losses[labels.any(axis=1)])
        values["num_clips"] = float(len(self))
        predictions = {
            "index": np.array(self._index, np.int64),
            "source": np.array(self._source, dtype=np.str_),
            "logits": logits,
            "labels": labels,
            "class_names": names,
        }
        return ClassificationResult(
            self.dataset,
            self._modality,
            not self._single,
            values,
            arrays | self._mistake_arrays(),
            predictions,
        )

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

    def _note_mistakes(
        self,
        number: int,
        logits: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        pictures: Callable[[], dict[str, Any]],
    ) -> None:
        """Offers what is wrong about one clip, once per kind, to the rankings."""
        present, absent = np.flatnonzero(labels), np.flatnonzero(labels == 0)
        found = []  # kind, class, how bad
        if self._single:
            answer = int(_best_first(logits[None])[0, 0])
            if len(present) and answer != present[0]:
                found.append(("wrong", answer, scores[answer]))
        else:  # by logits, which do not saturate as probabilities do
            if len(absent):
                alarm = absent[np.argmax(logits[absent])]
                found.append(("false alarm", int(alarm), logits[alarm]))
            if len(present):
                missed = present[np.argmin(logits[present])]
                found.append(("miss", int(missed), -logits[missed]))
        facts = {"index": self._index[number], "source": self._source[number], "label": labels}
        for kind, which, badness in found:
            self._mistakes[kind].offer(
                (float(badness), -self._index[number], -number),
                lambda which=which: {
                    **facts,
                    "class": which,
                    "probability": np.exp(scores).astype(np.float32),
                    **pictures(),
                },
            )

    def _mistake_arrays(self) -> Arrays:
        found = [(kind, entry) for kind, best in self._mistakes.items() for entry in best.entries()]
        if not found:
            return {"mistakes/kind": np.zeros(0, np.str_)}
        kinds, entries = zip(*found, strict=True)
        jpegs = [entry.pop("jpeg", b"") for entry in entries]
        arrays = {"mistakes/kind": np.array(kinds, dtype=np.str_)}
        for name in entries[0]:
            values = [entry[name] for entry in entries if name in entry]
            if len(values) == len(entries) and len({np.shape(value) for value in values}) == 1:
                arrays[f"mistakes/{name}"] = np.array(values)
        if any(jpegs):
            arrays["clips/jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
            arrays["clips/jpeg_offsets"] = np.cumsum([0, *map(len, jpegs)]).astype(np.int64)
        return arrays


def single_label(logits: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], Arrays]:
    """Accuracies, and per class what is confused with what, of clips with one label each.

    Args:
        logits: [clips, classes]; NaN where not finite.
        labels: uint8 [clips, classes].

    Returns:
        Metrics, and arrays `classes/...` and `confusion` as in the artefact.
    """
    classes, labelled = labels.shape[1], labels.any(axis=1)
    logits, truth = logits[labelled], labels[labelled].argmax(axis=1)
    values = {f"top_{k}_accuracy": metrics.top_k_accuracy(logits, truth, k) for k in (1, TOP)}
    broken = np.isnan(logits).any(axis=1)
    predicted = classes - 1 - np.where(broken[:, None], 0, logits)[:, ::-1].argmax(axis=1)
    clips = np.bincount(truth, minlength=classes)
    right = np.bincount(truth[(predicted == truth) & ~broken], minlength=classes)
    accuracy = np.divide(right, clips, out=np.full(classes, np.nan), where=clips > 0)
    accuracy[truth[broken]] = np.nan
    values["mean_class_accuracy"] = _mean(accuracy[clips > 0])
    largest = np.sort(clips)[::-1] / max(len(truth), 1)
    values |= {f"chance_top_{k}_accuracy": float(largest[:k].sum()) for k in (1, TOP)}
    if not labelled.all():
        values["clips_without_label"] = float(np.sum(~labelled))

    pairs, counts = np.unique((truth * classes + predicted)[~broken], return_counts=True)
    of, into = pairs // classes, pairs % classes
    confused_with, confused_clips = np.full(classes, -1, np.int64), np.zeros(classes, np.int64)
    for row in np.argsort(counts, kind="stable"):  # so that the most frequent one is written last
        if of[row] != into[row]:
            confused_with[of[row]], confused_clips[of[row]] = into[row], counts[row]
    arrays = {
        "classes/accuracy": accuracy,
        "classes/confused_with": confused_with,
        "classes/confused_clips": confused_clips,
    }
    if classes <= MATRIX_CLASSES:
        arrays["confusion"] = np.zeros((classes, classes), np.int32)
        arrays["confusion"][of, into] = counts
    return values, arrays


def multilabel(logits: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], Arrays]:
    """mAP, AUC and d' with their values per class, of clips with any number of labels.

    A class in perfect order has an infinite d' (published), and with it the mean of all classes; it
    counts here as if half of one pair of a positive and a negative were in the wrong order.

    Args:
        logits: [clips, classes]; NaN where not finite. Unlike probabilities they have no ties where
            a sigmoid saturates.
        labels: uint8 [clips, classes].

    Returns:
        Metrics, and arrays `classes/...` as in the artefact.
    """
    by_class = metrics.multilabel_scores(logits, labels)
    prevalence = labels.mean(axis=0)
    kept = (prevalence > 0) & (prevalence < 1)
    pairs = np.maximum(labels.sum(axis=0, dtype=float) * (1 - labels).sum(axis=0, dtype=float), 1)
    area = np.clip(by_class["AUC"], 0.5 / pairs, 1 - 0.5 / pairs)
    by_class["d-prime"] = metrics.d_prime(area)
    means = {"mAP": by_class["AP"], "AUC": by_class["AUC"], "d-prime": by_class["d-prime"]}
    values = {f"sklearn_{name}": _mean(array[kept]) for name, array in means.items()}
    values["classes_left_out"] = float(np.sum(~kept))
    values["chance_sklearn_mAP"] = _mean(prevalence[kept])
    return values, {f"classes/{name}": array for name, array in by_class.items()}


def spectrogram(audio: np.ndarray, columns: int = 128, bands: int = 64) -> np.ndarray:
    """Picture of a sound: uint8 [frequency, time], the lowest frequency first, 255 the loudest.

    Args:
        audio: waveform [samples, 1], drawn on a logarithmic axis of frequency over 70 dB; or
            spectrogram [time, mel, 1], drawn as it is from its lowest to its highest value.
        columns: columns of the picture of a waveform.
        bands: most rows of the picture of a waveform.
    """
    audio = np.nan_to_num(np.asarray(audio, np.float32))
    if audio.ndim == 3:
        picture = audio[..., 0].T  # [mel, time]
        low, high = picture.min(initial=np.inf), picture.max(initial=-np.inf)
    else:
        samples = audio.reshape(-1)
        length = 1 << int(np.clip(np.log2(max(len(samples), 1)) - 2, 5, 10))  # 32 to 1024 samples
        samples = np.pad(samples, (0, max(0, length - len(samples))))
        starts = np.linspace(0, len(samples) - length, columns).astype(int)
        frames = samples[starts[:, None] + np.arange(length)]  # [columns, length]
        power = np.abs(np.fft.rfft(frames * np.hanning(length), axis=1)) ** 2
        edges = np.unique(np.geomspace(1, length // 2, bands + 1).astype(int))[:-1]
        power = np.maximum.reduceat(power, edges, axis=1).T  # [bands, columns]
        picture = 10.0 * np.log10(power + 1e-12)
        high = max(picture.max(), -50.0)  # silence stays dark
        low = high - 70.0
    share = np.clip((picture - low) / max(high - low, 1e-6), 0.0, 1.0)
    return np.round(255 * share).astype(np.uint8)


class _Ranking:
    """The entries with the highest keys, at most `size`; others are not even made."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[float, int, int], dict[str, Any]]] = []

    def offer(self, key: tuple[float, int, int], make: Callable[[], dict[str, Any]]) -> None:
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (key, make()))
        elif key > self._heap[0][0]:
            heapq.heapreplace(self._heap, (key, make()))

    def entries(self) -> list[dict[str, Any]]:
        """Copies of the entries, the highest key first."""
        return [dict(entry) for _, entry in sorted(self._heap, key=lambda item: item[0])[::-1]]


def _log_probabilities(logits: np.ndarray, modality: str) -> np.ndarray:
    """Logarithms of the softmax (video) or sigmoid (audio), float64 [rows, classes]."""
    logits = np.asarray(logits, np.float64)
    if modality == AUDIO:
        with np.errstate(invalid="ignore"):  # NaN stays NaN, and no news
            return -np.logaddexp(0.0, -logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _best_first(logits: np.ndarray) -> np.ndarray:
    """Classes of each row, the best first; of equal logits the higher class, as in `metrics`."""
    return np.argsort(logits, axis=1, kind="stable")[:, ::-1]


def _pictures(batch: Mapping[str, np.ndarray], row: int, modality: str) -> dict[str, Any]:
    """Frames, or outline and spectrogram of the middle window, of one clip."""
    if modality == VIDEO:
        thumbnail = batch.get("thumbnail")
        return {} if thumbnail is None else {"jpeg": artefacts.strip_jpeg(thumbnail[row])}
    if batch.get("audio") is None:
        return {}
    sound, heard = batch["audio"][row], batch.get("audio_mask")
    sound = sound[len(sound) // 2]
    return {
        "envelope": artefacts.envelope(sound),
        "spectrogram": spectrogram(sound),
        "silent": heard is not None and not heard[row] > 0.5,
    }


def _mean(values: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # d' of a perfect and of a perfectly wrong class: inf - inf
        return float(np.mean(values)) if values.size else float("nan")


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
