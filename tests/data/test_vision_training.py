"""Whole training clips: the same augmentations as in the published order, pixels within bounds."""

from __future__ import annotations

import colorsys
import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from vatt.configs import dataset
from vatt.data import colour, compiled, geometry, sampling, views, vision
from vatt.data.appearance import ColourJitter

COUNT, HEIGHT, WIDTH, SIZE = 3, 96, 128, 64


def natural(count, height, width, seed=0):
    """Uint8 frames with the falling spectrum of photographs and a drift."""
    rng = np.random.default_rng(seed)
    picture = np.full((height + count, width + count, 3), 128.0)
    for cells in (2, 4, 8, 16, 32, 64):
        noise = rng.normal(size=(cells, cells, 1)) + 0.4 * rng.normal(size=(cells, cells, 3))
        layer = tf.image.resize(noise, picture.shape[:2], method="bicubic").numpy()
        picture += 110 / cells**0.75 * layer
    frames = [picture[i : i + height, i : i + width] for i in range(count)]
    return np.clip(frames, 0, 255).astype(np.uint8)


def jpegs(frames, **how):
    return tf.constant([tf.io.encode_jpeg(frame, quality=90, **how).numpy() for frame in frames])


def pillow(frame, kind="JPEG", **how):
    file = io.BytesIO()
    Image.fromarray(frame).save(file, kind, **how)
    return file.getvalue()


def seeds_of(number):
    return sampling.seeds_per_use(sampling.fold(sampling.root_seed(1), number))


def of_config(
    size=SIZE,
    style="VGG",
    min_resize=72,
    scale_jitter=True,
    area=(0.08, 1.0),
    aspect=(0.5, 2.0),
    colour=False,
    zero_centred=True,
):
    cfg = dataset.Pretrain(
        frame_size=size,
        min_resize=min_resize,
        scale_jitter=scale_jitter,
        min_area_ratio=area[0],
        max_area_ratio=area[1],
        min_aspect_ratio=aspect[0],
        max_aspect_ratio=aspect[1],
        color_augment=colour,
        zero_centering_image=zero_centred,
    )
    return views.of_config(cfg, style)


@functools.lru_cache
def training_frames(published=False, scaled_decoding=False, **settings):
    """f(encoded, seeds) as a graph, built once."""
    view, how = of_config(**settings), dict(published=published, scaled_decoding=scaled_decoding)
    return tf.function(
        lambda encoded, seeds: vision.training_frames(encoded, COUNT, seeds, view, **how),
        autograph=False,
    )


def prepare(encoded, **settings):
    """f(number of the clip) -> frames."""
    function = training_frames(**settings)
    return lambda number: function(encoded, seeds_of(number)).numpy()


@pytest.fixture(scope="module")
def encoded():
    return jpegs(natural(COUNT, HEIGHT, WIDTH))


def levels(difference, zero_centred=True):
    return difference * (127.5 if zero_centred else 255.0)


def test_published_is_the_published_order_bit_for_bit(encoded):
    found = prepare(encoded, published=True, colour=True)
    for number in range(6):
        seeds = seeds_of(number)
        frames = tf.stack([tf.io.decode_jpeg(picture, channels=3) for picture in encoded])
        draws = sampling.uniform(seeds[sampling.JITTER], (3,))
        if draws[0] < 0.8:
            size = np.int32(np.float32([HEIGHT, WIDTH]) * (0.8 + draws[1:] * (1.2 - 0.8)))
            frames = tf.cast(tf.image.resize(frames, size), tf.uint8)
        frames = vision.resize_smallest(frames, 72)
        frames = vision.random_crop(frames, SIZE, seeds[sampling.CROP])
        frames = vision.random_flip(frames, seeds[sampling.FLIP])
        frames = vision.normalise(frames, True)
        draws = ColourJitter().draw(seeds[sampling.COLOUR])
        expected = colour.colour_jitter(frames, draws, True)
        np.testing.assert_array_equal(found(number), expected)


