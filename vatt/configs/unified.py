"""The modality-agnostic backbone: one encoder for video, audio and text."""

from __future__ import annotations

from typing import ClassVar

from vatt.configs import base, dataset
from vatt.configs.backbones import Backbone, register
from vatt.configs.base import Count, Layers, Positive, Rate, Share
from vatt.configs.problems import Problems
from vatt.configs.transformers import (
    Medium,
    NormedEncoder,
    Tiny,
    covers_frames,
    covers_waveform,
    keeps_tokens,
)


class ModelConfig(Backbone):
    """Fields of every unified model."""

    modalities: ClassVar[tuple[str, ...]] = ("video", "audio", "text")
    layer: ClassVar[str] = "vatt.modeling.backbones.unified:ut"

    name: str = "unified_model"
    modality: base.choice("", "video", "audio", "text") = ""
    num_classes: Count | None = None
    cls_dropout_rate: Rate = 0.2


@register("ut_base")
class UniTBase(NormedEncoder, ModelConfig):
    name: str = "ut_base"
    vid_temporal_patch_size: Count = 4
    vid_spatial_patch_size: Count = 16
    aud_temporal_patch_size: Count = 128
    txt_vocab_size: Count = 2**16
    txt_embedding_dim: Count = 300
    txt_embedding_trainable: bool = False
    max_vid_temporal_buckets: Count = 8
    max_vid_spatial_buckets: Count = 14
    max_aud_temporal_buckets: Count = 1200
    max_txt_temporal_buckets: Count = 16
    random_patch_sampling: bool = True
    patch_sampling_rate: Share = 0.5
    d_post_proj: Count = 1024
    word_embeddings: str | None = None  # pretrained table, misc_data/<name>.npz or a path
    vid_patch_init_std: Positive | None = None  # of the patch kernels; None: as published
    aud_patch_init_std: Positive | None = None

    def problems(self, path: str) -> Problems:
        """Yields what does not fit together."""
        yield from super().problems(path)
        video = self.max_vid_temporal_buckets * self.max_vid_spatial_buckets**2
        yield from keeps_tokens(path, self, min(video, self.max_aud_temporal_buckets))

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields clips that the patches do not cover evenly."""
        frames, pixels = self.vid_temporal_patch_size, self.vid_spatial_patch_size
        yield from covers_frames(path, data, frames, pixels, owner)
        samples = self.aud_temporal_patch_size
        yield from covers_waveform(path, data, samples, samples, owner)


@register("ut_medium")
class UniTMedium(Medium, UniTBase):
    name: str = "ut_medium"


@register("ut_large")
class UniTLarge(UniTMedium):
    name: str = "ut_large"
    num_layers: Layers = 24


@register("ut_tiny")
class UniTTiny(Tiny, UniTBase):
    """Not published: trains on a CPU. Tokens are those of vit_tiny, wat_tiny and t5_tiny."""

    name: str = "ut_tiny"
    vid_spatial_patch_size: Count = 8
    aud_temporal_patch_size: Count = 256
    txt_vocab_size: Count = 512
    txt_embedding_dim: Count = 96
    txt_embedding_trainable: bool = True
    max_vid_temporal_buckets: Count = 4
    max_vid_spatial_buckets: Count = 8
    max_aud_temporal_buckets: Count = 100
    num_layers: Layers = 4
    d_post_proj: Count = 96
    vid_patch_init_std: Positive | None = 0.25
    aud_patch_init_std: Positive | None = 0.6
