"""Sound: noise, windows, log-mel spectrograms, mixup. Waveforms are mono float32 in [-1, 1]."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from vatt.data import sampling

MEL_LOWEST_HZ = 80.0
MEL_HIGHEST_HZ = 7600.0
MEL_GAIN = 10000.0
MOST_GAIN = 60.0  # dB: what is softer is no sound, but the noise of a recorder


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
    rms = tf.sqrt(tf.reduce_mean(tf.square(waveform)))
    return tf.minimum(tf.math.divide_no_nan(factor(decibels), rms), factor(MOST_GAIN))


def mel_frames(samples: int, sample_rate: int, stft_step: float) -> int:
    """Frames of the spectrogram of `samples` samples: the end is padded, so the count rounds up."""
    return -(-samples // int(sample_rate * stft_step))


@functools.lru_cache(maxsize=16)
def _mel_matrix(mel_bins: int, spectrum_bins: int, sample_rate: int) -> np.ndarray:
    """Float32 [spectrum_bins, mel_bins] triangles, computed once and outside of any graph."""
    with tf.init_scope():
        matrix = tf.signal.linear_to_mel_weight_matrix(
            mel_bins, spectrum_bins, sample_rate, MEL_LOWEST_HZ, MEL_HIGHEST_HZ
        )
        return matrix.numpy()


def log_mel(
    waveform: tf.Tensor,
    sample_rate: int,
    mel_bins: int = 80,
    stft_length: float = 0.032,
    stft_step: float = 0.016,
) -> tf.Tensor:
    """Log-mel spectrogram ln(1 + 10000 * mel), where mel weighs magnitudes, not powers.

    Args:
      waveform: float32 [..., samples].
      sample_rate: samples per second.
      mel_bins: triangles between 80 and 7600 Hz on the HTK mel scale, without area normalisation.
      stft_length: length of a (periodic Hann) frame in seconds; also the FFT length.
      stft_step: distance of two frames in seconds.

    Returns:
      Float32 [..., frames, mel_bins, 1].
    """
    length, step = int(sample_rate * stft_length), int(sample_rate * stft_step)
    spectrum = tf.signal.stft(
        waveform,
        frame_length=length,
        frame_step=step,
        fft_length=length,
        window_fn=functools.partial(tf.signal.hann_window, periodic=True),
        pad_end=True,
    )  # [..., frames, length // 2 + 1]
    mel = tf.abs(spectrum) @ _mel_matrix(mel_bins, length // 2 + 1, sample_rate)
    return tf.math.log(1.0 + MEL_GAIN * mel)[..., tf.newaxis]


def minmax_normalise(spectrogram: tf.Tensor) -> tf.Tensor:
    """Maps [..., frames, bins, 1] to [0, 1] over its last three axes; a constant one becomes 0."""
    low = tf.reduce_min(spectrogram, axis=(-3, -2, -1), keepdims=True)
    high = tf.reduce_max(spectrogram, axis=(-3, -2, -1), keepdims=True)
    return tf.math.divide_no_nan(spectrogram - low, high - low)


def mixup(audio: tf.Tensor, seed: tf.Tensor, alpha: float, beta: float) -> tf.Tensor:
    """Mixes each row of a batch with another one: l * x + (1 - l) * x_perm, l ~ Beta(alpha, beta).

    Args:
      audio: float32 [batch, ...].
      seed: int64 [2].
      alpha: first parameter of the Beta distribution, one draw per row.
      beta: second parameter.

    Returns:
      Float32 [batch, ...].
    """
    import tensorflow_probability as tfp  # takes two seconds: only who mixes pays for it

    batch = tf.shape(audio)[0]
    order = sampling.permutation(sampling.fold(seed, 0), batch)
    draw_seed = tf.cast(sampling.fold(seed, 1) % (2**31), tf.int32)  # as that package wants it
    share = tfp.distributions.Beta(float(alpha), float(beta)).sample(batch, seed=draw_seed)
    ones = tf.ones([audio.shape.rank - 1], tf.int32)
    share = tf.reshape(share, tf.concat([[batch], ones], 0))
    return share * audio + (1.0 - share) * tf.gather(audio, order)