def test_cut_has_the_published_numbers():
    jittered = flips = 0
    for number in range(40):
        seeds = seeds_of(number)
        cut = of_config().draw(tf.constant([HEIGHT, WIDTH]), seeds)
        draws = sampling.uniform(seeds[sampling.JITTER], (3,)).numpy()
        size = np.array([HEIGHT, WIDTH])
        if draws[0] < 0.8:
            size = np.int32(np.float32(size) * (0.8 + draws[1:] * (1.2 - 0.8)))
            jittered += 1
        height, width = size
        resized = [max(72, height * 72 // width), max(72, width * 72 // height)]
        shares = sampling.uniform(seeds[sampling.CROP], (2,)).numpy()
        offset = np.floor(shares * (np.array(resized) - SIZE + 1))
        np.testing.assert_array_equal(cut.resized, resized)
        np.testing.assert_array_equal(cut.offset, offset)
        assert bool(cut.mirror) == bool(sampling.uniform(seeds[sampling.FLIP]) < 0.5)
        changes = [(size != [HEIGHT, WIDTH]).any(), (np.array(resized) != size).any()]
        assert int(cut.truncations()) == sum(changes)
        flips += bool(cut.mirror)
    assert 25 <= jittered <= 39
    assert 10 <= flips <= 30


@pytest.mark.parametrize(("min_resize", "zero_centred"), [(64, True), (72, False)])
def test_vgg_pixels_are_near_the_published(encoded, min_resize, zero_centred):
    settings = dict(min_resize=min_resize, zero_centred=zero_centred)
    ours = prepare(encoded, **settings)
    published = prepare(encoded, published=True, **settings)
    pairs = [(ours(number), published(number)) for number in range(10)]
    difference = levels(np.array([a - b for a, b in pairs]), zero_centred)
    assert np.abs(difference).mean() < 1.5
    assert np.percentile(np.abs(difference), 99.9) < 16
    assert np.abs(difference.mean()) < 0.1  # the published darkening by truncation is kept
    values = np.array([a for a, _ in pairs])
    assert values.min() >= (-1 if zero_centred else 0)
    assert values.max() <= 1


def test_without_resizing_pixels_are_the_published(encoded):
    settings = dict(min_resize=HEIGHT, scale_jitter=False)
    ours, published = prepare(encoded, **settings), prepare(encoded, published=True, **settings)
    for number in range(6):
        np.testing.assert_array_equal(ours(number), published(number))


@pytest.mark.parametrize("jitters", [False, True])
def test_inception_differs_by_rounding(encoded, jitters):
    settings = dict(style="Inception", colour=jitters)
    ours, published = prepare(encoded, **settings), prepare(encoded, published=True, **settings)
    for number in range(8):
        difference = levels(ours(number) - published(number))
        assert np.abs(difference).max() < (0.05 if jitters else 0.005)


@pytest.mark.slow
def test_two_runs_are_equal_bit_for_bit_on_any_number_of_threads(encoded):
    alone = prepare(encoded, colour=True)

    def clip(number):
        return vision.training_frames(encoded, COUNT, seeds_of(number), of_config(colour=True))

    parallel = tf.data.Dataset.range(4).map(sampling.plain_graph(clip), num_parallel_calls=4)
    for number, frames in enumerate(parallel):
        np.testing.assert_array_equal(frames, alone(number))


def test_without_xla_only_rounding_differs(encoded, monkeypatch):
    fast = prepare(encoded, colour=True)(3)
    monkeypatch.setattr(compiled, "available", lambda: False)
    slow = vision.training_frames(encoded, COUNT, seeds_of(3), of_config(colour=True))
    np.testing.assert_allclose(slow, fast, atol=5e-5)


def test_blending_equals_resize_and_crop():
    frames = np.random.default_rng(2).integers(0, 256, (2, 40, 50, 3), np.uint8)
    for resized, offset in (((60, 45), (20, 3)), ((33, 70), (0, 38))):
        whole = tf.image.resize(frames, resized).numpy()
        expected = whole[:, offset[0] :, offset[1] :][:, :32, :32]
        cut = geometry.Cut(
            begin=tf.constant([0, 0]),
            extent=tf.constant([40, 50]),
            resized=tf.constant(resized),
            offset=tf.constant(offset),
            mirror=tf.constant(True),
        )
        rows, columns = cut.axes(32)
        for bottom_up in (False, True):  # how the region is stored makes no difference
            stored, order = geometry.placed(rows, tf.constant(40), tf.constant(bottom_up))
            pixels = geometry.packed(tf.transpose(frames, (1, 0, 2, 3)), order)
            found = geometry.normalised(pixels, stored, columns, 1.0, tf.constant(0.0), 0.0)
            np.testing.assert_allclose(found, expected[:, :, ::-1], atol=2e-3)


def picture(kind):
    frame = natural(1, 75, 139, seed=3)[0]
    if kind == "grey":
        return pillow(frame[..., 0], quality=90)
    if kind == "progressive":
        return pillow(frame, quality=90, progressive=True)
    if kind == "png":
        return pillow(frame, "PNG")
    return pillow(frame, quality=90, subsampling=kind)


@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "4:4:4", "grey", "progressive", "png"])
def test_region_has_the_pixels_of_the_whole_frame(kind):
    encoded = tf.constant([picture(kind)] * 2)
    whole = tf.io.decode_jpeg(encoded[0], channels=3).numpy()
    rng = np.random.default_rng(4)

    @tf.function(autograph=False)
    def decode(ends):
        axes = [geometry.Axis(ends[i], ends[i], tf.zeros([2])) for i in (0, 1)]
        return vision.decode_region(encoded, 2, vision.frame_size(encoded[0]), *axes)

    for _ in range(12):
        (y0, y1), (x0, x1) = np.sort(rng.integers(0, 75, 2)), np.sort(rng.integers(0, 139, 2))
        region, top, left = decode(tf.constant([[y0, y1], [x0, x1]], tf.int32))
        assert region.shape[2] % geometry.REGION_STEP == 0
        for index in (0, 1):
            found = region[y0 - top : y1 + 1 - top, index, x0 - left : x1 + 1 - left]
            np.testing.assert_array_equal(found, whole[y0 : y1 + 1, x0 : x1 + 1])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("other", [(95, 128), (96, 130), (120, 160), (40, 40)])
