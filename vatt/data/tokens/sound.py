"""Windows of a stored log-mel spectrogram [windows, bands]: when they are, cut, filled up.

The spectrogram is that of `vatt.data.tokens.spectrogram`; times follow its windows.
"""

from __future__ import annotations

import tensorflow as tf

from vatt.data.features import SPECTROGRAM_RATE as SAMPLE_RATE

WINDOW, STEP = 400, 160  # samples
BANDS = 40
RATE = SAMPLE_RATE / STEP  # windows per second


def window_at(seconds: tf.Tensor) -> tf.Tensor:
    """Int32 number of the window at a time, float64 s; below 0 near the beginning."""
    samples = tf.cast(tf.cast(seconds, tf.float64) * SAMPLE_RATE, tf.int32)
    return (samples - WINDOW // 2) // STEP


def whole_seconds(windows: tf.Tensor) -> tf.Tensor:
    """Int32 whole seconds that so many windows last."""
    return (tf.cast(windows, tf.int32) * STEP + WINDOW // 2) // SAMPLE_RATE


def between(spectrogram: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """The windows from `start` to `end` (float64 s), perhaps none.

    An end within the first half window counts from the end of the spectrogram, as published.
    """
    count = tf.shape(spectrogram)[0]
    first, last = tf.maximum(window_at(start), 0), window_at(end)
    last = tf.where(last < 0, tf.maximum(last + count, 0), last)
    return spectrogram[first : tf.maximum(first, last)]


def fitted(spectrogram: tf.Tensor, places: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The first windows, filled up with zeros behind the last.

    Zero is the loudest value of a spectrogram in decibels; the mask says what is real.

    Args:
      spectrogram: float32 [windows, bands].
      places: windows of the result.

    Returns:
      Float32 [bands, places], float32 [places], 1 where there is a window, and their number, int32.
    """
    spectrogram = tf.convert_to_tensor(spectrogram, tf.float32)[:places]
    count = tf.shape(spectrogram)[0]
    padded = tf.pad(spectrogram, [[0, places - count], [0, 0]])
    padded = tf.ensure_shape(padded, (places, spectrogram.shape[1]))
    return tf.transpose(padded), tf.sequence_mask(count, places, tf.float32), count
