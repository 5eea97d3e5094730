"""Contrastive pretraining: batches, model, losses (`executor.py` runs them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.data import embeddings, pipeline, text
from vatt.data.bad_records import BadRecords
from vatt.experiments import executor
from vatt.experiments.pretrain_eval import Evaluator
from vatt.modeling import factory, flops
from vatt.modeling.random import Randomness
from vatt.objectives import contrastive
from vatt.training import loop, optimizers, transfer


class PretrainRecipe:
    """VATT's method for the loop: towers, head, and contrastive losses over the global batch."""

    def __init__(self, cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy) -> None:
        """Builds model and optimizer under `strategy`."""
        self._cfg, self._input = cfg, cfg.train.input
        self._shapes = pipeline.describe(self._input, cfg.data_dir)
        self.ledger = BadRecords.of_run(cfg.model_dir, self._input)
        words = text.load_vocabulary(self._input)
        backbone = cfg.model.backbone_config
        words.check_fits(backbone.vocab_size, backbone.word_embeddings)
        self.model = build_model(cfg, self._shapes, strategy)
        with strategy.scope():
            self.optimizer = optimizers.build(cfg.train.optimizer, name="optimizer")
        self.files: dict[str, str] = {}
        self._objective = contrastive.build(cfg.model.loss_config)
        self.loss_names = self._objective.names
        self.flops_per_step = flops.pretraining_step(
            cfg.model.backbone_config, self._shapes, self._input.batch_size
        )
        self._towers = (
            tf.function(self._run_towers, jit_compile=True) if cfg.jit_compile else self._run_towers
        )

    def gradient_groups(self) -> list[loop.Group]:
        """All variables together."""
        variables = self.model.trainable_variables
        return [loop.Group("model", variables, self._cfg.train.gradient_clip_norm)]

    def initialise(self, checkpoint: str | None) -> None:
        """Takes all weights from a checkpoint, or the word embeddings from their table."""
        if checkpoint:
            report = transfer.load(checkpoint, self.model)
            logging.info("initialised from %s, training from step 0", report.table())
            return
        logging.info("initialised at random, seed %d", self._cfg.seed)
        table = self.model.text.embedding.embeddings
        name = self._cfg.model.backbone_config.word_embeddings
        if name:
            table.assign(embeddings.load_word_embeddings(name, *table.shape))
        elif not self.model.text.embedding.trainable:
            logging.warning(
                "word embeddings are frozen at random values: name pretrained ones in"
                " word_embeddings of the text model, or set trainable_embeddings"
                " (misc_data/README.md)"
            )

    def batches(self, start_step: int, worker: tuple[int, int]) -> tf.data.Dataset:
        """Rows of a worker of the global batches from `start_step` on."""
        return pipeline.pretrain_batches(
            self._input,
            data_dir=self._cfg.data_dir,
            seed=self._cfg.seed,
            start_step=start_step,
            worker=worker,
            ledger=self.ledger,
        )

    def check_input(self) -> None:
        """Raises DataError when too many records were bad."""
        self.ledger.check()

    def losses(self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """Losses of this replica's rows against the candidates of all replicas."""
        context = tf.distribute.get_replica_context()
        replicas, replica = context.num_replicas_in_sync, context.replica_id_in_sync_group
        rows = self._input.batch_size // replicas
        features = self._towers(
            tf.ensure_shape(batch["video"], [rows, *self._shapes["video"]]),
            tf.ensure_shape(batch["audio"], [rows, *self._shapes["audio"]]),
            tf.reshape(batch["text"], [-1, self._shapes["text"][-1]]),
            seed,
            tf.cast(replica, tf.int32) * rows,
        )
        head = self.model.head(features, training=True)

        def gather(x: tf.Tensor) -> tf.Tensor:
            if replicas == 1:
                return x
            gathered = context.all_gather(tf.cast(x, tf.float32), axis=0)
            return tf.ensure_shape(gathered, [x.shape[0] * replicas, *x.shape[1:]])

        masks = {name: tf.ensure_shape(batch[f"{name}_mask"], [rows]) for name in ("audio", "text")}
        return self._objective(head, masks, gather)

    def _run_towers(self, video, audio, text, seed, first_row):
        rng = Randomness(seed, first_row=first_row)
        inputs = {"video": video, "audio": audio, "text": text}
        return self.model.towers(inputs, training=True, rng=rng)


def build_model(
    cfg: configs.ExperimentConfig,
    shapes: Mapping[str, tuple[int, ...]],
    strategy: tf.distribute.Strategy,
) -> keras.Model:
    """Builds the multimodal model and all its variables under `strategy`.

    `shapes` are per clip: video `(frames, height, width, 3)`, audio `(samples, 1)`, text
    `(candidates, words)`.
    """
    keras.utils.set_random_seed(cfg.seed)
    with strategy.scope():
        model = factory.build_multimodal(cfg.model, dtype=cfg.precision)
        model.build_from(
            {
                "video": (None, *shapes["video"]),
                "audio": (None, *shapes["audio"]),
                "text": (None, shapes["text"][-1]),
            }
        )
    return model


class Pretrain:
    """The task of contrastive pretraining."""

    recipe = PretrainRecipe
    evaluator = Evaluator

    @staticmethod
    def model(cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy) -> keras.Model:
        """Builds the model for the clips that evaluation reads."""
        return build_model(cfg, pipeline.describe(cfg.eval.input, cfg.data_dir), strategy)


def run(cfg: configs.ExperimentConfig, command: Sequence[str] = (), **kwargs: bool) -> int:
    """Runs `cfg.mode` and returns the exit code; see `executor.run`."""
    return executor.run(cfg, Pretrain(), command, **kwargs)
