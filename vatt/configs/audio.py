"""Audio backbones: transformers on waveforms (WaT) and spectrograms (SpT), ResNet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vatt.configs import base
from vatt.configs.base import Count, Positive, Rate, Share, UnitInterval


class ModelConfig(base.Config):
    """Fields of every audio model."""

    name: str = ""
    freeze_backbone: bool = False
    final_endpoint: str | None = None
    num_classes: Count | None = None
    cls_dropout_rate: Rate = 0.0
    num_test_samples: Count | None = None


class Resnet2DBase(ModelConfig):
    name: str = "resnet2d"
    final_endpoint: str | None = "last_conv"
    backbone: base.choice("", "resnet50", "resnet101") = ""
    width_multiplier: Positive = 1
    cifar_stem: bool = False
    data_format: base.choice("channels_last", "channels_first") = "channels_last"
    stop_gradient_point: Annotated[int, Field(ge=-1, le=4)] = -1
    use_xreplica_bn: bool = True
    batch_norm_decay: UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5
    batch_norm_scale: bool = True
    dropblock_keep_probs: base.sequence(Share) | None = None
    dropblock_size: Count | None = None


class Resnet2D50(Resnet2DBase):
    name: str = "resnet2d_50"
    backbone: base.choice("", "resnet50", "resnet101") = "resnet50"


class Resnet2D101(Resnet2DBase):
    name: str = "resnet2d_101"
    backbone: base.choice("", "resnet50", "resnet101") = "resnet101"


class WaTBase(ModelConfig):
    """Transformer on pieces of the waveform; patch and stride in samples, buckets in patches."""

    name: str = "wat_base"
    final_endpoint: str | None = "predictions_1d"
    temporal_patch_size: Count = 128
    temporal_patch_stride: Count = 128
    max_temporal_buckets: Count = 1200
    random_patch_sampling: bool = True
    patch_sampling_rate: Share = 0.5
    pre_projection: bool = False
    d_model: Count = 768
    d_kv: Count = 64
    d_ff: Count = 3072
    num_layers: Count = 12
    num_heads: Count = 12
    pre_norm: bool = True
    use_bias: bool = True
    activation: base.Activation | None = "gelu"
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Positive = 1e-6
    use_masking: bool = False
    mask_rate: UnitInterval = 0.2
    post_projection: bool = False
    d_post_proj: Count = 1024
    post_proj_activation: base.Activation | None = "gelu"
    patch_init_std: Positive | None = None  # of the patch kernel; None: as published


class WaTMedium(WaTBase):
    name: str = "wat_medium"
    d_model: Count = 1024
    d_ff: Count = 4096
    num_heads: Count = 16


class WaTLarge(WaTMedium):
    name: str = "wat_large"
    num_layers: Count = 24


class WaTTiny(WaTBase):
    """Not published: trains on a CPU. Made for 1.6 s at 16 kHz."""

    name: str = "wat_tiny"
    temporal_patch_size: Count = 256
    temporal_patch_stride: Count = 256
    max_temporal_buckets: Count = 100
    d_model: Count = 96
    d_kv: Count = 24
    d_ff: Count = 384
    num_layers: Count = 3
    num_heads: Count = 4
    dropout_rate: Rate = 0.0
    patch_init_std: Positive | None = 0.6


class SpTBase(ModelConfig):
    """Transformer on spectrogram patches (`spectoral` is the published spelling)."""

    name: str = "spt_base"
    final_endpoint: str | None = "predictions_2d"
    temporal_patch_size: Count = 16
    spectoral_patch_size: Count = 5
    max_temporal_buckets: Count = 9
    max_spectoral_buckets: Count = 16
    pre_projection: bool = False
    d_model: Count = 768
    d_kv: Count = 64
    d_ff: Count = 3072
    num_layers: Count = 12
    num_heads: Count = 12
    pre_norm: bool = True
    use_bias: bool = False
    activation: base.Activation | None = "gelu"
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Positive = 1e-6
    use_masking: bool = False
    mask_rate: UnitInterval = 0.2
    post_projection: bool = False
    d_post_proj: Count = 1024
    post_proj_activation: base.Activation | None = "gelu"


class SpTMedium(SpTBase):
    name: str = "spt_medium"
    d_model: Count = 1024
    d_ff: Count = 4096
    num_heads: Count = 16


class SpTLarge(SpTMedium):
    name: str = "spt_large"
    num_layers: Count = 24
