"""What each modality has by itself, and the transformer that sees one modality or two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from vatt.errors import UserError
from vatt.methods.eao import frames, reduction
from vatt.modeling.backbones.davenet import DAVEnet
from vatt.modeling.layers import batch_norm, gated
from vatt.modeling.layers.attention import padding_bias
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.norm import LayerNorm
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Shape, Tensor

EPSILON = 1e-6  # of layer norms
DEVIATION = 0.02  # of first values: dense layers of the transformer, learned vectors
NONEMPTY_LENGTH = 1e-8  # least length that an embedding is divided by


class TokenTower(ConfiguredLayer):
    """Features of one modality as tokens: projected, normalised.

    Args:
      width: of the features.
      d_model: of the tokens.
      projection: of `gated.PROJECTIONS`.
      positions: how many tokens have a learned vector of their place; 0 for none.
    """

    def __init__(
        self,
        width: int,
        d_model: int,
        projection: str = gated.GATED,
        positions: int = 0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.width, self.features_dim, self.positions = width, d_model, positions
        policy = self.dtype_policy
        self.projection = gated.projection(projection, d_model, "token_projection", policy)
        self.norm = LayerNorm(epsilon=EPSILON, name="norm", dtype=policy)
        self.table = None

    def build(self, input_shape: Shape | None = None) -> None:
        """Creates all variables; the configuration says how wide features are."""
        if self.projection is not None:
            self.projection.build((None, None, self.width))
        self.norm.build((None, None, self.features_dim))
        if self.positions:
            shape = (self.positions, self.features_dim)
            self.table = self.add_weight(shape=shape, initializer=_vector(), name="positions")

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Maps features `[rows, tokens, width]` to `[rows, tokens, d_model]`.

        Raises:
          UserError: features of another width.
        """
        if len(x.shape) == 2:
            x = x[:, None]  # of a whole clip: one token
        if x.shape[-1] != self.width:
            raise UserError(
                f"{self.name}: features are {x.shape[-1]} wide, but model_config says "
                f"{self.width} ({self.name}_embed_dim)"
            )
        return self.projected(x)

    def projected(self, x: Tensor) -> Tensor:
        """Returns `x` projected and normalised."""
        return self.norm(x if self.projection is None else self.projection(x))

    def forget_places(self) -> None:
        """Has the vectors of places, which nothing adds, not be trained."""
        if self.table is not None:
            self.table.trainable = False

    def placed(self, tokens: Tensor) -> Tensor:
        """Returns tokens with the vectors of their places added, if there are any.

        Raises:
          UserError: more or fewer tokens than there are vectors.
        """
        if self.table is None:
            return tokens
        if tokens.shape[1] != self.positions:
            raise UserError(
                f"{self.name}: {tokens.shape[1]} tokens, but with use_positional_emb exactly "
                f"{self.positions} have a place (model_config.{_LIMITS[self.name]})"
            )
        return tokens + ops.cast(self.table, tokens.dtype)[None]


_LIMITS = {
    "video": "video_max_tokens",
    "text": "text_max_tokens",
    "audio": "audio_max_num_stft_frames",
}


