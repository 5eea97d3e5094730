"""Augmentation of frames, against NumPy and by its statistics."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from vatt.data import colour, sampling, vision
from vatt.data.appearance import ColourJitter


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 30, 3), dtype=np.uint8)


def seeds(count):
    return [sampling.fold(sampling.root_seed(0), i) for i in range(count)]


def test_decode_is_the_default_decoder_of_the_golden_frames(shared_dir):
    record = next(
        iter(tf.data.TFRecordDataset(str(shared_dir / "conformance/data/test-00000-of-00002")))
    )
    lists = tf.train.SequenceExample.FromString(record.numpy()).feature_lists.feature_list
    jpegs = [step.bytes_list.value[0] for step in lists["image/encoded"].feature][:4]
    golden = np.load(shared_dir / "conformance/data/decoded_frames.npz")
    expected = golden[golden.files[0]][:4]
    np.testing.assert_array_equal(vision.decode_jpegs(tf.constant(jpegs), 4), expected)


def test_random_crop_cuts_the_same_square_everywhere(frames):
    found = set()
    for seed in seeds(40):
        crop = vision.random_crop(tf.constant(frames), 20, seed).numpy()
        tops = [
            (top, left)
            for top in range(5)
            for left in range(11)
            if (frames[:, top : top + 20, left : left + 20] == crop).all()
        ]
        assert len(tops) == 1
        found |= set(tops)
    assert {top for top, _ in found} == set(range(5))
    full = vision.random_crop(tf.constant(frames[:, :, :24]), 24, seeds(1)[0])
    np.testing.assert_array_equal(full, frames[:, :, :24])


def test_scale_jitter_keeps_type_and_range_of_sizes(frames):
    sizes = [vision.scale_jitter(tf.constant(frames), seed).shape for seed in seeds(60)]
    heights, widths = {s[1] for s in sizes}, {s[2] for s in sizes}
    assert min(heights) >= 19 and max(heights) <= 28 and len(heights) > 5
    assert min(widths) >= 24 and max(widths) <= 35 and len(widths) > 5
    unchanged = sum(size[1:3] == (24, 30) for size in sizes)
    assert 3 <= unchanged <= 25  # one in five is left alone
    assert vision.scale_jitter(tf.constant(frames), seeds(1)[0]).dtype == tf.uint8


def test_flip_is_for_the_whole_clip(frames):
    flipped = 0
    for seed in seeds(40):
        out = vision.random_flip(tf.constant(frames), seed).numpy()
        mirrored = (out == frames[:, :, ::-1]).all()
        assert mirrored or (out == frames).all()
        flipped += mirrored
    assert 10 <= flipped <= 30


def numpy_colour(unit, brightness, saturation, contrast, hue):
    """The four changes written out pixel by pixel in float64."""
    out = unit.astype(np.float64) + brightness
    for index in np.ndindex(out.shape[:-1]):
        h, s, v = colorsys.rgb_to_hsv(*out[index])
        out[index] = colorsys.hsv_to_rgb(h, min(max(s * saturation, 0), 1), v)
    mean = out.mean(axis=(1, 2), keepdims=True)
    out = (out - mean) * contrast + mean
    for index in np.ndindex(out.shape[:-1]):
        h, s, v = colorsys.rgb_to_hsv(*out[index])
        out[index] = colorsys.hsv_to_rgb((h + hue) % 1.0, s, v)
    return np.clip(out, 0, 1)


@pytest.mark.parametrize("zero_centred", [True, False])
def test_colour_jitter_equals_numpy(zero_centred):
    unit = np.random.default_rng(1).uniform(0.35, 0.65, (2, 6, 5, 3)).astype(np.float32)
    stored = unit * 2 - 1 if zero_centred else unit
    applied = 0
    for seed in seeds(12):
        jitter = ColourJitter()
        out = colour.colour_jitter(tf.constant(stored), jitter.draw(seed), zero_centred).numpy()
        draws = sampling.uniform(seed, (5,)).numpy().astype(np.float64)
        if draws[0] >= 0.8:
            np.testing.assert_array_equal(out, stored)
            continue
        applied += 1
        expected = numpy_colour(
            unit,
            (2 * draws[1] - 1) * 32 / 255,
            0.6 + 0.8 * draws[2],
            0.6 + 0.8 * draws[3],
            (2 * draws[4] - 1) * 0.2,
        )
        expected = expected * 2 - 1 if zero_centred else expected
        np.testing.assert_allclose(out, expected, atol=2e-5)
    assert 6 <= applied <= 12


def test_space_to_depth_channel_order():
    video = tf.reshape(tf.range(2 * 2 * 2 * 3), (1, 2, 2, 2, 3))
    np.testing.assert_array_equal(tf.reshape(vision.space_to_depth(video), [-1]), np.arange(24))
    assert vision.space_to_depth(tf.zeros([2, 5, 4, 6, 8, 3])).shape == (2, 5, 2, 3, 4, 24)
