"""Evaluation's preprocessing in operations that other runtimes have: what exported models begin
with.

Where TensorFlow runs, nothing of this is needed but `evaluation_frames`, which takes batches. Its
pixels are those of `vatt.data.vision` bit by bit; spectra agree up to rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from vatt.data import audio, filterbank, geometry, representation, vision
from vatt.data.views import EvaluationView

if TYPE_CHECKING:
    from vatt import configs


@dataclass(frozen=True)
class Runtime:
    """What a runtime of exported models can do.

    Attributes:
      float64: compute in it. Without, some unusual sizes of pictures (84 x 183 to 112 pixels) are
        resized to a pixel more, and filterbanks are computed in float32.
      fourier: Fourier transforms of any length; else they are products with a matrix.
    """

    float64: bool
    fourier: bool


# -- pictures --------------------------------------------------------------------------------------


def evaluation_frames(frames: tf.Tensor, view: EvaluationView, runtime: Runtime) -> tf.Tensor:
    """Values of the squares that a view cuts of the frames of clips, as `clips.evaluation_video`.

    Args:
      frames: uint8 [clips, frames, height, width, 3], height and width of any size.
      view: which squares, and their range.
      runtime: what may be used.

    Returns:
      Float32 [clips, view.crops, frames, size, size, 3].
    """
    count, size = frames.shape[1], view.size
    sides = tf.shape(frames)[2:4]
    flat = tf.reshape(frames, tf.concat([[-1], sides, [3]], 0))
    resized = _resized(sides, view, runtime)
    squares = []
    for corner in _corners(resized, view):
        levels = _square(flat, sides, resized, corner, size)
        levels = levels if view.decimals else tf.floor(levels)  # cut off, as uint8
        squares.append(tf.reshape(levels, [-1, count, size, size, 3]))
    cut = tf.stack(squares, axis=1)
    return view.values(vision.normalise(cut, view.zero_centred))


def _resized(sides: tf.Tensor, view: EvaluationView, runtime: Runtime) -> tf.Tensor:
    """Int32 [2]: the size to which frames of int32 [2] `sides` are brought."""
    height, width = tf.unstack(sides)
    if not view.decimals:
        return vision.smallest_side_size(height, width, view.resize)
    if runtime.float64:
        return geometry.short_side_size(height, width, tf.constant(view.resize))
    return sides * view.resize // tf.reduce_min(sides)


def _corners(resized: tf.Tensor, view: EvaluationView) -> list[tf.Tensor]:
    """Int32 [2], top and left of each square."""
    size, room = view.size, resized - view.size
    along = tf.stack([resized[0] > resized[1], resized[0] <= resized[1]])
    if view.decimals or (view.multi_crop and view.centred):
        middle = geometry.middle(resized, size)
        places = [tf.zeros_like(room), middle, room] if view.multi_crop else [middle]
        return [tf.where(along, place, middle) for place in places]
    if not view.multi_crop:
        return [room // 2]
    along = tf.stack([resized[0] >= resized[1], resized[0] < resized[1]])
    longer = tf.reduce_max(resized)
    middle = tf.cast(tf.round(tf.cast(longer, tf.float32) / 2.0 - float(size // 2)), tf.int32)
    starts = (0, middle, longer - size)
    return [tf.where(along, start, 0) for start in starts]


def _square(
    frames: tf.Tensor, sides: tf.Tensor, resized: tf.Tensor, corner: tf.Tensor, size: int
) -> tf.Tensor:
    """Levels float32 [frames, size, size, 3]: bilinear as `tf.image.resize`, only what is kept."""
    (top, bottom, below), (left, right, beside) = (
        _axis(sides[way], resized[way], corner[way], size) for way in (0, 1)
    )

    def row(place: tf.Tensor) -> tf.Tensor:
        taken = tf.gather(frames, place, axis=1)
        first, second = (
            tf.cast(tf.gather(taken, column, axis=2), tf.float32) for column in (left, right)
        )
        return first + (second - first) * beside[:, tf.newaxis]

    above = row(top)
    return above + (row(bottom) - above) * below[:, tf.newaxis, tf.newaxis]


def _axis(
    side: tf.Tensor, resized: tf.Tensor, corner: tf.Tensor, size: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """For `size` pixels of an axis from `corner` on: two of the source, and the second's share."""
    scale = tf.cast(side, tf.float32) / tf.cast(resized, tf.float32)
    position = (tf.cast(corner + tf.range(size), tf.float32) + 0.5) * scale - 0.5
    floor = tf.floor(position)
    upper = tf.minimum(tf.cast(floor, tf.int32) + 1, side - 1)
    lower = tf.maximum(tf.cast(floor, tf.int32), 0)
    return tf.minimum(lower, upper), upper, position - floor


