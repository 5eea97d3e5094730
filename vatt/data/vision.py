"""Frames: resize, crop, mirror, normalise. Every function takes and returns [frames, height, width,
3].

`training_frames` prepares a whole clip as a `views.View` describes it; the other functions are
VATT's operations, one at a time.

Resizing uint8 frames gives uint8 frames again by truncation, not rounding: published behaviour,
kept because models were trained with it (docs/differences.md). One random draw serves all frames of
a clip.
"""

from __future__ import annotations

import tensorflow as tf

from vatt.data import colour, geometry, sampling
from vatt.data.appearance import ColourJitter
from vatt.data.cuts import VGGCut
from vatt.data.decoding import all_jpeg, decode_jpegs, decode_region, frame_size
from vatt.data.geometry import smallest_side_size
from vatt.data.views import EvaluationView, View

RATIOS = (1, 2, 4, 8)  # at which JPEG can be decoded smaller
TRUNCATION = 0.5  # levels that cutting off decimals takes away on average


def resize(frames: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Bilinear resize (half-pixel centres, no antialiasing) in the dtype of `frames`.

    Frames of that size already pass unchanged.
    """
    same = tf.reduce_all(tf.equal(size, tf.shape(frames)[1:3]))
    return tf.cond(
        same,
        lambda: frames,
        lambda: tf.cast(tf.image.resize(frames, size, method="bilinear"), frames.dtype),
    )


def resize_smallest(frames: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes so that the shorter side is `side`; frames of that size already pass unchanged."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    return resize(frames, smallest_side_size(height, width, side))


def scale_jitter(frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """With probability 0.8 stretches height and width by independent factors in [0.8, 1.2)."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    return resize(frames, geometry.jittered_size(height, width, seed))


def random_crop(frames: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Cuts the same random [size, size] square out of every frame; both sides must be >= size."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    return square(frames, size, geometry.crop_position(height, width, size, seed))


def square(frames: tf.Tensor, size: int, place: tf.Tensor) -> tf.Tensor:
    """Cuts the [size, size] square at int32 [2] top and left."""
    count = frames.shape[0]
    top, left = tf.unstack(place)
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


def resize_short_side(frames: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes so that the shorter side is `side`; float32, levels keep their decimals."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    size = geometry.short_side_size(height, width, tf.constant(side))
    return resize(tf.cast(frames, tf.float32), size)


def uniform_crop(frames: tf.Tensor, size: int, place: int) -> tf.Tensor:
    """Cuts one of three squares along the longer side: 0 the first, 1 the middle, 2 the last one.

    Along the other side it is the middle one. Source: GDT, STiCA, AV-MAE.
    """
    sides = tf.shape(frames)[1:3]
    along = tf.stack([sides[0] > sides[1], sides[0] <= sides[1]])
    middle = geometry.middle(sides, size)
    corner = tf.where(along, (tf.zeros([2], tf.int32), middle, sides - size)[place], middle)
    return square(frames, size, corner)


def evaluation_frames(frames: tf.Tensor, view: EvaluationView) -> tf.Tensor:
    """Levels of the squares that a view cuts from each frame, all frames of a square in a row.

    Args:
      frames: uint8 [frames, height, width, 3].
      view: which squares; uint8 is returned unless `view.decimals`.

    Returns:
      [view.crops * frames, size, size, 3].
    """
    if not view.decimals:
        frames = resize_smallest(frames, view.resize)
        if not (view.multi_crop and view.centred):
            return (three_crop if view.multi_crop else central_crop)(frames, view.size)
    else:
        frames = resize_short_side(frames, view.resize)
    places = range(3) if view.multi_crop else (1,)
    return tf.concat([uniform_crop(frames, view.size, place) for place in places], axis=0)


def random_flip(frames: tf.Tensor, seed: tf.Tensor, probability: float = 0.5) -> tf.Tensor:
    """Mirrors the whole clip left to right with `probability`."""
    mirrored = geometry.flipped(seed, probability)
    return tf.cond(mirrored, lambda: tf.reverse(frames, [2]), lambda: frames)


def normalise(frames: tf.Tensor, zero_centred: bool) -> tf.Tensor:
    """Maps 0..255 to float32 in [0, 1], or [-1, 1] when `zero_centred`."""
    frames = tf.cast(frames, tf.float32)
    return frames * (2.0 / 255.0) - 1.0 if zero_centred else frames / 255.0


def training_frames(
    encoded: tf.Tensor,
    count: int,
    seeds: tf.Tensor,
    view: View,
    *,
    published: bool = False,
    scaled_decoding: bool = False,
) -> tf.Tensor:
    """One augmented training clip, as `view` describes it.

    Resizes, crop and flip are one bilinear resampling (`geometry.blended`) of the region that is
    kept; little more than it is decoded. A `ColourJitter` that is the first step is part of it.
    Sizes, positions, flip and colours are those that one operation after another draws from the
    same seeds. Of the pixels:

    - `VGGCut` where nothing is resized, and the other cuts: equal up to rounding (0.05 levels of
      255).
    - `VGGCut` with resizing: the published order interpolates twice, so it is smoother, and cuts
      off decimals each time, which darkens by half a level on average. The darkening is kept, the
      second smoothing is not. On pictures with the spectrum of photographs the difference is up to
      1 level on average, below 12 for 99.9 % of the values, and 0.02 in the mean.

    Args:
      encoded: string [count], pictures of one size: JPEG, or what else `tf.io.decode_jpeg` reads.
      count: frames of the clip.
      seeds: int64 [sampling.ROWS, 2] of the clip.
      view: what the clip looks like.
      published: decodes whole frames and follows the published order, operation by operation.
      scaled_decoding: decodes frames that shrink to a half or less at 1/2, 1/4 or 1/8 of their
        size. Faster, and smoother than the published picture, which skips pixels then.

    Returns:
      Float32 [count, size, size, 3].

    Raises:
      tf.errors.InvalidArgumentError: in the running graph, when a picture cannot be decoded or
        sizes differ.
    """
    steps = view.steps
    if published:
        frames = normalise(_one_by_one(encoded, count, seeds, view), view.zero_centred)
    else:
        jitter = steps[0] if steps and isinstance(steps[0], ColourJitter) else None
        frames = _at_once(encoded, count, seeds, view, jitter, scaled_decoding)
        steps = steps[1:] if jitter else steps
    shape = (count, view.size, view.size, 3)
    frames = tf.ensure_shape(frames, shape)
    for step in steps:
        frames = tf.ensure_shape(step.apply(frames, seeds, view.zero_centred), shape)
    return frames


def _one_by_one(encoded: tf.Tensor, count: int, seeds: tf.Tensor, view: View) -> tf.Tensor:
    """What a view cuts, one operation after another; uint8 or float32 levels.

    Crops are cut before frames become floats, and flips come after: the same numbers up to rounding
    as with flips first, without float work on pixels that are thrown away.
    """
    frames = decode_jpegs(encoded, count)  # uint8 [count, height, width, 3]
    cut = view.draw(tf.shape(frames)[1:3], seeds)
    (top, left), (high, wide) = tf.unstack(cut.begin), tf.unstack(cut.extent)
    frames = frames[:, top : top + high, left : left + wide]
    for size in cut.truncated_at:
        frames = resize(frames, size)
    if not cut.truncated_at:
        frames = tf.image.resize(frames, cut.resized, method="bilinear")
    top, left = tf.unstack(cut.offset)
    frames = frames[:, top : top + view.size, left : left + view.size]
    return tf.cond(cut.mirror, lambda: tf.reverse(frames, [2]), lambda: frames)


def _at_once(
    encoded: tf.Tensor,
    count: int,
    seeds: tf.Tensor,
    view: View,
    jitter: ColourJitter | None,
    scaled_decoding: bool,
) -> tf.Tensor:
    """What a view cuts, in its range and with jittered colours: one resampling, where any."""
    frame = frame_size(encoded[0])
    draws = jitter.draw(seeds[sampling.COLOUR]) if jitter else None
    # Called, not inlined: each operation of a branch that is not taken takes time, too.
    resampled = tf.function(
        lambda: _resampled(encoded, count, frame, seeds, view, draws, scaled_decoding),
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    if not isinstance(view.cut, VGGCut):
        return resampled()
    return tf.cond(
        view.cut.keeps_pixels(frame, seeds),
        lambda: _cut_out(encoded, count, seeds, view, draws),
        resampled,
    )


def _cut_out(
    encoded: tf.Tensor,
    count: int,
    seeds: tf.Tensor,
    view: View,
    draws: colour.Draws | None,
) -> tf.Tensor:
    """A clip of a `VGGCut` that is not resized."""
    frames = decode_jpegs(encoded, count)
    frames = square(frames, view.size, view.cut.place(tf.shape(frames)[1:3], view.size, seeds))
    frames = random_flip(frames, seeds[sampling.FLIP], view.flip)
    frames = tf.ensure_shape(frames, (count, view.size, view.size, 3))
    if draws is None:
        return normalise(frames, view.zero_centred)
    return tf.cond(
        draws.applied,
        lambda: colour.change(frames, draws, view.zero_centred),
        lambda: normalise(frames, view.zero_centred),
    )


def _resampled(
    encoded: tf.Tensor,
    count: int,
    frame: tf.Tensor,
    seeds: tf.Tensor,
    view: View,
    draws: colour.Draws | None,
    scaled_decoding: bool,
) -> tf.Tensor:
    """A clip that is resized."""
    cut = view.draw(frame, seeds)
    darker = tf.constant(TRUNCATION) * cut.truncations()

    def at(ratio: int) -> tf.Tensor:
        rows, columns = cut.axes(view.size, ratio)
        region, top, left = decode_region(encoded, count, frame, rows, columns, ratio)
        columns = columns.within(left)
        rows, order = geometry.placed(rows.within(top), tf.shape(region)[0], cut.mirror)
        pixels = geometry.packed(region, order)

        def normalised() -> tf.Tensor:
            gain, least = (2.0 / 255.0, -1.0) if view.zero_centred else (1.0 / 255.0, 0.0)
            bias = least - gain * darker
            return geometry.normalised(pixels, rows, columns, gain, bias, least)

        def changed() -> tf.Tensor:
            return colour.change_resampled(pixels, rows, columns, darker, draws, view.zero_centred)

        return normalised() if draws is None else tf.cond(draws.applied, changed, normalised)

    if not scaled_decoding:
        return at(1)
    shrinking = tf.reduce_min(cut.extent // cut.resized)
    choice = tf.reduce_sum(tf.cast(shrinking >= RATIOS[1:], tf.int32))
    choice = tf.where(all_jpeg(encoded), choice, 0)
    return tf.switch_case(choice, [lambda ratio=ratio: at(ratio) for ratio in RATIOS])


def space_to_depth(video: tf.Tensor) -> tf.Tensor:
    """Packs 2x2x2 cells into channels, ordered (time, height, width, channel), channel fastest.

    Args:
      video: [..., frames, height, width, channels], the three sizes even.

    Returns:
      [..., frames / 2, height / 2, width / 2, 8 * channels].
    """
    *_, frames, height, width, channels = video.shape
    # No more axes than the runtimes of exported models can transpose.
    split = tf.reshape(video, (-1, 2, height // 2, 2, width // 2, 2 * channels))
    split = tf.transpose(split, (0, 2, 4, 1, 3, 5))
    outer = tf.shape(video)[:-4]
    packed = tf.reshape(
        split,
        tf.concat([outer, [frames // 2, height // 2, width // 2, 8 * channels]], 0),
    )
    return tf.ensure_shape(
        packed, (*video.shape[:-4], frames // 2, height // 2, width // 2, 8 * channels)
    )
