"""Pretraining by any method: examples -> features -> training outputs -> objective."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from absl import logging

from vatt import methods
from vatt.configs import experiment
from vatt.data import pipeline
from vatt.experiments import media_settings, vocabularies
from vatt.experiments.pretrain_eval import Evaluator
from vatt.experiments.recipe import ExamplesRecipe
from vatt.modeling import flops
from vatt.modeling.layers import encoder
from vatt.modeling.pretraining import Features, PretrainingModel
from vatt.modeling.random import Randomness
from vatt.training import layouts, loop, micro_batches, optimizers, transfer

Shapes = Mapping[str, tuple[int, ...]]


class PretrainRecipe(ExamplesRecipe):
    """A method, for the loop: its examples, its model, its objective over the global batch."""

    def __init__(self, cfg: experiment.Pretrain, strategy: tf.distribute.Strategy) -> None:
        """Builds model and optimizer under `strategy`."""
        self._method = methods.of(cfg)
        super().__init__(cfg, self._method.examples(cfg))
        self._words = self._examples.vocabulary
        self.files = {} if self._words is None else {vocabularies.FILE: self._words.text}
        self.model = build_model(cfg, self.shapes, strategy)
        self._freeze(self.model)
        self.optimizer = optimizers.of_run(cfg.train.optimizer, strategy)
        self._objective = self._method.objective(cfg.model)
        self.loss_names = self._objective.names
        cost = flops.pretraining_step(self.model, self.shapes)
        self.flops_per_step = self.batch_size * cost
        self._towers = self._run_towers
        if cfg.jit_compile:
            self._towers = tf.function(self._run_towers, jit_compile=True, autograph=False)
        if (parts := cfg.train.micro_batches) > 1:
            with strategy.scope():
                self._towers = micro_batches.InParts(self._towers, parts, self.model)

    @functools.cached_property
    def checkpoint_metadata(self) -> dict[str, object]:
        """What the manifest of a checkpoint says of the model in it; reads cards of data sets."""
        arch, method = self._cfg.model_arch, self._method.name
        return {
            **vocabularies.metadata(self._words),
            **media_settings.metadata(self._cfg),
            **layouts.metadata(self.model, layouts.PRETRAIN, arch, method),
        }

    def parameter_groups(self) -> Sequence[loop.ParameterGroup]:
        """All variables together."""
        variables = self.model.trainable_variables
        return [loop.ParameterGroup("model", variables, self._cfg.train.gradient_clip_norm)]

    def initialise(self, checkpoint: str | None) -> None:
        """Takes all weights from a checkpoint, or first values as the method has them."""
        if checkpoint:
            report = transfer.load(checkpoint, self.model)
            if self._words and (wrong := vocabularies.differs(report.source.prefix, self._words)):
                logging.warning("train.input.vocabulary: %s", wrong)
            logging.info("initialised from %s, training from step 0", report.table())
            return
        logging.info("initialised at random, seed %d", self._cfg.seed)
        self._method.initialise(self.model, self._cfg.model)

    def losses(self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """Losses of this replica's rows, which the objective compares with those of all."""
        batch, this, first_row = self._own_rows(batch)
        inputs = {name: batch[name] for name in self.model.takes}
        features = self._towers(inputs, seed, first_row)
        rng = Randomness(seed, first_row=first_row)
        outputs = self.model.train_outputs(features, rng)
        return self._objective(outputs, batch, this, rng)

    def _run_towers(
        self, inputs: Mapping[str, tf.Tensor], seed: tf.Tensor, first_row: tf.Tensor
    ) -> Features:
        rng = Randomness(seed, first_row=first_row)
        with encoder.recomputed(self._cfg.train.remat):
            return self.model.towers(inputs, training=True, rng=rng)


def build_model(
    cfg: experiment.Pretrain, shapes: Shapes, strategy: tf.distribute.Strategy
) -> PretrainingModel:
    """Builds the model of a run and all its variables under `strategy`.

    `shapes` are those of an example by name.
    """
    keras.utils.set_random_seed(cfg.seed)
    with strategy.scope():
        return methods.of(cfg).model(cfg.model, shapes, cfg.precision)


class Pretrain:
    """The task of pretraining."""

    recipe = PretrainRecipe
    evaluator = Evaluator

    @staticmethod
    def model(cfg: experiment.Pretrain, strategy: tf.distribute.Strategy) -> PretrainingModel:
        """Builds the model for the clips that evaluation reads."""
        pipeline.load_cards(cfg.eval.input, cfg.data_dir)
        return build_model(cfg, pipeline.clip_shapes(cfg.eval.input), strategy)
