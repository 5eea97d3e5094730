"""Backbones of several modalities that are fine-tuned: the multimodal bottleneck transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from vatt.configs import base, dataset
from vatt.configs.backbones import FineTuned, register
from vatt.configs.base import Count, Layers, Rate, WholeNumber
from vatt.configs.problems import Problem, Problems
from vatt.configs.transformers import Encoder, Medium, Tiny, covers_frames, holds_patch

MODALITIES = ("video", "audio")


@register("mbt_base")
class MBTBase(Encoder, FineTuned):
    """Video and the spectrogram of its sound, or one of them (`modality_fusion`).

    From `fusion_layer` on, the modalities meet in `num_bottlenecks` learned vectors, or without
    `use_bottleneck` see all tokens; in evaluation only with `test_with_bottlenecks`. With
    `share_encoder` they have the same layers. `pooling`: how the states of the tokens of a modality
    become its feature, "token" by a learned one of their own. `modality_vectors`: added to them.

    Patches of video have `temporal_patch_size` frames of `spatial_patch_size` pixels square, or
    `spatial_patch_width` wide, those of a spectrogram `audio_temporal_patch_size` times and
    `audio_spectral_patch_size` bands; what remains at the end of a spectrogram is left out.
    `video_patch_init`: first values of the video's
    projection, "fan_in" for all frames of a patch, "central" for the middle one alone, "average"
    the same for all.

    `stochastic_depth`: as of `PatchEncoder`. `published_restore`: the projection of spectrograms is
    not taken from a pre-training checkpoint, which the published code forgets.
    """

    layer: ClassVar[str] = "vatt.modeling.backbones.bottleneck:mbt"
    clip_defaults: ClassVar[Mapping[str, Any]] = {
        "raw_audio": False,
        "audio_features": "unscaled_log_mel",
        "sample_rate": 16000,
        "mel_bins": 128,
        "stft_length": 0.025,
        "stft_step": 0.01,
        "audio_seconds": 10.0,
        "audio_stride": 1,
        "crop_resize_style": "Stretched",
        "min_resize": 256,
        "test_resize": 256,
        "multi_crop": False,
    }

    name: str = "mbt_base"
    activation: base.Activation | None = "gelu_tanh"
    dropout_rate: Rate = 0.0
    modality_fusion: base.sequence(base.choice(*MODALITIES)) = MODALITIES
    temporal_patch_size: Count = 2
    spatial_patch_size: Count = 16
    spatial_patch_width: Count | None = None
    audio_temporal_patch_size: Count = 16
    audio_spectral_patch_size: Count = 16
    fusion_layer: WholeNumber = 8
    num_bottlenecks: Count = 4
    use_bottleneck: bool = True
    test_with_bottlenecks: bool = True
    share_encoder: bool = False
    pooling: base.choice("mean", "max", "sum", "token") = "mean"
    modality_vectors: bool = False
    video_patch_init: base.choice("fan_in", "central", "average") = "fan_in"
    stochastic_depth: Rate = 0.0
    published_restore: bool = False
    cls_initializer: base.choice("glorot", "orthogonal", "zeros") = "zeros"
    cls_prior_bias: bool = False

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it takes, video before audio."""
        return tuple(m for m in MODALITIES if m in self.modality_fusion)

    def patch(self, modality: str) -> tuple[int, ...]:
        """Returns the size of a patch: frames, rows and columns, or times and bands."""
        if modality == "video":
            height = self.spatial_patch_size
            return (self.temporal_patch_size, height, self.spatial_patch_width or height)
        return (self.audio_temporal_patch_size, self.audio_spectral_patch_size)

    def problems(self, path: str) -> Problems:
        """Yields what does not fit together."""
        yield from super().problems(path)
        if not self.modalities or len(set(self.modality_fusion)) < len(self.modality_fusion):
            accepted = "expected [video, audio] or one of them"
            yield Problem(f"{path} modality_fusion", list(self.modality_fusion), accepted)
        if self.fusion_layer > self.num_layers:
            accepted = (
                f"expected 0 (modalities meet in all layers) to num_layers, {self.num_layers} (they"
                " never meet)"
            )
            yield Problem(f"{path} fusion_layer", self.fusion_layer, accepted)

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields clips that the patches do not cover evenly, and spectrograms without a patch."""
        if "video" in self.modalities:
            frames, *sides = self.patch("video")
            for pixels in dict.fromkeys(sides):
                yield from covers_frames(path, data, frames, pixels, owner)
            if data.space_to_depth:
                accepted = f"expected false: {owner} takes patches of whole pictures"
                yield Problem(f"{path}.space_to_depth", True, accepted)
        if "audio" in self.modalities:
            yield from holds_patch(path, data, *self.patch("audio"), owner)


@register("mbt_large")
class MBTLarge(Medium, MBTBase):
    """The published size; on AudioSet `fusion_layer` is 18, on VGGSound 16."""

    name: str = "mbt_large"
    num_layers: Layers = 24
    fusion_layer: WholeNumber = 18


@register("mbt_tiny")
class MBTTiny(Tiny, MBTBase):
    """Not published: trains on a CPU. Made for clips of av_mae_tiny, whose layers it has."""

    clip_defaults: ClassVar[Mapping[str, Any]] = {
        **MBTBase.clip_defaults,
        "num_frames": 8,
        "video_stride": 2,
        "fps": 10.0,
        "frame_size": 48,
        "min_resize": 56,
        "test_resize": 56,
        "mel_bins": 64,
        "audio_seconds": 1.6,
    }

    name: str = "mbt_tiny"
    num_layers: Layers = 4
    fusion_layer: WholeNumber = 3
    spatial_patch_size: Count = 8
    audio_temporal_patch_size: Count = 8
