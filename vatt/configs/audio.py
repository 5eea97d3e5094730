"""Audio backbones: transformers on waveforms (WaT) and spectrograms (SpT), ResNets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from vatt.configs import base, dataset
from vatt.configs.backbones import FineTuned, register
from vatt.configs.base import Count, Layers, Multiplier, Positive, Share, UnitInterval
from vatt.configs.problems import Problem, Problems, divides
from vatt.configs.residual import Residual, Stages, TinyResidual
from vatt.configs.transformers import Medium, PatchEncoder, Tiny, covers_waveform, keeps_tokens


class ModelConfig(FineTuned):
    """Fields of every audio model."""

    modalities: ClassVar[tuple[str, ...]] = ("audio",)


class SpectrogramModel(ModelConfig):
    """Fields of every model of spectrograms."""

    clip_defaults: ClassVar[Mapping[str, Any]] = {"raw_audio": False}

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields waveforms."""
        if data.raw_audio:
            yield Problem(f"{path}.raw_audio", True, f"expected false: {owner} reads spectrograms")


class Resnet2DBase(SpectrogramModel):
    layer: ClassVar[str] = "vatt.modeling.backbones.resnet2d:resnet2d"

    name: str = "resnet2d"
    final_endpoint: str | None = "last_conv"
    backbone: base.choice("", "resnet50", "resnet101") = ""
    width_multiplier: Multiplier = 1
    cifar_stem: bool = False
    data_format: base.choice("channels_last", "channels_first") = "channels_last"
    stop_gradient_point: Annotated[int, Field(ge=-1, le=4)] = -1
    use_xreplica_bn: bool = True
    batch_norm_decay: UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5
    batch_norm_scale: bool = True
    dropblock_keep_probs: base.sequence(Share) | None = None
    dropblock_size: Count | None = None


@register("resnet2d_50")
class Resnet2D50(Resnet2DBase):
    name: str = "resnet2d_50"
    backbone: base.choice("", "resnet50", "resnet101") = "resnet50"


@register("resnet2d_101")
class Resnet2D101(Resnet2DBase):
    name: str = "resnet2d_101"
    backbone: base.choice("", "resnet50", "resnet101") = "resnet101"


@register("resnet9")
class ResNet9(Residual, SpectrogramModel):
    """A network of basic blocks, without the classifier that the published one never uses.

    Made for log filterbanks: 40 bands, windows of 20 ms every 10 ms.
    """

    layer: ClassVar[str] = "vatt.modeling.backbones.resnet_audio:resnet"
    clip_defaults: ClassVar[Mapping[str, Any]] = {
        "raw_audio": False,
        "audio_features": "filterbank",
        "mel_bins": 40,
        "stft_length": 0.02,
        "stft_step": 0.01,
        "sample_rate": 24000,
    }

    name: str = "resnet9"
    blocks: Stages = (1, 1, 1, 1)


@register("resnet18")
class ResNet18(ResNet9):
    name: str = "resnet18"
    blocks: Stages = (2, 2, 2, 2)


@register("resnet_tiny")
class ResNetTiny(TinyResidual, ResNet9):
    """Not published: trains on a CPU."""

    name: str = "resnet_tiny"


@register("wat_base")
class WaTBase(PatchEncoder, ModelConfig):
    """Transformer on pieces of the waveform; patch and stride in samples, buckets in patches."""

    layer: ClassVar[str] = "vatt.modeling.backbones.audio:wat"

    name: str = "wat_base"
    final_endpoint: str | None = "predictions_1d"
    temporal_patch_size: Count = 128
    temporal_patch_stride: Count = 128
    max_temporal_buckets: Count = 1200
    random_patch_sampling: bool = True
    patch_sampling_rate: Share = 0.5
    patch_init_std: Positive | None = None  # of the patch kernel; None: as published

    def problems(self, path: str) -> Problems:
        """Yields what does not fit together."""
        yield from super().problems(path)
        yield from keeps_tokens(path, self, self.max_temporal_buckets)

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields spectrograms, and waveforms that the patches do not cover evenly."""
        patch, stride = self.temporal_patch_size, self.temporal_patch_stride
        yield from covers_waveform(path, data, patch, stride, owner)


@register("wat_medium")
class WaTMedium(Medium, WaTBase):
    name: str = "wat_medium"


@register("wat_large")
class WaTLarge(WaTMedium):
    name: str = "wat_large"
    num_layers: Layers = 24


@register("wat_tiny")
class WaTTiny(Tiny, WaTBase):
    """Not published: trains on a CPU. Made for 1.6 s at 16 kHz."""

    name: str = "wat_tiny"
    temporal_patch_size: Count = 256
    temporal_patch_stride: Count = 256
    max_temporal_buckets: Count = 100
    num_layers: Layers = 3
    patch_init_std: Positive | None = 0.6


@register("spt_base")
class SpTBase(PatchEncoder, SpectrogramModel):
    """Transformer on spectrogram patches (`spectoral` is the published spelling)."""

    layer: ClassVar[str] = "vatt.modeling.backbones.audio:spt"

    name: str = "spt_base"
    final_endpoint: str | None = "predictions_2d"
    temporal_patch_size: Count = 16
    spectoral_patch_size: Count = 5
    max_temporal_buckets: Count = 9
    max_spectoral_buckets: Count = 16
    use_bias: bool = False
    patch_init_std: Positive | None = None  # of the patch kernel; None: as published

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields waveforms, and spectrograms that the patches do not cover evenly."""
        yield from super().clip_problems(path, data, owner)
        bins, what = self.spectoral_patch_size, f"the patch of {owner} (bins)"
        yield from divides(f"{path}.mel_bins", data.mel_bins, bins, what)


@register("spt_medium")
class SpTMedium(Medium, SpTBase):
    name: str = "spt_medium"


@register("spt_large")
class SpTLarge(SpTMedium):
    name: str = "spt_large"
    num_layers: Layers = 24


@register("spt_tiny")
class SpTTiny(Tiny, SpTBase):
    """Not published: trains on a CPU. Made for 1.6 s at 16 kHz, 76 x 80 values."""

    name: str = "spt_tiny"
    temporal_patch_size: Count = 4
    spectoral_patch_size: Count = 10
    max_temporal_buckets: Count = 19
    max_spectoral_buckets: Count = 8
    num_layers: Layers = 3
    patch_init_std: Positive | None = 0.25
