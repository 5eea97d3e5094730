"""Sound: noise, levels, log-mel spectrograms, masks. Waveforms are mono float32 in [-1, 1].

`vatt.data.representation` chooses between waveforms and spectrograms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from vatt.data import sampling

if TYPE_CHECKING:
    from vatt import configs
    from vatt.configs.dataset import Spectrum

MEL_LOWEST_HZ = 80.0
MEL_HIGHEST_HZ = 7600.0
MEL_GAIN = 10000.0
LOUDEST = 1e-8  # added to the largest sample that a waveform is divided by
BANDS, TIMES = 1, 0  # axes of a spectrogram
MOST_GAIN = 60.0  # dB: what is softer is no sound, but the noise of a recorder


class Masks(NamedTuple):
    """What of a spectrogram becomes 0: so many masks of bands and of times, below these widths.

    Those of times are also no wider than `ratio` of all times.
    """

    bands: int
    times: int
    band_width: int
    time_width: int
    ratio: float = 1.0

    @property
    def count(self) -> int:
        """How many masks there are."""
        return self.bands + self.times


MASKS = {  # Source: GDT.
    "none": Masks(0, 0, 1, 1),
    "mild": Masks(1, 1, 2, 5),
    "medium": Masks(1, 1, 3, 6),
    "heavy": Masks(2, 2, 3, 6),
}


def masks_of(cfg: configs.dataset.Dataset) -> Masks:
    """The masks that a configuration names or counts; evaluation has none."""
    if getattr(cfg, "audio_masking", "none") != "none":
        return MASKS[cfg.audio_masking]
    if not hasattr(cfg, "band_masks"):
        return MASKS["none"]
    widths = (cfg.band_mask_width, cfg.time_mask_width)
    return Masks(cfg.band_masks, cfg.time_masks, *widths, cfg.time_mask_ratio)


def add_noise(waveform: tf.Tensor, seed: tf.Tensor, gamma: float) -> tf.Tensor:
    """Adds Gaussian noise whose standard deviation is gamma * max|waveform|."""
    scale = gamma * tf.reduce_max(tf.abs(waveform))
    noise = tf.random.stateless_normal(tf.shape(waveform), seed, alg="philox")
    return tf.ensure_shape(waveform + scale * noise, waveform.shape)


def factor(decibels: tf.Tensor) -> tf.Tensor:
    """What a gain in dB multiplies samples by."""
    return tf.pow(10.0, decibels / 20.0)


def to_level(waveform: tf.Tensor, decibels: float) -> tf.Tensor:
    """The factor that brings the RMS of a whole record to `decibels`, up to `MOST_GAIN` dB."""
    return gain_to(tf.sqrt(tf.reduce_mean(tf.square(waveform))), decibels)


def gain_to(rms: tf.Tensor, decibels: float) -> tf.Tensor:
    """The factor that brings an RMS to `decibels`, up to `MOST_GAIN` dB; 0 for silence."""
    return tf.minimum(tf.math.divide_no_nan(factor(decibels), rms), factor(MOST_GAIN))


@functools.lru_cache(maxsize=16)
def _mel_matrix(
    mel_bins: int, spectrum_bins: int, sample_rate: int, lowest: float, highest: float
) -> np.ndarray:
    """Float32 [spectrum_bins, mel_bins] triangles, computed once and outside of any graph."""
    with tf.init_scope():
        matrix = tf.signal.linear_to_mel_weight_matrix(
            mel_bins, spectrum_bins, sample_rate, lowest, highest
        )
        return matrix.numpy()


def window_of(name: str, length: int) -> np.ndarray:
    """Float64 [length], a window that is periodic in its length: "hann" or "hamming"."""
    least = {"hann": 0.5, "hamming": 0.54}[name]
    return least - (1.0 - least) * np.cos(2.0 * math.pi * np.arange(length) / length)


def _magnitudes(waveform: tf.Tensor, window: np.ndarray, step: int) -> tf.Tensor:
    """[..., samples] -> [..., frames, length // 2 + 1] of frames of a window's length."""
    length = len(window)
    spectrum = tf.signal.stft(
        waveform,
        frame_length=length,
        frame_step=step,
        fft_length=length,
        window_fn=lambda _, dtype: tf.constant(window, dtype),
        pad_end=True,
    )
    return tf.abs(spectrum)


# The transform: of a waveform, the window and the step in samples.
Magnitudes = Callable[[tf.Tensor, np.ndarray, int], tf.Tensor]


def log_mel(
    waveform: tf.Tensor,
    sample_rate: int,
    mel_bins: int = 80,
    stft_length: float = 0.032,
    stft_step: float = 0.016,
    magnitudes: Magnitudes = _magnitudes,
) -> tf.Tensor:
    """VATT's log-mel spectrogram ln(1 + 10000 * mel), where mel weighs magnitudes, not powers.

    Args:
      waveform: float32 [..., samples].
      sample_rate: samples per second.
      mel_bins: triangles between 80 and 7600 Hz on the HTK mel scale, without area normalisation.
      stft_length: length of a (periodic Hann) frame in seconds; also the FFT length.
      stft_step: distance of two frames in seconds.
      magnitudes: the transform.

    Returns:
      Float32 [..., frames, mel_bins, 1].
    """
    length, step = int(sample_rate * stft_length), int(sample_rate * stft_step)
    spectrum = magnitudes(waveform, window_of("hann", length), step)  # [..., frames, bins]
    matrix = _mel_matrix(mel_bins, length // 2 + 1, sample_rate, MEL_LOWEST_HZ, MEL_HIGHEST_HZ)
    return tf.math.log(1.0 + MEL_GAIN * (spectrum @ matrix))[..., tf.newaxis]


def unscaled_log_mel(
    waveform: tf.Tensor,
    sample_rate: int,
    mel_bins: int,
    length: int,
    step: int,
    how: Spectrum,
    magnitudes: Magnitudes = _magnitudes,
) -> tf.Tensor:
    """Log-mel spectrogram ln(mel + offset), as loud as the sound.

    Args:
      waveform: float32 [..., samples].
      sample_rate: samples per second.
      mel_bins: triangles on the HTK mel scale, without area normalisation.
      length: of a frame in samples; also the FFT length. Frames at the end are padded with zeros.
      step: samples from one frame to the next.
      how: window, edges, magnitudes or powers, what is done to the waveform before.
      magnitudes: the transform.

    Returns:
      Float32 [..., frames, mel_bins, 1].
    """
    if how.normalised:
        waveform /= tf.reduce_max(tf.abs(waveform), axis=-1, keepdims=True) + LOUDEST
    if how.emphasis:
        later = waveform[..., 1:] - how.emphasis * waveform[..., :-1]
        waveform = tf.concat([waveform[..., :1], later], axis=-1)
    spectrum = magnitudes(waveform, window_of(how.window, length), step)
    spectrum = tf.square(spectrum) if how.power else spectrum
    matrix = _mel_matrix(mel_bins, length // 2 + 1, sample_rate, how.lowest_hz, how.highest_hz)
    return tf.math.log(spectrum @ matrix + how.offset)[..., tf.newaxis]


def minmax_normalise(spectrogram: tf.Tensor) -> tf.Tensor:
    """Maps [..., frames, bins, 1] to [0, 1] over its last three axes; a constant one becomes 0."""
    low = tf.reduce_min(spectrogram, axis=(-3, -2, -1), keepdims=True)
    high = tf.reduce_max(spectrogram, axis=(-3, -2, -1), keepdims=True)
    return tf.math.divide_no_nan(spectrogram - low, high - low)


def rolled(spectrogram: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """[time, bands, 1] that begins at any of its times and goes on at its start."""
    return roll(spectrogram, sampling.scaled_below(sampling.uniform(seed), spectrogram.shape[0]))


def roll(spectrogram: tf.Tensor, later: tf.Tensor) -> tf.Tensor:
    """[time, ...] so many frames later; the last ones come first."""
    return tf.roll(spectrogram, later, axis=0)


def draw_masks(seed: tf.Tensor, times: int, bands: int, masks: Masks) -> tf.Tensor:
    """`place_masks` of random shares."""
    return place_masks(sampling.uniform(seed, (masks.count, 2)), times, bands, masks)


def place_masks(shares: tf.Tensor, times: int, bands: int, masks: Masks) -> tf.Tensor:
    """Where a spectrogram of so many times and bands becomes 0.

    A width is a whole number from 0 to less than its bound; a mask lies anywhere.

    Args:
      shares: float32 [masks, 2] in [0, 1), of the widths and of the places; masks of bands first.
      times: of the spectrogram.
      bands: of the spectrogram.
      masks: how many, and how wide.

    Returns:
      Int32 [masks, 3], of each its axis (`BANDS` or `TIMES`), start and width.
    """
    axes = tf.constant([BANDS] * masks.bands + [TIMES] * masks.times, tf.int32)
    widest = tf.where(
        axes == BANDS,
        min(masks.band_width, bands),
        min(masks.time_width, int(masks.ratio * times)),
    )
    widths = tf.maximum(sampling.scaled_below(shares[:, 0], widest), 0)  # none below a width of 0
    room = tf.where(axes == BANDS, bands, times) - widths
    return tf.stack([axes, sampling.scaled_below(shares[:, 1], room + 1), widths], axis=1)


def masked(spectrogram: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """[time, bands, 1] with zeros where int32 [masks, 3] of `draw_masks` say."""
    for axis, start, width in map(tf.unstack, tf.unstack(masks)):
        times, bands = (tf.range(spectrogram.shape[way]) for way in (TIMES, BANDS))
        place = tf.where(axis == TIMES, times[:, tf.newaxis], bands[tf.newaxis])
        inside = (place >= start) & (place < start + width)  # [time, bands]
        spectrogram = tf.where(inside[..., tf.newaxis], 0.0, spectrogram)
    return spectrogram
