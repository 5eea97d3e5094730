"""Zero-shot retrieval: every pair of embeddings that the model offers, searched both ways.

Sets are those with the task `retrieval`; of the pairs, those whose modalities the set has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from absl import logging

from vatt.configs import dataset, tokens
from vatt.data import pipeline, views
from vatt.data.cards import Card
from vatt.errors import DataError
from vatt.evaluation import attention, complete
from vatt.evaluation.measures import Measure
from vatt.evaluation.retrieval import Retrieval
from vatt.evaluators.subject import Pretrained, Subject
from vatt.modeling.pretraining import Pair

TASK = "retrieval"
DROPPED = complete.DROPPED.encode()
PICTURED = ("video", "audio")  # of a batch: what the report draws


def evaluate(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Yields measures of every retrieval set; keeps examples and attention maps of its clips.

    Raises:
      DataError: a retrieval set that has nothing to search with.
    """
    for card in subject.cards:
        if TASK in card.tasks:
            yield from _set(subject, card, _pairs(subject, card))


def _pairs(subject: Subject[Pretrained], card: Card) -> list[Pair]:
    offered, there = subject.model.pairs, modalities(subject.input, card)
    found = [pair for pair in offered if pair.modalities <= there]
    if not found:
        pairs = ", ".join(f"{pair.query} and {pair.target}" for pair in offered)
        raise DataError(
            f"eval.input.name: '{card.name}' has nothing to search with: the model compares "
            f"{pairs or 'no two embeddings'}"
        )
    return found


def modalities(cfg: dataset.Dataset, card: Card) -> set[str]:
    """Returns what of a set can be seen, heard and read, as extracted features where asked for."""
    if not isinstance(cfg, tokens.TokenEvaluation):
        return {m for m in pipeline.EVERYTHING if getattr(card, m) is not None}
    wanted = cfg.of_set(card.name)
    seen, heard = set(wanted.streams), {wanted.spectrogram}
    found = {"video"} if seen <= card.features.keys() else set()
    found |= {"audio"} if heard <= card.features.keys() else set()
    return found | ({"text"} if card.text is not None else set())


def _rows(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of tokens, those of one record with one id: several records may be of one source."""
    found = {name: value for name, value in batch.items() if name not in PICTURED}
    own = np.array([b"%d" % index for index in batch["index"]], object)
    return found | {"ids": np.where(batch["ids"] == DROPPED, DROPPED, own)}


def _set(subject: Subject[Pretrained], card: Card, pairs: list[Pair]) -> Iterator[Measure]:
    cfg, model, split = subject.input, subject.model, subject.input.split
    scores = Retrieval(card.name, pairs, split=split, total=card.complete_splits.get(split))
    examples, of_tokens = attention.Examples(card.name), tokens.of(cfg) is not None
    for batch in subject.clips(card, [split], model.modalities):
        inputs = {name: batch[name] for name in model.takes if name in batch}
        if of_tokens:
            inputs = {name: value[:, np.newaxis] for name, value in inputs.items()}  # one window
            batch = _rows(batch)
        scores.add(batch, model.embed(inputs))
        if subject.cfg.eval.report and not (cfg.space_to_depth or of_tokens):
            lacking = [m for m in ("video", "audio", "text") if getattr(card, m) is None]
            there = {key: value for key, value in batch.items() if key not in lacking}
            examples.add(there, model.attend, views.for_evaluation(cfg).levels)
    examples.save(subject.folder, subject.step)
    result = scores.result()
    for modality, thing in (("text", "caption"), ("audio", "sound"), ("video", "pictures")):
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
