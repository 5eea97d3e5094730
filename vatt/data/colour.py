"""Colour jitter of whole clips: brightness, saturation, contrast and hue, one draw for all frames.

`colour_jitter` is the published operations one after another; `change` is their arithmetic in two
compiled functions, from integer levels to floats at once.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from vatt.data import sampling
from vatt.data.compiled import compiled

PROBABILITY = 0.8
MAX_BRIGHTNESS = 32.0 / 255.0
SATURATION_RANGE = (0.6, 1.4)
CONTRAST_RANGE = (0.6, 1.4)
MAX_HUE = 0.2
FINE = 256  # steps per level of uint16 frames


class Draws(NamedTuple):
    """What happens to a clip; float32 scalars, `applied` bool."""

    applied: tf.Tensor
    brightness: tf.Tensor  # added
    saturation: tf.Tensor  # factor
    contrast: tf.Tensor  # factor
    hue: tf.Tensor  # added, in turns of the colour circle


def draw(seed: tf.Tensor) -> Draws:
    """The choices that an int64 [2] seed stands for."""
    shares = sampling.uniform(seed, (5,))

    def between(share: tf.Tensor, low: float, high: float) -> tf.Tensor:
        return low + share * (high - low)

    return Draws(
        shares[0] < PROBABILITY,
        between(shares[1], -MAX_BRIGHTNESS, MAX_BRIGHTNESS),
        between(shares[2], *SATURATION_RANGE),
        between(shares[3], *CONTRAST_RANGE),
        between(shares[4], -MAX_HUE, MAX_HUE),
    )


def colour_jitter(frames: tf.Tensor, seed: tf.Tensor, zero_centred: bool) -> tf.Tensor:
    """With probability 0.8 changes brightness, saturation, contrast and hue, in this order.

    Args:
      frames: float32 [frames, height, width, 3] in [0, 1], or in [-1, 1] when `zero_centred`.
      seed: int64 [2].
      zero_centred: which of the two ranges the frames are in.

    Returns:
      Frames in the same range, clipped to it when changed.
    """
    draws = draw(seed)

    def jitter() -> tf.Tensor:
        unit = (frames + 1.0) / 2.0 if zero_centred else frames
        unit = unit + draws.brightness
        unit = tf.image.adjust_saturation(unit, draws.saturation)
        unit = tf.image.adjust_contrast(unit, draws.contrast)
        unit = tf.image.adjust_hue(unit, draws.hue)
        unit = tf.clip_by_value(unit, 0.0, 1.0)
        return unit * 2.0 - 1.0 if zero_centred else unit

    return tf.cond(draws.applied, jitter, lambda: frames)


def change(levels: tf.Tensor, draws: Draws, zero_centred: bool) -> tf.Tensor:
    """What `colour_jitter` does to a clip that it changes.

    Args:
      levels: [frames, height, width, 3], uint8 or, in steps of 1 / FINE of a level, uint16; the
        shape should be static.
      draws: brightness, saturation, contrast and hue.
      zero_centred: range of the result.

    Returns:
      Float32 [frames, height, width, 3] in [0, 1], or in [-1, 1] when `zero_centred`.
    """
    unit = _saturated(levels, draws.brightness, draws.saturation)
    return _contrast_and_hue(unit, draws.contrast, draws.hue, zero_centred)


# Two compiled functions, not one: XLA would compute the saturated pixels again for each of the
# uses (mean, and each channel of the result). Channels are taken apart for the arithmetic, so that
# neighbouring pixels, not channels, fill a vector.


@compiled
def _saturated(levels: tf.Tensor, brightness: tf.Tensor, saturation: tf.Tensor) -> tf.Tensor:
    """[frames, height, width, 3] -> [frames, 3, height, width], white is 1.

    In the hexcone model, saturation scales the distances to the largest channel. It cannot exceed
    1, at which the smallest channel is 0, and is 0 for colours without a positive channel.
    """
    white = 255.0 * (FINE if levels.dtype == tf.uint16 else 1)
    unit = tf.cast(levels, tf.float32) * (1.0 / white) + brightness
    channels = tf.unstack(unit, axis=-1)
    largest, spread = _largest_and_spread(channels)
    new_spread = tf.maximum(tf.minimum(spread * saturation, largest), 0.0)
    factor = tf.where(spread > 0.0, new_spread / spread, 0.0)
    return tf.stack([largest - (largest - channel) * factor for channel in channels], axis=1)


@compiled
def _contrast_and_hue(
    unit: tf.Tensor, contrast: tf.Tensor, hue: tf.Tensor, zero_centred: bool
) -> tf.Tensor:
    """[frames, 3, height, width], white is 1 -> [frames, height, width, 3].

    Contrast scales around the mean of each channel of each frame. Hue is a position 0..6 on the
    hexagon red, yellow, green, cyan, blue, magenta. Turning it leaves the largest and the smallest
    channel's values; each channel is largest within 1 of its own corner, smallest beyond 2.
    """
    mean = tf.reduce_mean(unit, axis=(2, 3), keepdims=True)  # [frames, 3, 1, 1]
    red, green, blue = channels = tf.unstack((unit - mean) * contrast + mean, axis=1)
    largest, spread = _largest_and_spread(channels)
    step = tf.where(spread > 0.0, 1.0 / spread, 0.0)
    position = tf.where(
        largest == red,
        (green - blue) * step,
        tf.where(largest == green, (blue - red) * step + 2.0, (red - green) * step + 4.0),
    )
    position += 6.0 * hue
    position -= 6.0 * tf.floor(position * (1.0 / 6.0))
    excess = (
        tf.abs(position - 3.0) - 1.0,
        2.0 - tf.abs(position - 2.0),
        2.0 - tf.abs(position - 4.0),
    )
    turned = []
    for share in excess:
        value = largest - spread + spread * tf.clip_by_value(share, 0.0, 1.0)
        value = tf.clip_by_value(value, 0.0, 1.0)
        turned.append(value * 2.0 - 1.0 if zero_centred else value)
    # Channels become innermost last: stacking them there at once takes twice as long.
    return tf.transpose(tf.stack(turned, axis=1), (0, 2, 3, 1))


def _largest_and_spread(channels: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Per pixel: the largest of three channels, and its distance to the smallest."""
    largest = tf.maximum(tf.maximum(channels[0], channels[1]), channels[2])
    smallest = tf.minimum(tf.minimum(channels[0], channels[1]), channels[2])
    return largest, largest - smallest
