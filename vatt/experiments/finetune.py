"""Fine-tuning of a classifier on a backbone: batches, model, losses (`executor.py` runs them).

What the clips hold is up to the architecture; whether a clip has one class or any number, up to the
card of the set.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from absl import logging

from vatt.configs import experiment
from vatt.data import pipeline
from vatt.data.examples import LabelledClips, label_of
from vatt.data.features import LABEL
from vatt.errors import UserError
from vatt.experiments import labelled, media_settings
from vatt.experiments.finetune_eval import LABELS_FILE, Evaluator
from vatt.experiments.recipe import ExamplesRecipe
from vatt.modeling import factory, flops
from vatt.modeling.layers import encoder
from vatt.modeling.random import Randomness
from vatt.objectives import classification
from vatt.objectives.replica import Replica
from vatt.training import layouts, loop, optimizers, transfer

# Beside the losses, of sets with several labels per clip and of those with one.
METRICS = {True: ("binary_cross_entropy",), False: ("top_1_accuracy", "top_5_accuracy")}


class FinetuneRecipe(ExamplesRecipe):
    """A backbone and a classifier on it; with `freeze_backbone` only the latter is trained."""

    def __init__(self, cfg: experiment.Finetune, strategy: tf.distribute.Strategy) -> None:
        """Builds model and optimizer under `strategy`."""
        self._set = opened = labelled.open_set(cfg, "train")
        super().__init__(cfg, LabelledClips(opened.input, opened.card, opened.modalities))
        sides = labelled.mirrored(opened.labels) if "video" in opened.modalities else []
        if sides and opened.input.horizontal_flip:
            logging.warning(
                "classes %s differ by side only, and half of the training clips are mirrored: they "
                "cannot be learned unless train.input.horizontal_flip=false",
                " and ".join(sides),
            )
        self.model = build_model(cfg, self._set, strategy)
        self._freeze(self.model)
        self.optimizer = optimizers.of_run(cfg.train.optimizer, strategy)
        self.files = {LABELS_FILE: "".join(f"{name}\n" for name in self._set.labels)}
        losses = ("model_loss", "regularization_loss", "total_loss")
        self.loss_names = (*losses, *METRICS[self._set.card.multi_label])
        cost = flops.classification_step(self.model, self.shapes)
        self.flops_per_step = self.batch_size * cost
        self._classify = (
            tf.function(self._run_model, jit_compile=True, autograph=False)
            if cfg.jit_compile
            else self._run_model
        )

    @functools.cached_property
    def checkpoint_metadata(self) -> dict[str, object]:
        """What the manifest of a checkpoint says of the model in it; reads cards of data sets."""
        return {
            **labelled.metadata(self._set.card),
            **media_settings.metadata(self._cfg),
            **layouts.metadata(self.model, layouts.FINETUNE, self._cfg.model_arch),
        }

    def parameter_groups(self) -> Sequence[loop.ParameterGroup]:
        """Backbone and classifier, each clipped by its own norm or both by one.

        Layers may have rates of their own.
        """
        train, backbone = self._cfg.train, self.model.backbone
        scales = {variable.path: train.backbone_rate for variable in backbone.trainable_variables}
        if train.pooling_rate is not None:
            pooled = backbone.pooling.trainable_variables
            scales |= {variable.path: train.pooling_rate for variable in pooled}
        if train.layer_decay != 1:
            layers = optimizers.layer_scales(backbone, train.layer_decay)
            scales = {path: scale * layers[path] for path, scale in scales.items()}
        norms = (train.gradient_clip_norm, train.gradient_clip_norm_cls or 0.0)
        classifier = [
            v for part in self.model.classifier_layers() for v in part.trainable_variables
        ]
        if train.clip_together:
            variables = [*backbone.trainable_variables, *classifier]
            return [loop.ParameterGroup("all", variables, norms[0], scales)]
        groups = [
            loop.ParameterGroup("backbone", backbone.trainable_variables, norms[0], scales),
            loop.ParameterGroup("classifier", classifier, norms[1]),
        ]
        return [group for group in groups if group.variables]

    def initialise(self, checkpoint: str | None) -> None:
        """Takes the backbone from a checkpoint, the classifier too where it has the same size."""
        if not checkpoint:
            logging.info("initialised at random, seed %d", self._cfg.seed)
            return
        report = transfer.transfer(checkpoint, self.model)
        logging.info("initialised from %s, training from step 0", report.table())

    def losses(self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """Losses of this replica's rows; rarity weights count the labels of all replicas."""
        batch, this, first_row = self._own_rows(batch)
        inputs = {modality: batch[modality] for modality in self._set.modalities}
        apart = self._classify(inputs, seed, first_row)
        own = {modality: batch.get(label_of(modality)) for modality in apart}
        truth = {m: batch[LABEL] if y is None else y for m, y in own.items()}
        # One loss for each feature that is classified; the figures are of their means.
        losses = [self._model_loss(x, truth[m], this) for m, x in apart.items()]
        model_loss = sum(losses) / len(losses)
        logits, labels = (sum(x.values()) / len(x) for x in (apart, truth))
        if self._set.card.multi_label:
            metrics = [tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))]
        else:
            metrics = [_top_k(logits, labels, k) for k in (1, 5)]
        regularization = sum(self.model.losses, tf.zeros([])) / 2.0
        found = {
            "model_loss": model_loss,
            "regularization_loss": regularization,
            "total_loss": model_loss + regularization,
        }
        return found | dict(zip(METRICS[self._set.card.multi_label], metrics, strict=True))

    def _model_loss(self, logits: tf.Tensor, labels: tf.Tensor, this: Replica) -> tf.Tensor:
        if not self._set.card.multi_label:
            return classification.softmax_loss(logits, labels)
        if not self._cfg.train.rarity_weights:
            return classification.sigmoid_loss(logits, labels, rarity=False)
        counts = classification.count_labels(labels, this)
        return classification.sigmoid_loss(logits, labels, counts)

    def _run_model(
        self, inputs: Mapping[str, tf.Tensor], seed: tf.Tensor, first_row: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        clips = labelled.as_inputs(inputs)
        rng = Randomness(seed, first_row=first_row)
        with encoder.recomputed(self._cfg.train.remat):
            return self.model(clips, training=True, rng=rng)["logits_by_modality"]


def _top_k(logits: tf.Tensor, labels: tf.Tensor, k: int) -> tf.Tensor:
    """Share of rows whose largest label (mixed ones have several) is among the k largest logits."""
    truth = tf.argmax(labels, axis=-1)
    return tf.reduce_mean(tf.cast(tf.math.in_top_k(truth, logits, k), tf.float32))


def build_model(
    cfg: experiment.Finetune,
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
    shapes = pipeline.clip_shapes(labelled_set.input)
    with strategy.scope():
        built = factory.build_classifier(
            model.model_copy(update={"num_test_samples": windows}),
            num_classes=labelled_set.classes,
            multi_label=labelled_set.card.multi_label,
            dtype=cfg.precision,
        )
        built.build(labelled.as_inputs({m: (None, *shapes[m]) for m in labelled_set.modalities}))
    return built


class Finetune:
    """The task of fine-tuning."""

    recipe = FinetuneRecipe
    evaluator = Evaluator

    @staticmethod
    def model(cfg: experiment.Finetune, strategy: tf.distribute.Strategy) -> keras.Model:
        """Builds the classifier for the set that it is evaluated on."""
        return build_model(cfg, labelled.open_set(cfg, "eval"), strategy)
