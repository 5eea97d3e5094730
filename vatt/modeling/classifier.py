"""The fine-tuning model: a backbone with a classifier on its pooled features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from vatt.errors import UserError
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.layers.projection import unit_length
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Tensor


def initial_bias(num_classes: int, multi_label: bool) -> float:
    """Returns the classifier's first bias.

    A clip has few of many labels: the bias starts every probability at 1 / num_classes.
    """
    return -math.log(num_classes - 1) if multi_label else 0.0


@keras.saving.register_keras_serializable("vatt")
class ClassificationModel(keras.Model):
    """A backbone and a classifier: one class per clip (softmax), or any number (sigmoid).

    The classifier works in float32 whatever the precision of the backbone.

    Args:
      backbone: layer with `features_dim` that gives `features_pooled` `[batch, features_dim]`
        and `features`; one that pools modalities apart gives `pooled_by_modality`, too, and each
        of these is classified.
      num_classes: width of the logits.
      modalities: what the backbone takes. With one the inputs are an array, with several a
        mapping of arrays by modality.
      multi_label: whether a clip may have any number of classes; decides the initialisation too.
      l2_norm: whether the pooled feature is brought to length 1.
      dropout_rate: share of it that is zeroed in training, after that.
      norm: options of batch normalisation between dropout and the dense layer, None for none.
      representation: units of a dense layer with tanh before the last one, None for none.
      initializer: of the last dense layer's kernel; None has that of the published VATT.
      prior_bias: whether the first bias is `initial_bias`; else it is 0.
      num_test_samples: outside training, that many consecutive rows are windows of one sample and
        their logits are averaged.
      average_probabilities: their probabilities are averaged instead; logits are those of the
        average.
      name: prefix of every variable path.

    Raises:
      UserError: an argument out of range.
    """

    def __init__(
        self,
        backbone: keras.layers.Layer,
        num_classes: int,
        modalities: Sequence[str],
        *,
        multi_label: bool = False,
        l2_norm: bool = False,
        dropout_rate: float = 0.0,
        norm: batch_norm.NormOptions | None = None,
        representation: int | None = None,
        initializer: str | None = None,
        prior_bias: bool = True,
        num_test_samples: int = 1,
        average_probabilities: bool = False,
        name: str,
        dtype: DType = "float32",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        _check(num_classes, modalities, dropout_rate, num_test_samples)
        self.backbone = backbone
        self.num_classes, self.multi_label = num_classes, multi_label
        self.modalities = tuple(modalities)
        self.l2_norm, self.norm, self.initializer = l2_norm, norm and dict(norm), initializer
        self.dropout_rate, self.num_test_samples = dropout_rate, num_test_samples
        self.prior_bias, self.average_probabilities = prior_bias, average_probabilities
        self.units = representation
        self.classification_norm = (
            None if norm is None else batch_norm.make(norm, "classification_norm")
        )
        self.representation = representation and keras.layers.Dense(
            representation, "tanh", name="representation", dtype="float32"
        )
        bias = initial_bias(num_classes, multi_label) if prior_bias else 0.0
        self.classification = keras.layers.Dense(
            num_classes,
            kernel_initializer=initializer
            or ("glorot_uniform" if multi_label else "glorot_normal"),
            bias_initializer=keras.initializers.Constant(bias),
            name="classification",
            dtype="float32",
        )

    def build(self, input_shape: Sequence[int | None] | Mapping[str, Sequence[int | None]]) -> None:
        """Creates every variable, without running the model.

        Args:
          input_shape: `[batch, *axes, channels]`, by modality where there are several; only the
            channels matter.
        """
        several = isinstance(input_shape, Mapping)
        self.backbone.build(dict(input_shape) if several else tuple(input_shape))
        width = self.backbone.features_dim
        for layer in self.classifier_layers():
            layer.build((None, width))
            width = getattr(layer, "units", width)
        self.built = True

    def classifier_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers that the classifier consists of, in their order."""
        layers = (self.classification_norm, self.representation, self.classification)
        return [layer for layer in layers if layer is not None]

    def tower_paths(self) -> dict[str, dict[str, str]]:
        """Returns where the backbone's variables stand; see `PretrainingModel.tower_paths`."""
        return {"+".join(self.modalities): {"": f"{self.backbone.path}/"}}

    def call(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        training: bool = False,
        rng: Randomness | None = None,
    ) -> dict[str, Tensor]:
        """Classifies `inputs`, `[batch, *axes, channels]`, by modality where there are several.

        Returns:
          `logits` and `probabilities`, float32 `[batch, classes]`, outside training `[batch /
          num_test_samples, classes]`; `features_pooled` `[batch, d]` and `features`, the
          backbone's. In training `logits_by_modality`, whose mean `logits` are; with one feature
          for all modalities its only key is "".

        Raises:
          ValueError: outside training, rows that `num_test_samples` does not divide.
        """
        below = None if rng is None else rng.child("+".join(self.modalities))
        features = self.backbone(inputs, training=training, rng=below)
        pooled = features.get("pooled_by_modality", {"": features["features_pooled"]})
        apart = {m: self.classify(x, training, _at(rng, m)) for m, x in pooled.items()}
        logits = sum(apart.values()) / len(apart) if len(apart) > 1 else next(iter(apart.values()))
        if not training:
            logits = self._average(logits)
        return {
            **({"logits_by_modality": apart} if training else {}),
            "logits": logits,
            "probabilities": (ops.sigmoid if self.multi_label else ops.softmax)(logits),
            "features_pooled": features["features_pooled"],
            "features": features["features"],
        }

    def classify(self, pooled: Tensor, training: bool, rng: Randomness | None) -> Tensor:
        """Returns the logits of pooled features `[rows, d]`, `[rows, classes]`."""
        x = ops.cast(pooled, "float32")
        if self.l2_norm:
            x = unit_length(x)
        x = dropout(x, self.dropout_rate, training=training, rng=rng, name="classification")
        if self.classification_norm is not None:
            x = self.classification_norm(x, training=training)
        if self.representation is not None:
            x = self.representation(x)
        return self.classification(x)

    def _average(self, logits: Tensor) -> Tensor:
        """Averages the windows of a sample."""
        samples = self.num_test_samples
        if samples == 1:
            return logits
        rows = logits.shape[0]
        if rows is not None and rows % samples:
            raise ValueError(
                f"{rows} rows cannot be averaged in groups of num_test_samples = {samples}: "
                "give all windows of a sample in one batch"
            )
        windows = ops.reshape(logits, (-1, samples, self.num_classes))
        if not self.average_probabilities:
            return ops.mean(windows, axis=1)
        if not self.multi_label:
            return ops.logsumexp(ops.log_softmax(windows, axis=-1), axis=1) - math.log(samples)
        present, absent = (ops.logsumexp(ops.log_sigmoid(x), axis=1) for x in (windows, -windows))
        return present - absent

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal model."""
        fields = ("num_classes", "modalities", "multi_label", "l2_norm", "dropout_rate", "norm")
        fields += ("initializer", "prior_bias", "num_test_samples", "average_probabilities", "name")
        return {
            **{field: getattr(self, field) for field in fields},
            "representation": self.units,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ClassificationModel:
        """Rebuilds the model from `get_config`."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**{**config, "backbone": backbone})


def _at(rng: Randomness | None, modality: str) -> Randomness | None:
    """Returns the place of a modality's draws; that of the only feature is that of the model."""
    return child(rng, modality) if modality else rng


def _check(
    num_classes: int, modalities: Sequence[str], dropout_rate: float, num_test_samples: int
) -> None:
    if not modalities or isinstance(modalities, str):
        raise UserError(f"modalities: {modalities!r} is not a sequence of at least one name.")
    if num_classes < 2:
        raise UserError(f"num_classes: {num_classes} is not at least 2.")
    if not 0.0 <= dropout_rate < 1.0:
        raise UserError(f"dropout_rate: {dropout_rate} is not at least 0 and below 1.")
    if num_test_samples < 1:
        raise UserError(f"num_test_samples: {num_test_samples} is not at least 1.")
