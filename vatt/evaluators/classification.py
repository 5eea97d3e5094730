"""Classification by a classifier: every clip of a split once, its windows averaged."""

from __future__ import annotations

from collections.abc import Iterator

from vatt.evaluation.classification import Classification
from vatt.evaluation.measures import Measure
from vatt.evaluators.subject import Classifier, Subject, class_names


def evaluate(subject: Subject[Classifier]) -> Iterator[Measure]:
    """Yields measures of every set; keeps predictions, and what the report shows."""
    modalities, split = subject.model.modalities, subject.input.split
    for card in subject.cards:
        scores = Classification(
            card.name,
            labels=class_names(card),
            modality="+".join(modalities),
            multi_label=card.multi_label,
            split=split,
            fold=card.fold_of(split),
        )
        for batch in subject.clips(card, [split], modalities):
            logits = subject.model.classify({modality: batch[modality] for modality in modalities})
            scores.add(batch, logits)
        result = scores.result()
        result.save(subject.folder, subject.step)
        yield from result.measures
