"""Steps of a view, against NumPy in float64 and from the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from float64_steps import numpy_blend_jitter, numpy_blur, numpy_grey, seeds_of, shares

from vatt.data import sampling
from vatt.data.appearance import BlendJitter, Blur, ColourJitter, Grey, Normalise


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).uniform(0, 1, (3, 18, 22, 3)).astype(np.float32)


def test_blend_jitter_equals_numpy(frames):
    step = BlendJitter(0.7, (0.5, 1.5), (0.6, 1.3), (0.2, 1.8))
    values = frames * 4 - 2  # any range, nothing is clipped
    applied, orders = 0, set()
    for number in range(40):
        seeds = seeds_of(number)
        found = step.apply(tf.constant(values), seeds, False).numpy()
        expected = numpy_blend_jitter(step, values.astype(float), seeds)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        applied += (found != values).any()
        orders.add(int(shares(seeds, sampling.COLOUR, 5)[4] * 6))
    assert 20 <= applied <= 35
    assert orders == set(range(6))


def test_grey_equals_numpy(frames):
    step = Grey(0.3, (0.114, 0.587, 0.299))
    applied = 0
    for number in range(40):
        seeds = seeds_of(number)
        found = step.apply(tf.constant(frames), seeds, False).numpy()
        expected = frames
        if shares(seeds, sampling.GREY) < 0.3:
            expected = np.repeat(numpy_grey(frames.astype(float), step.weights), 3, axis=-1)
            applied += 1
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 6 <= applied <= 20


@pytest.mark.parametrize(
    "step",
    [Blur(0.5, 5), Blur(0.5, 11, (0.1, 0.1), (2.0, 2.0)), Blur(1.0, 7, (0.5, 1.0), (1.0, 3.0))],
)
def test_blur_equals_numpy(frames, step):
    applied = 0
    for number in range(12):
        seeds = seeds_of(number)
        found = step.apply(tf.constant(frames), seeds, False).numpy()
        draws = shares(seeds, sampling.BLUR, 3)
        if draws[0] >= step.probability:
            np.testing.assert_array_equal(found, frames)
            continue
        sigmas = [step.sigma[0] + draws[1] * (step.sigma[1] - step.sigma[0])] * 2
        if step.horizontal_sigma:
            low, high = step.horizontal_sigma
            sigmas[1] = low + draws[2] * (high - low)
        expected = numpy_blur(frames.astype(float), step.kernel, *sigmas)
        np.testing.assert_allclose(found, expected, atol=2e-6)
        applied += 1
    assert (applied == 12) == (step.probability == 1.0)
    assert applied > 2


def test_normalise_equals_numpy(frames):
    for step in (Normalise(0.45, 0.225), Normalise((0.1, 0.2, 0.3), (1, 2, 3))):
        found = step.apply(tf.constant(frames), seeds_of(0), False)
        expected = (frames.astype(float) - np.array(step.mean)) / np.array(step.std)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("step", [ColourJitter(0.4), ColourJitter(0.4, 0.0, (1, 1), (1, 1), 0.3)])
def test_colour_jitter_has_the_probability_that_it_is_given(frames, step):
    changed = []
    for number in range(30):
        seeds = seeds_of(number)
        found = step.apply(tf.constant(frames), seeds, False).numpy()
        changed.append(np.abs(found - frames).max() > 1e-3)
        assert changed[-1] == (shares(seeds, sampling.COLOUR, 5)[0] < 0.4)
    assert 5 <= sum(changed) <= 20
    if step.brightness == 0:  # a turned hue leaves the largest channel as it is
        np.testing.assert_allclose(found.max(-1), frames.max(-1), atol=1e-5)
