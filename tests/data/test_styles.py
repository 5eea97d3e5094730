"""What the configuration says of pictures: styles of cutting and colouring, ranges, evaluation."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from float64_steps import seeds_of
from PIL import Image

from vatt import configs
from vatt.configs import dataset
from vatt.data import clips, colour, views, vision
from vatt.data.appearance import (
    LUMA_4_DIGITS,
    LUMA_OF_BGR,
    BlendJitter,
    Blur,
    ColourJitter,
    Grey,
    Normalise,
)
from vatt.data.cuts import InceptionCut, ResizedCrop, ScaleJitter, ShortSideCut, SquareCut, VGGCut
from vatt.data.views import EvaluationView, View

RANGE = dict(pixel_mean=0.45, pixel_std=0.225)
BOX = dict(min_area_ratio=0.14, min_aspect_ratio=3 / 4, max_aspect_ratio=4 / 3)
SHORT_SIDE = dict(
    crop_resize_style="ShortSide", frame_size=112, min_resize=128, max_resize=160,
    color_style="blend", color_probability=1.0, **RANGE,
)  # fmt: skip
RESIZED = dict(crop_resize_style="ResizedCrop", frame_size=112, color_style="blend", **BOX, **RANGE)
SCALE = Normalise(0.45, 0.225)


def of(**changes):
    cfg = dataset.Dataset(**changes)
    return views.of_config(cfg, cfg.crop_resize_style)


def seeds(count):
    return [seeds_of(n) for n in range(count)]


def test_views_of_the_styles():
    assert of(**SHORT_SIDE) == View(112, ShortSideCut(128, 160), steps=(BlendJitter(1.0), SCALE))
    box = ResizedCrop((0.14, 1.0))
    assert of(**RESIZED) == View(112, box, steps=(BlendJitter(0.8), SCALE))
    augmented = of(**RESIZED, grey_probability=0.2, blur_probability=0.5)
    assert augmented.steps == (BlendJitter(0.8), Grey(0.2), Blur(0.5), SCALE)
    plain = dict(horizontal_flip=False, color_augment=False, zero_centering_image=False)
    square = of(crop_resize_style="Square", frame_size=112, **plain)
    assert square == View(112, SquareCut(), flip=0.0)
    assert of(color_probability=0.3).steps == (ColourJitter(0.3),)


def test_stretched_frames():
    """AV-MAE: shorter side, then both sides by factors of their own, then a square."""
    stretched = of(crop_resize_style="Stretched", min_resize=256, grey_probability=0.1)
    cut = VGGCut(256, ScaleJitter(1.0, (0.9, 1.33), after_resize=True))
    steps = (ColourJitter(), Grey(0.1, LUMA_4_DIGITS))
    assert stretched == View(224, cut, zero_centred=True, steps=steps)
    cfg = dataset.Finetune(crop_resize_style="Stretched", min_resize=256)
    assert views.for_classifier(cfg).cut == cut  # not VATT's boxes
    still = of(crop_resize_style="Stretched", min_resize=256, random_crop=False)
    assert still.cut == VGGCut(256, centred=True)
    for draw in range(20):
        sizes = cut.sizes(tf.constant([300, 400]), seeds_of(draw))
        assert sizes[0].numpy().tolist() == [256, 341]
        assert 230 <= sizes[1][0] <= 340 and 306 <= sizes[1][1] <= 453


def test_squares_of_stretched_frames_in_evaluation():
    """Three along the longer side, in the middle of the other one."""
    cfg = dataset.Evaluation(
        crop_resize_style="Stretched", frame_size=14, test_resize=17, multi_crop=True
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, 17, 24, 3), np.uint8)
    found = vision.evaluation_frames(tf.constant(frames), views.for_evaluation(cfg)).numpy()
    for number, left in enumerate((0, 5, 10)):
        square = frames[:, 2:16, left : left + 14]
        np.testing.assert_array_equal(found[2 * number : 2 * number + 2], square)


def test_published_defects():
    short = of(**SHORT_SIDE, published_augmentation=True)
    jitter = BlendJitter(1.0, weights=LUMA_OF_BGR, channels_first=True)
    assert short == View(112, ShortSideCut(128, 160, never_last=True), steps=(jitter, SCALE))
    fixed = of(**RESIZED, grey_probability=0.2, blur_probability=0.5, published_augmentation=True)
    blur = Blur(0.5, sigma=(0.1, 0.1), horizontal_sigma=(2.0, 2.0))
    jitter = BlendJitter(0.8, weights=LUMA_OF_BGR)
    assert fixed.steps == (SCALE, jitter, Grey(0.2, LUMA_OF_BGR), blur)


def test_classifiers_are_trained_in_vatts_style_or_in_the_one_that_is_named():
    assert views.for_classifier(dataset.Finetune(color_augment=False)) == View(
        224, InceptionCut(), zero_centred=True
    )
    assert isinstance(views.for_classifier(dataset.Finetune(**RESIZED)).cut, ResizedCrop)


def test_without_random_crops_the_middle_is_cut():
    for style, expected in (
        ("ShortSide", ShortSideCut(128, 128, centred=True)),
        ("ResizedCrop", ShortSideCut(112, 112, centred=True)),
        ("Square", SquareCut(centred=True)),
    ):
        cfg = dict(frame_size=112, min_resize=128, max_resize=160, random_crop=False)
        assert of(crop_resize_style=style, **cfg).cut == expected
    frame = tf.constant([127, 255])
    cut = ShortSideCut(20, 20, centred=True).draw(frame, 13, seeds(1)[0])
    assert cut.resized.numpy().tolist() == [20, 40]
    assert cut.offset.numpy().tolist() == [4, 14]  # 3.5 and 13.5, rounded up


def offsets(cut, frame, size):
    draw = tf.function(lambda own: cut.draw(tf.constant(frame), size, own).offset, autograph=False)
    found = [draw(own).numpy() for own in seeds(200)]
    return [set(along) for along in np.array(found).T.tolist()]


def test_the_last_place_is_drawn_but_where_it_is_published_not_to_be():
    assert offsets(ShortSideCut(20, 20), [20, 23], 18) == [{0, 1, 2}, {0, 1, 2, 3, 4, 5}]
    cut = ShortSideCut(20, 20, never_last=True)
    assert offsets(cut, [20, 23], 18) == [{0, 1}, {0, 1, 2, 3, 4}]
    assert offsets(cut, [20, 22], 20) == [{0}, {0, 1}]


def test_squares_are_as_large_as_the_frame_allows():
    for frame, room in (([20, 26], [1, 7]), ([30, 20], [11, 1])):
        frame = tf.constant(frame)
        draw = tf.function(lambda own, of=frame: SquareCut().draw(of, 10, own)[:2], autograph=False)
        begins, extents = np.array([draw(own) for own in seeds(150)]).swapaxes(0, 1)
        assert set(map(tuple, extents)) == {(20, 20)}
        assert [len(set(along)) for along in begins.T.tolist()] == room
        assert (begins.max(axis=0) == np.array(room) - 1).all()
    middle = SquareCut(centred=True).draw(tf.constant([20, 27]), 10, seeds(1)[0])
    assert middle.begin.numpy().tolist() == [0, 4]


def test_jitter_that_takes_channels_for_frames():
    frames = np.random.default_rng(0).uniform(0, 1, (5, 6, 7, 3))
    turned = np.transpose(frames, (3, 0, 1, 2))  # what it sees: three frames of five channels
    grey = np.zeros_like(turned)
    mixed = 0.114 * turned[:, 0] + 0.587 * turned[:, 1] + 0.299 * turned[:, 2]
    grey[:, :3] = mixed[:, None]
    contrasted = 1.3 * turned - 0.3 * grey.mean(axis=(1, 2, 3), keepdims=True)
    grey = np.zeros_like(turned)
    mixed = 0.114 * contrasted[:, 0] + 0.587 * contrasted[:, 1] + 0.299 * contrasted[:, 2]
    grey[:, :3] = mixed[:, None]
    expected = 0.9 * (0.7 * contrasted + 0.3 * grey)
    found = colour.blend_jitter(
        *(tf.constant(value, tf.float32) for value in (frames, [0.9, 1.3, 0.7])),
        tf.constant([1, 2, 0]),
        LUMA_OF_BGR,
        channels_first=True,
    )
    np.testing.assert_allclose(np.transpose(found, (3, 0, 1, 2)), expected, atol=1e-5)


# Evaluation --------------------------------------------------------------------------------------


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("tall", [False, True])
def test_three_squares_of_frames_whose_levels_keep_their_decimals(tall):
    ramp = np.repeat(np.arange(27)[None] * 9, 16, axis=0)[..., None].repeat(3, axis=2)
    frames = np.stack([ramp, 255 - ramp]).transpose(0, 2, 1, 3) if tall else [ramp, 255 - ramp]
    record = clips.Record(
        tf.constant([png(frame) for frame in frames]),
        *(tf.zeros([0]) for _ in range(6)),
        source=tf.constant(""),
    )
    spec = clips.ClipSpec("made", 2, 1, 10.0, 1, 1, True, False, False, 0)
    view = EvaluationView(8, 8, multi_crop=True, decimals=True, normalise=SCALE)
    found, thumbnails = clips.evaluation_video(record, spec, 1, view)
    assert found.shape == (3, 2, 8, 8, 3) and thumbnails.shape == (3, 8, 8, 3)
    # 27 columns become 13, and lie (k + 0.5) * 27 / 13 - 0.5 apart; squares begin at 0, 3 and 5.
    places = (np.arange(13) + 0.5) * 27 / 13 - 0.5
    for values, begin in zip(found.numpy(), (0, 3, 5), strict=True):
        expected = (places[begin : begin + 8] * 9 / 255 - 0.45) / 0.225
        columns = values[0, :, 3, 0] if tall else values[0, 3, :, 0]
        np.testing.assert_allclose(columns, expected, atol=1e-5)
    (middle,), _ = clips.evaluation_video(
        record, spec, 1, EvaluationView(8, 8, decimals=True, normalise=SCALE)
    )
    np.testing.assert_array_equal(middle, found[1])
    shown = np.round(places[3:11] * 9)
    seen = thumbnails[0, :, 3, 0] if tall else thumbnails[0, 3, :, 0]
    np.testing.assert_array_equal(seen, shown)


def test_evaluation_view_of_the_configuration():
    assert views.for_evaluation(dataset.Evaluation(frame_size=32)) == EvaluationView(
        32, 32, zero_centred=True
    )
    found = views.for_evaluation(dataset.Finetune(**RESIZED))
    assert found == EvaluationView(112, 112, True, decimals=True, normalise=SCALE)


def test_training_and_evaluation_frames_are_in_one_range():
    white = tf.constant([png(np.full((20, 20, 3), 255))])
    view = View(8, ShortSideCut(8, 8), steps=(SCALE,))
    trained = vision.training_frames(white, 1, seeds(1)[0], view)
    np.testing.assert_allclose(trained, (1 - 0.45) / 0.225, rtol=1e-6)


# Configuration -----------------------------------------------------------------------------------


def problems(**override):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(task="finetune", model_arch="vit_tiny", params_override=override)
    return str(caught.value)


def test_what_does_not_fit_together_is_told():
    style = {"train.input.crop_resize_style": "ShortSide"}
    told = problems(**style, **{"train.input.max_resize": 200})
    assert "expected at least min_resize, which is 224" in told
    told = problems(**{"train.input.max_resize": 250, "eval.input.published_augmentation": True})
    assert "train.input.max_resize = 250: expected null: it belongs to" in told
    assert "eval.input.published_augmentation = True: expected false" in told
    told = problems(**{"train.input.pixel_std": 0.225, "train.input.pixel_mean": 0.45})
    assert "eval.input.pixel_std = None: expected train.input.pixel_std, 0.225" in told
    assert "eval.input.pixel_mean = 0.0: expected train.input.pixel_mean, 0.45" in told
    told = problems(**style, **{"train.input.published_augmentation": True})
    assert "train.input.color_style = 'hue': expected blend" in told
    told = problems(**{"train.input.blur_probability": 0.5, "train.input.frame_size": 4})
    assert "train.input.blur_probability = 0.5: expected 0" in told
    told = problems(**style, **{"train.input.min_resize": 8, "train.input.frame_size": 32})
    assert "crops of frame_size 32 do not fit into the resized frame" in told


def test_levels_of_the_values_that_a_model_sees():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for view in (
        EvaluationView(8, 8),
        EvaluationView(8, 8, zero_centred=True),
        EvaluationView(8, 8, normalise=SCALE),
    ):
        values = view.values(vision.normalise(tf.constant(levels), view.zero_centred)).numpy()
        np.testing.assert_array_equal(view.levels(values), levels)
