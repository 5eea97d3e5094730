"""What a masked token is to be: the values in its patch, float32."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from vatt.methods.av_mae.config import LossConfig
from vatt.modeling.layers.tokens import flat_patches
from vatt.modeling.typing import Tensor

GREY = (0.2989, 0.5870, 0.1140)
EPSILON = 1e-6  # added to variances


def size(patch: Sequence[int], channels: int, options: LossConfig) -> int:
    """Returns how many values are predicted of a patch."""
    volume = channels
    for side in patch:
        volume *= side
    central = options.select_central_frame and len(patch) == 3
    return volume // patch[0] if central else volume


def of(x: Tensor, patch: Sequence[int], options: LossConfig) -> Tensor:
    """Returns what is reconstructed, `[rows, tokens, values]`.

    Args:
      x: pictures `[rows, (frames,) height, width, 3]`, or spectrograms `[rows, times, bands, 1]`.
      patch: sizes along the axes.
      options: what is done to the values.
    """
    x, coloured = ops.cast(x, "float32"), x.shape[-1] == len(GREY)
    if options.reconstruct_grayscale and coloured:
        grey = ops.sum(x * ops.convert_to_tensor(GREY, "float32"), axis=-1, keepdims=True)
        x = ops.broadcast_to(grey, ops.shape(x))
    values, channels = flat_patches(x, patch), x.shape[-1]
    if options.select_central_frame and len(patch) == 3:
        frames = ops.reshape(values, (*_rows(values), patch[0], -1))
        values = frames[:, :, patch[0] // 2]
    if options.standardise_per_patch:
        return _standardised(values, -1)
    if options.standardise_per_patch_channels and coloured:
        by_colour = ops.reshape(values, (*_rows(values), -1, channels))
        return ops.reshape(_standardised(by_colour, -2), ops.shape(values))
    return values


def _rows(values: Tensor) -> tuple[Tensor | int, int]:
    return ops.shape(values)[0], values.shape[1]


def _standardised(x: Tensor, axis: int) -> Tensor:
    mean, variance = ops.moments(x, axes=[axis], keepdims=True)
    return (x - mean) / ops.sqrt(variance + EPSILON)
