"""Evaluation of pretraining checkpoints by evaluators, on every set asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs, evaluators, methods
from vatt.configs import tokens
from vatt.data import pipeline, vocabulary
from vatt.data.features import TEXT
from vatt.data.text import Vocabulary
from vatt.errors import DataError
from vatt.evaluation import attention
from vatt.evaluation.measures import Measure
from vatt.evaluators import features, retrieval
from vatt.evaluators.subject import POOLED, Arrays, Pretrained, Subject
from vatt.experiments import evaluator, vocabularies
from vatt.modeling.pretraining import Pair, PretrainingModel
from vatt.modeling.random import Randomness
from vatt.training.rundir import RunDir
from vatt.training.stored_checkpoints import fetched

FIELD = "eval.input.vocabulary"


class Evaluator(evaluator.Evaluator):
    """Evaluates a pretrained model without training it."""

    def __init__(
        self,
        cfg: configs.experiment.Pretrain,
        model: PretrainingModel,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> None:
        """Checks that every data set can be evaluated; reads no media yet."""
        super().__init__(cfg, model, strategy, rundir)
        self._functions = Functions(model, self.on_replicas, strategy)
        names = evaluators.chosen(cfg.eval, methods.of(cfg).evaluators)
        self._evaluators = {name: evaluators.named(name) for name in names}
        self._cards = [pipeline.load_card(name, cfg.data_dir) for name in cfg.eval.input.name]
        self._words = self._vocabulary(model)
        if self._words is not None and cfg.mode != "eval":
            vocabularies.check_same(cfg.train.input, self._words)
        for card in self._cards:
            labelled = [m for m in features.modalities(card) if m in model.modalities]
            if retrieval.TASK in card.tasks:
                pipeline.check_split(card, cfg.eval.input.split)
                if self._words is not None and card.text and TEXT in model.modalities:
                    vocabulary.check_words(card, cfg.eval.input.split, self._words, FIELD)
            elif not labelled:
                probed = [features.TASKS[m] for m in features.TASKS if m in model.modalities]
                raise DataError(
                    f"eval.input.name: '{card.name}' serves {card.tasks}; pretraining is evaluated "
                    "by zero-shot retrieval and by probes, on sets whose card lists one of the "
                    f"tasks {', '.join((retrieval.TASK, *probed))}"
                )
            for split in (split for fold in card.folds() if labelled for split in fold):
                card.shards(split)  # probes read files: sets from code have none

    def _vocabulary(self, model: PretrainingModel) -> Vocabulary | None:
        """The words of captions and of names of classes; None where no text is read as numbers."""
        if tokens.of(self._cfg.eval.input) is not None:
            return None
        named = [card for card in self._cards if card.labels and "zero_shot" in self._evaluators]
        compared = any(
            features.pair_with_text(model.pairs, modality)
            for card in named
            for modality in features.modalities(card)
        )
        searched = TEXT in model.modalities and any(card.text for card in self._cards)
        if not (searched or compared):
            return None
        folder = fetched(self._cfg.checkpoint_path or self._rundir.checkpoints)
        return vocabularies.load(self._cfg.eval.input, folder if folder.is_dir() else folder.parent)

    def check(self, prefix: str | os.PathLike) -> None:
        """Raises DataError where the checkpoint knows other words than those of the sets."""
        if self._words is not None:
            vocabularies.check(prefix, self._words, FIELD)

    def measure(self, step: int, checkpoint: str) -> list[Measure]:
        """Evaluates on every set; keeps what the report shows."""
        subject: Subject[Pretrained] = Subject(
            cfg=self._cfg,
            input=self._cfg.eval.input,
            cards=self._cards,
            folder=self._rundir.path,
            step=step,
            checkpoint=checkpoint,
            model=self._functions,
        )
        found = [measure for run in self._evaluators.values() for measure in run(subject)]
        for name in {card.name for card in self._cards} - {measure.set for measure in found}:
            logging.warning("%s: nothing of it is measured by %s", name, [*self._evaluators])
        return found


class Functions:
    """A pretraining model as evaluators see it (`vatt.evaluators.subject.Pretrained`)."""

    def __init__(
        self,
        model: PretrainingModel,
        on_replicas: evaluator.OnReplicas,
        strategy: tf.distribute.Strategy,
    ) -> None:
        """Compiles nothing yet; the weights are those that the model has when it is called."""
        self._model, self._on_replicas, self._strategy = model, on_replicas, strategy
        self.modalities: Sequence[str] = model.modalities
        self.takes: Sequence[str] = model.takes
        self.pairs: Sequence[Pair] = model.pairs
        self.reconstruction_notes: Sequence[str] = model.reconstruction_notes

    def embed(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Returns embeddings `[rows, windows, d]` by key."""
        return self._on_replicas(self._embed, inputs)

    def encode(self, modality: str, clips: np.ndarray) -> Arrays:
        """Returns pooled features and embeddings of one modality, `[rows, windows, d]` by key."""
        return self._on_replicas(self._encode, {modality: clips})

    def attend(self, modality: str, clips: np.ndarray) -> np.ndarray | None:
        """Returns attention of the last layer's aggregation token, None where there is none."""
        tower = self._model.backbone(modality)
        if not hasattr(tower, "aggregation"):
            return None
        outputs = tower(tf.constant(clips), training=False, intermediates=True)
        return attention.of_aggregation_token(
            outputs["attention_weights"][-1].numpy(), tower.patches.grid(clips.shape)
        )

    def reconstruct(self, inputs: Mapping[str, np.ndarray], seed: int) -> dict[str, Arrays]:
        """Returns what is predicted of masked clips `[rows, ...]`, by modality."""
        found = self._reconstruct(dict(inputs), tf.constant([seed, 0]))
        return {m: {name: x.numpy() for name, x in of.items()} for m, of in found.items()}

    @tf.function(autograph=False)
    def _reconstruct(
        self, inputs: Mapping[str, tf.Tensor], seed: tf.Tensor
    ) -> dict[str, dict[str, tf.Tensor]]:
        return self._model.reconstructions(inputs, Randomness(seed))

    @tf.function(autograph=False)
    def _embed(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._strategy.run(self._embed_replica, args=(inputs,))

    def _embed_replica(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        embeddings = self._model.embed(self._model.towers(_without_windows(inputs)))
        return _with_windows(embeddings, inputs)

    @tf.function(autograph=False)
    def _encode(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._strategy.run(self._encode_replica, args=(inputs,))

    def _encode_replica(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return _with_windows(self.of_rows(_without_windows(inputs)), inputs)

    def of_rows(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns what `encode` does, of rows of one modality, in a graph: `[rows, d]` by key."""
        ((modality, _),) = inputs.items()
        towers = self._model.towers(inputs)
        found = {**self._model.embed(towers), POOLED: towers[modality][POOLED]}
        return {key: tf.cast(value, tf.float32) for key, value in found.items()}


def _without_windows(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Windows of clips as rows."""
    return {key: tf.reshape(value, [-1, *value.shape[2:]]) for key, value in inputs.items()}


def _with_windows(
    outputs: Mapping[str, tf.Tensor], inputs: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Rows `[rows * windows, d]` as windows `[rows, windows, d]` of the clips they are made of."""
    rows = next(iter(inputs.values())).shape[0]
    return {key: tf.reshape(x, [rows, -1, x.shape[-1]]) for key, x in outputs.items()}
