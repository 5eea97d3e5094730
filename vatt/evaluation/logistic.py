"""Logistic regression on frozen features, its penalty chosen on the training split.

    folds = held_out_rows(labels, groups, multi_label=False, seed=1)
    exponent, score = choose_exponent(rows, labels, folds, classes=8, multi_label=False)
    model = LogisticRegression(classes=8, multi_label=False)
    model.fit(exponent, rows, labels)
    model.predict(other_rows)

C = 10^exponent weighs the training loss, a sum over rows, against half the squared weights. Labels
are int64 [rows], or uint8 [rows, classes] where a row may have several.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from vatt.evaluation import metrics

COARSE = (-4.0, -2.0, 0.0, 2.0)  # exponents tried first
FINE = (-1.0, -0.5, 0.5, 1.0)  # added to the best of those
MOST_FOLDS = 5
TOLERANCE = 1e-5  # largest gradient of the mean loss at which the solver stops
MOST_ITERATIONS = 1000
SMALL = 2**22  # numbers; threads gain nothing, and on a busy machine they wait for each other


class LogisticRegression:
    """Multinomial or, with several labels, one per class; each fit starts from the one before.

    Attributes:
      converged: whether the last fit did.
      iterations: how many it took.
    """

    def __init__(self, classes: int, multi_label: bool) -> None:
        from sklearn import linear_model, neural_network

        self._classes, self._multi_label = classes, multi_label
        common = {"max_iter": MOST_ITERATIONS, "tol": TOLERANCE, "warm_start": True}
        if multi_label:
            # A network without hidden layers is a logistic regression for each class. Unlike
            # sklearn's one-vs-rest it fits them together, by products of whole matrices.
            self._model = neural_network.MLPClassifier(
                (), solver="lbfgs", max_fun=10**9, random_state=1, **common
            )
        else:
            self._model = linear_model.LogisticRegression(solver="lbfgs", **common)
        self.converged, self.iterations = True, 0

    def fit(self, exponent: float, rows: np.ndarray, labels: np.ndarray) -> None:
        """Fits features [rows, d], in their precision."""
        from sklearn.exceptions import ConvergenceWarning

        name, value = ("alpha", -exponent) if self._multi_label else ("C", exponent)
        self._model.set_params(**{name: 10.0**value})
        threads = 1 if rows.size <= SMALL else None
        with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            self._model.fit(rows, labels)
        self.converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        self.iterations = int(np.max(self._model.n_iter_))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities float32 [rows, classes]; zero for a class that no fitted row had."""
        found = self._model.predict_proba(rows)
        if self._multi_label:
            return found.astype(np.float32)
        probabilities = np.zeros((len(rows), self._classes), np.float32)
        probabilities[:, self._model.classes_] = found
        return probabilities


def held_out_rows(
    labels: np.ndarray, groups: np.ndarray, *, multi_label: bool, seed: int
) -> list[np.ndarray]:
    """Up to five folds: which rows are held out together.

    Rows of one group are never held out from each other. With one label per row, folds are
    stratified by class and no more than the smallest class has groups; a class of one group is
    part of one of two folds.

    Returns:
      bool [rows] per fold; none where no class has two groups, so that nothing can be held out.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    first = np.unique(groups, return_index=True)[1]  # a row of each group
    if multi_label:
        splitter = KFold(min(MOST_FOLDS, len(first)), shuffle=True, random_state=seed)
    else:
        counts = np.unique(labels[first], return_counts=True)[1]
        if counts.max() < 2:
            return []
        folds = min(MOST_FOLDS, max(2, counts.min()))
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = [held for _, held in splitter.split(first, labels[first])]
    folds = [np.isin(groups, groups[first[part]]) for part in parts]
    return [held for held in folds if (labels[~held] != labels[~held][:1]).any()]


def choose_exponent(
    rows: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    *,
    classes: int,
    multi_label: bool,
) -> tuple[float, float]:
    """Tries a coarse grid, then a finer one around its best.

    The best has the highest held-out top-1 accuracy (mAP with several labels); equal ones are told
    apart by the held-out log-loss.

    Returns:
      The exponent of C, and its held-out accuracy or mAP; (0, NaN) without folds.
    """
    if not folds:
        return 0.0, math.nan
    models = [LogisticRegression(classes, multi_label) for _ in folds]
    truth = np.concatenate([labels[held] for held in folds])
    found: dict[float, tuple[float, float]] = {}
    for stage in (COARSE, FINE):
        centre = max(found, key=found.__getitem__) if found else 0.0
        for exponent in (centre + step for step in stage):
            scores = []
            for model, held in zip(models, folds, strict=True):
                model.fit(exponent, rows[~held], labels[~held])
                scores.append(model.predict(rows[held]))
            found[exponent] = _quality(np.concatenate(scores), truth, multi_label)
    best = max(found, key=found.__getitem__)
    return best, found[best][0]


def _quality(scores: np.ndarray, labels: np.ndarray, multi_label: bool) -> tuple[float, float]:
    """(accuracy or mAP, minus the mean log-loss), larger is better."""
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    if multi_label:
        value = metrics.multilabel_metrics(scores, labels)["mAP"]
        fit = np.where(labels == 1, np.log(clipped), np.log1p(-clipped))
        return float(np.nan_to_num(value)), float(fit.mean())
    fit = np.log(np.take_along_axis(clipped, labels[:, None], axis=1))
    return metrics.top_k_accuracy(scores, labels, 1), float(fit.mean())
