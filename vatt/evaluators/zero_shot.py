"""Zero-shot classification of labelled sets by the names of their classes.

Clips and sentences are compared where the model compares text with the modality of the clips; a
model without such a pair has no measures here. The first fold of a set is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from vatt.data import pipeline
from vatt.data.cards import Card
from vatt.evaluation import zero_shot
from vatt.evaluation.measures import Measure
from vatt.evaluators import features
from vatt.evaluators.subject import Pretrained, Subject
from vatt.modeling.pretraining import Pair


def evaluate(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Yields measures of every labelled set that has names of classes."""
    for card, modality in features.classified(subject):
        pair = features.pair_with_text(subject.model.pairs, modality)
        if pair is None:
            continue
        if not card.labels:
            logging.info("%s: no names of classes, no zero-shot classification", card.name)
            continue
        test, (_, split) = features.tests(subject, card, modality)[0], card.folds()[0]
        prompts = _class_prompts(subject, card, modality, pair)
        yield from zero_shot.zero_shot(
            card.name,
            test.embedded,
            prompts,
            test.labels,
            modality=modality,
            multi_label=card.multi_label,
            split=split,
            fold=card.fold_of(split),
        ).measures


def _class_prompts(
    subject: Subject[Pretrained], card: Card, modality: str, pair: Pair
) -> list[np.ndarray]:
    """Embeddings [prompts, d] of the sentences of every class."""
    sentences = _sentences(card, modality)
    ends = np.cumsum([len(texts) for texts in sentences])[:-1]
    tokenize = pipeline.make_tokenizer(subject.input)
    words = tokenize(
        tf.constant([text for texts in sentences for text in texts]), subject.input.max_num_words
    ).numpy()
    alike = len(sentences) - len({part.tobytes() for part in np.split(words, ends)})
    if alike:
        logging.warning(
            "%s: %d of %d classes are for the vocabulary the same as another one (unknown words"
            "): zero-shot figures say little; the card can give sentences (prompts)",
            card.name,
            alike,
            len(sentences),
        )
    embedded = subject.model.encode("text", words[:, None])[pair.left]  # [prompts, 1, d]
    return np.split(embedded[:, 0], ends)


def _sentences(card: Card, modality: str) -> list[list[str]]:
    """Sentences of every class: those of the card, else templates around its name."""
    others = zero_shot.prompts(card.labels, zero_shot.TEMPLATES[modality])
    pairs = zip(card.labels, others, strict=True)
    return [card.prompts.get(label, texts) for label, texts in pairs]
