"""Colour jitter of whole clips: brightness, saturation, contrast and hue, one draw for all frames.

`colour_jitter` is the published operations one after another; `change` and `change_resampled` are
their arithmetic in a few compiled functions. `grey` and `blend_jitter` mix frames with grey and
black, as other methods do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from vatt.data import geometry
from vatt.data.compiled import compiled

TINY = 1e-30


class Draws(NamedTuple):
    """What happens to a clip; float32 scalars, `applied` bool."""

    applied: tf.Tensor
    brightness: tf.Tensor  # added
    saturation: tf.Tensor  # factor
    contrast: tf.Tensor  # factor
    hue: tf.Tensor  # added, in turns of the colour circle


def colour_jitter(frames: tf.Tensor, draws: Draws, zero_centred: bool) -> tf.Tensor:
    """Changes brightness, saturation, contrast and hue, in this order, if `draws.applied`.

    Args:
      frames: float32 [frames, height, width, 3] in [0, 1], or in [-1, 1] when `zero_centred`.
      draws: what happens to the clip.
      zero_centred: which of the two ranges the frames are in.

    Returns:
      Frames in the same range, clipped to it when changed.
    """

    def jitter() -> tf.Tensor:
        unit = (frames + 1.0) / 2.0 if zero_centred else frames
        unit = unit + draws.brightness
        unit = tf.image.adjust_saturation(unit, draws.saturation)
        unit = tf.image.adjust_contrast(unit, draws.contrast)
        unit = tf.image.adjust_hue(unit, draws.hue)
        unit = tf.clip_by_value(unit, 0.0, 1.0)
        return unit * 2.0 - 1.0 if zero_centred else unit

    return tf.cond(draws.applied, jitter, lambda: frames)


def grey(frames: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """[..., 3] -> [..., 1]: the sum of the channels times `weights` (red, green, blue)."""
    return tf.reduce_sum(frames * tf.constant(weights, frames.dtype), axis=-1, keepdims=True)


def grey_of_channels_first(frames: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """What `grey` gives where it takes frames for channels: a defect of the published GDT.

    [frames, height, width, 3] -> the same shape: the first three frames are the sum of them times
    `weights`, the others are 0.
    """
    first = tf.concat([frames[:3], tf.zeros_like(frames[:3])], axis=0)[:3]  # of one or two, too
    mixed = tf.tensordot(tf.constant(weights, frames.dtype), first, 1)
    shown = tf.range(tf.shape(frames)[0]) < 3
    return tf.where(tf.reshape(shown, (-1, 1, 1, 1)), mixed, 0.0)


def blend_jitter(
    frames: tf.Tensor,
    factors: tf.Tensor,
    order: tf.Tensor,
    weights: Sequence[float],
    channels_first: bool = False,
) -> tf.Tensor:
    """Frames become factor * frames + (1 - factor) * other, once for each of three others.

    Args:
      frames: float32 [frames, height, width, 3] in any range; nothing is clipped.
      factors: float32 [3] of brightness (other: 0), contrast (the mean of each frame's grey) and
        saturation (the grey of each pixel).
      order: int32 [3], a permutation of 0 (brightness), 1 (contrast) and 2 (saturation).
      weights: of red, green and blue in grey.
      channels_first: take frames for channels and channels for frames, as the published GDT does:
        `grey_of_channels_first`, and a mean over all frames of each channel.
    """
    mixed = grey_of_channels_first if channels_first else grey
    over = (0, 1, 2) if channels_first else (1, 2)

    def brightness(now: tf.Tensor) -> tf.Tensor:
        return factors[0] * now

    def contrast(now: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(mixed(now, weights), axis=over, keepdims=True)  # [frames, 1, 1, 1]
        return factors[1] * now + (1.0 - factors[1]) * mean

    def saturation(now: tf.Tensor) -> tf.Tensor:
        return factors[2] * now + (1.0 - factors[2]) * mixed(now, weights)

    for kind in tf.unstack(order, 3):
        changes = [
            lambda change=change, now=frames: change(now)
            for change in (brightness, contrast, saturation)
        ]
        frames = tf.switch_case(kind, changes)
    return frames


def change(levels: tf.Tensor, draws: Draws, zero_centred: bool) -> tf.Tensor:
    """What `colour_jitter` does to a clip that it changes.

    Args:
      levels: uint8 [frames, height, width, 3]; the shape should be static.
      draws: brightness, saturation, contrast and hue.
      zero_centred: range of the result.

    Returns:
      Float32 [frames, height, width, 3] in [0, 1], or in [-1, 1] when `zero_centred`.
    """
    return _rest(_saturated(levels, draws.brightness, draws.saturation), draws, zero_centred)


def change_resampled(
    pixels: tf.Tensor,
    rows: geometry.Axis,
    columns: geometry.Axis,
    darker: tf.Tensor,
    draws: Draws,
    zero_centred: bool,
) -> tf.Tensor:
    """`change` of what `geometry.blended` makes of its arguments, less `darker` levels.

    Returns:
      Float32 [frames, rows, columns, 3].
    """
    unit = _resampled_and_saturated(
        pixels, rows, columns, darker, draws.brightness, draws.saturation
    )
    return _rest(unit, draws, zero_centred)


def _rest(unit: tf.Tensor, draws: Draws, zero_centred: bool) -> tf.Tensor:
    means = _means(unit)
    return _contrast_and_hue(unit, means, draws.contrast, draws.hue, zero_centred)


# Several compiled functions, not one: XLA would compute the saturated pixels again for each use.
# In each, the three channels are three arrays [frames, height, width, 3] with equal values along
# the last axis, and one of them is picked for each place of the result: XLA then computes a pixel
# once, and neither takes channels apart in memory nor has to put them together again.


@compiled
def _saturated(levels: tf.Tensor, brightness: tf.Tensor, saturation: tf.Tensor) -> tf.Tensor:
    """Uint8 [frames, height, width, 3] -> float32 of that shape, white is 1."""
    channels = _channels(tf.cast(levels, tf.float32) * (1.0 / 255.0) + brightness)
    return _saturate(channels, saturation)


@compiled
def _resampled_and_saturated(
    pixels: tf.Tensor,
    rows: geometry.Axis,
    columns: geometry.Axis,
    darker: tf.Tensor,
    brightness: tf.Tensor,
    saturation: tf.Tensor,
) -> tf.Tensor:
    """Int32 [frames, height, width] -> float32 [frames, rows, columns, 3], white is 1."""
    channels = [
        tf.maximum(levels - darker, 0.0) * (1.0 / 255.0) + brightness
        for levels in geometry.blended(pixels, rows, columns)
    ]
    return _saturate(channels, saturation)


def _saturate(channels: list[tf.Tensor], saturation: tf.Tensor) -> tf.Tensor:
    """In the hexcone model, saturation scales the distances to the largest channel.

    It cannot exceed 1, at which the smallest channel is 0, and is 0 for colours without a positive
    channel.
    """
    largest, smallest = _ends(channels)
    limit = largest / tf.maximum(largest - smallest, TINY)
    factor = tf.maximum(tf.minimum(saturation, limit), 0.0)
    return geometry.interleaved([largest - (largest - channel) * factor for channel in channels])


@compiled
def _means(unit: tf.Tensor) -> tf.Tensor:
    """[frames, height, width, 3] -> [frames, 3].

    XLA adds up numbers one by one; whole rows are added several numbers at a time.
    """
    frames, height, width, _ = unit.shape
    block = math.gcd(height, 16)
    rows = tf.unstack(tf.reshape(unit, (frames, height // block, block, width * 3)), axis=2)
    sums = tf.reshape(tf.reduce_sum(tf.add_n(rows), axis=1), (frames, width, 3))
    return tf.reduce_sum(sums, axis=1) * (1.0 / (height * width))


@compiled
def _contrast_and_hue(
    unit: tf.Tensor, means: tf.Tensor, contrast: tf.Tensor, hue: tf.Tensor, zero_centred: bool
) -> tf.Tensor:
    """[frames, height, width, 3], white is 1, and its means [frames, 3] -> the final clip.

    Contrast scales around the mean of each channel of each frame. Hue is a position on the hexagon
    red, yellow, green, cyan, blue, magenta, of six sides as long as the spread of the channels. A
    turn leaves the largest and the smallest channel's values; each channel is largest within one
    side of its own corner, smallest beyond two.
    """
    middle = (means * (1.0 - contrast))[:, tf.newaxis, tf.newaxis]
    pairs = zip(_channels(unit), _channels(middle), strict=True)
    channels = [channel * contrast + offset for channel, offset in pairs]
    own, following, previous = (geometry.interleaved(channels, first) for first in range(3))
    largest, smallest = _ends(channels)
    spread = largest - smallest
    position = tf.where(  # from the channel's own corner
        (own >= following) & (own >= previous),
        following - previous,
        tf.where(
            following >= previous, previous - own + 2.0 * spread, own - following + 4.0 * spread
        ),
    )
    position += 6.0 * hue * spread
    distance = tf.abs(tf.abs(position) - 3.0 * spread)  # from the opposite corner
    value = smallest + tf.clip_by_value(distance - spread, 0.0, spread)
    value = tf.clip_by_value(value, 0.0, 1.0)
    return value * 2.0 - 1.0 if zero_centred else value


def _channels(frames: tf.Tensor) -> list[tf.Tensor]:
    """[..., 3] -> red, green and blue, each repeated along the last axis."""
    return [tf.broadcast_to(frames[..., c : c + 1], frames.shape) for c in range(3)]


def _ends(channels: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Per pixel: the largest and the smallest of three channels."""
    largest = tf.maximum(tf.maximum(channels[0], channels[1]), channels[2])
    smallest = tf.minimum(tf.minimum(channels[0], channels[1]), channels[2])
    return largest, smallest
