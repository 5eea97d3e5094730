"""Text backbones: embedding, aggregation token and projections around a base language model.

The bases are T5's encoder, BERT's and a linear layer per word. Each maps tokens `[batch, tokens,
features]` and a token mask `[batch, tokens]` (0 = padding) to its states and each layer's attention
probabilities, and has the width of its states as `d_model`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt.errors import UserError
from vatt.modeling.layers import activations
from vatt.modeling.layers.attention import padding_bias
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.layers.encoder import Encoder
from vatt.modeling.layers.positions import Positions
from vatt.modeling.layers.tokens import AggregationToken, TokenMasking
from vatt.modeling.random import Randomness

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


@keras.saving.register_keras_serializable("vatt")
class T5Encoder(ConfiguredLayer):
    """The T5 encoder: RMS norms before attention, no biases, scores unscaled with a position bias.

    The bias table belongs to the model, not to a layer: every layer adds the same bias.

    Args:
        num_layers, d_model, num_heads, d_kv, d_ff, activation, dropout_rate, layer_norm_epsilon:
            see `Encoder`.
        num_relative_buckets: rows of the bias table.
        max_relative_distance: distance from which all pairs share the last bucket.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_kv: int,
        d_ff: int,
        activation: str = "gelu",
        dropout_rate: float = 0.0,
        layer_norm_epsilon: float = 1e-6,
        num_relative_buckets: int = 32,
        max_relative_distance: int = 64,
        **kwargs: Any,
    ):
        shape = {"num_layers": num_layers, "d_model": d_model, "num_heads": num_heads, "d_kv": d_kv}
        shape |= {"d_ff": d_ff, "activation": activation, "dropout_rate": dropout_rate}
        shape |= {"layer_norm_epsilon": layer_norm_epsilon}
        relative = {"num_relative_buckets": num_relative_buckets}
        relative |= {"max_relative_distance": max_relative_distance}
        super().__init__(config={**shape, **relative}, **kwargs)
        self.d_model, self.num_heads = d_model, num_heads
        self.num_buckets, self.max_distance = num_relative_buckets, max_relative_distance
        self.dropout_rate = dropout_rate
        self.encoder = Encoder(
            **shape,
            pre_norm=True,
            use_bias=False,
            scaled=False,
            attention_norm="rms",
            name="encoder",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: tuple) -> None:
        """Creates the bias table and the encoder for inputs `[batch, tokens, d_model]`."""
        self.relative_bias = self.add_weight(
            shape=(self.num_buckets, self.num_heads), initializer="uniform", name="relative_bias"
        )
        self.encoder.build(input_shape)

    def call(
        self, x: Any, token_mask: Any, training: bool = False, rng: Randomness | None = None
    ) -> tuple[Any, list[Any]]:
        """Encodes `x`, `[batch, tokens, d_model]`; `token_mask` `[batch, tokens]` is 0 for padding.

        Returns:
            Final states `[batch, tokens, d_model]` and each layer's attention probabilities.
        """
        buckets = _bucket_table(x.shape[1], self.num_buckets, self.max_distance)
        # A one-hot matmul instead of a lookup: its gradient is dense and the same on every backend.
        one_hot = np.eye(self.num_buckets, dtype="float32")[buckets]  # [tokens, tokens, buckets]
        table = ops.cast(self.relative_bias, "float32")
        relative = ops.transpose(ops.matmul(ops.convert_to_tensor(one_hot), table), (2, 0, 1))
        bias = relative[None] + padding_bias(token_mask)  # [batch, heads, tokens, tokens]
        x = dropout(x, self.dropout_rate, training=training, rng=rng, name="inputs")
        below = None if rng is None else rng.child("encoder")
        return self.encoder(x, bias=bias, training=training, rng=below)


@keras.saving.register_keras_serializable("vatt")
class BertEncoder(ConfiguredLayer):
    """BERT: learned positions and an aggregation token of its own before the shared encoder.

    Other numbers of tokens than `BERT_POSITIONS` resample the position table.

    Args:
        encoder: arguments of `Encoder`.
        mask_rate: share of tokens masked in training; None makes a model without mask embedding.
    """

    def __init__(self, encoder: dict[str, Any], mask_rate: float | None = None, **kwargs: Any):
        encoder = dict(encoder)
        super().__init__(config={"encoder": encoder, "mask_rate": mask_rate}, **kwargs)
        self.d_model = encoder["d_model"]
        policy = self.dtype_policy
        self.masking = None
        if mask_rate is not None:
            self.masking = TokenMasking(mask_rate, name="masking", dtype=policy)
        self.positions = Positions(
            ("temporal",), (BERT_POSITIONS,), self.d_model, name="positions", dtype=policy
        )
        self.aggregation = AggregationToken(name="aggregation", dtype=policy)
        self.encoder = Encoder(**encoder, name="encoder", dtype=policy)

    def build(self, input_shape: tuple) -> None:
        """Creates all variables for inputs `[batch, tokens, d_model]`."""
        for layer in (self.masking, self.positions, self.aggregation, self.encoder):
            if layer is not None:
                layer.build(input_shape)

    def call(
        self, x: Any, token_mask: Any, training: bool = False, rng: Randomness | None = None
    ) -> tuple[Any, list[Any]]:
        """Encodes `x`, `[batch, tokens, d_model]`; `token_mask` `[batch, tokens]` is 0 for padding.

        Returns:
            Final states `[batch, 1 + tokens, d_model]`, the aggregation token's first, and each
            layer's attention probabilities.
        """
        if self.masking is not None and training:
            x, _ = self.masking(x, rng=rng)
        below = None if rng is None else rng.child("positions")
        x = self.positions(x, grid=(x.shape[1],), training=training, rng=below)
        bias = padding_bias(_with_first(token_mask))  # [batch, 1, 1, 1 + tokens]
        below = None if rng is None else rng.child("encoder")
        return self.encoder(self.aggregation(x), bias=bias, training=training, rng=below)


