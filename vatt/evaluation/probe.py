"""Classifiers on frozen features: what of a data set's classes a pretrained model tells apart.

    data = probe_set("hmdb51", train, train_labels, test, test_labels)
    result = linear_probe(data)                              # or published_probe, knn_probe
    fold_measures(result, "hmdb51", "1", "video")            # of this fold, train and test
    mean_measures([result, ...], "hmdb51", "video")          # of the test splits of all folds

| probe | what it is |
|---|---|
| `linear_probe` | multinomial logistic regression on standardised features |
| `published_probe` | 128 linear units, dropout 0.9, softmax |
| `knn_probe` | votes of the nearest training clips by cosine similarity |

The published names belong to the default, `linear_probe`, which is not the published classifier:
`hmdb51_1_test_published_probe_top_1_accuracy` is the figure to hold beside a published one. In sets
whose clips may have several labels the linear probe is one logistic regression per class and the
figures are mAP, AUC and d-prime; the published probe is not defined there.

Probabilities of a test clip are averaged over its windows. Figures of training count rows (clips
times augmentations), and the rows of a clip do not vote for each other in the k-NN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from vatt.errors import DataError
from vatt.evaluation import logistic, measures, metrics, published_classifier, scoring
from vatt.evaluation.measures import Measure
from vatt.evaluation.probe_set import ProbeSet

CLIPS_AT_ONCE = 1024  # test clips whose windows are classified together

# Rows x dimensions x classes up to which the linear probe holds out every fold once; beyond, one.
CROSS_VALIDATED_SIZE = 2e9

# k-NN, with the values that are usual for self-supervised features.
NEIGHBOURS, TEMPERATURE = 20, 0.07
SIMILARITIES_AT_ONCE = 2**24


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
      probe: one of `measures.PROBES`.
      train: figures of the training rows by name, such as "top_1_accuracy".
      test: figures of the test clips.
      chance: what guessing reaches of the figures of the test clips, where that is known.
      record: what was chosen (C, folds, iterations, converged, ...), and the sizes of the set.
      probabilities: float32 [test clips, classes], averaged over windows; vote shares of k-NN.
    """

    probe: str
    train: dict[str, float]
    test: dict[str, float]
    chance: dict[str, float]
    record: dict[str, float | int | bool]
    probabilities: np.ndarray


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
        measures.LINEAR,
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
        measures.PUBLISHED_PROBE,
        data,
        predict,
        rows=data.train,
        predict_rows=predict,
        record=record,
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
        measures.KNN,
        data,
        predict,
        rows=data.train,
        predict_rows=lambda rows: predict(rows, data.groups),
        record=record,
    )


PROBES: dict[str, Callable[[ProbeSet], ProbeResult]] = {
    measures.LINEAR: linear_probe,
    measures.PUBLISHED_PROBE: published_probe,
    measures.KNN: knn_probe,
}


def fold_measures(result: ProbeResult, dataset: str, fold: str, target: str) -> list[Measure]:
    """What a probe reached on one fold.

    Args:
      result: of the fold.
      dataset: name of the set.
      fold: number of the fold.
      target: modality that was classified.
    """
    of_fold = {"fold": fold, "target": target}
    train = [
        Measure(
            dataset,
            result.probe,
            name,
            value,
            split="train",
            samples=int(result.record["training_rows"]),
            **of_fold,
        )
        for name, value in result.train.items()
    ]
    test = [
        Measure(
            dataset,
            result.probe,
            name,
            value,
            split="test",
            chance=result.chance.get(name),
            samples=int(result.record["test_clips"]),
            **of_fold,
        )
        for name, value in result.test.items()
    ]
    return train + test


def mean_measures(results: Sequence[ProbeResult], dataset: str, target: str) -> list[Measure]:
    """Means of the test figures of one probe over the folds of a set, as published, and spread.

    Returns:
      An empty list if there is no result.

    Raises:
      ValueError: results of different probes.
    """
    if len({result.probe for result in results}) > 1:
        raise ValueError(f"{dataset}: results of {[r.probe for r in results]}; accepted: one probe")
    return [
        Measure(
            dataset,
            results[0].probe,
            name,
            float(np.mean([result.test[name] for result in results])),
            target=target,
            spread=metrics.spread([result.test[name] for result in results]),
            chance=(
                float(np.mean([result.chance[name] for result in results]))
                if name in results[0].chance
                else None
            ),
            samples=sum(int(result.record["test_clips"]) for result in results),
        )
        for name in (results[0].test if results else ())
    ]


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
    return ProbeResult(
        probe,
        train=scoring.scores_of(predict_rows(rows), data.train_labels, data.multi_label),
        test=scoring.scores_of(probabilities, data.test_labels, data.multi_label),
        chance=scoring.chance(data.test_labels, data.classes, data.multi_label),
        record=record | _sizes(data),
        probabilities=probabilities,
    )


def _sizes(data: ProbeSet) -> dict[str, float | int | bool]:
    """Sizes of the set, and which classes are missing where."""
    sizes: dict[str, float | int | bool] = {
        "classes": data.classes,
        "dimensions": data.train.shape[1],
        "training_clips": int(data.groups.max()) + 1,
        "training_rows": len(data.train),
        "test_clips": len(data.test),
        "windows": data.test.shape[1],
    }
    if data.multi_label:
        positives = data.test_labels.sum(axis=0)
        rankable = (positives > 0) & (positives < len(data.test))
        return sizes | {
            "classes_not_in_training": int((~data.train_labels.any(axis=0)).sum()),
            "classes_left_out_of_test": int((~rankable).sum()),
        }
    counts = np.bincount(data.train_labels, minlength=data.classes)
    return sizes | {
        "classes_not_in_training": int((counts == 0).sum()),
        "test_clips_of_those": int((counts[data.test_labels] == 0).sum()),
        "commonest_class_accuracy": float((data.test_labels == counts.argmax()).mean()),
    }


# -- k-NN --------------------------------------------------------------------------------------


def _add_votes(shares: np.ndarray, own: np.ndarray, votes: np.ndarray) -> None:
    """Adds one vote per query, for the classes `own`, to `shares` [queries, classes], in place."""
    if own.ndim == 2:
        shares += votes[:, None] * own
    else:
        shares[np.arange(len(shares)), own] += votes