def test_frames_of_several_sizes_are_an_error(other, progressive):
    frames = [natural(1, *size)[0] for size in ((96, 128), (96, 128), other)]
    encoded = tf.constant([pillow(frame, progressive=progressive) for frame in frames])
    for settings in ({}, {"style": "Inception"}, {"min_resize": 96, "scale_jitter": False}):
        with pytest.raises(tf.errors.InvalidArgumentError):
            prepare(encoded, **settings)(0)


def test_other_formats_and_damaged_frames():
    frames = natural(COUNT, HEIGHT, WIDTH)
    pngs = tf.constant([pillow(frame, "PNG") for frame in frames])
    for settings in ({}, {"style": "Inception"}, {"scaled_decoding": True, "size": 32}):
        found = prepare(pngs, **settings)(1)
        expected = prepare(pngs, published=True, **settings)(1)
        assert levels(np.abs(found - expected)).mean() < 2
    good = pillow(frames[0])
    for bad in (b"", b"no picture at all", good[:200]):
        for order in ([bad, good, good], [good, good, bad]):
            with pytest.raises(tf.errors.InvalidArgumentError):
                prepare(tf.constant(order))(0)


@pytest.mark.slow
def test_scaled_decoding_keeps_positions():
    x, y = np.meshgrid(np.linspace(0, 255, 512), np.linspace(0, 255, 384))
    ramp = np.stack([x, y, 0 * x + 128], axis=-1).astype(np.uint8)
    encoded = jpegs([ramp] * COUNT, chroma_downsampling=False)
    for settings in ({"min_resize": 72}, {"style": "Inception", "area": (0.7, 1.0)}):
        whole = prepare(encoded, **settings)
        scaled = prepare(encoded, scaled_decoding=True, **settings)
        for number in range(4):
            difference = levels(whole(number) - scaled(number))
            assert np.abs(difference).mean() < 1.5  # the fast full-size transform is that biased
            assert difference.std(axis=(0, 1, 2)).max() < 1.2  # 1 pixel is 1.8 to 3 levels


