"""What an evaluator is handed: a checkpoint, as functions of its model, and the sets to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from vatt import configs
from vatt.data import pipeline
from vatt.data.bad_records import BadRecords
from vatt.data.cards import Card
from vatt.data.features import JOINED
from vatt.modeling.pretraining import Pair

Arrays = dict[str, np.ndarray]

POOLED = "features_pooled"  # what `encode` returns beside embeddings: of the backbone


class Pretrained(Protocol):
    """A pretrained model. Rows are clips, any number of them; their windows are an axis.

    Attributes:
      modalities: the inputs that it takes.
      takes: names of what `embed` takes of a batch: those, and masks and the like of some.
      pairs: which of its embeddings lie in one space.
      reconstruction_notes: what has to be said of `reconstruct`.
    """

    modalities: Sequence[str]
    takes: Sequence[str]
    pairs: Sequence[Pair]
    reconstruction_notes: Sequence[str]

    def embed(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Returns embeddings `[rows, windows, d]` by key.

        Args:
          inputs: `[rows, windows, ...]` by modality; text `[rows, 1, words]`.
        """

    def encode(self, modality: str, clips: np.ndarray) -> Arrays:
        """Returns what one modality alone gives, float32 `[rows, windows, d]` by key.

        That is the feature a classifier would be put on, under `POOLED`, and embeddings. `clips`
        are `[rows, windows, ...]`; sentences `[rows, 1, words]`.
        """

    def attend(self, modality: str, clips: np.ndarray) -> np.ndarray | None:
        """Returns what the aggregation token of the last layer looks at.

        float32 `[rows, *grid]`, summing to 1; None for a tower without such a token. `clips` are
        `[rows, ...]`.
        """

    def reconstruct(self, inputs: Mapping[str, np.ndarray], seed: int) -> dict[str, Arrays]:
        """Returns what is predicted of clips `[rows, ...]` of all modalities, parts of them masked.

        By modality the arrays of `PretrainingModel.reconstructions`; empty for a model that
        predicts nothing. Masks are functions of `seed` and row.
        """


class Classifier(Protocol):
    """A classifier.

    Attributes:
      modalities: the inputs that it takes.
    """

    modalities: Sequence[str]

    def classify(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns logits `[rows, classes]` of clips `[rows, windows, ...]` by modality."""


Model = TypeVar("Model", Pretrained, Classifier)


@dataclasses.dataclass(frozen=True)
class Subject(Generic[Model]):
    """A checkpoint to be evaluated.

    Attributes:
      cfg: of the run that evaluates.
      input: how clips are read, `cfg.eval.input` as far as the set does not decide it.
      cards: the sets, each evaluated by what its card offers.
      folder: of the run; artefacts are written into it.
      step: updates behind the weights.
      checkpoint: fingerprint of the file that holds them.
      model: the model with these weights.
    """

    cfg: configs.ExperimentConfig
    input: configs.dataset.Evaluation | configs.dataset.Finetune
    cards: Sequence[Card]
    folder: Path
    step: int
    checkpoint: str
    model: Model

    def clips(
        self, card: Card, splits: Sequence[str], modalities: Sequence[str] = pipeline.EVERYTHING
    ) -> Iterator[Arrays]:
        """Yields batches of `pipeline.evaluation_batches`; splits are read in one pass.

        Raises:
          DataError: more records than allowed cannot be used.
        """
        bad_records = BadRecords.of_run(self.folder, self.input)
        batches = pipeline.evaluation_batches(
            self.input,
            card.name,
            JOINED.join(splits),
            data_dir=self.cfg.data_dir,
            modalities=modalities,
            bad_records=bad_records,
        )
        return _arrays(batches, bad_records)

    def clips_to_train_on(
        self, card: Card, splits: Sequence[str], modality: str
    ) -> Iterator[Arrays]:
        """Yields batches of `pipeline.probe_batches`; splits are read in one pass.

        Raises:
          DataError: more records than allowed cannot be used.
        """
        bad_records = BadRecords.of_run(self.folder, self.input)
        batches = pipeline.probe_batches(
            self.input,
            card.name,
            JOINED.join(splits),
            modality,
            data_dir=self.cfg.data_dir,
            seed=self.cfg.seed,
            bad_records=bad_records,
        )
        return _arrays(batches, bad_records)


def class_names(card: Card) -> list[str]:
    """Returns the names of the classes of a set; numbers where its card has none."""
    return list(card.labels or map(str, range(card.classes)))


def _arrays(batches: tf.data.Dataset, bad_records: BadRecords) -> Iterator[Arrays]:
    try:
        yield from batches.as_numpy_iterator()
    except tf.errors.OpError:
        bad_records.check()
        raise
