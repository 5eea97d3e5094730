"""The weights that come with the package know what they were trained on."""

from __future__ import annotations

import itertools

import numpy as np

import vatt
from vatt.data.toy import captions, scene, sound

COUNT = 32


def test_toy_finds_new_scenes_by_sentence_and_by_sound():
    """Chance is 3.1 %; a mean of 32 ranks under 4 is far out of its reach."""
    rng = np.random.default_rng(20)
    every = list(itertools.product(scene.SHAPES, scene.COLOURS, scene.MOTIONS))
    kinds = [every[n] for n in rng.permutation(len(every))[:COUNT]]
    scenes = [scene.draw_scene(rng, *kind, 4.0) for kind in kinds]
    model = vatt.load("toy")
    videos = model.embed_video([scene.render(one, rng) for one in scenes], fps=scene.FPS)
    texts = model.embed_text([captions.describe(one, rng) for one in scenes])
    waves = [sound.synthesise(one, rng) for one in scenes]
    sounds = model.embed_audio(waves, sample_rate=sound.SAMPLE_RATE)
    for queries, most in ((texts, 4), (sounds, 8)):
        similarity = model.similarity(queries, videos)
        true = np.diag(similarity)[:, None]
        assert np.mean(np.sum(similarity >= true, axis=1)) < most
