"""Frames: decode, resize, crop, augment, normalise. Every function takes and returns [frames,
height, width, 3].

Resizing uint8 frames gives uint8 frames again by truncation, not rounding: published behaviour,
kept because models were trained with it (docs/differences.md). One random draw serves all frames of
a clip.
"""

from __future__ import annotations

import tensorflow as tf

from vatt.data import sampling

JITTER_PROBABILITY = 0.8
JITTER_RANGE = (0.8, 1.2)
COLOUR_PROBABILITY = 0.8
MAX_BRIGHTNESS = 32.0 / 255.0
SATURATION_RANGE = (0.6, 1.4)
CONTRAST_RANGE = (0.6, 1.4)
MAX_HUE = 0.2
MIN_OBJECT_COVERED = 0.1
CROP_ATTEMPTS = 100


def decode_jpegs(encoded: tf.Tensor, count: int) -> tf.Tensor:
    """Decodes `count` JPEG strings of one size to uint8 [count, height, width, 3].

    The decode operations are laid out one by one: that costs less than a loop in the graph.
    """
    frames = [tf.io.decode_jpeg(encoded[i], channels=3) for i in range(count)]
    return tf.stack(frames)


def smallest_side_size(height: tf.Tensor, width: tf.Tensor, side: int) -> tf.Tensor:
    """Int32 [2] size whose shorter side is `side`, with the published integer arithmetic."""
    return tf.stack(
        [tf.maximum(side, height * side // width), tf.maximum(side, width * side // height)]
    )


def _resize(frames: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Bilinear resize (half-pixel centres, no antialiasing) in the dtype of `frames`."""
    return tf.cast(tf.image.resize(frames, size, method="bilinear"), frames.dtype)


def resize_smallest(frames: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes so that the shorter side is `side`; frames of that size already pass unchanged."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    size = smallest_side_size(height, width, side)
    same = tf.reduce_all(tf.equal(size, tf.stack([height, width])))
    return tf.cond(same, lambda: frames, lambda: _resize(frames, size))


def _between(share: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Maps draws from [0, 1) to [low, high)."""
    return low + share * (high - low)


def scale_jitter(frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """With probability 0.8 stretches height and width by independent factors in [0.8, 1.2)."""
    draws = sampling.uniform(seed, (3,))

    def jitter() -> tf.Tensor:
        factors = _between(draws[1:], *JITTER_RANGE)
        size = tf.cast(tf.cast(tf.shape(frames)[1:3], tf.float32) * factors, tf.int32)
        return _resize(frames, tf.maximum(size, 1))

    return tf.cond(draws[0] < JITTER_PROBABILITY, jitter, lambda: frames)


def random_crop(frames: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Cuts the same random [size, size] square out of every frame; both sides must be >= size."""
    count = frames.shape[0]
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    draws = sampling.uniform(seed, (2,))
    top = sampling.scaled_below(draws[0], height - size + 1)
    left = sampling.scaled_below(draws[1], width - size + 1)
    cut = tf.slice(frames, [0, top, left, 0], [count, size, size, 3])
    return tf.ensure_shape(cut, (count, size, size, 3))  # [frames, size, size, 3]


def central_crop(frames: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts the central [size, size] square; shorter sides are padded with zeros."""
    return tf.image.resize_with_crop_or_pad(frames, size, size)  # [frames, size, size, 3]


def three_crop(frames: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts the first, middle and last square along the longer side, concatenated crop by crop.

    The other side starts at 0, so it should equal `size` (resize_smallest first).

    Returns:
      [3 * frames, size, size, 3]: all frames of crop 0, then of crop 1, then of crop 2.
    """
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    longer = tf.maximum(height, width)
    middle = tf.round(tf.cast(longer, tf.float32) / 2.0 - float(size // 2))  # half to even
    crops = []
    for start in (0, tf.cast(middle, tf.int32), longer - size):
        top = tf.where(height >= width, start, 0)
        left = tf.where(height >= width, 0, start)
        crops.append(frames[:, top : top + size, left : left + size])
    return tf.concat(crops, axis=0)  # [3 * frames, size, size, 3]


def inception_crop(
    frames: tf.Tensor,
    size: int,
    seed: tf.Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0),
) -> tf.Tensor:
    """Cuts one random box (Inception style) out of all frames and resizes it to [size, size].

    Args:
      frames: uint8 or float [frames, height, width, 3].
      size: side of the result.
      seed: int64 [2].
      area: smallest and largest share of the frame's area.
      aspect: smallest and largest width / height of the box in pixels.

    Returns:
      Float32 [frames, size, size, 3] in the range of the input.
    """
    begin, extent, _ = tf.raw_ops.StatelessSampleDistortedBoundingBox(
        image_size=tf.shape(frames)[1:4],
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=list(aspect),
        area_range=list(area),
        max_attempts=CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
        seed=seed,
    )
    box = frames[:, begin[0] : begin[0] + extent[0], begin[1] : begin[1] + extent[1]]
    resized = tf.image.resize(box, [size, size], method="bilinear")
    return tf.ensure_shape(resized, (frames.shape[0], size, size, 3))


def random_flip(frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors the whole clip left to right with probability 0.5."""
    flip = sampling.uniform(seed) < 0.5
    return tf.cond(flip, lambda: tf.reverse(frames, [2]), lambda: frames)


def normalise(frames: tf.Tensor, zero_centred: bool) -> tf.Tensor:
    """Maps 0..255 to float32 in [0, 1], or [-1, 1] when `zero_centred`."""
    frames = tf.cast(frames, tf.float32)
    return frames * (2.0 / 255.0) - 1.0 if zero_centred else frames / 255.0


def colour_jitter(frames: tf.Tensor, seed: tf.Tensor, zero_centred: bool) -> tf.Tensor:
    """With probability 0.8 changes brightness, saturation, contrast and hue, in this order.

    Args:
      frames: float32 in [0, 1], or in [-1, 1] when `zero_centred`.
      seed: int64 [2].
      zero_centred: which of the two ranges the frames are in.

    Returns:
      Frames in the same range, clipped to it when changed.
    """
    draws = sampling.uniform(seed, (5,))

    def jitter() -> tf.Tensor:
        unit = (frames + 1.0) / 2.0 if zero_centred else frames
        unit = unit + _between(draws[1], -MAX_BRIGHTNESS, MAX_BRIGHTNESS)
        unit = tf.image.adjust_saturation(unit, _between(draws[2], *SATURATION_RANGE))
        unit = tf.image.adjust_contrast(unit, _between(draws[3], *CONTRAST_RANGE))
        unit = tf.image.adjust_hue(unit, _between(draws[4], -MAX_HUE, MAX_HUE))
        unit = tf.clip_by_value(unit, 0.0, 1.0)
        return unit * 2.0 - 1.0 if zero_centred else unit

    return tf.cond(draws[0] < COLOUR_PROBABILITY, jitter, lambda: frames)


def space_to_depth(video: tf.Tensor) -> tf.Tensor:
    """Packs 2x2x2 cells into channels, ordered (time, height, width, channel), channel fastest.

    Args:
      video: [..., frames, height, width, channels], the three sizes even.

    Returns:
      [..., frames / 2, height / 2, width / 2, 8 * channels].
    """
    *_, frames, height, width, channels = video.shape
    cells = (frames // 2, 2, height // 2, 2, width // 2, 2, channels)
    split = tf.reshape(video, (-1, *cells))
    split = tf.transpose(split, (0, 1, 3, 5, 2, 4, 6, 7))
    outer = tf.shape(video)[:-4]
    packed = tf.reshape(
        split,
        tf.concat([outer, [frames // 2, height // 2, width // 2, 8 * channels]], 0),
    )
    return tf.ensure_shape(
        packed, (*video.shape[:-4], frames // 2, height // 2, width // 2, 8 * channels)
    )
