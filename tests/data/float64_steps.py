"""Steps of a view written out in NumPy and float64, and the draws that they are made with."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from vatt.data import sampling
from vatt.data.appearance import LUMA

ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


@functools.partial(tf.function, autograph=False)  # one by one its operations take longer
def _seeds_of(number):
    return sampling.seeds_per_use(sampling.fold(sampling.root_seed(2), number))


def seeds_of(number):
    return _seeds_of(tf.constant(number, tf.int64))


@functools.partial(tf.function, autograph=False)
def _shares(seeds, row, shape):
    return sampling.uniform(seeds[row], shape)


def shares(seeds, row, count=None):
    """The draws in [0, 1) of a row of seeds, float64."""
    return _shares(seeds, row, () if count is None else (count,)).numpy().astype(float)


def numpy_grey(values, weights=LUMA):
    return sum(values[..., c : c + 1] * weights[c] for c in range(3))


def numpy_blend(values, changes, weights=LUMA):
    """`changes`: (name, factor) in order."""
    for name, factor in changes:
        if name == "brightness":
            other = 0.0
        elif name == "contrast":
            other = numpy_grey(values, weights).mean(axis=(1, 2), keepdims=True)
        else:
            other = numpy_grey(values, weights)
        values = factor * values + (1 - factor) * other
    return values


def numpy_blur(values, kernel, vertical, horizontal):
    radius = kernel // 2
    for axis, sigma in ((1, vertical), (2, horizontal)):
        pad = [(0, 0)] * 4
        pad[axis] = (radius, radius)
        padded, length = np.pad(values, pad, mode="reflect"), values.shape[axis]
        weights = np.exp(-((np.arange(kernel) - radius) ** 2) / (2.0 * sigma**2))
        values = sum(
            weight * np.take(padded, range(i, i + length), axis)
            for i, weight in enumerate(weights / weights.sum())
        )
    return values


def numpy_blend_jitter(step, values, seeds):
    draws = shares(seeds, sampling.COLOUR, 5)
    if draws[0] >= step.probability:
        return values
    names = ("brightness", "contrast", "saturation")
    factors = {}
    for name, share in zip(names, draws[1:4], strict=True):
        low, high = getattr(step, name)
        factors[name] = low + share * (high - low)
    order = [names[kind] for kind in ORDERS[int(draws[4] * 6)]]
    return numpy_blend(values, [(name, factors[name]) for name in order], step.weights)
