"""Normalisation over the last axis, computed in float32 whatever the precision of the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import keras
from keras import ops

from vatt.modeling.layers import gradients
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.typing import DType, Shape, Tensor


@keras.saving.register_keras_serializable("vatt")
class RMSNorm(ConfiguredLayer):
    """`x / sqrt(mean(x^2) + epsilon) * weight`: no mean subtraction, no offset (T5)."""

    def __init__(self, epsilon: float = 1e-6, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        """Creates `weight [features]`."""
        self.weight = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="weight")

    def call(self, x: Tensor) -> Tensor:
        """Normalises the last axis of `x`."""
        wide = ops.cast(x, "float32")
        scale = ops.rsqrt(ops.mean(ops.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(wide * scale * ops.cast(self.weight, "float32"), self.compute_dtype)


@keras.saving.register_keras_serializable("vatt")
class LayerNorm(ConfiguredLayer):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`.

    With its own gradient: Keras' layer differentiates through every step of the formula, which
    takes twice the passes over memory and keeps more of them.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        """Creates `gamma` and `beta`, `[features]`."""
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="beta")

    def call(self, x: Tensor) -> Tensor:
        """Normalises the last axis of `x`."""
        gamma, beta = (ops.convert_to_tensor(v) for v in (self.gamma, self.beta))
        wide = (ops.cast(value, "float32") for value in (x, gamma, beta))
        return ops.cast(_layer_norm(*wide, self.epsilon), self.compute_dtype)


def _layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    @gradients.custom
    def normalise(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        scale = ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + epsilon)
        unit = centred * scale

        def gradient(
            *arguments: Tensor, upstream: Tensor | None = None
        ) -> tuple[Tensor, Tensor, Tensor]:
            upstream = arguments[0] if upstream is None else upstream
            rows = tuple(range(len(x.shape) - 1))
            inner = upstream * gamma
            along = unit * ops.mean(inner * unit, axis=-1, keepdims=True)
            by_x = (inner - ops.mean(inner, axis=-1, keepdims=True) - along) * scale
            return by_x, ops.sum(upstream * unit, axis=rows), ops.sum(upstream, axis=rows)

        return unit * gamma + beta, gradient

    return normalise(x, gamma, beta)


def make(kind: str, *, epsilon: float, name: str, dtype: DType) -> RMSNorm | LayerNorm:
    """Returns a normalisation layer: 'layer' (mean and variance, gamma and beta) or 'rms'."""
    if kind == "rms":
        return RMSNorm(epsilon=epsilon, name=name, dtype=dtype)
    if kind == "layer":
        return LayerNorm(epsilon=epsilon, name=name, dtype=dtype)
    raise ValueError(f"norm: {kind!r} is not one of ['layer', 'rms']")
