"""Classifiers trained on the frozen features of every labelled set, fold by fold."""

from __future__ import annotations

from collections.abc import Iterator

from absl import logging

from vatt.evaluation import measures, probe
from vatt.evaluation.measures import Measure
from vatt.evaluation.probe_set import probe_set
from vatt.evaluators import features
from vatt.evaluators.subject import Pretrained, Subject, class_names


def linear(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Yields measures of logistic regression."""
    return _probe(subject, measures.LINEAR)


def knn(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Yields measures of the votes of nearest neighbours."""
    return _probe(subject, measures.KNN)


def published_probe(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Yields measures of the published classifier, which is for one label per clip."""
    return _probe(subject, measures.PUBLISHED_PROBE)


def _probe(subject: Subject[Pretrained], kind: str) -> Iterator[Measure]:
    for card, modality in features.classified(subject):
        if kind == measures.PUBLISHED_PROBE and card.multi_label:
            logging.info("%s: the published probe is for one label per clip", card.name)
            continue
        results = []
        for fold in features.folds(subject, card, modality):
            data = probe_set(
                f"{card.name}, fold {fold.number}",
                fold.train.pooled,
                fold.train.labels,
                fold.test.pooled,
                fold.test.labels,
                multi_label=card.multi_label,
                groups=fold.train.index,
            )
            absent = [
                name
                for name, clips in zip(class_names(card), fold.test.labels.sum(axis=0), strict=True)
                if not clips
            ]
            if absent and kind == measures.LINEAR:  # once, not by every probe
                logging.warning("%s: no test clip of class %s", data.name, ", ".join(absent))
            result = probe.PROBES[kind](data)
            results.append(result)
            yield from probe.fold_measures(result, card.name, fold.number, modality)
        yield from probe.mean_measures(results, card.name, modality)
