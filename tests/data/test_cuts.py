"""Cuts of a view, against NumPy from the same draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from float64_steps import seeds_of, shares

from vatt.data import sampling
from vatt.data.cuts import ResizedCrop, ScaleJitter, ShortSideCut, VGGCut


def drawing(rule, height, width):
    """The cut of 16 x 16 that a rule draws, by its seeds; one by one its operations take longer."""
    frame = tf.constant([height, width])
    return tf.function(lambda seeds: rule.draw(frame, 16, seeds), autograph=False)


@pytest.mark.parametrize(("height", "width"), [(26, 37), (37, 26), (30, 30)])
def test_short_side_cut_equals_numpy(height, width):
    sides, positions = set(), set()
    draw = drawing(ShortSideCut(18, 31), height, width)
    for number in range(60):
        seeds = seeds_of(number)
        cut = draw(seeds)
        side = round(18 + 13 * shares(seeds, sampling.JITTER))  # half to even
        short = min(height, width)
        size = [side if s == short else math.floor(s / short * side) for s in (height, width)]
        size = [height, width] if side == short else size
        np.testing.assert_array_equal(cut.resized, size)
        offset = np.floor(shares(seeds, sampling.CROP, 2) * (np.array(size) - 16 + 1))
        np.testing.assert_array_equal(cut.offset, offset)
        assert not cut.truncated_at and not cut.mirror
        sides.add(side)
        positions.add(tuple(offset))
    assert {min(sides), max(sides)} <= {18, 19, 30, 31} and len(positions) > 10


def numpy_box(height, width, area, logs, aspect):
    """Height and width of the box, and whether a try fitted."""
    for share, log in zip(area, logs, strict=True):
        ratio = math.exp(log)
        high = round(math.sqrt(height * width * share / ratio))
        wide = round(math.sqrt(height * width * share * ratio))
        if 0 < high <= height and 0 < wide <= width:
            return (high, wide), True
    if width / height < aspect[0]:
        return (round(width / aspect[0]), width), False
    if width / height > aspect[1]:
        return (height, round(height * aspect[1])), False
    return (height, width), False


@pytest.mark.parametrize(("height", "width"), [(26, 37), (120, 90), (6, 40), (40, 6)])
def test_resized_crop_equals_numpy(height, width):
    area, aspect = (0.6, 1.0), (3 / 4, 4 / 3)
    fitted = 0
    draw = drawing(ResizedCrop(area), height, width)
    for number in range(30):
        seeds = seeds_of(number)
        cut = draw(seeds)
        draws = shares(seeds, sampling.CROP, 22)
        logs = math.log(aspect[0]) + draws[10:20] * math.log(aspect[1] / aspect[0])
        extent, fits = numpy_box(height, width, 0.6 + 0.4 * draws[:10], logs, aspect)
        np.testing.assert_array_equal(cut.extent, extent)
        room = np.array([height, width]) - extent
        begin = np.floor(draws[20:] * (room + 1)) if fits else room // 2
        np.testing.assert_array_equal(cut.begin, begin)
        np.testing.assert_array_equal(cut.resized, [16, 16])
        fitted += fits
    assert fitted == 0 if 6 in (height, width) else fitted > 20


def test_scale_jitter_after_the_resize():
    rule = VGGCut(18, ScaleJitter(1.0, (0.9, 1.33), after_resize=True))
    for number in range(10):
        seeds = seeds_of(number)
        cut = rule.draw(tf.constant([26, 37]), 16, seeds)
        factors = 0.9 + np.float32(shares(seeds, sampling.JITTER, 3)[1:]) * np.float32(1.33 - 0.9)
        size = np.int32(np.float32([18, 37 * 18 // 26]) * factors)
        np.testing.assert_array_equal(cut.resized, size)
        np.testing.assert_array_equal(cut.truncated_at, [[18, 37 * 18 // 26], size])
