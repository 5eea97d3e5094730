"""Fine-tuning of a classifier on a backbone: batches, model, losses (`executor.py` runs them).

The modality is that of the architecture: a video backbone learns one class per clip or picture, an
audio backbone any number of classes per sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.data import pipeline
from vatt.data.bad_records import BadRecords
from vatt.errors import UserError
from vatt.experiments import executor, labelled
from vatt.experiments.finetune_eval import LABELS_FILE, Evaluator
from vatt.modeling import factory, flops
from vatt.modeling.random import Randomness
from vatt.objectives import classification
from vatt.training import loop, optimizers, transfer

METRICS = {"video": ("top_1_accuracy", "top_5_accuracy"), "audio": ("binary_cross_entropy",)}


class FinetuneRecipe:
    """A backbone and a classifier on it; with `freeze_backbone` only the latter is trained."""

    def __init__(self, cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy) -> None:
        """Builds model and optimizer under `strategy`."""
        self._cfg, self._set = cfg, labelled.open_set(cfg, "train")
        self._input, self._modality = self._set.input, self._set.modality
        self._shape = pipeline.clip_shapes(self._input)[self._modality]
        self.ledger = BadRecords.of_run(cfg.model_dir, self._input)
        self.model = build_model(cfg, self._set, strategy)
        with strategy.scope():
            self.optimizer = optimizers.build(cfg.train.optimizer, name="optimizer")
        if cfg.train.layer_decay != 1:
            backbone = self.model.backbone
            self.optimizer.rate_scales = optimizers.layer_scales(backbone, cfg.train.layer_decay)
        self.files = {LABELS_FILE: "".join(f"{name}\n" for name in self._set.labels)}
        losses = ("model_loss", "regularization_loss", "total_loss")
        self.loss_names = (*losses, *METRICS[self._modality])
        rows = self._input.batch_size
        self.flops_per_step = rows * flops.classification_step(self.model, self._shape)
        self._classify = (
            tf.function(self._run_model, jit_compile=True) if cfg.jit_compile else self._run_model
        )

    def gradient_groups(self) -> list[loop.Group]:
        """Backbone and classifier, each clipped by its own norm."""
        train, backbone = self._cfg.train, self.model.backbone.trainable_variables
        classifier = self.model.classification.trainable_variables
        groups = [
            loop.Group("backbone", backbone, train.gradient_clip_norm),
            loop.Group("classifier", classifier, train.gradient_clip_norm_cls or 0.0),
        ]
        return [group for group in groups if group.variables]

    def initialise(self, checkpoint: str | None) -> None:
        """Takes the backbone from a checkpoint, the classifier too where it has the same size."""
        if not checkpoint:
            logging.info("initialised at random, seed %d", self._cfg.seed)
            return
        report = transfer.transfer(checkpoint, self.model)
        logging.info("initialised from %s, training from step 0", report.table())

    def batches(self, start_step: int, worker: tuple[int, int]) -> tf.data.Dataset:
        """Rows of a worker of the global batches from `start_step` on."""
        return pipeline.finetune_batches(
            self._input,
            self._modality,
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
        """Losses of this replica's rows; rarity weights count the labels of all replicas."""
        context = tf.distribute.get_replica_context()
        replicas, replica = context.num_replicas_in_sync, context.replica_id_in_sync_group
        rows = self._input.batch_size // replicas
        labels = tf.ensure_shape(batch["label"], [rows, self._set.classes])
        logits = self._classify(
            tf.ensure_shape(batch[self._modality], [rows, *self._shape]),
            seed,
            tf.cast(replica, tf.int32) * rows,
        )

        def gather(x: tf.Tensor) -> tf.Tensor:
            return x if replicas == 1 else context.all_gather(x, axis=0)

        if self._modality == "video":
            model_loss = classification.video_loss(logits, labels)
            metrics = [_top_k(logits, labels, k) for k in (1, 5)]
        else:
            counts = classification.count_labels(labels, gather)
            model_loss = classification.audio_loss(logits, labels, counts)
            metrics = [tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))]
        regularization = tf.add_n([tf.zeros([]), *self.model.losses]) / 2.0
        losses = {
            "model_loss": model_loss,
            "regularization_loss": regularization,
            "total_loss": model_loss + regularization,
        }
        return losses | dict(zip(METRICS[self._modality], metrics, strict=True))

    def _run_model(self, clips, seed, first_row):
        rng = Randomness(seed, first_row=first_row)
        return self.model(clips, training=True, rng=rng)["logits"]


def _top_k(logits: tf.Tensor, labels: tf.Tensor, k: int) -> tf.Tensor:
    """Share of rows whose largest label (mixed ones have several) is among the k largest logits."""
    truth = tf.argmax(labels, axis=-1)
    return tf.reduce_mean(tf.cast(tf.math.in_top_k(truth, logits, k), tf.float32))


def build_model(
    cfg: configs.ExperimentConfig,
    labelled_set: labelled.LabelledSet,
    strategy: tf.distribute.Strategy,
) -> keras.Model:
    """Builds the classifier of a set, and all its variables, under `strategy`.

    Raises:
      UserError: `model_config` says another number of classes or test samples than the data.
    """
    name, model = labelled_set.card.name, cfg.model
    if model.num_classes not in (None, labelled_set.classes):
        raise UserError(
            f"model_config.num_classes: {model.num_classes}, but data set '{name}' has "
            f"{labelled_set.classes} classes; leave it null, or give the set whose labels are meant"
        )
    windows = labelled.open_set(cfg, "eval").windows if cfg.mode != "train" else 1
    if model.num_test_samples not in (None, windows) and cfg.mode != "train":
        raise UserError(
            f"model_config.num_test_samples: {model.num_test_samples}, but eval.input makes "
            f"{windows} windows of a clip (num_windows_test, 3 times with multi_crop); leave it "
            "null"
        )
    keras.utils.set_random_seed(cfg.seed)
    with strategy.scope():
        built = factory.build_classifier(
            model.model_copy(update={"num_test_samples": windows}),
            num_classes=labelled_set.classes,
            dtype=cfg.precision,
        )
        built.build((None, *pipeline.clip_shapes(labelled_set.input)[labelled_set.modality]))
    return built


class Finetune:
    """The task of fine-tuning."""

    recipe = FinetuneRecipe
    evaluator = Evaluator

    @staticmethod
    def model(cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy) -> keras.Model:
        """Builds the classifier for the set that it is evaluated on."""
        return build_model(cfg, labelled.open_set(cfg, "eval"), strategy)


def run(cfg: configs.ExperimentConfig, command: Sequence[str] = (), **kwargs: bool) -> int:
    """Runs `cfg.mode` and returns the exit code; see `executor.run`."""
    return executor.run(cfg, Finetune(), command, **kwargs)
