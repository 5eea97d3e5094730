"""Noise, spectrograms and mixup, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.configs.dataset import Spectrum
from vatt.data import audio, sampling


def seed():
    return sampling.root_seed(0)


def test_noise_has_the_stated_size():
    waveform = np.zeros(20000, np.float32)
    waveform[0] = -0.5
    noisy = audio.add_noise(tf.constant(waveform), seed(), 0.1).numpy()
    assert abs((noisy - waveform).std() - 0.05) < 0.002
    silent = audio.add_noise(tf.zeros([100]), seed(), 0.1)
    assert not silent.numpy().any()


def test_level_of_a_record():
    sound = np.random.default_rng(0).uniform(-1, 1, 9000).astype(np.float32)  # RMS -4.77 dB
    for soft in (1.0, 0.01):  # however it was recorded
        levelled = soft * sound * audio.to_level(tf.constant(soft * sound), -20.0).numpy()
        np.testing.assert_allclose(np.sqrt(np.mean(levelled**2)), 0.1, rtol=1e-4)
    assert audio.to_level(tf.zeros([10]), -20.0).numpy() == 0  # silence stays, and is a number
    assert audio.to_level(tf.constant(1e-7 * sound), -20.0).numpy() == pytest.approx(1000)


def numpy_mel(waveform, rate, bins, length, step, edges=(80.0, 7600.0), least=0.5, power=1):
    """The formula in float64, frame by frame; `least` is the window at its end."""
    window = least - (1 - least) * np.cos(2 * np.pi * np.arange(length) / length)
    count = -(-len(waveform) // step)
    padded = np.concatenate([waveform, np.zeros(length + count * step)])
    frames = np.stack([padded[i * step : i * step + length] * window for i in range(count)])
    magnitude = np.abs(np.fft.rfft(frames)) ** power
    mel = lambda hz: 1127.0 * np.log1p(np.asarray(hz) / 700.0)  # noqa: E731
    edges = np.linspace(*mel(edges), bins + 2)
    places = mel(np.arange(length // 2 + 1) * rate / length)[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return (magnitude @ weights)[..., None]


def test_log_mel_equals_numpy():
    waveform = np.random.default_rng(0).normal(0, 0.2, 3000).astype(np.float32)
    mel = numpy_mel(waveform.astype(np.float64), 16000, 20, 512, 256)
    found = audio.log_mel(tf.constant(waveform), 16000, 20, 0.032, 0.016)
    np.testing.assert_allclose(found, np.log1p(10000 * mel), atol=1e-4)


def test_unscaled_log_mel_equals_numpy():
    waveform = np.random.default_rng(0).normal(0, 0.2, 3000).astype(np.float32)
    given = dict(window="hamming", lowest_hz=0.0, highest_hz=8000.0, power=True, offset=1e-3)
    how = Spectrum(**given, normalised=True, emphasis=0.9)
    found = audio.unscaled_log_mel(tf.constant(waveform), 16000, 20, 400, 160, how)
    sound = waveform / (np.abs(waveform).max() + 1e-8)
    sound = np.append(sound[:1], sound[1:] - 0.9 * sound[:-1]).astype(np.float64)
    mel = numpy_mel(sound, 16000, 20, 400, 160, (0.0, 8000.0), least=0.54, power=2)
    np.testing.assert_allclose(found, np.log(mel + 1e-3), atol=1e-3)
    assert found.shape == (19, 20, 1)  # the end is padded: 3000 / 160, rounded up


def test_minmax_of_a_constant_is_zero():
    assert not audio.minmax_normalise(tf.ones([2, 3, 4, 1])).numpy().any()
