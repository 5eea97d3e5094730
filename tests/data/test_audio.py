"""Noise, spectrograms and mixup, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

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


def numpy_log_mel(waveform, rate, bins, length, step):
    """The formula in float64, frame by frame."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    count = -(-len(waveform) // step)
    padded = np.concatenate([waveform, np.zeros(length + count * step)])
    frames = np.stack([padded[i * step : i * step + length] * window for i in range(count)])
    magnitude = np.abs(np.fft.rfft(frames))
    mel = lambda hz: 1127.0 * np.log1p(np.asarray(hz) / 700.0)  # noqa: E731
    edges = np.linspace(mel(80.0), mel(7600.0), bins + 2)
    places = mel(np.arange(length // 2 + 1) * rate / length)[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return np.log1p(10000 * magnitude @ weights)[..., None]


def test_log_mel_equals_numpy():
    waveform = np.random.default_rng(0).normal(0, 0.2, 3000).astype(np.float32)
    expected = numpy_log_mel(waveform.astype(np.float64), 16000, 20, 512, 256)
    found = audio.log_mel(tf.constant(waveform), 16000, 20, 0.032, 0.016)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_minmax_of_a_constant_is_zero():
    assert not audio.minmax_normalise(tf.ones([2, 3, 4, 1])).numpy().any()


def test_mixup_is_a_permutation_mix():
    batch = np.eye(8, dtype=np.float32)
    mixed = audio.mixup(tf.constant(batch[:, :, None]), seed(), 10.0, 2.0).numpy()[..., 0]
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed.sum(axis=1), batch.sum(axis=1), atol=1e-6)
    shares = audio.mixup(tf.eye(2000), seed(), 10.0, 2.0).numpy().diagonal()
    fixed = shares == 1.0  # rows mixed with themselves
    assert abs(shares[~fixed].mean() - 10 / 12) < 0.01
