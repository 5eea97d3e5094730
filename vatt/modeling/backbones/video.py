"""Video backbones."""

from __future__ import annotations

from vatt import configs
from vatt.modeling.backbones.patch_transformer import PatchTransformer, shared_arguments
from vatt.modeling.typing import DType


def vit(
    config: configs.video.ViTBase, *, name: str = "video", dtype: DType = "float32"
) -> PatchTransformer:
    """Returns the transformer of a ViT config, for `[batch, frames, height, width, channels]`."""
    patch = (config.temporal_patch_size, config.spatial_patch_size, config.spatial_patch_size)
    return PatchTransformer(
        axes=("temporal", "vertical", "horizontal"),
        patch=patch,
        stride=patch,
        buckets=(
            config.max_temporal_buckets,
            config.max_vertical_buckets,
            config.max_horizontal_buckets,
        ),
        **shared_arguments(config),
        name=name,
        dtype=dtype,
    )
