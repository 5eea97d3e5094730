"""Frames from strings: whole, or of JPEG only the region and the size that are needed."""

from __future__ import annotations

import tensorflow as tf

from vatt.data import geometry

MARGIN = 2  # pixels decoded around a region: at its edge, colour is interpolated differently
BLOCK = 16  # pixels; decoding from a column that is a multiple of it takes the least time
# Where the size stands in a JPEG file that begins with a JFIF header and two quantisation tables.
SIZE_MARKER = b"\xff\xc0\x00\x11\x08"
SIZE_MARKER_AT, SIZE_END = 158, 167  # bytes


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


def all_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Bool: whether every string of string [count] begins as a JPEG file does."""
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

    decoded, top, left = tf.cond(all_jpeg(encoded), region, whole)
    return tf.ensure_shape(decoded, (None, count, None, 3)), top, left
