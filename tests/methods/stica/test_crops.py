"""Crops of feature maps: where they are, what is compared, and nothing of replicas in it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.golden.replicas import simulate
from vatt.methods.stica import crops
from vatt.methods.stica.config import SPACE, TIME, Crops, ModelConfig
from vatt.methods.stica.objective import CropEmbeddings, CropLoss, Embeddings
from vatt.modeling.random import Randomness
from vatt.objectives.replica import ALONE

RANDOM = np.random.default_rng(0)
ROWS, WIDTH, T = 6, 5, 0.5


def starts(kind, sides, published=False, seeds=50, large=2, small=1):
    cut = Crops(kind, large, small, published)
    found = [
        crops.draw_starts(cut, sides, crops.drawn_by(Randomness([7, seed]).child("x")))
        for seed in range(seeds)
    ]
    places = [[np.array(getattr(s, size)) for s in found] for size in ("large", "small")]
    return cut, *(np.concatenate(some) for some in places)  # [draws, axes]


@pytest.mark.parametrize(
    ("kind", "sides", "sizes"),
    (
        (SPACE, (7, 7), (6, 4)),
        (TIME, (4,), (3, 2)),
        (TIME, (8,), (6, 4)),
        (TIME, (15,), (6, 4)),
        (SPACE, (4, 4), (3, 2)),
    ),
)
def test_crops_reach_both_ends_and_not_beyond(kind, sides, sizes):
    cut, large, small = starts(kind, sides)
    assert (cut.size(sides[0], False), cut.size(sides[0], True)) == sizes
    for places, size in zip((large, small), sizes, strict=True):
        for axis, side in enumerate(sides):
            assert set(places[:, axis]) == set(range(side - size + 1))


def test_published_crops_never_take_the_last_place():
    _, large, small = starts(SPACE, (7, 7), published=True)
    assert set(large.ravel()) == {0} and set(small.ravel()) == {0, 1, 2}
    _, large, _ = starts(TIME, (15,), published=True)
    assert set(large.ravel()) == set(range(9))


def test_places_are_those_of_every_replica():
    cut = Crops(SPACE, 2, 3)
    draws = [
        crops.draw_starts(cut, (7, 7), crops.drawn_by(Randomness([1, 2], first_row).child("x")))
        for first_row in (0, 32)
    ]
    one, two = (np.array([*d.large, *d.small]) for d in draws)
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one, axis=0)) > 1


def test_a_crop_is_a_slice():
    x = RANDOM.normal(size=(2, 4, 7, 7, 3)).astype("f4")
    space, time = Crops(SPACE, 1, 1), Crops(TIME, 1, 1)
    np.testing.assert_array_equal(crops.cut(x, space, (1, 0), False), x[:, :, 1:7, 0:6])
    np.testing.assert_array_equal(crops.cut(x, space, (3, 2), True), x[:, :, 3:7, 2:6])
    np.testing.assert_array_equal(crops.cut(x, time, (1,), False), x[:, 1:4])


# Objective ---------------------------------------------------------------------------------------


def drawn(count):
    return [RANDOM.normal(size=(ROWS, WIDTH)) for _ in range(count)]


def nce(queries, keys, t):
    scores = queries @ keys.T / t
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diagonal(scores))


def both(x, y, t):
    return (nce(x, y, t) + nce(y, x, t)) / 2


def test_the_objective_is_that_of_numpy_on_one_replica_and_on_two():
    large, second, small = drawn(2), drawn(1)[0], drawn(3)
    time_large, time_small = drawn(1), drawn(2)
    video, audio = drawn(2), drawn(2)
    within = [both(second, large[1], T), *(nce(s, k, T) for k in large for s in small)]
    within += [nce(s, time_large[0], T) for s in time_small]
    across = [both(v, a, 0.1) for v, a in zip(video, audio, strict=True)]
    alpha = 0.3
    wanted = (1 - alpha) * np.mean(within) + alpha * np.mean(across)
    loss = CropLoss({SPACE: Crops(SPACE, 2, 3), TIME: Crops(TIME, 1, 2)}, T, alpha)

    def embeddings(rows):
        def of(several):
            return [x[rows] for x in several]

        time = CropEmbeddings(of(time_large), None, of(time_small))
        space = CropEmbeddings(of(large), second[rows], of(small))
        return Embeddings(of(video), of(audio), {SPACE: space, TIME: time})

    found = loss(embeddings(slice(None)), {}, ALONE)
    assert sorted(found) == sorted(loss.names)
    np.testing.assert_allclose(found["total_loss"], wanted, rtol=1e-10)
    np.testing.assert_allclose(found["crop_loss/TS-TL_loss"], np.mean(within[-2:]), rtol=1e-10)
    halves = simulate(
        lambda i, replica: loss(embeddings(slice(3 * i, 3 * i + 3)), {}, replica)["total_loss"], 2
    )
    np.testing.assert_allclose(np.mean(halves), wanted, rtol=1e-10)


def test_large_crops_are_constants_to_small_ones():
    large, small = (tf.constant(x[0]) for x in (drawn(1), drawn(1)))
    loss = CropLoss({SPACE: Crops(SPACE, 1, 1), TIME: Crops(TIME, 0, 0)}, T, 0.0)
    assert loss.names == ("crop_loss/S-L_loss", "crop_loss", "total_loss")
    with tf.GradientTape() as tape:
        tape.watch([large, small])
        crop = CropEmbeddings([large], None, [small])
        total = loss(Embeddings([], [], {SPACE: crop}), {}, ALONE)["total_loss"]
    unmoved, moved = tape.gradient(total, [large, small])
    assert unmoved is None and np.abs(moved).max() > 0


# Configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    (
        ({"num_large_crops": 1}, "num_large_crops"),
        ({"num_small_tcrops": 2}, "num_large_tcrops"),
        ({"video_backbone": "vit_base"}, "video_backbone"),
        ({"num_large_crops": 0, "num_small_crops": 2, "num_large_tcrops": 2}, "num_large_crops"),
    ),
)
def test_crops_that_nothing_is_compared_with_are_told(fields, named):
    (problem,) = ModelConfig(**fields).problems()
    assert problem.path == f"model_config.{named}"


@pytest.mark.parametrize(("heads", "told"), ((3, True), (4, False)))
def test_heads_share_the_channels_of_the_map(heads, told):
    found = [p.path for p in ModelConfig(num_head=heads).problems()]
    assert found == ["model_config.num_head"] * told


def test_crops_are_not_needed_beside_sound_alone():
    config = ModelConfig(num_large_crops=0, cross_modal_alpha=1.0)
    assert not list(config.problems()) and config.modalities == ("video", "audio")
    assert ModelConfig(cross_modal_alpha=0.0).modalities == ("video",)