# -- sound -----------------------------------------------------------------------------------------


def heard(waveform: tf.Tensor, cfg: configs.dataset.Dataset, runtime: Runtime) -> tf.Tensor:
    """What a model hears of clips, as `clips.evaluation_audio`.

    Args:
      waveform: float32 [clips, samples], a clip long at the sample rate, before `audio_stride`.
      cfg: level and form.
      runtime: what may be used.

    Returns:
      Float32 [clips, samples / stride, 1] or [clips, times, bands, 1].
    """
    samples = waveform[:, :: cfg.audio_stride]
    if cfg.audio_level is not None:
        rms = tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=1, keepdims=True))
        samples *= audio.gain_to(rms, cfg.audio_level)
    if runtime.fourier:
        return representation.of(samples, cfg)
    exact = tf.float64 if runtime.float64 else tf.float32
    transform = functools.partial(_stft, exact)
    return representation.of(
        samples,
        cfg,
        functools.partial(audio.log_mel, magnitudes=transform),
        functools.partial(filterbank.log_filterbank, magnitudes=_magnitudes, dtype=exact),
        functools.partial(audio.unscaled_log_mel, magnitudes=transform),
    )


def _stft(exact: tf.DType, waveform: tf.Tensor, window: np.ndarray, step: int) -> tf.Tensor:
    """Magnitudes of windows as those of `tf.signal.stft`, the end padded."""
    count, length = -(-waveform.shape[-1] // step), len(window)
    missing = max((count - 1) * step + length - waveform.shape[-1], 0)
    padded = tf.pad(waveform, [[0, 0]] * (waveform.shape.rank - 1) + [[0, missing]])
    cut = tf.cast(_framed(padded, length, step)[..., :count, :], exact)
    return tf.cast(_transformed(cut * tf.constant(window, exact), length), tf.float32)


def _magnitudes(x: tf.Tensor, length: int, hop: int, points: int) -> tf.Tensor:
    """[..., samples] -> [..., frames, points // 2 + 1], of frames of `length` every `hop`."""
    return _transformed(_framed(x, length, hop), points)


def _framed(x: tf.Tensor, length: int, hop: int) -> tf.Tensor:
    """[..., samples] -> [..., frames, length], all that lie in it."""
    count = 1 + (x.shape[-1] - length) // hop
    places = np.arange(count)[:, None] * hop + np.arange(length)
    return tf.gather(x, tf.constant(places, tf.int32), axis=-1)


def _transformed(frames: tf.Tensor, points: int) -> tf.Tensor:
    """[..., length] -> [..., points // 2 + 1]: a Fourier transform as a product with a matrix."""
    angle = 2.0 * math.pi / points
    turns = np.outer(np.arange(frames.shape[-1]), np.arange(points // 2 + 1)) % points
    real, imaginary = (
        tf.matmul(frames, tf.constant(wave(angle * turns), frames.dtype)) for wave in _WAVES
    )
    return tf.sqrt(tf.square(real) + tf.square(imaginary))


_WAVES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (np.cos, np.sin)
