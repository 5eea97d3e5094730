"""Text backbones: T5 encoders, BERT encoders, a linear model on word vectors."""

from __future__ import annotations

from typing import ClassVar

from vatt.configs import base
from vatt.configs.backbones import Backbone, register
from vatt.configs.base import Count, Positive, Rate
from vatt.configs.problems import Problem, Problems


class ModelConfig(Backbone):
    """Fields of every text model. Word vectors (`d_embedding` values) are frozen by default."""

    modalities: ClassVar[tuple[str, ...]] = ("text",)

    name: str = "language_model"
    d_pre_proj: Count | None = None
    d_post_proj: Count | None = None
    d_model: Count = 2048
    d_embedding: Count = 300
    vocab_size: Count = 2**16
    trainable_embeddings: bool = False
    use_agg_token: bool = False
    is_transformer: bool = False
    activation: base.Activation | None = None
    word_embeddings: str | None = None  # pretrained table, misc_data/<name>.npz or a path


@register("linear")
class LinearModel(ModelConfig):
    layer: ClassVar[str] = "vatt.modeling.backbones.text:linear"

    name: str = "linear_lm"

    def problems(self, path: str) -> Problems:
        """Yields an aggregation token that never meets a word: all sentences would be alike."""
        yield from super().problems(path)
        if self.use_agg_token:
            accepted = f"expected false: {self.name} has no layer in which the token sees the words"
            yield Problem(f"{path} use_agg_token", True, accepted)


@register("t5_base")
class T5Base(ModelConfig):
    layer: ClassVar[str] = "vatt.modeling.backbones.text:t5"

    name: str = "t5_base"
    d_pre_proj: Count | None = 768
    d_model: Count = 768
    use_agg_token: bool = True
    is_transformer: bool = True
    activation: base.Activation | None = "gelu"
    num_relative_buckets: Count = 32
    max_relative_distance: Count = 64
    d_kv: Count = 64
    d_ff: Count = 3072
    num_layers: Count = 12
    num_heads: Count = 12
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Positive = 1e-6


@register("t5_small")
class T5Small(T5Base):
    name: str = "t5_small"
    d_pre_proj: Count | None = 512
    d_model: Count = 512
    d_ff: Count = 2048
    num_layers: Count = 6
    num_heads: Count = 8


@register("t5_tiny")
class T5Tiny(T5Base):
    """Not published: trains on a CPU, with word vectors learned from scratch."""

    name: str = "t5_tiny"
    d_pre_proj: Count | None = 96
    d_model: Count = 96
    d_embedding: Count = 96
    vocab_size: Count = 512
    trainable_embeddings: bool = True
    d_kv: Count = 24
    d_ff: Count = 384
    num_layers: Count = 1
    num_heads: Count = 4
    dropout_rate: Rate = 0.0


@register("bert_base")
class BertBase(ModelConfig):
    layer: ClassVar[str] = "vatt.modeling.backbones.text:bert"

    name: str = "bert_base"
    d_pre_proj: Count | None = 768
    d_model: Count = 768
    is_transformer: bool = True
    activation: base.Activation | None = "gelu"
    d_kv: Count = 64
    d_ff: Count = 3072
    num_layers: Count = 12
    num_heads: Count = 12
    pre_norm: bool = True
    use_bias: bool = True
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Positive = 1e-6


@register("bert_small")
class BertSmall(T5Base):
    """Extends T5, as published: with a second aggregation token and without `pre_norm`."""

    layer: ClassVar[str] = "vatt.modeling.backbones.text:bert"

    name: str = "bert_small"
    d_pre_proj: Count | None = 512
    d_model: Count = 512
    d_ff: Count = 2048
    num_layers: Count = 6
    num_heads: Count = 8
