"""Log energies of a mel filterbank, in the convention of the package python_speech_features.

Source: GDT and STiCA, there 40 or 257 filters on windows of 20 ms every 10 ms at 24 kHz.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vatt.configs.spectrograms import covering_frames

FULL_SCALE = 32768.0  # samples are 16-bit integers to it
EMPHASIS = 0.97
SILENT = float(np.finfo(np.float64).eps)  # in place of an energy of 0


def _lengths(sample_rate: int, window: float, step: float) -> tuple[int, int]:
    """Samples of a window, and from one to the next; arguments as of `log_filterbank`."""
    return round(sample_rate * window), round(sample_rate * step)


def frames(samples: int, sample_rate: int, window: float, step: float) -> int:
    """Windows of so many samples: as many as it takes to reach the last one."""
    return covering_frames(samples, *_lengths(sample_rate, window, step))


def transform_length(length: int) -> int:
    """Points of the Fourier transform: a power of two, at least twice the window (480: 1024)."""
    return 1 << (2 * length - 1).bit_length()


@functools.lru_cache(maxsize=16)
def weights(filters: int, points: int, sample_rate: int) -> np.ndarray:
    """Float64 [points // 2 + 1, filters] triangles, equally wide in mel from 0 Hz to half the rate.

    Corners are whole bins, cut down: with many filters, low ones are empty (38 of 257).
    """
    highest = 2595.0 * np.log10(1.0 + sample_rate / 2.0 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, highest, filters + 2) / 2595.0) - 1.0)
    corners = np.floor((points + 1) * hertz / sample_rate)
    matrix = np.zeros((points // 2 + 1, filters))
    for column, (low, peak, high) in enumerate(
        zip(corners, corners[1:], corners[2:], strict=False)
    ):
        rising, falling = np.arange(low, peak), np.arange(peak, high)
        matrix[rising.astype(int), column] = (rising - low) / max(peak - low, 1.0)
        matrix[falling.astype(int), column] = (high - falling) / max(high - peak, 1.0)
    return matrix


def _magnitudes(x: tf.Tensor, length: int, hop: int, points: int) -> tf.Tensor:
    """[..., samples] -> [..., frames, points // 2 + 1], of frames of `length` every `hop`."""
    return tf.abs(tf.signal.rfft(tf.signal.frame(x, length, hop), [points]))


def log_filterbank(
    waveform: tf.Tensor,
    sample_rate: int,
    filters: int,
    window: float,
    step: float,
    magnitudes: Callable[[tf.Tensor, int, int, int], tf.Tensor] = _magnitudes,
    dtype: tf.DType = tf.float64,
) -> tf.Tensor:
    """Natural logarithms of the energies in a filterbank, computed in float64.

    The waveform as a whole is emphasised, x_i - 0.97 x_(i-1), then cut into rectangular windows,
    the last one filled up with zeros.

    Args:
      waveform: float32 [..., samples] in [-1, 1], the last axis static.
      sample_rate: samples per second.
      filters: triangles from 0 Hz to half the rate, equally wide in mel.
      window: seconds.
      step: seconds from one window to the next.
      magnitudes: the transform, of a waveform, length and step of its windows, and points.
      dtype: to compute in.

    Returns:
      Float32 [..., frames, filters, 1].
    """
    samples = waveform.shape[-1]
    length, hop = _lengths(sample_rate, window, step)
    count, points = frames(samples, sample_rate, window, step), transform_length(length)
    x = tf.cast(waveform, dtype) * FULL_SCALE
    x = tf.concat([x[..., :1], x[..., 1:] - EMPHASIS * x[..., :-1]], axis=-1)
    missing = (count - 1) * hop + length - samples
    x = tf.pad(x, [[0, 0]] * (waveform.shape.rank - 1) + [[0, max(missing, 0)]])
    spectrum = magnitudes(x, length, hop, points)  # [..., frames, points // 2 + 1]
    power = tf.square(spectrum) / points
    triangles = tf.constant(weights(filters, points, sample_rate), dtype)
    energy = power @ triangles  # [..., frames, filters]
    energy = tf.where(energy == 0.0, tf.constant(SILENT, dtype), energy)
    return tf.cast(tf.math.log(energy), tf.float32)[..., tf.newaxis]
