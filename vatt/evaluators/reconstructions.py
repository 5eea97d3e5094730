"""What a model predicts of a few test clips of which parts are masked, for the report.

The clips and their masks are the same for every checkpoint of a run. There is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import logging

from vatt.data import views
from vatt.data.cards import Card
from vatt.evaluation import reconstructions
from vatt.evaluation.measures import Measure
from vatt.evaluators.subject import Arrays, Pretrained, Subject

CLIPS = 4
TEXTS = ("source", "caption", "label_text")


def evaluate(subject: Subject[Pretrained]) -> Iterator[Measure]:
    """Writes `eval/reconstructions/<set>-<step>.npz` of every set that has all modalities."""
    for card in subject.cards:
        lacking = [m for m in subject.model.modalities if getattr(card, m, None) is None]
        if lacking:
            logging.info("%s: no reconstructions, it has no %s", card.name, " and ".join(lacking))
            continue
        _reconstruct(subject, card)
    return iter(())


def _reconstruct(subject: Subject[Pretrained], card: Card) -> None:
    model, view = subject.model, views.for_evaluation(subject.input)
    clips, texts = _first(subject, card)
    found = model.reconstruct(clips, subject.cfg.seed) if clips else {}
    if not found:
        logging.info("%s: no reconstructions", card.name)
        return
    where, notes = subject.folder, model.reconstruction_notes
    reconstructions.save(where, card.name, subject.step, found, texts, notes, view.levels)


def _first(subject: Subject[Pretrained], card: Card) -> tuple[Arrays, dict[str, list[str]]]:
    """The middle windows of the first test clips, by modality, and what is said of them."""
    parts: dict[str, list[np.ndarray]] = {}
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    modalities = subject.model.modalities
    folds = card.folds()
    split = folds[0][1] if folds else subject.input.split
    for batch in subject.clips(card, [split], modalities):
        # What a clip lacks is zeros, which nothing tells from a silent one but the mask beside it.
        there = [batch["valid"], *(batch[key] for m in modalities if (key := f"{m}_mask") in batch)]
        rows = np.flatnonzero(np.min(there, axis=0) > 0.5)[: CLIPS - len(texts["source"])]
        for modality in modalities:
            middle = batch[modality].shape[1] // 2
            parts.setdefault(modality, []).append(batch[modality][rows, middle])
        for name, values in texts.items():
            said = batch.get(name)
            values += ["" if said is None else said[row].decode(errors="replace") for row in rows]
        if len(texts["source"]) == CLIPS:
            break
    if not texts["source"]:
        return {}, texts
    return {modality: np.concatenate(values) for modality, values in parts.items()}, texts
