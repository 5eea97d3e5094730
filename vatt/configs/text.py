"""Text backbones: T5 encoders, BERT encoders, a linear model on word vectors."""

from __future__ import annotations

from typing import ClassVar

from vatt.configs import base
from vatt.configs.backbones import Backbone, register
from vatt.configs.base import Count, Layers
from vatt.configs.problems import Problem, Problems
from vatt.configs.transformers import Encoder, NormedEncoder, Small, Tiny


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


@register("linear_tiny")
class LinearTiny(LinearModel):
    """Not published: trains on a CPU, with word vectors learned from scratch."""

    name: str = "linear_tiny"
    d_model: Count = 192
    d_embedding: Count = 96
    vocab_size: Count = 512
    trainable_embeddings: bool = True


@register("t5_base")
class T5Base(Encoder, ModelConfig):
    layer: ClassVar[str] = "vatt.modeling.backbones.text:t5"

    name: str = "t5_base"
    d_pre_proj: Count | None = 768
    use_agg_token: bool = True
    is_transformer: bool = True
    num_relative_buckets: Count = 32
    max_relative_distance: Count = 64


@register("t5_small")
class T5Small(Small, T5Base):
    name: str = "t5_small"


@register("t5_tiny")
class T5Tiny(Tiny, T5Base):
    """Not published: trains on a CPU, with word vectors learned from scratch."""

    name: str = "t5_tiny"
    d_pre_proj: Count | None = 96
    d_embedding: Count = 96
    vocab_size: Count = 512
    trainable_embeddings: bool = True
    num_layers: Layers = 1


@register("bert_base")
class BertBase(NormedEncoder, ModelConfig):
    layer: ClassVar[str] = "vatt.modeling.backbones.text:bert"

    name: str = "bert_base"
    d_pre_proj: Count | None = 768
    is_transformer: bool = True


@register("bert_small")
class BertSmall(Small, T5Base):
    """Extends T5, as published: with a second aggregation token and without `pre_norm`."""

    layer: ClassVar[str] = "vatt.modeling.backbones.text:bert"

    name: str = "bert_small"
