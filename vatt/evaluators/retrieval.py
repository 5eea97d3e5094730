"""Zero-shot retrieval: every pair of embeddings that the model offers, searched both ways.

Sets are those with the task `retrieval`; of the pairs, those whose modalities the set has.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import logging

from vatt.data import views
from vatt.data.cards import Card
from vatt.errors import DataError
from vatt.evaluation import attention
from vatt.evaluation.measures import Measure
from vatt.evaluation.retrieval import Retrieval
from vatt.evaluators.subject import Pretrained, Subject
from vatt.modeling.pretraining import Pair

TASK = "retrieval"


def evaluate(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Yields measures of every retrieval set; keeps examples and attention maps of its clips.

    Raises:
      DataError: a retrieval set that has nothing to search with.
    """
    for card in subject.cards:
        if TASK in card.tasks:
            yield from _set(subject, card, _pairs(subject, card))


def _pairs(subject: Subject[Pretrained], card: Card) -> list[Pair]:
    offered = subject.model.pairs
    found = [p for p in offered if all(getattr(card, m, None) is not None for m in p.modalities)]
    if not found:
        pairs = ", ".join(f"{pair.query} and {pair.target}" for pair in offered)
        raise DataError(
            f"eval.input.name: '{card.name}' has nothing to search with: the model compares "
            f"{pairs or 'no two embeddings'}"
        )
    return found


def _set(subject: Subject[Pretrained], card: Card, pairs: list[Pair]) -> Iterator[Measure]:
    cfg, model, split = subject.input, subject.model, subject.input.split
    scores = Retrieval(card.name, pairs, split=split)
    examples = attention.Examples(card.name)
    for batch in subject.clips(card, [split], model.modalities):
        inputs = {modality: batch[modality] for modality in model.modalities if modality in batch}
        scores.add(batch, model.embed(inputs))
        if subject.cfg.eval.report and not cfg.space_to_depth:
            lacking = [m for m in ("video", "audio", "text") if getattr(card, m) is None]
            there = {key: value for key, value in batch.items() if key not in lacking}
            examples.add(there, model.attend, views.for_evaluation(cfg).levels)
    examples.save(subject.folder, subject.step)
    result = scores.result()
    for modality, thing in (("text", "caption"), ("audio", "sound")):
        there = scores.there(modality)
        if any(modality in pair.modalities for pair in pairs) and not there.all():
            logging.warning(
                "%s: %d of %d clips have no %s: they are not asked with, and have none to be found",
                card.name,
                np.sum(~there),
                len(there),
                thing,
            )
    result.save(subject.folder, subject.step)
    yield from result.measures
