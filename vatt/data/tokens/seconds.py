"""A clip for every second of a video, for sets whose seconds are labelled (CrossTask)."""

from __future__ import annotations

import tensorflow as tf

from vatt.data.tokens import sound


def around(count: tf.Tensor, radius: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Int32 [count] first second of each clip and the one behind its last: so many on both sides.

    Clips end with the video, of `count` seconds.
    """
    place = tf.range(count)
    return tf.maximum(place - radius, 0), tf.minimum(place + radius + 1, count)


def heard(
    spectrogram: tf.Tensor,
    start: tf.Tensor,
    end: tf.Tensor,
    count: tf.Tensor,
    padding: int,
    places: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The sound of a clip with so many seconds before and after it, which the mask leaves out.

    Args:
      spectrogram: float32 [windows, bands] of the video.
      start: of the clip, whole s.
      end: of the clip, whole s.
      count: seconds of the video.
      padding: s on both sides, inside of the video.
      places: windows of the result.

    Returns:
      As `sound.fitted`.
    """
    first = tf.maximum(start - padding, 0)
    last = tf.minimum(end + padding, count)
    windows, mask, number = sound.fitted(sound.between(spectrogram, first, last), places)
    place = tf.range(places)
    inside = place >= tf.maximum(sound.window_at(start - first), 0)
    inside &= place < sound.window_at(end - first)
    return windows, tf.where(inside, mask, 0.0), number
