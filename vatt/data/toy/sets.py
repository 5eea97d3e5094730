"""Plans the toy data sets: which videos there are, what their scenes show, and in which split.

A plan is a pure function of (set, seed, scale); every video has its own random stream, keyed by the
set and the video's number, so videos can be rendered in any order by any number of workers.

| set            | one clip is | labels                     | splits                            |
|----------------|-------------|----------------------------|-----------------------------------|
| toy_howto      | a scene of a narrated video | none       | train, test                       |
| toy_audioset   | one scene   | timbre and rhythm names    | train, test                       |
| toy_retrieval  | one scene, one caption | shape=, colour=, motion= | train, test (all distinct) |
| toy_actions    | one scene   | motion name                | train_1..train_3, test_1..test_3  |
| toy_sounds     | one scene   | timbre name                | train_1..train_5, test_1..test_5  |
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from vatt.data.toy.captions import Caption, describe, narrate
from vatt.data.toy.scene import COLOURS, FPS, MOTIONS, SHAPES, Scene, draw_scene
from vatt.data.toy.sound import RHYTHMS, TIMBRES

PRETRAINING_SETS = ("toy_howto", "toy_audioset", "toy_retrieval")
SETS = (*PRETRAINING_SETS, "toy_actions", "toy_sounds")
SCENES_PER_VIDEO = 4  # of toy_howto
DURATIONS = (2.4, 2.8)  # s, of a scene; drawn independently of what it shows

_SIZES = {  # videos at scale 1: (training, test)
    "toy_howto": (1000, 20),
    "toy_audioset": (2600, 160),
    "toy_retrieval": (64, 320),
    "toy_actions": (480, 0),  # the splits are made of the same videos
    "toy_sounds": (400, 0),
}


@dataclass(frozen=True)
class VideoPlan:
    """One video file to make."""

    dataset: str
    name: str  # file name without suffix
    splits: tuple[str, ...]
    scenes: tuple[Scene, ...]
    captions: tuple[Caption, ...]
    labels: tuple[str, ...]
    seed: tuple[int, ...]  # of its pictures and sounds

    @property
    def duration(self) -> float:
        return sum(scene.duration for scene in self.scenes)


def _random_scene(rng: np.random.Generator, **fixed: str) -> Scene:
    low, high = (round(FPS * seconds) for seconds in DURATIONS)
    attributes = {
        "shape": SHAPES[rng.integers(len(SHAPES))],
        "colour": tuple(COLOURS)[rng.integers(len(COLOURS))],
        "motion": MOTIONS[rng.integers(len(MOTIONS))],
    } | fixed
    return draw_scene(rng, **attributes, duration=int(rng.integers(low, high + 1)) / FPS)


def _combinations(rng: np.random.Generator) -> list[dict[str, str]]:
    """Returns every shape x colour x motion once, shuffled."""
    product = itertools.product(SHAPES, COLOURS, MOTIONS)
    every = [{"shape": s, "colour": c, "motion": m} for s, c, m in product]
    return [every[i] for i in rng.permutation(len(every))]


def _folds(index: int, count: int) -> tuple[str, ...]:
    """Returns the splits of a video that is tested in fold `index` (from 0) of `count`."""
    return tuple(f"{'test' if k == index else 'train'}_{k + 1}" for k in range(count))


def _labels(dataset: str, scene: Scene) -> tuple[str, ...]:
    if dataset == "toy_audioset":
        return (TIMBRES[scene.shape], RHYTHMS[scene.motion])
    if dataset == "toy_retrieval":
        return (f"shape={scene.shape}", f"colour={scene.colour}", f"motion={scene.motion}")
    if dataset == "toy_actions":
        return (scene.motion,)
    if dataset == "toy_sounds":
        return (TIMBRES[scene.shape],)
    return ()


def plan(dataset: str, seed: int = 0, scale: float = 1.0) -> list[VideoPlan]:
    """Returns the videos of a set. `scale` multiplies the number of videos of each split.

    The number of test clips of toy_retrieval is at most 320, so that all descriptions differ.
    """
    number = SETS.index(dataset)
    train, test = _SIZES[dataset]
    train, test = max(1, round(train * scale)), round(test * scale)
    test = max(1, test) if _SIZES[dataset][1] else 0
    combinations = _combinations(np.random.default_rng([seed, number]))
    if dataset == "toy_retrieval":
        train, test = min(train, 64), min(test, 320)
    plans = []
    for index in range(train + test):
        key = (seed, number, 1 + index)
        rng = np.random.default_rng(key)
        fixed: dict[str, str] = {}
        splits = ("train" if index < train else "test",)
        if dataset == "toy_retrieval":
            fixed = combinations[index]
        elif dataset == "toy_actions":
            fixed, splits = {"motion": MOTIONS[index % 8]}, _folds(index // 8 % 3, 3)
        elif dataset == "toy_sounds":
            fixed, splits = {"shape": SHAPES[index % 8]}, _folds(index // 8 % 5, 5)
        count = SCENES_PER_VIDEO if dataset == "toy_howto" else 1
        scenes = [_random_scene(rng, **fixed) for _ in range(count)]
        captions: list[Caption] = []
        if dataset == "toy_howto":
            captions = narrate(scenes, rng)
        elif dataset == "toy_retrieval":
            captions = [Caption(0.0, scenes[0].duration, describe(scenes[0], rng))]
        labels = _labels(dataset, scenes[0])
        name = f"{dataset.removeprefix('toy_')}_{index:05d}"
        plans.append(
            VideoPlan(dataset, name, splits, tuple(scenes), tuple(captions), labels, (*key, 1))
        )
    return plans
