"""The toy corpus is a fair problem: nothing but the content tells what a clip shows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vatt.data.toy import captions, sets, video
from vatt.data.toy.scene import COLOURS, FPS, MOTIONS, SHAPES, Scene, draw_scene, render
from vatt.data.toy.sound import SAMPLE_RATE, rhythm, synthesise, timbre

KINDS = ("shape", "colour", "motion")


def nearest_mean_accuracy(values: np.ndarray, classes: np.ndarray) -> float:
    """Accuracy on odd rows of the nearest class mean of even rows; `values` [rows, features]."""
    names = np.unique(classes)
    means = np.stack([values[::2][classes[::2] == name].mean(axis=0) for name in names])
    distance = ((values[1::2, None] - means) ** 2).sum(axis=-1)
    return float((names[distance.argmin(axis=1)] == classes[1::2]).mean())


def limit(classes: np.ndarray) -> float:
    """Chance and four standard deviations of a guess."""
    chance = 1 / len(np.unique(classes))
    return chance + 4 * np.sqrt(chance * (1 - chance) / (len(classes) // 2))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(480):
        shape, motion = SHAPES[rng.integers(8)], MOTIONS[rng.integers(8)]
        colour = tuple(COLOURS)[rng.integers(6)]
        made.append(draw_scene(rng, shape, colour, motion, int(rng.integers(60, 71)) / FPS))
    return made


@pytest.fixture(scope="module")
def first_frames(scenes) -> np.ndarray:
    """Float [scenes, height, width, 3], each the first frame of a short piece of the scene."""
    short = [Scene(s.shape, s.colour, s.motion, 1 / FPS, s.period, s.phase) for s in scenes]
    pictures = [render(scene, np.random.default_rng(k))[0] for k, scene in enumerate(short)]
    return np.stack(pictures).astype(float)


@pytest.mark.parametrize("kind", KINDS)
def test_the_edge_of_the_picture_tells_nothing(scenes, first_frames, kind):
    classes = np.array([getattr(scene, kind) for scene in scenes])
    for y, x in itertools.product((0, 36, -1), (0, 40, -1)):
        if (y, x) != (36, 40):
            assert nearest_mean_accuracy(first_frames[:, y, x], classes) < limit(classes)


@pytest.mark.parametrize("kind", ["shape", "motion"])
def test_no_pixel_tells_shape_or_motion(scenes, first_frames, kind):
    classes = np.array([getattr(scene, kind) for scene in scenes])
    places = itertools.product(range(4, 72, 8), range(4, 80, 8))
    best = max(nearest_mean_accuracy(first_frames[:, y, x], classes) for y, x in places)
    assert best < limit(classes) + 0.06  # the best of 90 places, chance is 0.125


@pytest.mark.parametrize("name", sets.PRETRAINING_SETS)
def test_durations_tell_nothing(name):
    plans = sets.plan(name)
    every = [scene for plan in plans for scene in plan.scenes]
    for kind in KINDS:
        classes = np.array([getattr(scene, kind) for scene in every])
        lengths = np.array([[scene.duration] for scene in every])
        assert nearest_mean_accuracy(lengths, classes) < limit(classes)


def test_caption_lengths_tell_nothing():
    rng = np.random.default_rng(1)
    scenes, words = [], []
    for _ in range(3000):
        scene = Scene(SHAPES[rng.integers(8)], tuple(COLOURS)[rng.integers(6)],
                      MOTIONS[rng.integers(8)], 2.4, 1.0, 0.0)  # fmt: skip
        scenes.append(scene)
        words.append([len(captions.describe(scene, rng).split())])
    for kind in KINDS:
        classes = np.array([getattr(scene, kind) for scene in scenes])
        assert nearest_mean_accuracy(np.array(words, float), classes) < limit(classes)


def test_videos_and_descriptions_of_train_and_test_are_disjoint():
    for name in sets.PRETRAINING_SETS:
        plans = sets.plan(name)
        assert len({plan.name for plan in plans}) == len(plans)
        assert len({plan.seed for plan in plans}) == len(plans)
        assert {plan.splits for plan in plans} == {("train",), ("test",)}
    plans = sets.plan("toy_retrieval")
    shown = {s: {p.labels for p in plans if p.splits == (s,)} for s in ("train", "test")}
    assert len(shown["test"]) >= 256
    assert not shown["train"] & shown["test"]


def test_plans_depend_on_the_seed_alone():
    first, second = sets.plan("toy_howto", 3, 0.02), sets.plan("toy_howto", 3, 0.02)
    assert first == second
    assert sets.plan("toy_howto", 4, 0.02) != first


def test_files_are_smaller_than_what_they_are_padded_to(tmp_path):
    """Else their size would tell the motion: the busiest pictures need the most bytes."""
    for motion in ("jump", "shake", "blink", "slide"):
        rng = np.random.default_rng(0)
        scene = draw_scene(rng, "star", "white", motion, sets.DURATIONS[1])
        video.write_mp4(tmp_path / "a.mp4", render(scene, rng), synthesise(scene, rng))
        assert (tmp_path / "a.mp4").stat().st_size < 0.97 * video.PADDED_SIZE
        video.pad_mp4(tmp_path / "a.mp4", video.PADDED_SIZE)
        assert (tmp_path / "a.mp4").stat().st_size == video.PADDED_SIZE


def test_the_sound_in_the_file_is_that_of_another_colour():
    """Pictures and sounds share one random stream: all colours must draw from it alike."""
    sounds = []
    for colour in COLOURS:
        rng = np.random.default_rng(5)
        scene = Scene("moon", colour, "jump", 0.4, 0.3, 0.2)
        render(scene, rng)
        sounds.append(synthesise(scene, rng))
    assert all(np.array_equal(sound, sounds[0]) for sound in sounds)


def bands(sound: np.ndarray) -> np.ndarray:
    """Share of the power in 24 bands of equal ratio from 80 Hz to 8 kHz, and how peaked it is."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    edges = np.geomspace(80, 8000, 25)
    share = np.array([power[(frequencies >= a) & (frequencies < b)].sum() for a, b in
                      itertools.pairwise(edges)]) / power.sum()  # fmt: skip
    return np.concatenate([np.sqrt(share), [(np.sort(power)[-10:].sum() / power.sum())]])


def test_timbres_can_be_told_apart_whatever_the_pitch():
    rng = np.random.default_rng(0)
    rows = [(shape, bands(timbre(shape, 16000, rng))) for _ in range(24) for shape in SHAPES]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    classes = np.array([shape for shape, _ in rows])
    accuracy = nearest_mean_accuracy(np.stack([row for _, row in rows]), classes)
    assert accuracy > 0.85


def test_rhythms_can_be_told_apart_whatever_the_phase():
    """Nearest mean of the spectrum and the histogram of the loudness."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(24):
        for motion in MOTIONS:
            level = rhythm(draw_scene(rng, "disc", "red", motion, 2.4), round(2.4 * SAMPLE_RATE))
            level = level.reshape(-1, 80).mean(axis=1)  # 200 Hz
            spectrum = np.abs(np.fft.rfft(level - level.mean()))[1:96].reshape(19, 5).max(axis=1)
            histogram = np.histogram(level, 8, (0, 1))[0] / len(level)
            rows.append((motion, np.concatenate([spectrum / len(level), histogram])))
    rows = [rows[i] for i in rng.permutation(len(rows))]
    classes = np.array([motion for motion, _ in rows])
    assert nearest_mean_accuracy(np.stack([row for _, row in rows]), classes) > 0.85
