"""Where the pixels of a training clip come from: sizes, positions and boxes drawn from seeds, and
one resampling of what is kept.

A resize, a crop and a flip one after another are one map from pixels of the result to positions in
the source. `Axis` holds that map for rows or columns; `blended` applies it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from vatt.data import sampling
from vatt.data.compiled import compiled

MIN_OBJECT_COVERED = 0.1
CROP_ATTEMPTS = 100
BOX_ATTEMPTS = 10
REGION_STEP = 64  # pixels; sides of decoded regions are multiples of it, to compile for few sizes


def jittered_size(
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    probability: float = 0.8,
    factors: tuple[float, float] = (0.8, 1.2),
) -> tf.Tensor:
    """Int32 [2] size: with `probability` both sides times independent factors in [low, high)."""
    draws = sampling.uniform(seed, (3,))
    low, high = factors
    size = tf.stack([height, width])
    stretched = stretched_size(size, low + draws[1:] * (high - low))
    return tf.where(draws[0] < probability, stretched, size)


def stretched_size(size: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Int32 [2] height and width times float32 [2]; decimals are cut off, a pixel is left."""
    return tf.maximum(tf.cast(tf.cast(size, tf.float32) * factors, tf.int32), 1)


def smallest_side_size(height: tf.Tensor, width: tf.Tensor, side: int) -> tf.Tensor:
    """Int32 [2] size whose shorter side is `side`, with the published integer arithmetic."""
    return tf.stack(
        [tf.maximum(side, height * side // width), tf.maximum(side, width * side // height)]
    )


def short_side_size(height: tf.Tensor, width: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Int32 [2] size whose shorter side is int32 `side`; the other is floor(long / short * side).

    A frame whose shorter side is `side` keeps its size.
    """
    size = tf.stack([height, width])
    short = tf.reduce_min(size)
    scaled = tf.floor(tf.cast(size, tf.float64) / tf.cast(short, tf.float64) * _float64(side))
    scaled = tf.where(size == short, side, tf.cast(scaled, tf.int32))
    return tf.where(short == side, size, scaled)


def middle(sides: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    """Int32 [2] top and left of the middle square, half a pixel rounded up (GDT, STiCA)."""
    return (sides - size + 1) // 2


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


def resized_crop_box(
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Int32 [2] top and left, int32 [2] height and width of a random box (random resized crop).

    Each of 10 tries draws a share of the frame's area uniformly and width / height log-uniformly;
    the first box that fits lies anywhere. If none fits, the middle of the frame is taken, as much
    of it as the range of width / height allows. Arguments as of `inception_box`.
    """
    draws = tf.cast(sampling.uniform(seed, (2 * BOX_ATTEMPTS + 2,)), tf.float64)
    shares, logs, place = tf.split(draws, [BOX_ATTEMPTS, BOX_ATTEMPTS, 2])
    low, high = math.log(aspect[0]), math.log(aspect[1])
    shares, logs = area[0] + shares * (area[1] - area[0]), low + logs * (high - low)
    extent, fits = fitting_box(height, width, shares, logs, aspect)
    room = tf.stack([height, width]) - extent
    anywhere = sampling.scaled_below(tf.cast(place, tf.float32), room + 1)
    return tf.where(fits, anywhere, room // 2), extent


def fitting_box(
    height: tf.Tensor,
    width: tf.Tensor,
    shares: tf.Tensor,
    log_ratios: tf.Tensor,
    aspect: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """The size of the first box that fits in a frame, else of the largest with an allowed shape.

    Args:
      height: of the frame.
      width: of the frame.
      shares: float64 [tries] of the frame's area.
      log_ratios: float64 [tries], logarithms of width / height.
      aspect: smallest and largest width / height.

    Returns:
      Int32 [2] height and width, and bool: whether a try fitted. Sides are rounded half to even.
    """
    high, wide = _float64(height), _float64(width)
    area, ratio = high * wide * shares, tf.exp(log_ratios)
    tries = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], axis=-1)))  # [tries, 2]
    fits = tf.reduce_all((tries >= 1.0) & (tries <= tf.stack([high, wide])), axis=-1)
    whole = tf.stack([tf.round(wide / aspect[0]), tf.round(high * aspect[1])])
    whole = tf.minimum(tf.stack([high, wide]), tf.maximum(whole, 1.0))
    fitting = tf.reduce_any(fits)
    extent = tf.where(fitting, tries[tf.argmax(tf.cast(fits, tf.int32))], whole)
    return tf.cast(extent, tf.int32), fitting


def _float64(number: tf.Tensor) -> tf.Tensor:
    return tf.cast(number, tf.float64)


def flipped(seed: tf.Tensor, probability: float = 0.5) -> tf.Tensor:
    """Bool: whether a clip is mirrored left to right."""
    return sampling.uniform(seed) < probability


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
    truncated_at: tuple[tf.Tensor, ...] = ()  # int32 [2], sizes at which levels are cut to integers
    mirror: tf.Tensor | bool = False  # left to right

    def keeps_pixels(self) -> tf.Tensor:
        """Bool: whether nothing is resized."""
        return tf.reduce_all(tf.equal(self.extent, self.resized))

    def truncations(self) -> tf.Tensor:
        """Float32: how often decimals are cut off when one operation follows another."""
        pairs = itertools.pairwise((self.extent, *self.truncated_at))
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
