"""Retrieval on sets of extracted features: what a card offers, masks, clips in several parts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vatt.configs.tokens import TokenEvaluation, Tokens
from vatt.data import cards
from vatt.errors import DataError
from vatt.evaluation import complete, metrics
from vatt.evaluation.measures import COMPLETE, published_names
from vatt.evaluators import retrieval
from vatt.modeling.pretraining import Pair

sys.path.insert(0, str(Path(__file__).parent))
import test_evaluators

S3D, MEL = cards.FeatureInfo(width=4, rate=1.0), cards.FeatureInfo(width=40, rate=100.0)


class Model(test_evaluators.Model):
    """Embeds a modality as the mean of its real tokens, two of them as the sum of both."""

    takes = ("text", "text_mask", "video", "video_mask", "audio", "audio_mask")
    pairs = (
        Pair("text", "video", "t", "v"),
        Pair("text", "video&audio", "t", "va"),
        Pair("audio", "text&video", "a", "tv"),
    )

    def embed(self, inputs):
        assert set(inputs) == set(self.takes)
        found = {}
        for modality in self.modalities:
            mask = inputs[f"{modality}_mask"][..., None]
            total = (inputs[modality] * mask).sum(axis=-2)
            found[modality[0]] = total / np.maximum(mask.sum(axis=-2), 1)
        return found | {"va": found["v"] + found["a"], "tv": found["t"] + found["v"]}


def batch(count):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(count, 1, 4))
    found = {"valid": np.ones(count), "index": np.arange(count)}
    found["ids"] = np.array([b"one source"] * count, object)
    for modality in Model.modalities:
        found[modality] = (truth + rng.normal(size=(count, 5, 4))).astype(np.float32)
        found[f"{modality}_mask"] = np.ones((count, 5), np.float32)
    found["text_mask"][0] = 0
    return found


def of_features(**changes):
    facts = {"features": {"s3d": S3D, "logmel": MEL}, "text": cards.TextInfo()} | changes
    return test_evaluators.card(**facts)


def subject(folder, card, **changes):
    tokens = Tokens(features_2d=None, features_3d="s3d", video_embed_dim=4)
    cfg = TokenEvaluation(name=("set",), tokens=tokens)
    return test_evaluators.subject(folder, card, model=Model(), batch=batch(9), **changes), cfg


def evaluated(folder, card, **changes):
    made, cfg = subject(folder, card)
    object.__setattr__(made, "input", cfg)
    object.__setattr__(made, "batch", made.batch | changes)
    return made, list(retrieval.evaluate(made))


def test_features_are_what_is_seen_and_heard(tmp_path):
    _, found = evaluated(tmp_path, of_features())
    assert len({(m.query, m.target) for m in found if m.task == "retrieval"}) == 6
    mute = of_features(features={"s3d": S3D})
    _, found = evaluated(tmp_path, mute)
    asked = {(m.query, m.target) for m in found if m.task == "retrieval"}
    assert asked == {("text", "video"), ("video", "text")}
    with pytest.raises(DataError, match=r"nothing to search with.*text and video&audio"):
        evaluated(tmp_path, of_features(features={"resnet152": S3D, "logmel": MEL}))


def test_the_card_says_how_large_the_complete_set_is(tmp_path):
    card = of_features(complete_splits={"test": 12, "valid": 99})
    made, found = evaluated(tmp_path, card)
    names = published_names(found)
    vectors = Model().embed({name: made.batch[name] for name in Model.takes})
    ranks = metrics.ranks(metrics.similarity(vectors["t"], vectors["va"]), ties="mean")
    assert names["set_txt2vidaudio_complete_R10"] == complete.metrics(ranks, 12)["R10"]
    assert names["set_txt2vidaudio_embd_MeanRank"] == np.mean(ranks[1:])  # one has no words
    whole = [m for m in found if m.variant == COMPLETE]
    assert {m.samples for m in whole} == {12} and {m.gallery for m in whole} == {9}


def test_parts_of_a_record_are_averaged(tmp_path):
    index = np.array([0, 0, 1, 1, 1, 2, 3, 3, 3])
    ids = np.array([b"x", b"x", b"x", b"x", b"-1", b"y", b"z", b"z", b"-1"], object)
    made, found = evaluated(tmp_path, of_features(), ids=ids, index=index)
    names = published_names(found)
    assert names["set_num_clips"] == 4
    vectors = Model().embed({name: made.batch[name] for name in Model.takes})
    texts = ["-1" if one == b"-1" else str(place) for one, place in zip(ids, index, strict=True)]
    text, video = (complete.mean_by_id(vectors[key], texts)[0] for key in ("t", "v"))
    ranks = metrics.ranks(metrics.similarity(text, video))
    assert names["set_txt2vid_embd_MeanRank"] == np.mean(ranks)