class AudioTower(TokenTower):
    """Sound as tokens: DAVEnet, fewer tokens where that is asked for, then as other modalities.

    Args:
      widths: see `DAVEnet`.
      blocks: the same.
      norm: the same.
      d_model: of the tokens.
      projection: of `gated.PROJECTIONS`.
      most: tokens that long sounds are reduced to; None leaves all.
      strategy: of `reduction.STRATEGIES`.
      positions: how many tokens have a learned vector of their place; 0 for none.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        norm: batch_norm.NormOptions,
        d_model: int,
        projection: str = gated.GATED,
        most: int | None = None,
        strategy: str = reduction.NONE,
        positions: int = 0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(widths[-1], d_model, projection, positions, **kwargs)
        self.most, self.strategy = most, strategy
        self.stages = len(blocks)
        self.davenet = DAVEnet(
            widths, blocks, norm, frames.BANDS, name="davenet", dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape | None = None) -> None:
        """Creates all variables."""
        self.davenet.build((None, None, frames.BANDS))
        super().build(input_shape)

    def tokens_of(
        self, x: Tensor, mask: Tensor, lengths: Tensor, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Returns tokens `[rows, tokens, d_model]` and their mask `[rows, tokens]`.

        Args:
          x: log-mel spectrograms `[rows, bands, frames]`.
          mask: `[rows, frames]`, 1 where there is sound.
          lengths: frames of the sound, int32 `[rows]`; -1 where that is not known.
          training: whether batch norm has the statistics of these rows.

        Raises:
          UserError: so many frames that they do not give whole tokens, or another number of bands.
        """
        states = self.states(x, training)
        step = frames.window(x.shape[-1], self.stages)
        if step is None:
            accepted, hint = frames.expected(x.shape[-1], self.davenet.reduction)
            raise UserError(
                f"audio: {x.shape[-1]} frames (num_audio_stft_frames), {accepted}.{hint}"
            )
        mask = pooled_mask(mask, states.shape[1], step)
        if self.most is not None:
            # Towards zero, so that an unknown length is none.
            valid = ops.cast(ops.maximum(lengths, 0) // step, "int32")
            states = reduction.reduce(states, valid, self.most, self.strategy)
        return self.projected(states), mask[:, : states.shape[1]]

    def states(self, x: Tensor, training: bool = False) -> Tensor:
        """Returns DAVEnet's output `[rows, tokens, width]`.

        Raises:
          UserError: another number of bands.
        """
        if x.shape[1] != frames.BANDS:
            raise UserError(f"audio: {x.shape[1]} bands (mel_bins), expected {frames.BANDS}")
        return self.davenet(ops.transpose(x, (0, 2, 1)), training=training)["features"]


def pooled_mask(mask: Tensor, tokens: int, step: int) -> Tensor:
    """Returns 1 for tokens with any frame of sound, `[rows, tokens]`."""
    whole = mask[:, : tokens * step]
    return ops.max(ops.reshape(whole, (-1, tokens, step)), axis=-1)


class FusionTransformer(ConfiguredLayer):
    """A transformer over the tokens of one modality, or of several as one sequence.

    Args:
      d_model: width of the tokens.
      num_layers: blocks; with 0 tokens are averaged as they are.
      num_heads: of the attention.
      mlp_ratio: width of the MLP, as a multiple of `d_model`.
      dropout_rate: of the results of attention and MLP, and inside the MLP.
      attention_dropout: of the attention weights.
      stochastic_depth: see `EncoderOptions`; what is kept is scaled up.
      class_token: whether a learned token is in front, whose state is the result.
      masks: whether the vector that stands for an empty modality is used.

    Attributes:
      masking_token: stands in the place of the first token of an empty modality.
      final_norm: published checkpoints hold it, and nothing applies it.
    """

    def __init__(
        self,
        d_model: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float,
        dropout_rate: float = 0.0,
        attention_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        class_token: bool = False,
        masks: bool = True,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.d_model, self.class_token, self.masks = d_model, class_token, masks
        options = EncoderOptions(
            num_layers,
            d_model,
            num_heads,
            d_kv=d_model // num_heads,
            d_ff=int(d_model * mlp_ratio),
            dropout_rate=dropout_rate,
            attention_dropout=attention_dropout,
            layer_norm_epsilon=EPSILON,
            final_norm=False,
            stochastic_depth=stochastic_depth,
            scaled_depth=True,
        )
        self.encoder = Encoder(options, name="encoder", dtype=self.dtype_policy)
        self.final_norm = LayerNorm(epsilon=EPSILON, name="final_norm", dtype=self.dtype_policy)
        self.final_norm.trainable = False

    def build(self, input_shape: Shape | None = None) -> None:
        """Creates all variables."""
        for layer in self.encoder._flatten_layers():
            if isinstance(layer, keras.layers.Dense):
                layer.kernel_initializer = _vector()
        build_each((self.encoder, self.final_norm), (None, None, self.d_model))
        self.masking_token = self.add_weight(
            shape=(self.d_model,), initializer=_vector(), trainable=self.masks, name="masking_token"
        )
        self.cls_token = None
        if self.class_token:
            self.cls_token = self.add_weight(
                shape=(self.d_model,), initializer=_vector(), name="cls_token"
            )

    def filled(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns tokens in which no row is empty, their mask, and which rows were not.

        Args:
          tokens: `[rows, n, d]`.
          mask: `[rows, n]`.
        """
        nonempty = ops.any(mask > 0, axis=1)  # [rows]
        first = ops.arange(tokens.shape[1], dtype="int32")[None] == 0
        here = ops.logical_and(ops.logical_not(nonempty)[:, None], first)  # [rows, n]
        vector = ops.cast(self.masking_token, tokens.dtype)
        tokens = ops.where(here[..., None], vector, tokens)
        return tokens, ops.where(here, 1.0, ops.cast(mask, "float32")), nonempty

    def call(
        self,
        parts: Sequence[tuple[Tensor, Tensor]],
        training: bool = False,
        rng: Randomness | None = None,
    ) -> list[Tensor]:
        """Returns the mean of the states of each part, or the class token's alone, `[rows, d]`.

        Args:
          parts: tokens `[rows, n, d]` and mask `[rows, n]`, by modality in their order.
          training: whether dropout is active.
          rng: source of what is dropped.
        """
        tokens, masks = [x for x, _ in parts], [mask for _, mask in parts]
        if self.cls_token is not None:
            rows = ops.shape(tokens[0])[0]
            vector = ops.cast(self.cls_token, tokens[0].dtype)
            tokens.insert(0, ops.broadcast_to(vector[None, None], (rows, 1, self.d_model)))
            masks.insert(0, ops.ones((rows, 1)))
        bias = padding_bias(ops.concatenate(masks, axis=1))
        x = ops.concatenate(tokens, axis=1)
        states, _ = self.encoder(x, bias=bias, training=training, rng=rng)
        if self.cls_token is not None:
            return [states[:, 0]]
        found, first = [], 0
        for mask in masks:
            found.append(masked_mean(states[:, first : first + mask.shape[1]], mask))
            first += mask.shape[1]
        return found


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of the tokens that are there, `[rows, d]`, summed up in float32."""
    wide, weights = ops.cast(x, "float32"), ops.cast(mask, "float32")[..., None]
    return ops.cast(ops.sum(wide * weights, axis=1) / ops.sum(weights, axis=1), x.dtype)


def unit(x: Tensor) -> Tensor:
    """Returns `x / max(|x|, 1e-8)` along the last axis, in float32."""
    x = ops.cast(x, "float32")
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    # Not the root of a maximum: the gradient of a root at zero is infinite.
    return x * ops.rsqrt(ops.maximum(squares, NONEMPTY_LENGTH**2))


def _vector() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=DEVIATION)
