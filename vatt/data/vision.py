"""Frames: decode, resize, crop, augment, normalise. Every function takes and returns [frames,
height, width, 3].

`training_frames` prepares a whole clip; the other functions are the published operations, one at a
time.

Resizing uint8 frames gives uint8 frames again by truncation, not rounding: published behaviour,
kept because models were trained with it (docs/differences.md). One random draw serves all frames of
a clip.
"""

from __future__ import annotations

import tensorflow as tf

from vatt.data import colour as colours
from vatt.data import geometry, sampling
from vatt.data.colour import colour_jitter
from vatt.data.geometry import smallest_side_size

MARGIN = 2  # pixels decoded around a region: at its edge, colour is interpolated differently
BLOCK = 16  # pixels; decoding from a column that is a multiple of it takes the least time
RATIOS = (1, 2, 4, 8)  # at which JPEG can be decoded smaller
# Where the size stands in a JPEG file that begins with a JFIF header and two quantisation tables.
SIZE_MARKER = b"\xff\xc0\x00\x11\x08"
SIZE_MARKER_AT, SIZE_END = 158, 167  # bytes
TRUNCATION = 0.5  # levels that cutting off decimals takes away on average


def decode_jpegs(encoded: tf.Tensor, count: int) -> tf.Tensor:
    """Decodes `count` JPEG strings of one size to uint8 [count, height, width, 3].

    The decode operations are laid out one by one: that costs less than a loop in the graph.
    """
    pictures = tf.unstack(encoded, count)
    return tf.stack([tf.io.decode_jpeg(picture, channels=3) for picture in pictures])


def frame_size(encoded: tf.Tensor) -> tf.Tensor:
    """Int32 [2] height and width of one picture; those of a JPEG are read from its header."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.image.extract_jpeg_shape(encoded)[:2],
        lambda: tf.shape(tf.io.decode_jpeg(encoded, channels=3))[:2],
    )


def _resize(frames: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
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
    return _resize(frames, smallest_side_size(height, width, side))


def scale_jitter(frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """With probability 0.8 stretches height and width by independent factors in [0.8, 1.2)."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    return _resize(frames, geometry.jittered_size(height, width, seed))


