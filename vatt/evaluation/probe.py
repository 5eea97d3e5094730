"""Classifiers on frozen features: what of a data set's classes a pretrained model tells apart.

    data = probe_set("hmdb51", train, train_labels, test, test_labels)
    result = linear_probe(data)                       # or published_probe, knn_probe
    metric_names("hmdb51", 1, result)                 # {"hmdb51_1_test_top_1_accuracy": .41, ...}
    average_over_splits("hmdb51", [result, ...])      # {"hmdb51_top_1_accuracy": .40, ...}

| probe | in metric names | what it is |
|---|---|---|
| `linear_probe` | nothing | multinomial logistic regression on standardised features |
| `published_probe` | `published_probe_` | 128 linear units, dropout 0.9, softmax |
| `knn_probe` | `knn_` | votes of the nearest training clips by cosine similarity |

The published names therefore belong to the default, `linear_probe`, which is not the published
classifier: `hmdb51_1_test_published_probe_top_1_accuracy` is the figure to hold beside a published
one. In sets whose clips may have several labels the linear probe is one logistic regression per
class and the metrics are mAP, AUC and d-prime; the published probe is not defined there.

Probabilities of a test clip are averaged over its windows. Training metrics count rows (clips times
augmentations), and the rows of a clip do not vote for each other in the k-NN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from vatt.errors import DataError
from vatt.evaluation import logistic, metrics, published_classifier

TOP = (1, 5)
CLIPS_AT_ONCE = 1024  # test clips whose windows are classified together

# Rows x dimensions x classes up to which the linear probe holds out every fold once; beyond, one.
CROSS_VALIDATED_SIZE = 2e9

# k-NN, with the values that are usual for self-supervised features.
NEIGHBOURS, TEMPERATURE = 20, 0.07
SIMILARITIES_AT_ONCE = 2**24


@dataclasses.dataclass(frozen=True)
class ProbeSet:
    """Checked features and labels of one split of one data set; made by `probe_set`.

    Attributes:
        name: data set, for messages.
        train: float32 [rows, d].
        train_labels: int64 [rows], or uint8 [rows, classes] with `multi_label`.
        groups: int64 [rows], the clip of each training row.
        test: float32 [clips, windows, d].
        test_labels: like `train_labels`, by clip.
        classes: number of classes, whether or not all occur.
        multi_label: whether a clip may have any number of classes.
    """

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    groups: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: int
    multi_label: bool


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        probe: "linear", "published_probe" or "knn".
        metrics: name without data set and split, such as "test_top_1_accuracy", -> value.
        record: what was chosen (C, folds, iterations, converged, ...), the sizes of the set, and
            what guessing reaches.
        probabilities: float32 [test clips, classes], averaged over windows; vote shares of k-NN.
    """

    probe: str
    metrics: dict[str, float]
    record: dict[str, float | int | bool]
    probabilities: np.ndarray


def probe_set(
    name: str,
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    multi_label: bool = False,
    groups: np.ndarray | None = None,
) -> ProbeSet:
    """Checks features and labels.

    Args:
        name: data set, and split if it has several, as messages shall call it.
        train: [rows, d], or [rows, 1, d]: one row per clip and augmentation.
        train_labels: one-hot or, with `multi_label`, many-hot [rows, classes].
        test: [clips, windows, d] or [clips, d].
        test_labels: [clips, classes].
        multi_label: whether clips may have several labels or none, as the card of the set says.
        groups: clip number of each training row; None if every row is a clip of its own. Rows of
            one clip are never held out from each other.

    Raises:
        DataError: no clip, features that are not finite, clips without a label or with several, or
            fewer than two classes in the training split.
        ValueError: shapes that do not fit together.
    """
    train, test = (np.asarray(x, np.float32) for x in (train, test))
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if train.ndim == 3 and train.shape[1] == 1:
        train = train[:, 0]
    if test.ndim == 2:
        test = test[:, None]
    groups = np.arange(len(train)) if groups is None else np.asarray(groups, np.int64)
    shapes = f"features {train.shape} and {test.shape}, groups {groups.shape}"
    if train.ndim != 2 or test.ndim != 3 or train.shape[-1] != test.shape[-1]:
        raise ValueError(f"{name}: {shapes}; accepted: [rows, d] and [clips, windows, d]")
    expected = (len(train), train_labels.shape[-1]), (len(test), train_labels.shape[-1])
    if (train_labels.shape, test_labels.shape) != expected or groups.shape != (len(train),):
        raise ValueError(
            f"{name}: {shapes}, labels {train_labels.shape} and {test_labels.shape}; accepted: "
            "labels [rows, classes] and [clips, classes], groups [rows]"
        )
    _check_finite(name, "training", train)
    _check_finite(name, "test", test)
    train_labels = checked_labels(name, "training", train_labels, multi_label)
    test_labels = checked_labels(name, "test", test_labels, multi_label)
    used = train_labels.any(axis=0).sum() if multi_label else len(np.unique(train_labels))
    if used < 2:
        raise DataError(
            f"{name}: the training split has clips of {used} class; a probe needs two or more"
        )
    groups = np.unique(groups, return_inverse=True)[1]
    if len(groups) and groups.max() < 1:
        raise DataError(f"{name}: the training split has one clip; a probe needs two or more")
    classes = expected[0][1]
    return ProbeSet(
        name, train, train_labels, groups, test, test_labels, classes, bool(multi_label)
    )


