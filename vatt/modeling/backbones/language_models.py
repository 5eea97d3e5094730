"""Base language models: T5's encoder, BERT's and a linear layer for each word.

Each maps tokens `[batch, tokens, features]` and a token mask `[batch, tokens]` (0 = padding) to its
states and, if asked for, each block's attention probabilities; `d_model` is the width of the
states. `text.py` puts words before them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias, Unpack

import keras
import numpy as np
from keras import ops

from vatt.modeling.layers.attention import padding_bias
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.positions import Positions
from vatt.modeling.layers.tokens import AggregationToken, TokenMasking, with_first
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import Shape, Tensor

T5_OPTIONS = {"pre_norm": True, "use_bias": False, "scaled": False, "attention_norm": "rms"}
BERT_POSITIONS = 16  # rows of BERT's position table; the published config has no field for it


def relative_buckets(
    relative: np.ndarray, num_buckets: int, max_distance: int, bidirectional: bool = True
) -> np.ndarray:
    """Returns the bucket of each relative position (key index minus query index), int32.

    Near distances have a bucket each, far ones share logarithmically wider buckets up to
    `max_distance`.
    """
    distance = -np.asarray(relative, dtype=np.int64)
    base = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        base = np.where(distance < 0, num_buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(distance, 0)
    exact = num_buckets // 2
    # float32 as published: the rounding decides which bucket a boundary distance falls into.
    ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
    steps = (
        np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(num_buckets - exact)
    )
    far = np.minimum(exact + steps.astype(np.int64), num_buckets - 1)
    return (base + np.where(distance < exact, distance, far)).astype(np.int32)


@functools.cache
def _bucket_table(tokens: int, num_buckets: int, max_distance: int) -> np.ndarray:
    """Returns the bucket of every (query, key) pair, int32 `[tokens, tokens]`."""
    index = np.arange(tokens)
    return relative_buckets(index[None, :] - index[:, None], num_buckets, max_distance)


class EncoderModel(ConfiguredLayer):
    """What T5 and BERT share: tokens are prepared, each in its way, for one encoder."""

    d_model: int
    encoder: Encoder

    def call(
        self,
        x: Tensor,
        token_mask: Tensor,
        training: bool = False,
        rng: Randomness | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Encodes `x`, `[batch, tokens, d_model]`; `token_mask` `[batch, tokens]` is 0 for padding.

        Returns:
          Final states `[batch, tokens, d_model]`, an aggregation token's own first, and each
          block's attention probabilities if asked for.
        """
        x, bias = self.prepare(x, token_mask, training, rng)
        return self.encoder(
            x,
            bias=bias,
            training=training,
            rng=child(rng, "encoder"),
            return_weights=return_weights,
        )

    def prepare(
        self, x: Tensor, token_mask: Tensor, training: bool, rng: Randomness | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the encoder's inputs and the bias of its scores.

        Raises:
          NotImplementedError: the class has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `prepare`")


@keras.saving.register_keras_serializable("vatt")
class T5Encoder(EncoderModel):
    """The T5 encoder: RMS norms before attention, no biases, scores unscaled with a position bias.

    The bias table belongs to the model, not to a layer: every layer adds the same bias.

    Args:
      encoder: options of the encoder; those of `T5_OPTIONS` are T5's whatever is given.
      num_relative_buckets: rows of the bias table.
      max_relative_distance: distance from which all pairs share the last bucket.
    """

    def __init__(
        self,
        encoder: EncoderOptions | Mapping[str, Any],
        num_relative_buckets: int = 32,
        max_relative_distance: int = 64,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        options = dataclasses.replace(EncoderOptions.of(encoder), **T5_OPTIONS)
        self.d_model, self.num_heads = options.d_model, options.num_heads
        self.num_buckets, self.max_distance = num_relative_buckets, max_relative_distance
        self.dropout_rate = options.dropout_rate
        self.encoder = Encoder(options, name="encoder", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        """Creates the bias table and the encoder for inputs `[batch, tokens, d_model]`."""
        self.relative_bias = self.add_weight(
            shape=(self.num_buckets, self.num_heads), initializer="uniform", name="relative_bias"
        )
        self.encoder.build(input_shape)

    def prepare(
        self, x: Tensor, token_mask: Tensor, training: bool, rng: Randomness | None
    ) -> tuple[Tensor, Tensor]:
        """Returns tokens after dropout, and the bias of positions and padding."""
        buckets = _bucket_table(x.shape[1], self.num_buckets, self.max_distance)
        # A one-hot matmul instead of a lookup: its gradient is dense and the same on every backend.
        one_hot = np.eye(self.num_buckets, dtype="float32")[buckets]  # [tokens, tokens, buckets]
        table = ops.cast(self.relative_bias, "float32")
        relative = ops.transpose(ops.matmul(ops.convert_to_tensor(one_hot), table), (2, 0, 1))
        bias = relative[None] + padding_bias(token_mask)  # [batch, heads, tokens, tokens]
        return dropout(x, self.dropout_rate, training=training, rng=rng, name="inputs"), bias


@keras.saving.register_keras_serializable("vatt")
class BertEncoder(EncoderModel):
    """BERT: learned positions and an aggregation token of its own before the shared encoder.

    Other numbers of tokens than `BERT_POSITIONS` resample the position table.

    Args:
      encoder: options of the encoder.
      mask_rate: share of tokens masked in training; None makes a model without mask embedding.
    """

    def __init__(
        self,
        encoder: EncoderOptions | Mapping[str, Any],
        mask_rate: float | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        options = EncoderOptions.of(encoder)
        self.d_model = options.d_model
        policy = self.dtype_policy
        self.masking = None
        if mask_rate is not None:
            self.masking = TokenMasking(mask_rate, name="masking", dtype=policy)
        self.positions = Positions(
            ("temporal",), (BERT_POSITIONS,), self.d_model, name="positions", dtype=policy
        )
        self.aggregation = AggregationToken(name="aggregation", dtype=policy)
        self.encoder = Encoder(options, name="encoder", dtype=policy)

    def build(self, input_shape: Shape) -> None:
        """Creates all variables for inputs `[batch, tokens, d_model]`."""
        build_each((self.masking, self.positions, self.aggregation, self.encoder), input_shape)

    def prepare(
        self, x: Tensor, token_mask: Tensor, training: bool, rng: Randomness | None
    ) -> tuple[Tensor, Tensor]:
        """Returns tokens with positions, after the aggregation token, and the bias of padding."""
        if self.masking is not None and training:
            x, _ = self.masking(x, rng=rng)
        x = self.positions(x, grid=(x.shape[1],), training=training, rng=child(rng, "positions"))
        bias = padding_bias(with_first(token_mask))  # [batch, 1, 1, 1 + tokens]
        return self.aggregation(x), bias


@keras.saving.register_keras_serializable("vatt")
class LinearBase(ConfiguredLayer):
    """One dense layer with bias and ReLU on every word by itself (MIL-NCE's text model)."""

    def __init__(self, d_model: int, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.conv1d = keras.layers.Conv1D(
            d_model, 1, activation="relu", name="conv1d", dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        """Creates kernel and bias for inputs `[batch, tokens, features]`."""
        self.conv1d.build(input_shape)

    def call(
        self,
        x: Tensor,
        token_mask: Tensor,
        training: bool = False,
        rng: Randomness | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns states `[batch, tokens, d_model]`, padding included, and no probabilities."""
        del token_mask, training, rng, return_weights  # what other bases need
        return self.conv1d(x), []


LanguageModel: TypeAlias = T5Encoder | BertEncoder | LinearBase
