"""Projection heads: from the pooled features of a backbone to a space where they are compared."""

from __future__ import annotations

from typing import Unpack

import keras
from keras import ops

from vatt.configs.model import ProjectionConfig
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.dense import FanInDense
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Shape, Tensor

NORM_EPSILON = 1e-12  # least length that a vector is divided by


@keras.saving.register_keras_serializable("vatt")
class ProjectionHead(ConfiguredLayer):
    """`dropout -> dense without bias -> batch norm -> relu -> dropout -> dense`, then length 1.

    Works in float32 whatever the precision of the backbone: it is small, and losses need it.

    Args:
      d_model: width of the space.
      d_hidden: width of the hidden layer; None for a single dense layer, with bias and without
        dropout.
      norm: options of batch normalisation.
      dropout_rate: before each dense layer.
      normalise: whether embeddings are brought to length 1.
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int | None,
        norm: batch_norm.NormOptions,
        dropout_rate: float = 0.3,
        normalise: bool = True,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.dropout_rate, self.normalise = dropout_rate, normalise
        self.hidden = self.norm = None
        self.last = FanInDense(
            d_model, name="linear" if d_hidden is None else "output", dtype="float32"
        )
        if d_hidden is not None:
            self.hidden = FanInDense(d_hidden, use_bias=False, name="hidden", dtype="float32")
            self.norm = batch_norm.make(norm, "norm")

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[rows, features]`."""
        if self.hidden is not None:
            self.hidden.build(input_shape)
            input_shape = (*input_shape[:-1], self.hidden.units)
            self.norm.build(input_shape)
        self.last.build(input_shape)

    def call(self, x: Tensor, training: bool = False, rng: Randomness | None = None) -> Tensor:
        """Maps features `[rows, d]` to embeddings `[rows, d_model]`; `rng` is of these rows."""
        x = ops.cast(x, "float32")
        if self.hidden is not None:
            x = self._drop(x, training, rng, "features")
            x = ops.relu(self.norm(self.hidden(x), training=training))
            x = self._drop(x, training, rng, "hidden")
        x = self.last(x)
        return unit_length(x) if self.normalise else x

    def _drop(self, x: Tensor, training: bool, rng: Randomness | None, name: str) -> Tensor:
        return dropout(x, self.dropout_rate, training=training, rng=rng, name=name)


def unit_length(x: Tensor) -> Tensor:
    """Returns `x / max(|x|, 1e-12)` along the last axis; zero rows stay zero."""
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, NORM_EPSILON**2))


def build(config: ProjectionConfig, name: str) -> ProjectionHead:
    """Returns the head of a configuration; its batch norm keeps statistics as PyTorch's does."""
    norm: batch_norm.NormOptions = {
        "momentum": config.batch_norm_decay,
        "epsilon": config.batch_norm_epsilon,
        "scale": True,
        "synchronized": config.use_xreplica_bn,
        "unbiased": True,
    }
    return ProjectionHead(
        config.d_model,
        config.d_hidden if config.use_mlp else None,
        norm,
        config.dropout_rate,
        config.norm_feat,
        name=name,
    )
