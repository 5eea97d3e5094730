"""Frozen features of test clips in the plane, for the report; there is nothing to measure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import logging

from vatt.data.cards import Card
from vatt.evaluation import artefacts, geometry
from vatt.evaluation.measures import Measure
from vatt.evaluators import features
from vatt.evaluators.subject import Pretrained, Subject, class_names

PROJECTED_CLIPS = 1000


def evaluate(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Writes `eval/projections/<set>-<modality>-<step>.npz` of every labelled set's first fold."""
    for card, modality in features.classified(subject):
        _project(subject, card, modality, features.tests(subject, card, modality)[0])
    return iter(())


def _project(
    subject: Subject[Pretrained], card: Card, modality: str, test: features.Features
) -> None:
    try:
        pca = geometry.project(test.pooled, "pca", most=PROJECTED_CLIPS)
        tsne = geometry.project(test.pooled, "tsne", most=PROJECTED_CLIPS)
    except ValueError as error:
        logging.info("%s is not projected: %s", card.name, error)
        return
    labels = test.labels[pca.rows]
    arrays = {
        "dataset": np.array(card.name),
        "modality": np.array(modality),
        "step": np.int64(subject.step),
        "rows": pca.rows,
        "label": np.where(labels.any(axis=1), labels.argmax(axis=1), -1),
        "classes": np.array(class_names(card), np.str_),
        "pca": pca.points,
        "pca_explained": np.array(pca.explained, np.float32),
        "tsne": tsne.points,
    }
    folder = subject.folder / "eval" / "projections"
    artefacts.save(folder / f"{card.name}-{modality}-{subject.step}.npz", arrays)