def float64_colour(unit, brightness, saturation, contrast, hue):
    """The four changes pixel by pixel with the standard library's colour models."""
    out = unit.astype(np.float64) + brightness
    for index in np.ndindex(out.shape[:-1]):
        if max(out[index]) <= 0:  # no colour to speak of
            out[index] = max(out[index])
            continue
        h, s, v = colorsys.rgb_to_hsv(*out[index])
        out[index] = colorsys.hsv_to_rgb(h, min(s * saturation, 1), v)
    mean = out.mean(axis=(1, 2), keepdims=True)
    out = (out - mean) * contrast + mean
    for index in np.ndindex(out.shape[:-1]):
        low, high = min(out[index]), max(out[index])
        if high > low:  # rotated within its own range, which may lie partly below 0
            h, _, _ = colorsys.rgb_to_hsv(*((out[index] - low) / (high - low)))
            turned = np.array(colorsys.hsv_to_rgb((h + hue) % 1.0, 1.0, 1.0))
            out[index] = low + turned * (high - low)
    return np.clip(out, 0, 1)


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize("zero_centred", [False, True])
def test_fused_colours(resampled, zero_centred):
    rng = np.random.default_rng(5)
    stored = rng.integers(0, 256, (2, 6, 5, 3))
    stored[0, 0] = [[0, 0, 0], [255, 255, 255], [77, 77, 77], [255, 0, 0], [3, 0, 1]]
    stored[0, 1] = [[0, 9, 9], [200, 200, 7], [5, 180, 180], [90, 4, 90], [1, 1, 2]]
    frames = tf.constant(stored, tf.uint8)
    axes = [
        geometry.Axis(tf.range(n), tf.minimum(tf.range(n) + 1, n - 1), tf.zeros(n)) for n in (6, 5)
    ]
    darker = 0.5
    if resampled:  # between pixels, and less a little, as by truncation
        axes = [
            axis._replace(share=tf.constant(rng.uniform(size=axis.share.shape), tf.float32))
            for axis in axes
        ]
        for way, (lower, upper, share) in enumerate(axes, start=1):
            share = share.numpy().astype(np.float64).reshape((-1, 1, 1) if way == 1 else (-1, 1))
            first, second = np.take(stored, lower, way), np.take(stored, upper, way)
            stored = first + share * (second - first)
        stored = np.maximum(stored - darker, 0)
    unit = stored / 255
    for draws in (
        (-0.12, 1.4, 1.4, 0.2),
        (0.12, 0.6, 0.6, -0.2),
        (0.0, 1.3, 1.2, -0.07),
        (-0.06, 0.7, 1.4, 0.0),
    ):
        values = colour.Draws(tf.constant(True), *(tf.constant(v, tf.float32) for v in draws))
        if resampled:
            pixels = geometry.packed(tf.transpose(frames, (1, 0, 2, 3)), tf.range(6))
            found = colour.change_resampled(
                pixels, *axes, tf.constant(darker), values, zero_centred
            ).numpy()
        else:
            found = colour.change(frames, values, zero_centred).numpy()
        expected = float64_colour(unit, *draws)
        found = (found + 1) / 2 if zero_centred else found
        np.testing.assert_allclose(found, expected, atol=2e-5)
        operations = tf.constant(unit, tf.float32) + draws[0]
        operations = tf.image.adjust_saturation(operations, draws[1])
        operations = tf.image.adjust_contrast(operations, draws[2])
        operations = tf.image.adjust_hue(operations, draws[3])
        np.testing.assert_allclose(found, tf.clip_by_value(operations, 0, 1), atol=2e-5)
