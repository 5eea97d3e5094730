"""Views: the policies of several methods, golden chains, several clips and views of one record."""

from __future__ import annotations

import json
from dataclasses import dataclass

import corpus
import numpy as np
import pytest
import tensorflow as tf
from float64_steps import numpy_blend_jitter, numpy_blur, numpy_grey, seeds_of, shares

from vatt.configs import dataset
from vatt.data import clips, colour, geometry, sampling, vision
from vatt.data.appearance import (
    LUMA,
    BlendJitter,
    Blur,
    ColourJitter,
    Grey,
    Normalise,
    gaussian_blur,
)
from vatt.data.cuts import InceptionCut, ResizedCrop, ScaleJitter, ShortSideCut, VGGCut
from vatt.data.views import View, of_config

VATT = View(224, VGGCut(224, ScaleJitter()), zero_centred=True, steps=(ColourJitter(),))
GDT = View(16, ShortSideCut(18, 22), steps=(BlendJitter(), Normalise(0.45, 0.225)))
STICA = View(
    16,
    ResizedCrop((0.14, 1.0)),
    steps=(Normalise(0.45, 0.225), BlendJitter(0.8), Grey(0.2), Blur(0.5)),
)
AV_MAE = View(
    16,
    VGGCut(18, ScaleJitter(1.0, (0.9, 1.33), after_resize=True)),
    zero_centred=True,
    steps=(ColourJitter(), Grey(0.1, (0.2989, 0.5870, 0.1140))),
)


@pytest.fixture(scope="module")
def pngs():
    """Strings of three frames, without loss, and the frames."""
    levels = np.random.default_rng(1).integers(0, 256, (3, 26, 37, 3), np.uint8)
    return tf.constant([tf.io.encode_png(frame).numpy() for frame in levels]), levels


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_flip_has_the_probability_that_it_is_given(pngs, probability):
    encoded, _ = pngs
    straight = View(16, ShortSideCut(20, 20), flip=0.0)
    view = View(16, ShortSideCut(20, 20), flip=probability)
    make = tf.function(
        lambda seeds, view: vision.training_frames(encoded, 3, seeds, view), autograph=False
    )
    mirrored = 0
    for number in range(12):
        seeds = seeds_of(number)
        found, other = make(seeds, view).numpy(), make(seeds, straight).numpy()
        if shares(seeds, sampling.FLIP) < probability:
            other = other[:, :, ::-1]
            mirrored += 1
        np.testing.assert_allclose(found, other, atol=1e-6)
        frames = tf.constant(found)
        flipped = vision.random_flip(frames, seeds[sampling.FLIP], probability).numpy()
        expected = bool(geometry.flipped(seeds[sampling.FLIP], probability))
        np.testing.assert_array_equal(flipped, found[:, :, ::-1] if expected else found)
    assert mirrored in {0.0: [0], 1.0: [12]}.get(probability, range(1, 12))


@pytest.mark.parametrize("view", [GDT, STICA, AV_MAE])
def test_policies_of_other_methods(view):
    smooth = tf.image.resize(tf.random.stateless_uniform((3, 6, 8, 3), (1, 2), 0, 255), (52, 74))
    smooth = tf.cast(smooth, tf.uint8).numpy()
    encoded = tf.constant([tf.io.encode_png(frame).numpy() for frame in smooth])

    def clip(published):
        return tf.function(
            lambda seeds: vision.training_frames(encoded, 3, seeds, view, published=published),
            autograph=False,
        )

    ours, one_by_one = clip(False), clip(True)
    for number in range(6):
        found = ours(seeds_of(number)).numpy()
        assert found.shape == (3, 16, 16, 3) and found.dtype == np.float32
        difference = np.abs(found - one_by_one(seeds_of(number)))
        # Where levels are cut to integers in between, positions and colours are the same.
        assert difference.mean() < 0.02 if view is AV_MAE else difference.max() < 5e-4


