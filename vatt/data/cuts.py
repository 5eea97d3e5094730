"""Rules by which a training clip is cut from its frames; `vatt.data.views` puts them to use.

A rule draws a `geometry.Cut` from the seeds of a clip: all resizes and crops that it describes
become one resampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from vatt.data import geometry, sampling
from vatt.data.ranges import Range, between, check_positive, check_probability, check_range


class CutRule(Protocol):
    """Which part of a frame becomes the clip; a frozen dataclass, see `View`."""

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        """The cut of one clip, not mirrored.

        Args:
          frame: int32 [2] height and width.
          size: side of the result in pixels.
          seeds: int64 [sampling.ROWS, 2] of the clip.
        """


@dataclass(frozen=True)
class ScaleJitter:
    """With `probability`, height and width are multiplied by independent `factors`.

    Defaults: VATT (published input pipeline). `after_resize`: what is multiplied is the size with
    the shorter side at `min_resize` (AV-MAE), not that of the stored frame (VATT).
    """

    probability: float = 0.8
    factors: Range = (0.8, 1.2)
    after_resize: bool = False

    def __post_init__(self) -> None:
        check_probability("ScaleJitter.probability", self.probability)
        check_range("ScaleJitter.factors", self.factors)
        check_positive("ScaleJitter.factors", self.factors)

    def draw(self, size: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Int32 [2] height and width -> the same, jittered; decimals are cut off."""
        seed = seeds[sampling.JITTER]
        return geometry.jittered_size(*tf.unstack(size), seed, self.probability, self.factors)


@dataclass(frozen=True)
class VGGCut:
    """Shorter side to `min_resize` pixels, then a random square; the scale may be jittered.

    Source: VATT, "VGG" style. Each resize cuts levels to integers. `centred`: the square is the
    middle one.
    """

    min_resize: int
    jitter: ScaleJitter | None = None
    centred: bool = False

    def least_side(self) -> int:
        """The shortest side from which the square may have to be cut."""
        late = self.jitter is not None and self.jitter.after_resize
        return int(self.min_resize * min(1.0, self.jitter.factors[0])) if late else self.min_resize

    def sizes(self, frame: tf.Tensor, seeds: tf.Tensor) -> list[tf.Tensor]:
        """The int32 [2] sizes that a frame of int32 [2] height and width takes in turn."""
        jitter, sizes = self.jitter, [frame]
        if jitter is not None and not jitter.after_resize:
            sizes.append(jitter.draw(sizes[-1], seeds))
        sizes.append(geometry.smallest_side_size(*tf.unstack(sizes[-1]), self.min_resize))
        if jitter is not None and jitter.after_resize:
            sizes.append(jitter.draw(sizes[-1], seeds))
        return sizes[1:]

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        sizes = self.sizes(frame, seeds)
        return geometry.Cut(
            begin=tf.zeros([2], tf.int32),
            extent=frame,
            resized=sizes[-1],
            offset=self.place(sizes[-1], size, seeds),
            truncated_at=tuple(sizes),
        )

    def place(self, resized: tf.Tensor, size: int, seeds: tf.Tensor) -> tf.Tensor:
        """Int32 [2]: top and left of the square."""
        if self.centred:
            return (resized - size) // 2
        return geometry.crop_position(*tf.unstack(resized), size, seeds[sampling.CROP])

    def keeps_pixels(self, frame: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Bool: whether a frame of int32 [2] height and width is not resized."""
        if self.jitter is None:
            return tf.reduce_min(frame) == self.min_resize
        return tf.reduce_all(tf.equal(frame, self.sizes(frame, seeds)[-1]))


@dataclass(frozen=True)
class ShortSideCut:
    """Shorter side to a random whole number of pixels from `shortest` to `longest`, then a random
    square. Source: GDT, there 128 to 160 for squares of 112. Levels keep their decimals.

    `centred`: the square is the middle one. `never_last`: the last place of a square is not drawn,
    as published.
    """

    shortest: int
    longest: int
    centred: bool = False
    never_last: bool = False

    def __post_init__(self) -> None:
        check_range("ShortSideCut.shortest, .longest", (self.shortest, self.longest), 1)

    def least_side(self) -> int:
        return self.shortest

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        share = sampling.uniform(seeds[sampling.JITTER])
        side = tf.cast(tf.round(between(share, (self.shortest, self.longest))), tf.int32)
        resized = geometry.short_side_size(*tf.unstack(frame), side)
        return geometry.Cut(
            begin=tf.zeros([2], tf.int32),
            extent=frame,
            resized=resized,
            offset=self._place(resized, size, seeds[sampling.CROP]),
        )

    def _place(self, resized: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
        if self.centred:
            return geometry.middle(resized, size)
        kept = size + 1 if self.never_last else size
        return geometry.crop_position(*tf.unstack(tf.maximum(resized, kept)), kept, seed)


@dataclass(frozen=True)
class SquareCut:
    """The largest square, anywhere along the longer side or in the middle, resized to the size.

    Source: GDT on HowTo100M.
    """

    centred: bool = False

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        side = tf.reduce_min(frame)
        begin = geometry.middle(frame, side)
        if not self.centred:
            begin = geometry.crop_position(*tf.unstack(frame), side, seeds[sampling.CROP])
        return geometry.Cut(
            begin=begin,
            extent=tf.stack([side, side]),
            resized=tf.constant([size, size]),
            offset=tf.zeros([2], tf.int32),
        )


@dataclass(frozen=True)
class _BoxCut:
    """A random box, resized to a square."""

    area: Range  # share of the frame's area
    aspect: Range  # width / height in pixels

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_range(f"{name}.area", self.area)
        check_range(f"{name}.aspect", self.aspect)
        check_positive(f"{name}.area", self.area)
        check_positive(f"{name}.aspect", self.aspect)
        if self.area[1] > 1.0:
            raise ValueError(f"{name}.area is {self.area}; accepted: shares of a frame, up to 1")

    def _resized(self, box: tuple[tf.Tensor, tf.Tensor], size: int) -> geometry.Cut:
        begin, extent = box
        size = tf.constant([size, size])
        return geometry.Cut(begin, extent, resized=size, offset=tf.zeros([2], tf.int32))


@dataclass(frozen=True)
class InceptionCut(_BoxCut):
    """A random box whose width / height is drawn uniformly, resized to a square.

    Source: VATT, "Inception" style (TensorFlow's `sample_distorted_bounding_box`).
    """

    area: Range = (0.08, 1.0)
    aspect: Range = (0.5, 2.0)

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        height, width = tf.unstack(frame)
        seed = seeds[sampling.CROP]
        box = geometry.inception_box(height, width, seed, self.area, self.aspect)
        return self._resized(box, size)


@dataclass(frozen=True)
class ResizedCrop(_BoxCut):
    """A random box whose width / height is drawn log-uniformly, resized to a square.

    Source: STiCA, there with `area` (0.14, 1); torchvision's random resized crop is the same rule.
    """

    area: Range = (0.08, 1.0)
    aspect: Range = (3.0 / 4.0, 4.0 / 3.0)

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        height, width = tf.unstack(frame)
        seed = seeds[sampling.CROP]
        box = geometry.resized_crop_box(height, width, seed, self.area, self.aspect)
        return self._resized(box, size)
