"""Text backbones: embedding, aggregation token and projections around a base language model."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt.modeling.layers import activations
from vatt.modeling.layers.attention import padding_bias
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.layers.encoder import Encoder
from vatt.modeling.layers.tokens import AggregationToken
from vatt.modeling.random import Randomness


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
class TextModel(ConfiguredLayer):
    """Word ids to features: embedding, aggregation token, projection, base model, projection.

    Args:
        vocab_size: rows of the word embedding.
        d_embedding: width of the word embedding.
        trainable_embeddings: whether the word embedding is trained.
        base: the base language model; takes (tokens, token_mask) and returns (states, attention
            probabilities).
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
        d_pre_proj: int | None = None,
        d_post_proj: int | None = None,
        activation: str | None = None,
        **kwargs: Any,
    ):
        config = {
            "vocab_size": vocab_size,
            "d_embedding": d_embedding,
            "use_agg_token": use_agg_token,
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
            `features_pooled` `[batch, d]` (first token), `features` `[batch, words, d]`,
            `word_ids`, `attention_mask` `[batch, words]`. With `intermediates` also `lm_inputs`,
            `hidden_states_last` and `attention_weights`.
        """
        ids = ops.cast(ids, "int32")
        # Not called `mask`: Keras attaches arguments of that name to tensors.
        if word_mask is None:
            word_mask = ops.not_equal(ids, 0)
        token_mask = word_mask = ops.cast(word_mask, "float32")
        tokens = self.embedding(ids)
        if self.aggregation is not None:
            tokens = self.aggregation(tokens)
            token_mask = ops.concatenate([ops.ones_like(token_mask[:, :1]), token_mask], axis=1)
        if self.pre_projection is not None:
            tokens = self.pre_projection(tokens)
        below = None if rng is None else rng.child(self.base.name)
        hidden, weights = self.base(tokens, token_mask=token_mask, training=training, rng=below)
        final = hidden if self.post_projection is None else self.post_projection(hidden)
        outputs = {
            "features_pooled": final[:, 0],
            "features": final[:, 1:],
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


def t5(config: Any, *, name: str = "text", dtype: Any = "float32") -> TextModel:
    """Returns the text model of a T5 config."""
    base_fields = (
        "num_layers",
        "d_model",
        "num_heads",
        "d_kv",
        "d_ff",
        "activation",
        "dropout_rate",
    )
    base_fields += ("layer_norm_epsilon", "num_relative_buckets", "max_relative_distance")
    base = T5Encoder(
        **{field: getattr(config, field) for field in base_fields}, name="base", dtype=dtype
    )
    fields = ("vocab_size", "d_embedding", "trainable_embeddings", "use_agg_token", "d_pre_proj")
    fields += ("d_post_proj", "activation")
    return TextModel(**{f: getattr(config, f) for f in fields}, base=base, name=name, dtype=dtype)
