"""Audio backbones."""

from __future__ import annotations

from vatt import configs
from vatt.modeling.backbones.patch_transformer import PatchTransformer, shared_arguments
from vatt.modeling.typing import DType


def wat(
    config: configs.audio.WaTBase, *, name: str = "audio", dtype: DType = "float32"
) -> PatchTransformer:
    """Returns the waveform transformer of a WaT config, for inputs `[batch, samples, 1]`."""
    return PatchTransformer(
        axes=("temporal",),
        patch=(config.temporal_patch_size,),
        stride=(config.temporal_patch_stride,),
        buckets=(config.max_temporal_buckets,),
        **shared_arguments(config),
        name=name,
        dtype=dtype,
    )


def spt(
    config: configs.audio.SpTBase, *, name: str = "audio", dtype: DType = "float32"
) -> PatchTransformer:
    """Returns the spectrogram transformer of an SpT config, for `[batch, time, mel, 1]`."""
    patch = (config.temporal_patch_size, config.spectoral_patch_size)
    return PatchTransformer(
        axes=("temporal", "spectral"),
        patch=patch,
        stride=patch,
        buckets=(config.max_temporal_buckets, config.max_spectoral_buckets),
        first_axis_fastest=True,
        **shared_arguments(config),
        name=name,
        dtype=dtype,
    )
