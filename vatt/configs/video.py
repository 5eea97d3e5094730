"""Video backbones: ViT in four published sizes and a tiny one, I3D, R(2+1)D."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vatt.configs import base, dataset
from vatt.configs.backbones import FineTuned, register
from vatt.configs.base import (
    Count,
    Layers,
    Multiplier,
    NonNegative,
    Positive,
    Rate,
    Share,
    UnitInterval,
)
from vatt.configs.problems import Problem, Problems
from vatt.configs.residual import Residual, Stages, TinyResidual
from vatt.configs.transformers import Medium, PatchEncoder, Tiny, covers_frames, keeps_tokens


class ModelConfig(FineTuned):
    """Fields of every video model. `backbone_config` is published and always null."""

    modalities: ClassVar[tuple[str, ...]] = ("video",)

    cls_dropout_rate: Rate = 0.5
    backbone_config: None = None


@register("i3d")
class I3D(ModelConfig):
    layer: ClassVar[str] = "vatt.modeling.backbones.i3d:i3d"

    name: str = "i3d"
    final_endpoint: str | None = "mixed_5c"
    width_multiplier: Multiplier = 1
    conv_weight_decay: NonNegative = 0.0
    batch_norm_decay: UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5
    batch_norm_scale: bool = True
    use_xreplica_bn: bool = True
    data_format: base.choice("channels_last", "channels_first") = "channels_last"


@register("r2plus1d_18")
class R2Plus1D18(Residual, ModelConfig):
    """Convolutions over places and over frames in turn.

    `pooling_...`: how the last map becomes one feature (`layers.pooling.TemporalPooling`). Without
    layers by its mean; with layers by a transformer that reads `pooling_steps` means over places,
    as in STiCA: for its checkpoints these are the values that they were trained with.
    """

    layer: ClassVar[str] = "vatt.modeling.backbones.r2plus1d:r2plus1d"

    name: str = "r2plus1d_18"
    stem_channels: Count = 45  # between the two convolutions of the stem
    cls_dropout_rate: Rate = 0.0
    pooling_layers: Annotated[int, Field(ge=0, le=1000)] = 0
    pooling_heads: Count = 4
    pooling_steps: Annotated[int, Field(ge=1, le=64)] = 4
    pooling_dropout_rate: Rate = 0.0
    pooling_positions: bool = False
    pooling_values: bool = False  # attention projects values and its output, too

    def problems(self, path: str) -> Problems:
        """Yields what does not fit together."""
        yield from super().problems(path)
        if self.pooling_layers and self.widths[-1] % self.pooling_heads:
            accepted = f"expected a divisor of the last of widths, which is {self.widths[-1]}"
            yield Problem(f"{path} pooling_heads", self.pooling_heads, accepted)


@register("r2plus1d_34")
class R2Plus1D34(R2Plus1D18):
    name: str = "r2plus1d_34"
    blocks: Stages = (3, 4, 6, 3)


@register("r2plus1d_tiny")
class R2Plus1DTiny(TinyResidual, R2Plus1D18):
    """Not published: trains on a CPU."""

    name: str = "r2plus1d_tiny"
    stem_channels: Count = 8


@register("vit_base")
class ViTBase(PatchEncoder, ModelConfig):
    """Transformer on space-time patches; patch sizes in frames and pixels, buckets in patches."""

    layer: ClassVar[str] = "vatt.modeling.backbones.video:vit"

    name: str = "vit_base"
    final_endpoint: str | None = "predictions_3d"
    temporal_patch_size: Count = 4
    spatial_patch_size: Count = 16
    max_temporal_buckets: Count = 8
    max_vertical_buckets: Count = 14
    max_horizontal_buckets: Count = 14
    random_patch_sampling: bool = True
    patch_sampling_rate: Share = 0.5
    patch_init_std: Positive | None = None  # of the patch kernel; None: as published

    def problems(self, path: str) -> Problems:
        """Yields what does not fit together."""
        yield from super().problems(path)
        area = self.max_vertical_buckets * self.max_horizontal_buckets
        yield from keeps_tokens(path, self, self.max_temporal_buckets * area)

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields clips that the patches do not cover evenly."""
        frames, pixels = self.temporal_patch_size, self.spatial_patch_size
        yield from covers_frames(path, data, frames, pixels, owner)


@register("vit_medium")
class ViTMedium(Medium, ViTBase):
    name: str = "vit_medium"


@register("vit_large")
class ViTLarge(ViTMedium):
    name: str = "vit_large"
    num_layers: Layers = 24


@register("vit_xlarge")
class ViTXLarge(ViTBase):
    name: str = "vit_xlarge"
    d_model: Count = 1536
    d_ff: Count = 4096
    num_layers: Layers = 24
    num_heads: Count = 24


@register("vit_tiny")
class ViTTiny(Tiny, ViTBase):
    """Not published: trains on a CPU. Made for 16 frames of 64 x 64 pixels."""

    name: str = "vit_tiny"
    spatial_patch_size: Count = 8
    max_temporal_buckets: Count = 4
    max_vertical_buckets: Count = 8
    max_horizontal_buckets: Count = 8
    num_layers: Layers = 4
    patch_init_std: Positive | None = 0.25
