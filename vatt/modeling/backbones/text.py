"""Text backbones: embedding, aggregation token and projections around a base language model."""

from __future__ import annotations

from typing import Any, Self, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.errors import UserError
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.backbones.language_models import (
    BertEncoder,
    LanguageModel,
    LinearBase,
    T5Encoder,
)
from vatt.modeling.layers import gradients
from vatt.modeling.layers.base import LayerOptions
from vatt.modeling.layers.encoder import EncoderOptions
from vatt.modeling.layers.tokens import AggregationToken, with_first
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Features, Outputs, Shape, Tensor


@keras.saving.register_keras_serializable("vatt")
class TextModel(Backbone):
    """Word ids to features: embedding, aggregation token, projection, base model, projection.

    The first state is the sentence's if there is an aggregation token or the base is a transformer
    (without any aggregation token it is the first word's, as published). Otherwise the sentence is
    the largest value of each feature over all words, padding included.

    Args:
      vocab_size: rows of the word embedding.
      d_embedding: width of the word embedding.
      trainable_embeddings: whether the word embedding is trained.
      base: the base language model, see `language_models.py`.
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
        base: LanguageModel,
        trainable_embeddings: bool = False,
        use_agg_token: bool = True,
        is_transformer: bool = True,
        d_pre_proj: int | None = None,
        d_post_proj: int | None = None,
        activation: str | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.embedding = keras.layers.Embedding(
            vocab_size, d_embedding, trainable=trainable_embeddings, name="embedding", dtype=policy
        )
        self.aggregation = self.pre_projection = self.post_projection = None
        if use_agg_token:
            self.aggregation = AggregationToken(name="aggregation", dtype=policy)
        if d_pre_proj is not None:
            self.pre_projection = self._dense(
                d_pre_proj, "pre_projection", activation, use_bias=False
            )
        self.base = base
        if d_post_proj is not None:
            self.post_projection = self._dense(
                d_post_proj, "post_projection", activation, use_bias=False
            )
        self.d_embedding = d_embedding
        self.first_is_sentence = use_agg_token or is_transformer
        self.features_dim = d_post_proj or base.d_model

    def build(self, input_shape: Shape) -> None:
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
        ids: Tensor,
        training: bool = False,
        rng: Randomness | None = None,
        word_mask: Tensor | None = None,
        intermediates: bool = False,
    ) -> Outputs:
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
        with gradients.only_if(training):
            outputs, inner = self.encode(ids, training, rng, intermediates, word_mask)
        return {**outputs, **inner} if intermediates else outputs

    def encode(
        self,
        x: Tensor,
        training: bool,
        rng: Randomness | None,
        intermediates: bool,
        word_mask: Tensor | None = None,
    ) -> tuple[Features, Outputs]:
        """Returns the outputs of `call` and the inner states."""
        ids = ops.cast(x, "int32")
        # Not called `mask`: Keras attaches arguments of that name to tensors.
        if word_mask is None:
            word_mask = ops.not_equal(ids, 0)
        token_mask = word_mask = ops.cast(word_mask, "float32")
        tokens = self.embedding(ids)
        if self.aggregation is not None:
            tokens = self.aggregation(tokens)
            token_mask = with_first(token_mask)
        if self.pre_projection is not None:
            tokens = self.pre_projection(tokens)
        hidden, weights = self.base(
            tokens,
            token_mask=token_mask,
            training=training,
            rng=child(rng, self.base.name),
            return_weights=intermediates,
        )
        final = hidden if self.post_projection is None else self.post_projection(hidden)
        outputs = {
            "features_pooled": final[:, 0] if self.first_is_sentence else ops.max(final, axis=1),
            "features": final[:, 1:] if self.first_is_sentence else final,
            "word_ids": ids,
            "attention_mask": word_mask,
        }
        inner = {"lm_inputs": tokens, "hidden_states_last": hidden, "attention_weights": weights}
        return outputs, inner

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "base": keras.saving.serialize_keras_object(self.base)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the layer from `get_config`."""
        return cls(**{**config, "base": keras.saving.deserialize_keras_object(config["base"])})


def t5(config: configs.text.T5Base, *, name: str = "text", dtype: DType = "float32") -> TextModel:
    """Returns the text model of a T5 config.

    Raises:
      UserError: the tokens are not as wide as the encoder.
    """
    _check_width(config)
    base = T5Encoder(
        EncoderOptions.from_config(config),
        config.num_relative_buckets,
        config.max_relative_distance,
        name="base",
        dtype=dtype,
    )
    return _text_model(config, base, name, dtype)


def bert(
    config: configs.text.BertBase | configs.text.BertSmall,
    *,
    name: str = "text",
    dtype: DType = "float32",
) -> TextModel:
    """Returns the text model of a BERT config; raises as `t5`.

    A config without `pre_norm` and `use_bias` (the published small one, which extends T5's) gets
    post-norm with biases.
    """
    _check_width(config)
    options = EncoderOptions.from_config(
        config,
        pre_norm=getattr(config, "pre_norm", False),
        use_bias=getattr(config, "use_bias", True),
    )
    mask_rate = config.mask_rate if getattr(config, "use_masking", False) else None
    base = BertEncoder(options, mask_rate, name="base", dtype=dtype)
    return _text_model(config, base, name, dtype)


def linear(
    config: configs.text.LinearModel, *, name: str = "text", dtype: DType = "float32"
) -> TextModel:
    """Returns the text model of a linear config."""
    base = LinearBase(config.d_model, name="base", dtype=dtype)
    return _text_model(config, base, name, dtype)


def _text_model(
    config: configs.text.ModelConfig, base: LanguageModel, name: str, dtype: DType
) -> TextModel:
    return TextModel(
        config.vocab_size,
        config.d_embedding,
        base,
        trainable_embeddings=config.trainable_embeddings,
        use_agg_token=config.use_agg_token,
        is_transformer=config.is_transformer,
        d_pre_proj=config.d_pre_proj,
        d_post_proj=config.d_post_proj,
        activation=config.activation,
        name=name,
        dtype=dtype,
    )


def _check_width(config: configs.text.ModelConfig) -> None:
    """Refuses tokens that a transformer, which adds to its input, cannot take."""
    field = "d_embedding" if config.d_pre_proj is None else "d_pre_proj"
    width = getattr(config, field)
    if width != config.d_model:
        raise UserError(
            f"{config.name}: {field} is {width}, expected d_model, which is {config.d_model}: "
            f"set d_pre_proj to {config.d_model}."
        )