@keras.saving.register_keras_serializable("vatt")
class LinearBase(ConfiguredLayer):
    """One dense layer with bias and ReLU on every word by itself (MIL-NCE's text model)."""

    def __init__(self, d_model: int, **kwargs: Any):
        super().__init__(config={"d_model": d_model}, **kwargs)
        self.d_model = d_model
        self.conv1d = keras.layers.Conv1D(
            d_model, 1, activation="relu", name="conv1d", dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        """Creates kernel and bias for inputs `[batch, tokens, features]`."""
        self.conv1d.build(input_shape)

    def call(
        self, x: Any, token_mask: Any, training: bool = False, rng: Randomness | None = None
    ) -> tuple[Any, list[Any]]:
        """Returns states `[batch, tokens, d_model]`, padding included, and no probabilities."""
        del token_mask, training, rng  # what other bases need
        return self.conv1d(x), []


def _with_first(mask: Any) -> Any:
    """Returns a token mask `[batch, tokens]` extended by 1 for an aggregation token."""
    return ops.concatenate([ops.ones_like(mask[:, :1]), mask], axis=1)


@keras.saving.register_keras_serializable("vatt")
class TextModel(ConfiguredLayer):
    """Word ids to features: embedding, aggregation token, projection, base model, projection.

    The first state is the sentence's if there is an aggregation token or the base is a transformer
    (without any aggregation token it is the first word's, as published). Otherwise the sentence is
    the largest value of each feature over all words, padding included.

    Args:
        vocab_size: rows of the word embedding.
        d_embedding: width of the word embedding.
        trainable_embeddings: whether the word embedding is trained.
        base: the base language model, see the top of this module.
        is_transformer: the sentence is the first state also without `use_agg_token`.
        use_agg_token: put a learned vector before the words, in the embedding space.
        d_pre_proj: width of a bias-free dense layer before the base model; None for no layer.
        d_post_proj: width of one after it; None for no layer.
        activation: activation of both dense layers.
    """

    def __init__(
        self,
        vocab_size: int,
        d_embedding: int,
        base: keras.layers.Layer,
        trainable_embeddings: bool = False,
        use_agg_token: bool = True,
        is_transformer: bool = True,
        d_pre_proj: int | None = None,
        d_post_proj: int | None = None,
        activation: str | None = None,
        **kwargs: Any,
    ):
        config = {
            "vocab_size": vocab_size,
            "d_embedding": d_embedding,
            "use_agg_token": use_agg_token,
            "is_transformer": is_transformer,
        }
        config |= {"trainable_embeddings": trainable_embeddings, "d_pre_proj": d_pre_proj}
        super().__init__(
            config={**config, "d_post_proj": d_post_proj, "activation": activation}, **kwargs
        )
        policy = self.dtype_policy
        self.embedding = keras.layers.Embedding(
            vocab_size, d_embedding, trainable=trainable_embeddings, name="embedding", dtype=policy
        )
        self.aggregation = (
            AggregationToken(name="aggregation", dtype=policy) if use_agg_token else None
        )

        def dense(units: int | None, name: str) -> keras.layers.Dense | None:
            if units is None:
                return None
            function = activations.get(activation)
            return keras.layers.Dense(units, function, use_bias=False, name=name, dtype=policy)

        self.pre_projection = dense(d_pre_proj, "pre_projection")
        self.base = base
        self.post_projection = dense(d_post_proj, "post_projection")
        self.d_embedding = d_embedding
        self.first_is_sentence = use_agg_token or is_transformer
        self.features_dim = d_post_proj or base.d_model

    def build(self, input_shape: tuple) -> None:
        """Creates all variables for ids `[batch, words]`."""
        self.embedding.build(input_shape)
        width = self.d_embedding
        if self.aggregation is not None:
            self.aggregation.build((None, None, width))
        if self.pre_projection is not None:
            self.pre_projection.build((None, None, width))
            width = self.pre_projection.units
        self.base.build((None, None, width))
        if self.post_projection is not None:
            self.post_projection.build((None, None, self.base.d_model))

    def call(
        self,
        ids: Any,
        training: bool = False,
        rng: Randomness | None = None,
        word_mask: Any = None,
        intermediates: bool = False,
    ) -> dict[str, Any]:
        """Encodes word ids, int32 `[batch, words]`, 0 = padding.

        Args:
            ids: word ids.
            training: whether dropout is active.
            rng: source of randomness for these rows.
            word_mask: 1 = word, 0 = padding, `[batch, words]`; by default from the ids.
            intermediates: also return inner states.

        Returns:
            `features_pooled` `[batch, d]` (the sentence), `features` `[batch, tokens, d]` (all
            states but a first one that is the sentence's), `word_ids`, `attention_mask` `[batch,
            words]`. With `intermediates` also `lm_inputs` (tokens that enter the base model),
            `hidden_states_last` (those that leave it) and `attention_weights` (list of `[batch,
            heads, tokens, tokens]`).
        """
        ids = ops.cast(ids, "int32")
        # Not called `mask`: Keras attaches arguments of that name to tensors.
        if word_mask is None:
            word_mask = ops.not_equal(ids, 0)
        token_mask = word_mask = ops.cast(word_mask, "float32")
        tokens = self.embedding(ids)
        if self.aggregation is not None:
            tokens = self.aggregation(tokens)
            token_mask = _with_first(token_mask)
        if self.pre_projection is not None:
            tokens = self.pre_projection(tokens)
        below = None if rng is None else rng.child(self.base.name)
        hidden, weights = self.base(tokens, token_mask=token_mask, training=training, rng=below)
        final = hidden if self.post_projection is None else self.post_projection(hidden)
        outputs = {
            "features_pooled": final[:, 0] if self.first_is_sentence else ops.max(final, axis=1),
            "features": final[:, 1:] if self.first_is_sentence else final,
            "word_ids": ids,
            "attention_mask": word_mask,
        }
        if intermediates:
            outputs |= {
                "lm_inputs": tokens,
                "hidden_states_last": hidden,
                "attention_weights": weights,
            }
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "base": keras.saving.serialize_keras_object(self.base)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextModel:
        """Rebuilds the layer from `get_config`."""
        return cls(**{**config, "base": keras.saving.deserialize_keras_object(config["base"])})


ENCODER_FIELDS = ("num_layers", "d_model", "num_heads", "d_kv", "d_ff", "activation")
ENCODER_FIELDS += ("dropout_rate", "layer_norm_epsilon")


def t5(config: Any, *, name: str = "text", dtype: Any = "float32") -> TextModel:
    """Returns the text model of a T5 config.

    Raises:
        UserError: the tokens are not as wide as the encoder.
    """
    _check_width(config)
    fields = (*ENCODER_FIELDS, "num_relative_buckets", "max_relative_distance")
    base = T5Encoder(**_values(config, fields), name="base", dtype=dtype)
    return _text_model(config, base, name, dtype)


def bert(config: Any, *, name: str = "text", dtype: Any = "float32") -> TextModel:
    """Returns the text model of a BERT config; raises as `t5`.

    A config without `pre_norm` and `use_bias` (the published small one, which extends T5's) gets
    post-norm with biases.
    """
    _check_width(config)
    encoder = _values(config, ENCODER_FIELDS)
    encoder |= {"pre_norm": getattr(config, "pre_norm", False)}
    encoder |= {"use_bias": getattr(config, "use_bias", True)}
    mask_rate = config.mask_rate if getattr(config, "use_masking", False) else None
    base = BertEncoder(encoder, mask_rate, name="base", dtype=dtype)
    return _text_model(config, base, name, dtype)


def linear(config: Any, *, name: str = "text", dtype: Any = "float32") -> TextModel:
    """Returns the text model of a linear config."""
    base = LinearBase(config.d_model, name="base", dtype=dtype)
    return _text_model(config, base, name, dtype)


def _text_model(config: Any, base: keras.layers.Layer, name: str, dtype: Any) -> TextModel:
    fields = ("vocab_size", "d_embedding", "trainable_embeddings", "use_agg_token")
    fields += ("is_transformer", "d_pre_proj", "d_post_proj", "activation")
    return TextModel(**_values(config, fields), base=base, name=name, dtype=dtype)


def _values(config: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: getattr(config, field) for field in fields}


def _check_width(config: Any) -> None:
    """Refuses tokens that a transformer, which adds to its input, cannot take."""
    field = "d_embedding" if config.d_pre_proj is None else "d_pre_proj"
    width = getattr(config, field)
    if width != config.d_model:
        raise UserError(
            f"{config.name}: {field} is {width}, expected d_model, which is {config.d_model}: "
            f"set d_pre_proj to {config.d_model}."
        )