def linear_probe(data: ProbeSet, *, seed: int = 1) -> ProbeResult:
    """Logistic regression with the strength of its L2 penalty chosen on the training split.

    Features are standardised with mean and variance of the training split. C is the best on clips
    of the training split that are held out in turns (`vatt.evaluation.logistic`); a large set
    (`CROSS_VALIDATED_SIZE`) holds out one fold only. A fit that did not converge is logged and
    recorded (`converged`).
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(data.train)  # a constant feature becomes zero
    rows = scaler.transform(data.train)
    kind = {"classes": data.classes, "multi_label": data.multi_label}
    folds = logistic.held_out_rows(
        data.train_labels, data.groups, multi_label=data.multi_label, seed=seed
    )
    if data.train.size * data.classes > CROSS_VALIDATED_SIZE:
        folds = folds[:1]
    exponent, score = logistic.choose_exponent(rows, data.train_labels, folds, **kind)
    model = logistic.LogisticRegression(**kind)
    model.fit(exponent, rows, data.train_labels)
    if not model.converged:
        logging.warning(
            "%s: the linear probe did not converge in %d iterations (C = %.3g); its figures are "
            "those of the last iteration",
            data.name,
            model.iterations,
            10.0**exponent,
        )
    record = {
        "C": 10.0**exponent,
        "folds": len(folds),
        "held_out_score": score,
        "iterations": model.iterations,
        "converged": model.converged,
    }
    return _result(
        "linear",
        data,
        lambda x: model.predict(scaler.transform(x)),
        rows=rows,
        predict_rows=model.predict,
        record=record,
    )


def published_probe(
    data: ProbeSet, *, seed: int = 1, epochs: int = published_classifier.EPOCHS
) -> ProbeResult:
    """The published classifier (`vatt.evaluation.published_classifier`), on features as they are.

    Every class has its output, so that one without training clips does not shift the labels of the
    others (published: the number of classes shrinks).

    Raises:
        DataError: a set whose clips may have several labels.
    """
    if data.multi_label:
        raise DataError(
            f"{data.name}: the published probe gives every clip one class, but clips of this set "
            "may have several; accepted here: the linear probe and k-NN"
        )
    parameters = published_classifier.train(
        data.train,
        data.train_labels,
        classes=data.classes,
        random=np.random.default_rng(seed),
        epochs=epochs,
    )

    def predict(features: np.ndarray) -> np.ndarray:
        return published_classifier.predict(parameters, features)

    record = {"epochs": epochs, "seed": seed}
    return _result(
        "published_probe", data, predict, rows=data.train, predict_rows=predict, record=record
    )


def knn_probe(
    data: ProbeSet, *, neighbours: int = NEIGHBOURS, temperature: float = TEMPERATURE
) -> ProbeResult:
    """Votes of the most similar training rows, weighted by exp(cosine similarity / temperature).

    With one label per clip the votes are shared out among classes; with several, the score of a
    class is the share of the votes that come from rows that have it.

    Args:
        data: the set.
        neighbours: number of votes, at most the number of training rows.
        temperature: small values leave the word to the nearest neighbour.
    """
    bank = metrics.normalize(data.train).astype(np.float32)
    neighbours = min(neighbours, len(bank))

    def predict(features: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        shares = np.zeros((len(features), data.classes), np.float32)
        step = max(1, SIMILARITIES_AT_ONCE // len(bank))
        for start in range(0, len(features), step):
            part = slice(start, start + step)
            queries = metrics.normalize(features[part]).astype(np.float32)
            similar = queries @ bank.T  # [queries, rows]
            if groups is not None:
                similar[groups[part, None] == data.groups[None, :]] = -np.inf
            nearest = np.argpartition(-similar, neighbours - 1, axis=1)[:, :neighbours]
            votes = published_classifier.softmax(
                np.take_along_axis(similar, nearest, axis=1) / temperature
            )
            for vote in range(neighbours):  # nothing of the size [queries, votes, classes] is made
                _add_votes(shares[part], data.train_labels[nearest[:, vote]], votes[:, vote])
        return shares

    record = {"neighbours": neighbours, "temperature": temperature}
    return _result(
        "knn",
        data,
        predict,
        rows=data.train,
        predict_rows=lambda rows: predict(rows, data.groups),
        record=record,
    )


PROBES: dict[str, Callable[[ProbeSet], ProbeResult]] = {
    "linear": linear_probe,
    "published_probe": published_probe,
    "knn": knn_probe,
}


def metric_names(dataset: str, split: str | int, result: ProbeResult) -> dict[str, float]:
    """The metrics of a result under the names by which they are logged, with set and split."""
    return {f"{dataset}_{split}_{name}": value for name, value in result.metrics.items()}


def average_over_splits(dataset: str, results: Sequence[ProbeResult]) -> dict[str, float]:
    """Means of the test metrics of one probe over the splits of a set, as published.

    Returns:
        `<dataset>_top_1_accuracy` and the like; empty if there is no result.

    Raises:
        ValueError: results of different probes.
    """
    if len({result.probe for result in results}) > 1:
        raise ValueError(f"{dataset}: results of {[r.probe for r in results]}; accepted: one probe")
    names = [name for name in (results[0].metrics if results else ()) if name.startswith("test_")]
    return {
        f"{dataset}_{name.removeprefix('test_')}": float(
            np.mean([r.metrics[name] for r in results])
        )
        for name in names
    }


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


# -- checks ------------------------------------------------------------------------------------


def _check_finite(name: str, split: str, features: np.ndarray) -> None:
    if not features.size:
        raise DataError(f"{name}: the {split} split has no clip, nothing to probe")
    broken = ~np.isfinite(features).all(axis=tuple(range(1, features.ndim)))
    if broken.any():
        raise DataError(
            f"{name}: features of {broken.sum()} of {len(broken)} {split} clips are not finite, "
            f"the first is number {broken.argmax()}; the checkpoint may be that of a diverged run"
        )


# -- results -----------------------------------------------------------------------------------


def _result(
    probe: str,
    data: ProbeSet,
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    rows: np.ndarray,
    predict_rows: Callable[[np.ndarray], np.ndarray],
    record: dict[str, float | int | bool],
) -> ProbeResult:
    """Scores both splits; `predict` maps features [n, d] to probabilities [n, classes]."""
    clips, windows, d = data.test.shape
    parts = []
    for start in range(0, clips, CLIPS_AT_ONCE):
        part = data.test[start : start + CLIPS_AT_ONCE]
        by_window = predict(part.reshape(-1, d)).reshape(len(part), windows, data.classes)
        parts.append(by_window.mean(axis=1).astype(np.float32))
    probabilities = np.concatenate(parts)
    infix = "" if probe == "linear" else f"{probe}_"
    values = {
        f"{split}_{infix}{name}": value
        for split, scores, labels in (
            ("train", predict_rows(rows), data.train_labels),
            ("test", probabilities, data.test_labels),
        )
        for name, value in scores_of(scores, labels, data.multi_label).items()
    }
    return ProbeResult(probe, values, record | _facts(data), probabilities)


def _facts(data: ProbeSet) -> dict[str, float | int | bool]:
    """Sizes of the set and what guessing reaches."""
    guesses = chance(data.test_labels, data.classes, data.multi_label)
    facts: dict[str, float | int | bool] = {
        "classes": data.classes,
        "dimensions": data.train.shape[1],
        "training_clips": int(data.groups.max()) + 1,
        "training_rows": len(data.train),
        "test_clips": len(data.test),
        "windows": data.test.shape[1],
        **{f"chance_{name}": value for name, value in guesses.items()},
    }
    if data.multi_label:
        positives = data.test_labels.sum(axis=0)
        rankable = (positives > 0) & (positives < len(data.test))
        return facts | {
            "classes_not_in_training": int((~data.train_labels.any(axis=0)).sum()),
            "classes_left_out_of_test": int((~rankable).sum()),
        }
    counts = np.bincount(data.train_labels, minlength=data.classes)
    return facts | {
        "classes_not_in_training": int((counts == 0).sum()),
        "test_clips_of_those": int((counts[data.test_labels] == 0).sum()),
        "commonest_class_accuracy": float((data.test_labels == counts.argmax()).mean()),
    }


# -- k-NN --------------------------------------------------------------------------------------


def _add_votes(shares: np.ndarray, labels: np.ndarray, votes: np.ndarray) -> None:
    """Adds one vote per query to `shares` [queries, classes], in place."""
    if labels.ndim == 2:
        shares += votes[:, None] * labels
    else:
        shares[np.arange(len(shares)), labels] += votes