def random_crop(frames: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Cuts the same random [size, size] square out of every frame; both sides must be >= size."""
    count = frames.shape[0]
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    top, left = tf.unstack(geometry.crop_position(height, width, size, seed))
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
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    begin, extent = geometry.inception_box(height, width, seed, area, aspect)
    box = frames[:, begin[0] : begin[0] + extent[0], begin[1] : begin[1] + extent[1]]
    resized = tf.image.resize(box, [size, size], method="bilinear")
    return tf.ensure_shape(resized, (frames.shape[0], size, size, 3))


def random_flip(frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors the whole clip left to right with probability 0.5."""
    return tf.cond(geometry.flipped(seed), lambda: tf.reverse(frames, [2]), lambda: frames)


def normalise(frames: tf.Tensor, zero_centred: bool) -> tf.Tensor:
    """Maps 0..255 to float32 in [0, 1], or [-1, 1] when `zero_centred`."""
    frames = tf.cast(frames, tf.float32)
    return frames * (2.0 / 255.0) - 1.0 if zero_centred else frames / 255.0


def training_frames(
    encoded: tf.Tensor,
    count: int,
    seeds: tf.Tensor,
    *,
    size: int,
    style: str,
    min_resize: int,
    scale_jitter: bool,
    area: tuple[float, float],
    aspect: tuple[float, float],
    colour: bool,
    zero_centred: bool,
    published: bool = False,
    scaled_decoding: bool = False,
) -> tf.Tensor:
    """One augmented training clip.

    Resizes, crop and flip are one bilinear resampling (`geometry.resample`) of the region that is
    kept; little more than it is decoded. Sizes, positions, flip and colours are those that the
    published order of operations draws from the same seeds. Of the pixels:

    - "Inception", and "VGG" where nothing is resized: equal up to rounding (0.05 levels of 255).
    - "VGG" with resizing: the published order interpolates twice, so it is smoother, and cuts off
      decimals each time, which darkens by half a level on average. The darkening is kept, the
      second smoothing is not. On pictures with the spectrum of photographs the difference is up to
      1 level on average, below 12 for 99.9 % of the values, and 0.02 in the mean.

    Args:
      encoded: string [count], pictures of one size: JPEG, or what else `tf.io.decode_jpeg` reads.
      count: frames of the clip.
      seeds: int64 [sampling.ROWS, 2] of the clip.
      size: side of the result in pixels.
      style: "VGG" (jittered scale, shorter side to `min_resize`, random square) or "Inception"
        (random box).
      min_resize: pixels, at least `size`; for "VGG".
      scale_jitter: whether the scale varies; for "VGG".
      area: smallest and largest share of the frame; for "Inception".
      aspect: smallest and largest width / height in pixels; for "Inception".
      colour: whether colours are jittered.
      zero_centred: range of the result: [-1, 1], or [0, 1].
      published: follows the published order, operation by operation.
      scaled_decoding: decodes frames that shrink to a half or less at 1/2, 1/4 or 1/8 of their
        size. Faster, and smoother than the published picture, which skips pixels then.

    Returns:
      Float32 [count, size, size, 3].

    Raises:
      tf.errors.InvalidArgumentError: in the running graph, when a picture cannot be decoded or
        sizes differ.
    """
    if published:
        frames = _published_order(
            encoded, count, seeds, size, style, min_resize, scale_jitter, area, aspect
        )
        frames = normalise(frames, zero_centred)
        if colour:
            frames = colour_jitter(frames, seeds[sampling.COLOUR], zero_centred)
        return tf.ensure_shape(frames, (count, size, size, 3))
    frame = frame_size(encoded[0])
    draws = colours.draw(seeds[sampling.COLOUR]) if colour else None

    def drawn() -> geometry.Cut:
        if style == "Inception":
            return geometry.inception_cut(frame, size, seeds, area, aspect)
        return geometry.vgg_cut(frame, size, seeds, min_resize, scale_jitter)

    # Called, not inlined: each operation of a branch that is not taken takes time, too.
    resampled = tf.function(
        lambda: _resampled(
            encoded, count, frame, size, drawn(), draws, zero_centred, scaled_decoding
        ),
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    if style == "Inception":
        frames = resampled()
    else:
        frames = tf.cond(
            drawn().keeps_pixels() if scale_jitter else tf.reduce_min(frame) == min_resize,
            lambda: _cut_out(encoded, count, size, seeds, draws, zero_centred),
            resampled,
        )
    return tf.ensure_shape(frames, (count, size, size, 3))


def _published_order(
    encoded: tf.Tensor,
    count: int,
    seeds: tf.Tensor,
    size: int,
    style: str,
    min_resize: int,
    jitters: bool,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tf.Tensor:
    """The geometry of `training_frames`, one operation after another; uint8 or float32 levels.

    Crops are cut before frames become floats, and flips come after: the same numbers up to rounding
    as with flips first, without float work on pixels that are thrown away.
    """
    frames = decode_jpegs(encoded, count)  # uint8 [count, height, width, 3]
    if style == "Inception":
        frames = inception_crop(frames, size, seeds[sampling.CROP], area, aspect)
    else:
        if jitters:
            frames = scale_jitter(frames, seeds[sampling.JITTER])
        frames = resize_smallest(frames, min_resize)
        frames = random_crop(frames, size, seeds[sampling.CROP])
    return random_flip(frames, seeds[sampling.FLIP])


def _cut_out(
    encoded: tf.Tensor,
    count: int,
    size: int,
    seeds: tf.Tensor,
    draws: colours.Draws | None,
    zero_centred: bool,
) -> tf.Tensor:
    """A "VGG" clip that is not resized."""
    frames = random_crop(decode_jpegs(encoded, count), size, seeds[sampling.CROP])
    frames = random_flip(frames, seeds[sampling.FLIP])
    frames = tf.ensure_shape(frames, (count, size, size, 3))
    if draws is None:
        return normalise(frames, zero_centred)
    return tf.cond(
        draws.applied,
        lambda: colours.change(frames, draws, zero_centred),
        lambda: normalise(frames, zero_centred),
    )


def _resampled(
    encoded: tf.Tensor,
    count: int,
    frame: tf.Tensor,
    size: int,
    cut: geometry.Cut,
    draws: colours.Draws | None,
    zero_centred: bool,
    scaled_decoding: bool,
) -> tf.Tensor:
    """A clip that is resized."""
    darker = tf.constant(TRUNCATION) * cut.truncations()

    def at(ratio: int) -> tf.Tensor:
        rows, columns = cut.axes(size, ratio)
        region, top, left = decode_region(encoded, count, frame, rows, columns, ratio)
        columns = columns.within(left)
        rows, order = geometry.placed(rows.within(top), tf.shape(region)[0], cut.mirror)
        pixels = geometry.packed(region, order)

        def normalised() -> tf.Tensor:
            gain, least = (2.0 / 255.0, -1.0) if zero_centred else (1.0 / 255.0, 0.0)
            bias = least - gain * darker
            return geometry.normalised(pixels, rows, columns, gain, bias, least)

        def changed() -> tf.Tensor:
            return colours.change_resampled(pixels, rows, columns, darker, draws, zero_centred)

        return normalised() if draws is None else tf.cond(draws.applied, changed, normalised)

    if not scaled_decoding:
        return at(1)
    shrinking = tf.reduce_min(cut.extent // cut.resized)
    choice = tf.reduce_sum(tf.cast(shrinking >= RATIOS[1:], tf.int32))
    choice = tf.where(_all_jpeg(encoded), choice, 0)
    return tf.switch_case(choice, [lambda ratio=ratio: at(ratio) for ratio in RATIOS])


def _all_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff")


def _check_one_size(encoded: tf.Tensor, pictures: list[tf.Tensor]) -> tf.Operation:
    """Fails where JPEG strings differ in size: decoding a region would not notice.

    Most writers put the size at one place; frames that are equal up to there need not be read one
    by one, which would take a tenth of the time of decoding them.
    """
    header = tf.strings.substr(encoded, 0, SIZE_END)
    usual = tf.strings.substr(encoded[0], SIZE_MARKER_AT, len(SIZE_MARKER)) == SIZE_MARKER

    def read() -> tf.Tensor:
        sizes = tf.stack([tf.image.extract_jpeg_shape(picture)[:2] for picture in pictures])
        return tf.reduce_all(sizes == sizes[0])

    same = tf.cond(usual & tf.reduce_all(header == header[0]), lambda: tf.constant(True), read)
    return tf.debugging.Assert(same, ["The frames of a clip differ in size."])


def decode_region(
    encoded: tf.Tensor,
    count: int,
    frame: tf.Tensor,
    rows: geometry.Axis,
    columns: geometry.Axis,
    ratio: int = 1,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes what two axes need of JPEG strings of one size; other formats are decoded whole.

    Args:
      encoded: string [count].
      count: number of frames.
      frame: int32 [2] height and width of a frame.
      rows: in the frame as decoded.
      columns: in the frame as decoded.
      ratio: JPEG frames are decoded at 1 / ratio of their size.

    Returns:
      Uint8 [height, count, width, 3] with the same pixels as frames decoded whole (zeros beyond
      their right edge), and its int32 top and left in such a frame. The sides are multiples of
      `geometry.REGION_STEP`; the height may be that of the frame.
    """
    height, width = tf.unstack(-(-frame // ratio))

    def region() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pictures = tf.unstack(encoded, count)
        left = tf.maximum(columns.first() - MARGIN, 0) // BLOCK * BLOCK
        right = tf.minimum(columns.last() + 1 + MARGIN, width)
        top = tf.maximum(rows.first() - MARGIN, 0)
        bottom = tf.minimum(rows.last() + 1 + MARGIN, height)
        tall = tf.minimum(geometry.round_up(bottom - top), height)
        top = tf.minimum(top, height - tall)
        with tf.control_dependencies([_check_one_size(encoded, pictures)]):
            window = tf.stack([top, left, tall, right - left])
        surplus = geometry.round_up(right - left) - (right - left)
        beyond = tf.zeros((tall, surplus, 3), tf.uint8)
        pieces = []
        for picture in pictures:
            cut = tf.image.decode_and_crop_jpeg(picture, window, channels=3, ratio=ratio)
            pieces += [cut, beyond]
        side_by_side = tf.concat(pieces, axis=1)  # [tall, count * (width + surplus), 3]
        return tf.reshape(side_by_side, (tall, count, -1, 3)), top, left

    def whole() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        surplus = geometry.round_up(width) - width
        frames = tf.pad(decode_jpegs(encoded, count), [[0, 0], [0, 0], [0, surplus], [0, 0]])
        return tf.transpose(frames, (1, 0, 2, 3)), tf.constant(0), tf.constant(0)

    decoded, top, left = tf.cond(_all_jpeg(encoded), region, whole)
    return tf.ensure_shape(decoded, (None, count, None, 3)), top, left


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
