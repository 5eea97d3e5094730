"""What a masked token is to be: the values in its patch, float32; and predictions as pictures."""

from __future__ import annotations

import math
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
    values = raw(x, patch, options)
    if (apart := _axis(x, options)) is None:
        return values
    by_colour = _by_colour(values, x, apart)
    mean, deviation = _moments(by_colour, apart)
    return ops.reshape((by_colour - mean) / deviation, ops.shape(values))


def raw(x: Tensor, patch: Sequence[int], options: LossConfig) -> Tensor:
    """Returns targets before they are standardised, `[rows, tokens, values]`; see `of`."""
    x, coloured = ops.cast(x, "float32"), x.shape[-1] == len(GREY)
    if options.reconstruct_grayscale and coloured:
        grey = ops.sum(x * ops.convert_to_tensor(GREY, "float32"), axis=-1, keepdims=True)
        x = ops.broadcast_to(grey, ops.shape(x))
    values = flat_patches(x, patch)
    if options.select_central_frame and len(patch) == 3:
        frames = ops.reshape(values, (*_rows(values), patch[0], -1))
        values = frames[:, :, patch[0] // 2]
    return values


def restored(predicted: Tensor, x: Tensor, patch: Sequence[int], options: LossConfig) -> Tensor:
    """Returns predictions in the values of `x`: of targets without mean and deviation, with both.

    Those of the true patch are taken, which nothing predicts.

    Args:
      predicted: `[rows, tokens, values]`.
      x: see `of`.
      patch: see `of`.
      options: see `of`.
    """
    predicted = ops.cast(predicted, "float32")
    if (apart := _axis(x, options)) is None:
        return predicted
    mean, deviation = _moments(_by_colour(raw(x, patch, options), x, apart), apart)
    by_colour = _by_colour(predicted, x, apart)
    return ops.reshape(by_colour * deviation + mean, ops.shape(predicted))


def picture(values: Tensor, grid: Sequence[int], patch: Sequence[int], channels: int) -> Tensor:
    """Returns patches as what they are cut from, of several frames the middle one.

    Args:
      values: `[rows, tokens, values]`, of all frames of a patch or of its middle one.
      grid: tokens along the axes.
      patch: sizes along the axes.
      channels: of a value's place.

    Returns:
      `[rows, times, height, width, channels]`, or `[rows, times, bands, channels]`.
    """
    *times, rows, columns = grid
    *_, height, width = patch
    frames = values.shape[-1] // (height * width * channels)
    split = ops.reshape(
        values, (-1, math.prod(times), rows, columns, frames, height, width, channels)
    )[:, :, :, :, frames // 2]
    joined = ops.transpose(split, (0, 1, 2, 4, 3, 5, 6))
    return ops.reshape(joined, (-1, *times, rows * height, columns * width, channels))


def _axis(x: Tensor, options: LossConfig) -> int | None:
    """Returns which axis of `[rows, tokens, values]` or `[..., values, channels]` is standardised.

    None where none is.
    """
    if options.standardise_per_patch:
        return -1
    coloured = x.shape[-1] == len(GREY)
    return -2 if options.standardise_per_patch_channels and coloured else None


def _by_colour(values: Tensor, x: Tensor, axis: int) -> Tensor:
    return values if axis == -1 else ops.reshape(values, (*_rows(values), -1, x.shape[-1]))


def _rows(values: Tensor) -> tuple[Tensor | int, int]:
    return ops.shape(values)[0], values.shape[1]


def _moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    mean, variance = ops.moments(x, axes=[axis], keepdims=True)
    return mean, ops.sqrt(variance + EPSILON)
