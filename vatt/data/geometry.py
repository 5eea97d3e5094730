"""Where the pixels of a training clip come from: sizes, positions and boxes drawn from seeds, and
one resampling of what is kept.

A resize, a crop and a flip one after another are one map from pixels of the result to positions in
the source. `Axis` holds that map for rows or columns; `blended` applies it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from vatt.data import sampling
from vatt.data.compiled import compiled

JITTER_PROBABILITY = 0.8
JITTER_RANGE = (0.8, 1.2)
MIN_OBJECT_COVERED = 0.1
CROP_ATTEMPTS = 100
REGION_STEP = 64  # pixels; sides of decoded regions are multiples of it, to compile for few sizes


def jittered_size(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Int32 [2] size: with probability 0.8 both sides times independent factors in [0.8, 1.2)."""
    draws = sampling.uniform(seed, (3,))
    low, high = JITTER_RANGE
    size = tf.stack([height, width])
    jittered = tf.cast(tf.cast(size, tf.float32) * (low + draws[1:] * (high - low)), tf.int32)
    return tf.where(draws[0] < JITTER_PROBABILITY, tf.maximum(jittered, 1), size)


def smallest_side_size(height: tf.Tensor, width: tf.Tensor, side: int) -> tf.Tensor:
    """Int32 [2] size whose shorter side is `side`, with the published integer arithmetic."""
    return tf.stack(
        [tf.maximum(side, height * side // width), tf.maximum(side, width * side // height)]
    )


def crop_position(height: tf.Tensor, width: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Int32 [2] top and left of a random [size, size] square; both sides must be >= size."""
    draws = sampling.uniform(seed, (2,))
    return sampling.scaled_below(draws, tf.stack([height, width]) - size + 1)


def inception_box(
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Int32 [2] top and left, int32 [2] height and width of a random box (Inception style).

    Args:
      height: of the frame.
      width: of the frame.
      seed: int64 [2].
      area: smallest and largest share of the frame's area.
      aspect: smallest and largest width / height of the box in pixels.
    """
    begin, extent, _ = tf.raw_ops.StatelessSampleDistortedBoundingBox(
        image_size=tf.stack([height, width, 3]),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=list(aspect),
        area_range=list(area),
        max_attempts=CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
        seed=seed,
    )
    return begin[:2], extent[:2]


def flipped(seed: tf.Tensor) -> tf.Tensor:
    """Bool: whether a clip is mirrored left to right (probability 0.5)."""
    return sampling.uniform(seed) < 0.5


class Axis(NamedTuple):
    """For each row (or column) of the result, the two of the source between which it lies."""

    lower: tf.Tensor  # int32 [size]
    upper: tf.Tensor  # int32 [size]
    share: tf.Tensor  # float32 [size], weight of `upper`

    def first(self) -> tf.Tensor:
        return tf.reduce_min(self.lower)

    def last(self) -> tf.Tensor:
        return tf.reduce_max(self.upper)

    def within(self, begin: tf.Tensor) -> Axis:
        """The same in a piece of the source that begins at `begin`."""
        return Axis(self.lower - begin, self.upper - begin, self.share)


def _axis(
    kept: tf.Tensor,
    begin: tf.Tensor,
    extent: tf.Tensor,
    resized: tf.Tensor,
    offset: tf.Tensor,
    ratio: int,
) -> Axis:
    """Positions for the pixels offset + kept of the piece [begin, begin + extent) once resized.

    Bilinear with half-pixel centres; positions stay within the piece.
    """
    begin, extent = tf.cast(begin, tf.float64), tf.cast(extent, tf.float64)
    scale = extent / tf.cast(resized, tf.float64)
    position = begin + (tf.cast(offset + kept, tf.float64) + 0.5) * scale
    end = (begin + extent) / ratio
    position = tf.clip_by_value(position / ratio - 0.5, begin / ratio, end - 1.0)
    lower = tf.floor(position)
    upper = tf.minimum(lower + 1.0, tf.math.ceil(end) - 1.0)
    share = tf.cast(position - lower, tf.float32)
    return Axis(tf.cast(lower, tf.int32), tf.cast(upper, tf.int32), share)


class Cut(NamedTuple):
    """Which part of a frame is kept, at which size, and how; int32 [2] are rows and columns."""

    begin: tf.Tensor  # int32 [2], where a piece begins in the frame, pixels
    extent: tf.Tensor  # int32 [2], its size, pixels
    resized: tf.Tensor  # int32 [2], its size after resizing
    offset: tf.Tensor  # int32 [2], first resized row and column that are kept
    mirror: tf.Tensor  # bool, left to right
    steps: tuple[tf.Tensor, ...]  # int32 [2], the sizes at which the published order has integers

    def keeps_pixels(self) -> tf.Tensor:
        """Bool: whether nothing is resized."""
        return tf.reduce_all(tf.equal(self.extent, self.resized))

    def truncations(self) -> tf.Tensor:
        """Float32: how often the published order cuts off decimals."""
        pairs = itertools.pairwise((self.extent, *self.steps))
        return sum(tf.cast(tf.reduce_any(old != new), tf.float32) for old, new in pairs)

    def axes(self, size: int, ratio: int = 1) -> tuple[Axis, Axis]:
        """Rows and columns of the [size, size] result in a frame decoded at 1 / ratio."""
        return tuple(
            _axis(
                tf.where(self.mirror & (way == 1), tf.range(size)[::-1], tf.range(size)),
                *(value[way] for value in (self.begin, self.extent, self.resized, self.offset)),
                ratio,
            )
            for way in (0, 1)
        )


def vgg_cut(
    frame: tf.Tensor, size: int, seeds: tf.Tensor, min_resize: int, scale_jitter: bool
) -> Cut:
    """Jittered scale, then shorter side to `min_resize`, then a random square.

    Args:
      frame: int32 [2] height and width.
      size: side of the result, at most `min_resize`.
      seeds: int64 [sampling.ROWS, 2].
      min_resize: pixels.
      scale_jitter: whether the scale varies.
    """
    jittered = jittered_size(*tf.unstack(frame), seeds[sampling.JITTER]) if scale_jitter else frame
    resized = smallest_side_size(*tf.unstack(jittered), min_resize)
    return Cut(
        begin=tf.zeros([2], tf.int32),
        extent=frame,
        resized=resized,
        offset=crop_position(*tf.unstack(resized), size, seeds[sampling.CROP]),
        mirror=flipped(seeds[sampling.FLIP]),
        steps=(jittered, resized),
    )


def inception_cut(
    frame: tf.Tensor,
    size: int,
    seeds: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Cut:
    """A random box, resized to a square; `area` and `aspect` as in `inception_box`."""
    begin, extent = inception_box(*tf.unstack(frame), seeds[sampling.CROP], area, aspect)
    return Cut(
        begin=begin,
        extent=extent,
        resized=tf.constant([size, size]),
        offset=tf.zeros([2], tf.int32),
        mirror=flipped(seeds[sampling.FLIP]),
        steps=(),
    )


def round_up(length: tf.Tensor) -> tf.Tensor:
    """The next multiple of REGION_STEP."""
    return -(-length // REGION_STEP) * REGION_STEP


def placed(rows: Axis, height: tf.Tensor, mirror: tf.Tensor) -> tuple[Axis, tf.Tensor]:
    """Rows in a region whose rows are stored in `order`: from the bottom up in mirrored clips.

    Columns of mirrored clips are read from right to left. With the rows bottom-up as well, memory
    is read backwards throughout, which caches foresee as well as forwards; but not a mixture.

    Returns:
      The axis in the stored region, and int32 [height] `order`.
    """

    def place(row: tf.Tensor) -> tf.Tensor:
        return tf.where(mirror, height - 1 - row, row)

    return Axis(place(rows.lower), place(rows.upper), rows.share), place(tf.range(height))


@compiled
def packed(region: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Uint8 [height, frames, width, 3], its rows in `order` -> int32 [frames, height, width].

    A pixel is one number, red + 256 green + 65536 blue, so that it is fetched at once.
    """
    red, green, blue = tf.unstack(tf.cast(tf.gather(region, order), tf.int32), axis=-1)
    pixels = red + green * 256 + blue * 65536
    return tf.transpose(pixels, (1, 0, 2))


def blended(pixels: tf.Tensor, rows: Axis, columns: Axis) -> list[tf.Tensor]:
    """Red, green and blue levels at each place of the result, for use in a compiled function.

    Args:
      pixels: int32 [frames, height, width], as from `packed`.
      rows: within `pixels`.
      columns: within `pixels`.

    Returns:
      Three float32 [frames, rows, columns, 3], each the same three times along the last axis: the
      shape in which XLA computes them once for all three channels of a pixel (`interleaved`).
    """
    size = columns.share.shape[0]
    lower, upper, share = (
        tf.reshape(tf.broadcast_to(value[:, tf.newaxis], (size, 3)), [-1]) for value in columns
    )
    corners = [
        tf.gather(tf.gather(pixels, row, axis=1), column, axis=2)
        for row in (rows.lower, rows.upper)
        for column in (lower, upper)
    ]

    def channel(number: int) -> tf.Tensor:
        bits = [tf.bitwise.right_shift(corner, 8 * number) for corner in corners]
        values = [tf.cast(tf.bitwise.bitwise_and(value, 255), tf.float32) for value in bits]
        above = values[0] + (values[1] - values[0]) * share
        below = values[2] + (values[3] - values[2]) * share
        levels = above + (below - above) * rows.share[:, tf.newaxis]
        return tf.reshape(levels, (*levels.shape[:2], size, 3))

    return [channel(number) for number in range(3)]


def interleaved(channels: Sequence[tf.Tensor], first: int = 0) -> tf.Tensor:
    """[..., 3] whose channel c is channel c of `channels[(first + c) % 3]`."""
    number = tf.range(3)
    ordered = [channels[(first + c) % 3] for c in range(3)]
    return tf.where(number == 0, ordered[0], tf.where(number == 1, ordered[1], ordered[2]))


@compiled
def normalised(
    pixels: tf.Tensor,
    rows: Axis,
    columns: Axis,
    gain: float,
    bias: tf.Tensor,
    least: float,
) -> tf.Tensor:
    """Int32 [frames, height, width] as from `packed` -> float32 [frames, rows, columns, 3].

    Each value is max(gain * level + bias, least).
    """
    levels = interleaved(blended(pixels, rows, columns))
    return tf.maximum(levels * gain + bias, least)
