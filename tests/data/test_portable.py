"""What exported models begin with is evaluation's preprocessing, for other runtimes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import dataset
from vatt.data import audio, filterbank, portable, representation, views, vision
from vatt.data.portable import Runtime

RUNTIMES = {
    "TensorFlow": Runtime(float64=True, fourier=True),
    "ONNX": Runtime(float64=True, fourier=False),
    "LiteRT": Runtime(float64=False, fourier=False),
}


@pytest.mark.parametrize("style", ["VGG", "ShortSide", "Stretched"])
@pytest.mark.parametrize("multi_crop", [False, True])
@pytest.mark.parametrize("sides", [(72, 80), (80, 72), (24, 24), (37, 53), (200, 64), (16, 29)])
def test_pixels_are_those_of_evaluation_bit_by_bit(style, multi_crop, sides):
    normalised = {"pixel_mean": 0.45, "pixel_std": 0.225} if style == "ShortSide" else {}
    cfg = dataset.Evaluation(
        frame_size=24,
        crop_resize_style=style,
        test_resize=31 if style == "Stretched" else None,
        multi_crop=multi_crop,
        **normalised,
    )
    view = views.for_evaluation(cfg)
    random = np.random.default_rng(sum(sides))
    frames = random.integers(0, 256, (2, 3, *sides, 3), np.uint8)
    expected = []
    for clip in frames:
        cut = vision.evaluation_frames(tf.constant(clip), view)
        values = view.values(vision.normalise(cut, view.zero_centred))
        expected.append(tf.reshape(values, (view.crops, 3, 24, 24, 3)))
    for runtime in RUNTIMES.values():
        found = portable.evaluation_frames(tf.constant(frames), view, runtime)
        np.testing.assert_array_equal(found, tf.stack(expected))


def noisy(samples: int, seed: int = 0) -> np.ndarray:
    """Two sounds: a tone over noise, and one that is silent for a while."""
    random = np.random.default_rng(seed)
    made = 0.3 * np.sin(np.arange(samples) / 7.0) + 0.01 * random.normal(size=(2, samples))
    made[1, samples // 3 :] = 0.0
    return made.astype(np.float32)


@pytest.mark.parametrize("features", ["log_mel", "filterbank", "unscaled_log_mel"])
@pytest.mark.parametrize("rate", [16000, 24000])
def test_spectrograms_agree_without_fourier_transforms(features, rate):
    cfg = dataset.Evaluation(
        raw_audio=False, audio_features=features, sample_rate=rate, audio_seconds=0.4, mel_bins=40
    )
    sounds = tf.constant(noisy(cfg.num_audio_samples))
    expected = representation.of(sounds, cfg)
    most = {"TensorFlow": 0.0, "ONNX": 2e-5, "LiteRT": 5e-4}
    for name, runtime in RUNTIMES.items():
        found = portable.heard(sounds, cfg, runtime)
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, expected, atol=most[name], rtol=most[name])


def test_magnitudes_are_those_of_a_long_transform():
    sound = np.random.default_rng(1).normal(size=(2, 250))
    found = portable._magnitudes(tf.constant(sound), 100, 60, 256)
    frames = np.stack([sound[:, 60 * n : 60 * n + 100] for n in range(3)], axis=1)
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(frames, 256)), atol=1e-9)


def test_each_sound_has_its_own_level_and_its_stride():
    cfg = dataset.Evaluation(audio_level=-20.0, audio_stride=3, audio_seconds=0.01)
    sounds = noisy(3 * cfg.num_audio_samples) * np.float32([[0.1], [0.7]])
    found = portable.heard(tf.constant(sounds), cfg, RUNTIMES["LiteRT"])
    for one, sound in zip(found, sounds, strict=True):
        expected = sound[::3] * audio.to_level(tf.constant(sound), -20.0)
        np.testing.assert_allclose(one[:, 0], expected, rtol=1e-6)


def test_filterbanks_are_unchanged_by_the_transform_they_are_given():
    """In float64 a product with a matrix is as good as the fast transform."""
    sound = tf.constant(noisy(4000)[:1])
    usual = filterbank.log_filterbank(sound, 16000, 20, 0.02, 0.01)
    other = filterbank.log_filterbank(sound, 16000, 20, 0.02, 0.01, magnitudes=portable._magnitudes)
    np.testing.assert_allclose(other, usual, atol=1e-5)
