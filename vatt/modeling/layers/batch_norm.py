"""Batch normalisation over every axis but the last, in float32 whatever the layer's precision."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import keras
from keras import ops

from vatt import configs
from vatt.modeling import replicas
from vatt.modeling.typing import DType, Tensor


class NormOptions(TypedDict):
    """Options of batch normalisation that all layers of a backbone or head have in common."""

    momentum: float
    epsilon: float
    scale: bool
    synchronized: bool
    unbiased: NotRequired[bool]  # as PyTorch; left out, as TensorFlow


@keras.saving.register_keras_serializable("vatt")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras' layer with the moving statistics of published code.

    All normalise with the biased variance of the batch, `sum / n`. The moving variance follows the
    unbiased one, `sum / (n - 1)`, in PyTorch (`unbiased`), n counted over all replicas where they
    are synchronised. In TensorFlow, the default, that is so for plain (not synchronised) layers on
    images and videos only, and the others follow the biased variance.

    Synchronised layers normalise with the statistics of the global batch. Plain ones normalise
    with what their own replica sees; their moving statistics are the mean over replicas.

    Attributes:
      frozen: statistics are not those of the batch in training either, and do not move (`freeze`).
    """

    def __init__(self, synchronized: bool = False, unbiased: bool = False, **kwargs: Any):
        # Only the TensorFlow backend reduces over replicas; under JAX the global batch is one
        # array anyway.
        reduces = synchronized and keras.backend.backend() == "tensorflow"
        super().__init__(synchronized=reduces, **kwargs)
        self._reduces, self.synchronized, self.unbiased = reduces, synchronized, unbiased
        self.frozen = False

    def add_weight(self, *args: Any, trainable: bool = True, **kwargs: Any) -> keras.Variable:
        """Creates a variable; moving statistics of plain layers are averaged over replicas."""
        if not trainable and not self.synchronized:
            kwargs["aggregation"] = "mean"
        return super().add_weight(*args, trainable=trainable, **kwargs)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Normalises `x`, `[batch, ..., features]`; with its own statistics in training.

        A layer that is not trainable, or frozen, uses and keeps its moving statistics.
        """
        x = ops.cast(x, "float32")
        if training and self.trainable and not self.frozen:
            mean, variance = self._moments(x)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance * self._correction(x))
        else:
            mean, variance = self.moving_mean, self.moving_variance
        outputs = ops.batch_normalization(
            x, mean, variance, axis=-1, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and variance of the batch, of all replicas' where they are synchronised."""
        if not (self.unbiased and self._reduces):
            if self.unbiased and len(x.shape) == 3 and x.shape[1] is not None:
                return _moments_over_time(x)
            return ops.moments(x, self._reduction_axes, synchronized=self._reduces)
        # First of this replica, because Keras' over all are E(x^2) - E(x)^2, which is imprecise.
        own = ops.stack(ops.moments(x, self._reduction_axes))
        means, between = ops.moments(own[None], [0], synchronized=True)
        return means[0], means[1] + between[0]

    def _correction(self, x: Tensor) -> Tensor | float:
        """Returns the factor from the biased variance to the one that is kept."""
        if not self.unbiased and (self.synchronized or len(x.shape) < 4):
            return 1.0
        n = ops.cast(ops.size(x), "float32") / x.shape[-1]
        n *= replicas.count() if self._reduces else 1
        return n / ops.maximum(n - 1.0, 1.0)

    def _move(self, variable: keras.Variable, value: Tensor) -> None:
        variable.assign(variable * self.momentum + value * (1.0 - self.momentum))


def freeze(model: keras.Layer) -> int:
    """Freezes the statistics of every batch norm in a model; scales and offsets stay trainable.

    Returns how many there are.
    """
    found = [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]
    for layer in found:
        layer.frozen = True
    return len(found)


def _moments_over_time(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and variance, `[channels]`, of `x`, `[rows, times, channels]`.

    Sums over short stretches first, as TensorFlow on CPUs adds value to value: over hundreds of
    times the rounding of that is larger than PyTorch's, which adds in double precision.
    """
    rows, times, channels = ops.shape(x)[0], x.shape[1], x.shape[2]
    stretch = max(n for n in range(1, 33) if times % n == 0)

    def mean(values: Tensor) -> Tensor:
        parts = ops.reshape(values, (rows, times // stretch, stretch, channels))
        return ops.mean(ops.mean(ops.mean(parts, axis=2), axis=1), axis=0)

    middle = mean(x)
    return middle, mean(ops.square(x - ops.stop_gradient(middle)))


def options(config: configs.video.I3D | configs.audio.Resnet2DBase) -> NormOptions:
    """Returns the options of `make` that a convolutional backbone's config holds."""
    return {
        "momentum": config.batch_norm_decay,
        "epsilon": config.batch_norm_epsilon,
        "scale": config.batch_norm_scale,
        "synchronized": config.use_xreplica_bn,
    }


def make(
    options: NormOptions, name: str, dtype: DType = "float32", gamma_initializer: str = "ones"
) -> BatchNorm:
    """Returns a layer with `options`.

    `dtype` is that of the outputs: 'float32' or 'mixed_bfloat16'. Variables are float32.
    """
    return BatchNorm(**options, gamma_initializer=gamma_initializer, name=name, dtype=dtype)