def test_steps_follow_one_another_in_their_order(pngs):
    encoded, _ = pngs
    for number in range(4):
        seeds = seeds_of(number)
        plain = vision.training_frames(encoded, 3, seeds, View(16, ResizedCrop((0.14, 1.0))))
        values = (plain.numpy().astype(float) - 0.45) / 0.225
        values = numpy_blend_jitter(STICA.steps[1], values, seeds)
        if shares(seeds, sampling.GREY) < 0.2:
            values = np.repeat(numpy_grey(values), 3, axis=-1)
        draws = shares(seeds, sampling.BLUR, 3)
        if draws[0] < 0.5:
            values = numpy_blur(values, 11, *[0.1 + 1.9 * draws[1]] * 2)
        found = vision.training_frames(encoded, 3, seeds, STICA)
        np.testing.assert_allclose(found, values, atol=3e-5)


def test_view_of_the_configuration():
    cfg = dataset.Pretrain()
    assert of_config(cfg, cfg.crop_resize_style) == VATT
    inception = InceptionCut((0.08, 1.0), (0.5, 2.0))
    assert of_config(dataset.Finetune(), "Inception").cut == inception == InceptionCut()
    plain = dataset.Pretrain(
        scale_jitter=False, color_augment=False, zero_centering_image=False, min_area_ratio=0.5
    )
    assert of_config(plain, "VGG") == View(224, VGGCut(224))
    assert of_config(plain, "Inception") == View(224, InceptionCut((0.5, 1.0)))
    with pytest.raises(ValueError, match="style is 'vgg'; accepted: 'VGG', 'Inception'"):
        of_config(cfg, "vgg")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: View(16, VGGCut(18), flip=1.5), "View.flip is 1.5; accepted: a probability"),
        (lambda: View(0, InceptionCut()), "View.size is 0"),
        (lambda: View(16, VGGCut(15)), "sides down to 15 pixels"),
        (lambda: View(16, ShortSideCut(15, 20)), "sides down to 15 pixels"),
        (lambda: View(17, AV_MAE.cut), "sides down to 16 pixels"),
        (lambda: View(8, InceptionCut(), steps=(Grey(1), Grey(0.5))), "two Grey"),
        (lambda: View(8, InceptionCut(), zero_centred=True, steps=(Normalise(0, 1),)), r"\[0, 1\]"),
        (lambda: View(8, InceptionCut(), steps=(Normalise(0, 1), ColourJitter())), "before"),
        (lambda: View(5, InceptionCut(), steps=(Blur(0.5),)), "Blur.kernel is 11"),
        (lambda: ScaleJitter(2.0), "ScaleJitter.probability is 2.0"),
        (lambda: ScaleJitter(1.0, (0.0, 1.0)), "ScaleJitter.factors"),
        (lambda: ShortSideCut(20, 18), "ShortSideCut"),
        (lambda: ResizedCrop((0.5, 1.1)), "ResizedCrop.area"),
        (lambda: InceptionCut((0.5, 0.1)), "InceptionCut.area"),
        (lambda: ResizedCrop(aspect=(0.0, 1.0)), "ResizedCrop.aspect"),
        (lambda: ColourJitter(hue=-0.1), "ColourJitter.hue is -0.1"),
        (lambda: BlendJitter(contrast=(1.4, 0.6)), "BlendJitter.contrast"),
        (lambda: Blur(0.5, 10), "Blur.kernel is 10; accepted: an odd number"),
        (lambda: Blur(0.5, sigma=(0.0, 1.0)), "Blur.sigma"),
        (lambda: Normalise(0.5, (1, 0, 1)), "Normalise.std"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Golden chains ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenCut:
    """A cut as another method may add it."""

    begin: tuple[int, int]
    extent: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    def draw(self, frame, size, seeds):
        return geometry.Cut(
            *(tf.constant(v) for v in (self.begin, self.extent, self.resized, self.offset))
        )


@dataclass(frozen=True)
class GivenBlends:
    """A step as another method may add it: given factors in a given order."""

    changes: tuple[tuple[str, float], ...]
    weights: tuple[float, float, float]

    def apply(self, frames, seeds, zero_centred):
        names = ("brightness", "contrast", "saturation")
        factors = tf.constant([dict(self.changes)[name] for name in names], tf.float32)
        order = tf.constant([names.index(name) for name, _ in self.changes])
        return colour.blend_jitter(frames, factors, order, self.weights)


BGR = LUMA[::-1]  # the published order of channels


@pytest.fixture(scope="module")
def chains(shared_dir):
    file = shared_dir / "conformance_gdt" / "augment_chains.npz"
    if not file.exists():
        pytest.skip(f"no golden numbers of GDT and STiCA: {file} is not there")
    arrays = np.load(file)
    return arrays, json.loads(str(arrays["meta"]))


def made(levels, view):
    """The clip of a view without random choices, [channels, frames, size, size]."""
    encoded = tf.constant([tf.io.encode_png(frame).numpy() for frame in levels])
    clip = vision.training_frames(encoded, len(levels), seeds_of(0), view)
    return np.transpose(clip, (3, 0, 1, 2))


@pytest.mark.parametrize("number", range(4))
def test_golden_stica_chain(chains, number):
    arrays, meta = chains
    draws = meta[f"stica_train/{number}"]
    box, size = draws["box_i_j_h_w"], draws["crop"]
    steps = [Normalise(0.45, 0.225)]
    if draws["jitter"]:
        steps.append(GivenBlends(tuple(map(tuple, draws["jitter"])), BGR))
    steps.append(Grey(float(draws["grayscale"]), BGR))
    steps.append(Blur(float(draws["blur"]), 11, (0.1, 0.1), (2.0, 2.0)))
    cut = GivenCut(tuple(box[:2]), tuple(box[2:]), (size, size))
    view = View(size, cut, flip=float(draws["flip"]), steps=tuple(steps))
    found = made(arrays[f"stica_train/{number}/frames"], view)
    np.testing.assert_allclose(found, arrays[f"stica_train/{number}/out"], atol=5e-5)


@pytest.mark.parametrize("slot", [0, 2])  # those of frames in their own order
def test_golden_gdt_chain(chains, slot):
    arrays, meta = chains
    draws = meta["gdt_compose"][slot]
    levels = arrays[f"gdt_compose/shift{1 + slot // 2}/frames"]
    offset = (draws["offset_y"], draws["offset_x"])
    cut = GivenCut((0, 0), levels.shape[1:3], tuple(draws["resized"]), offset)
    resized = geometry.short_side_size(*levels.shape[1:3], tf.constant(draws["short_side"]))
    np.testing.assert_array_equal(resized, draws["resized"])
    steps = (GivenBlends(tuple(map(tuple, draws["jitter"])), BGR), Normalise(0.45, 0.225))
    view = View(draws["crop"], cut, flip=float(draws["flip"]), steps=steps)
    expected = arrays["gdt_compose/video_time_first_jitter"][3 * slot : 3 * slot + 3]
    np.testing.assert_allclose(made(levels, view), expected, atol=5e-5)


def test_golden_boxes_and_blur(chains):
    arrays, meta = chains
    for case in meta["rrc_cases"]:
        tries = (tf.constant(case[name], tf.float64) for name in ("area_fractions", "log_ratios"))
        sides = tf.constant(case["height"]), tf.constant(case["width"])
        extent, fits = geometry.fitting_box(*sides, *tries, case["ratio"])
        top, left, *expected = case["box_i_j_h_w"]
        np.testing.assert_array_equal(extent, expected)
        assert bool(fits) == bool(case["offsets"])
        if not fits:
            np.testing.assert_array_equal((tf.stack(sides) - extent) // 2, [top, left])
    clip = np.transpose(arrays["blur/in"], (0, 2, 3, 1))
    found = gaussian_blur(tf.constant(clip), tf.constant([0.1, 2.0]), 11)
    np.testing.assert_allclose(np.transpose(found, (0, 3, 1, 2)), arrays["blur/out"], atol=2e-6)


# Several clips and views of one record ------------------------------------------------------------


SPEC = dict(
    video_stride=1,
    fps=corpus.FPS,
    samples=640,
    audio_stride=1,
    has_video=True,
    has_audio=True,
    has_text=False,
    classes=3,
)


def test_clips_differ_in_offset_views_in_augmentation():
    how = dict(num_frames=2, frame_size=16, min_resize=18, scale_jitter=False, color_augment=False)
    cfg, spec = dataset.Pretrain(**how), clips.ClipSpec("spoken", 2, **SPEC)
    serialized, described = tf.constant(corpus.example(1, frames=40)), [of_config(cfg, "VGG")] * 2
    plain = [View(20, GivenCut((0, 0), (20, 20), (20, 20)), flip=0.0)] * 2

    @tf.function(autograph=False)
    def make(seed):
        record, seeds = clips.parse(serialized), sampling.view_seeds(seed, 2, 2)
        videos, offsets = clips.training_views(record, seeds, described, cfg, spec)
        one = sampling.seeds_per_use(seed)
        count = clips.frame_count(record, spec)
        start = sampling.random_offset(one[sampling.OFFSET], count, spec.frames, spec.video_stride)
        alone = clips.training_video(record, start, one, described[0], cfg, spec)
        return videos, offsets, alone, clips.training_views(record, seeds, plain, cfg, spec)[0]

    seed = sampling.fold(sampling.root_seed(3), 5)
    (first, second), offsets, alone, (whole, same) = make(seed)
    assert first.shape == second.shape == (2, 2, 16, 16, 3)
    assert offsets[0] != offsets[1]
    np.testing.assert_array_equal(first[0], alone)  # as if there were one clip in one view
    for clip in range(2):
        assert np.abs(first[clip] - second[clip]).max() > 0.1
        # Without augmentation the views of a clip are equal: they show the same frames.
        np.testing.assert_array_equal(whole[clip], same[clip])
        start = int(offsets[clip])
        stored = clips.parse(serialized).frames[start : start + 2]
        levels = tf.stack([tf.io.decode_jpeg(frame) for frame in stored.numpy()])
        np.testing.assert_allclose(whole[clip], levels[:, :20, :20] / 255, atol=1e-6)
    with pytest.raises(ValueError, match="seeds are for 3 views, but there are 2"):
        seeds = sampling.view_seeds(seed, 1, 3)
        clips.training_views(clips.parse(serialized), seeds, described, cfg, spec)


# Switches of the configuration --------------------------------------------------------------------


def _columns(style, **changes):
    """Where in a picture, whose columns grow brighter, 40 training clips of it begin and end."""
    picture = np.repeat(np.arange(48, dtype=np.uint8)[None, :] * 5, 24, axis=0)
    frame = tf.io.encode_jpeg(np.repeat(picture[..., None], 3, axis=2), quality=100)
    how = dict(frame_size=20, min_resize=24, scale_jitter=False, color_augment=False)
    view = of_config(dataset.Pretrain(**how, zero_centering_image=False, **changes), style)

    @tf.function(autograph=False)
    def make(seed):
        return vision.training_frames(frame[None], 1, sampling.seeds_per_use(seed), view)

    root = sampling.root_seed(1)
    clips = [make(sampling.fold(root, n)).numpy()[0] for n in range(40)]
    return np.array([(clip[10, 0, 0], clip[10, -1, 0]) for clip in clips]) * 255 / 5


@pytest.mark.parametrize("style", ["VGG", "Inception"])
def test_mirroring_can_be_switched_off(style):
    begins, ends = _columns(style).T
    assert 8 <= (begins > ends).sum() <= 32
    begins, ends = _columns(style, horizontal_flip=False).T
    assert (begins < ends).all()
    assert np.ptp(begins) > 5  # the crop is as random as before


@pytest.mark.parametrize(("style", "edges"), [("VGG", (14, 33)), ("Inception", (12.1, 34.9))])
def test_without_random_crops_clips_are_cut_from_the_middle(style, edges):
    found = _columns(style, random_crop=False, horizontal_flip=False)
    np.testing.assert_allclose(found, np.tile(edges, (40, 1)), atol=0.6)
