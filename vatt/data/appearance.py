"""Steps that change the values of a training clip once it is cut; `vatt.data.views` orders them.

One draw serves all frames of a clip. Probabilities are shares of clips; a pair is the lower and the
upper end of a uniform draw.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from vatt.data import colour, sampling
from vatt.data.ranges import Range, between, check_positive, check_probability, check_range

LUMA = (0.299, 0.587, 0.114)  # red, green, blue (ITU-R BT.601)
LUMA_4_DIGITS = (0.2989, 0.5870, 0.1140)  # the same, as AV-MAE has it
LUMA_OF_BGR = LUMA[::-1]  # as GDT and STiCA publish it, for blue, green, red: their frames are not
ORDERS = tuple(itertools.permutations(range(3)))


class Step(Protocol):
    """What happens to the values of a clip after it is cut; a frozen dataclass, see `View`."""

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        """Float32 [frames, size, size, 3] -> the same shape.

        Args:
          frames: what the steps before have made of it.
          seeds: int64 [sampling.ROWS, 2] of the clip.
          zero_centred: `View.zero_centred`.
        """


@dataclass(frozen=True)
class ColourJitter:
    """With `probability`: brightness, saturation, contrast and hue, in this order, then clipping.

    `brightness` is the largest number added or taken away (white is 1), `hue` the largest turn of
    the colour circle (1 is all around); `saturation` and `contrast` are factors, in the hexcone
    model and around the mean of each channel of each frame. Defaults and formulas: VATT.
    """

    probability: float = 0.8
    brightness: float = 32.0 / 255.0
    saturation: Range = (0.6, 1.4)
    contrast: Range = (0.6, 1.4)
    hue: float = 0.2

    def __post_init__(self) -> None:
        check_probability("ColourJitter.probability", self.probability)
        check_range("ColourJitter.saturation", self.saturation)
        check_range("ColourJitter.contrast", self.contrast)
        for field in ("brightness", "hue"):
            if getattr(self, field) < 0:
                raise ValueError(
                    f"ColourJitter.{field} is {getattr(self, field)}; accepted: at least 0"
                )

    def draw(self, seed: tf.Tensor) -> colour.Draws:
        """The choices that an int64 [2] seed stands for."""
        shares = sampling.uniform(seed, (5,))
        return colour.Draws(
            shares[0] < self.probability,
            between(shares[1], (-self.brightness, self.brightness)),
            between(shares[2], self.saturation),
            between(shares[3], self.contrast),
            between(shares[4], (-self.hue, self.hue)),
        )

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        return colour.colour_jitter(frames, self.draw(seeds[sampling.COLOUR]), zero_centred)


@dataclass(frozen=True)
class BlendJitter:
    """With `probability`: brightness, contrast and saturation by factors, in a random order.

    Each blends the clip with black, with the mean of each frame's grey or with grey, and clips
    nothing, so that it can stand before or after `Normalise`. `weights` of red, green and blue make
    the grey. Source: GDT (probability 1, before normalising) and STiCA (0.8, after it).
    `channels_first`: a defect of the published GDT, see `colour.blend_jitter`.
    """

    probability: float = 1.0
    brightness: Range = (0.6, 1.4)
    contrast: Range = (0.6, 1.4)
    saturation: Range = (0.6, 1.4)
    weights: tuple[float, float, float] = LUMA
    channels_first: bool = False

    def __post_init__(self) -> None:
        check_probability("BlendJitter.probability", self.probability)
        for field in ("brightness", "contrast", "saturation"):
            check_range(f"BlendJitter.{field}", getattr(self, field))

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        shares = sampling.uniform(seeds[sampling.COLOUR], (5,))
        ranges = (self.brightness, self.contrast, self.saturation)
        factors = tf.stack([between(shares[i], ends) for i, ends in enumerate(ranges, start=1)])
        order = tf.constant(ORDERS)[sampling.scaled_below(shares[4], len(ORDERS))]
        return tf.cond(
            shares[0] < self.probability,
            lambda: colour.blend_jitter(frames, factors, order, self.weights, self.channels_first),
            lambda: frames,
        )


@dataclass(frozen=True)
class Grey:
    """With `probability` all three channels become the sum of the channels times `weights`.

    Source: STiCA (probability 0.2), AV-MAE (0.1, weights 0.2989, 0.5870, 0.1140).
    """

    probability: float
    weights: tuple[float, float, float] = LUMA  # of red, green, blue

    def __post_init__(self) -> None:
        check_probability("Grey.probability", self.probability)

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        return tf.cond(
            sampling.uniform(seeds[sampling.GREY]) < self.probability,
            lambda: tf.broadcast_to(colour.grey(frames, self.weights), tf.shape(frames)),
            lambda: frames,
        )


@dataclass(frozen=True)
class Blur:
    """With `probability` a Gaussian blur of `kernel` x `kernel` pixels, mirrored at the edges.

    `sigma` is in pixels; with `horizontal_sigma`, it is the vertical one only. Defaults: STiCA's
    intended range (the published one is fixed: `sigma` (0.1, 0.1), `horizontal_sigma` (2, 2)).
    """

    probability: float
    kernel: int = 11
    sigma: Range = (0.1, 2.0)
    horizontal_sigma: Range | None = None

    def __post_init__(self) -> None:
        check_probability("Blur.probability", self.probability)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"Blur.kernel is {self.kernel}; accepted: an odd number of pixels")
        for field in ("sigma", "horizontal_sigma"):
            if (ends := getattr(self, field)) is not None:
                check_range(f"Blur.{field}", ends)
                check_positive(f"Blur.{field}", ends)

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        shares = sampling.uniform(seeds[sampling.BLUR], (3,))
        vertical = horizontal = between(shares[1], self.sigma)
        if self.horizontal_sigma is not None:
            horizontal = between(shares[2], self.horizontal_sigma)
        return tf.cond(
            shares[0] < self.probability,
            lambda: gaussian_blur(frames, tf.stack([vertical, horizontal]), self.kernel),
            lambda: frames,
        )


@dataclass(frozen=True)
class Normalise:
    """(value - mean) / std of values in [0, 1], one number for all channels or one for each."""

    mean: float | tuple[float, float, float]
    std: float | tuple[float, float, float]

    def __post_init__(self) -> None:
        check_positive("Normalise.std", np.atleast_1d(self.std).tolist())

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        return (frames - tf.constant(self.mean, tf.float32)) / tf.constant(self.std, tf.float32)


def gaussian_blur(frames: tf.Tensor, sigmas: tf.Tensor, kernel: int) -> tf.Tensor:
    """Weighs the neighbours of each pixel by exp(-distance^2 / (2 sigma^2)), rows, then columns.

    Args:
      frames: float32 [frames, height, width, 3]; beyond the edge it is mirrored at the last pixel.
      sigmas: float32 [2], vertical and horizontal, pixels, above 0.
      kernel: odd number of neighbours in each direction; half of it must be less than the sides.
    """
    radius = kernel // 2
    distance = tf.range(-radius, radius + 1, dtype=tf.float32)
    edge = [radius, radius]
    frames = tf.pad(frames, [[0, 0], edge, edge, [0, 0]], "REFLECT")
    for sigma, shape in zip(tf.unstack(sigmas, 2), ((kernel, 1), (1, kernel)), strict=True):
        weights = tf.nn.softmax(-tf.square(distance) / (2.0 * tf.square(sigma)))
        filters = tf.tile(tf.reshape(weights, (*shape, 1, 1)), (1, 1, 3, 1))
        frames = tf.nn.depthwise_conv2d(frames, filters, (1, 1, 1, 1), "VALID")
    return frames
