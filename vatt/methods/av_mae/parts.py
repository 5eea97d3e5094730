"""What each modality has by itself: patches with positions and an encoder; heads of a decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from vatt.modeling import flops
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.positions import SequencePositions
from vatt.modeling.layers.tokens import FAN_IN, PatchEmbedding
from vatt.modeling.typing import Shape, Tensor


class _WithVector(ConfiguredLayer):
    """A layer that adds positions to tokens and, where it has one, a vector of their modality."""

    positions: SequencePositions
    has_vector: bool

    def add_vector(self, width: int) -> None:
        """Creates `modality [width]`, zeros, if there is to be one."""
        self.modality = None
        if self.has_vector:
            self.modality = self.add_weight(shape=(width,), initializer="zeros", name="modality")

    def placed(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns tokens `[rows, n, d]` with what they get; `kept` are their places, None: all."""
        tokens = self.positions(tokens, kept)
        return tokens if self.modality is None else tokens + ops.cast(self.modality, tokens.dtype)


class TokenTower(_WithVector):
    """Patches of one modality as tokens, and the encoder that this modality has for itself.

    Args:
      patch: sizes along the axes.
      d_model: width.
      encoder: of this modality alone; None where there is none. Whoever has the tower runs it.
      learned_positions: else they are sines.
      modality_vector: whether a learned vector is added to every token.
      masked: share of the tokens masked in training; what it costs depends on it.
    """

    def __init__(
        self,
        patch: Sequence[int],
        d_model: int,
        encoder: EncoderOptions | None = None,
        learned_positions: bool = False,
        modality_vector: bool = False,
        masked: float = 0.0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.features_dim, self.has_vector, self.masked = d_model, modality_vector, masked
        self.embedding = PatchEmbedding(patch, patch, d_model, FAN_IN, name="patches", dtype=policy)
        self.positions = SequencePositions(learned_positions, name="positions", dtype=policy)
        self.encoder = None
        if encoder is not None:
            encoder = EncoderOptions.of(encoder)
            self.encoder = Encoder(encoder, name="encoder", dtype=policy)

    def build(self, input_shape: Shape) -> None:
        """Creates all variables for inputs `[rows, *axes, channels]`."""
        self.embedding.build(input_shape)
        tokens = math.prod(self.embedding.grid(input_shape))
        build_each((self.positions, self.encoder), (None, tokens, self.features_dim))
        self.add_vector(self.features_dim)

    def call(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns the tokens of `x`, or those in `kept` alone, which only are projected.

        Args:
          x: `[rows, *axes, channels]`.
          kept: their places, int32 `[rows, n]`; None means all.
        """
        return self.placed(self.embedding(x, kept=kept), kept)


class PatchDecoder(_WithVector):
    """What a decoder has for one modality: into its width, a vector for what is masked, and out.

    Args:
      d_model: width of the decoder.
      values: predicted of each token.
      decoder: of this modality alone; None where there is none. Whoever has the layer runs it.
      projection_bias: of the layer into the decoder's width.
      first_output: what is predicted at first, everywhere.
      learned_positions: else they are sines.
      modality_vector: whether a learned vector is added to every token.
    """

    def __init__(
        self,
        d_model: int,
        values: int,
        decoder: EncoderOptions | None = None,
        projection_bias: bool = True,
        first_output: float = 0.0,
        learned_positions: bool = False,
        modality_vector: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.d_model, self.has_vector = d_model, modality_vector
        self.projection = self._dense(d_model, "projection", use_bias=projection_bias)
        self.positions = SequencePositions(learned_positions, name="positions", dtype=policy)
        self.decoder = None
        if decoder is not None:
            decoder = EncoderOptions.of(decoder)
            self.decoder = Encoder(decoder, name="decoder", dtype=policy)
        self.output_layer = self._dense(values, "output")
        self.output_layer.kernel_initializer = keras.initializers.Zeros()
        self.output_layer.bias_initializer = keras.initializers.Constant(first_output)

    def build(self, input_shape: Shape) -> None:
        """Creates all variables for states `[rows, tokens, d]` of the encoder."""
        self.projection.build(input_shape)
        narrow = (*input_shape[:-1], self.d_model)
        build_each((self.positions, self.decoder, self.output_layer), narrow)
        self.mask_token = self.add_weight(
            shape=(self.d_model,), initializer="zeros", name="mask_token"
        )
        self.add_vector(self.d_model)


@flops.count.register
def _(layer: TokenTower, shape: tuple[int, ...], training: bool = False) -> flops.Tower:
    grid = layer.embedding.grid((None, *shape))
    tokens = math.prod(grid)
    kept = tokens - int(layer.masked * tokens) if training else tokens
    volume = math.prod(layer.embedding.patch) * shape[-1]
    cost = flops.product(kept, volume, layer.features_dim) + flops.Cost(values=kept * volume)
    if layer.encoder is not None:
        cost += flops.encoder(layer.encoder, kept)
    return flops.Tower(grid, kept, cost)
