"""Retrieval against a complete set: shared places, missing clips, clips in several parts."""

from __future__ import annotations

import numpy as np
import pytest

from vatt.evaluation import complete, metrics
from vatt.evaluation.measures import COMPLETE, MAIN, RETRIEVAL, curves, published_names
from vatt.evaluation.retrieval import Retrieval
from vatt.modeling.pretraining import Pair

PAIRS = (
    Pair("text", "video", "t", "v"),
    Pair("text", "video&audio", "t", "va"),
    Pair("text", "video+audio", "t", "v+a"),
)


def outputs(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(count, 6))
    return {key: truth + rng.normal(size=(count, 6)) for key in ("t", "v", "va", "v+a")}


def figures(scores: Retrieval, variant: str, target: str = "video") -> dict[str, float]:
    return {
        m.name: m.value
        for m in scores.result().measures
        if (m.task, m.variant, m.query, m.target) == (RETRIEVAL, variant, "text", target)
    }


def test_equal_scores_share_the_mean_of_their_places():
    scores = np.array([[3, 3, 1, 0], [2, 2, 2, 2], [0, 0, 5, 0], [1, 2, 3, 1]], np.float32)
    assert metrics.ranks(scores, ties="mean").tolist() == [1.5, 2.5, 1.0, 3.5]
    assert metrics.ranks(scores, ties="first").tolist() == [1, 1, 1, 3]
    assert metrics.ranks(scores).tolist() == [1, 2, 1, 4]


def test_missing_clips_count_in_shares_and_not_in_ranks():
    ranks = np.array([1.0, 1.5, 5.5, 6.0, 12.0])
    found = complete.metrics(ranks, 10)
    # half a place behind the k-th still counts, but nothing shares the first
    assert found["R1"] == 0.1 and found["R5"] == pytest.approx(0.3)
    assert found["R10"] == pytest.approx(0.4) and found["R50"] == 0.5
    assert found["GeometricMean"] == pytest.approx((0.1 * 0.3 * 0.4) ** (1 / 3))
    assert (found["MedianRank"], found["MeanRank"]) == (5.5, 5.2)
    assert complete.metrics(ranks + 1, 10)["GeometricMean"] == 0.0
    assert all(np.isnan(value) for value in complete.metrics(np.array([1, np.nan]), 4).values())
    with pytest.raises(ValueError, match="5 ranks of a set that has 4 clips"):
        complete.metrics(ranks, 4)


def test_guessing_reaches_chance():
    rng = np.random.default_rng(0)
    found = [complete.metrics(rng.permutation(20) + 1.0, 25) for _ in range(400)]
    for name, chance in complete.chance(20, 25).items():
        spread = {"MedianRank": 0.5, "MeanRank": 1e-9}.get(name, 0.02)
        assert np.mean([one[name] for one in found]) == pytest.approx(chance, abs=spread)


def test_means_by_id_in_order_without_those_dropped():
    vectors = np.arange(10.0).reshape(5, 2)
    means, names = complete.mean_by_id(vectors, ["b", "a", "-1", "b", "c"])
    assert names == ["a", "b", "c"]
    np.testing.assert_allclose(means, [[2, 3], [3, 4], [8, 9]])


def test_the_complete_protocol_stands_beside_the_one_of_the_clips_that_are_there():
    scores = Retrieval("set", PAIRS, total=40)
    batch = {"text_mask": np.repeat([[1.0, 0.0]], 30, axis=0)}
    batch["text_mask"][:3] = 0  # three clips without a word are asked with there, and not here
    found = outputs(30)
    scores.add(batch, found)
    own, whole = figures(scores, MAIN), figures(scores, COMPLETE)
    ranks = metrics.ranks(metrics.similarity(found["t"], found["v"]), ties="mean")
    assert whole == complete.metrics(ranks, 40)
    assert own["R10"] == np.mean(ranks[3:] <= 10) > whole["R10"]
    result = scores.result().measures
    counted = {(m.variant, m.samples, m.gallery) for m in result if m.query == "text"}
    assert {(COMPLETE, 40, 30), (MAIN, 27, 30)} <= counted
    names = published_names(result)
    assert names["set_txt2vid_complete_R50"] == whole["R50"] == 0.75
    assert names["set_complete_num_clips"] == 40 and names["set_num_clips"] == 30
    assert names["set_complete_chance_R10"] == pytest.approx(0.25)
    assert names["set_chance_R10"] == pytest.approx(1 / 3)
    assert names["set_txt2vidaudio_embd_R1"] == figures(scores, MAIN, "video&audio")["R1"]
    assert "retrieval/set/txt2vidaudio/complete/GeometricMean" in curves(result)
    assert "set_txt2video+audio_complete_R1" in names


def test_a_set_larger_than_the_complete_one_is_not_measured_as_such(caplog):
    scores = Retrieval("set", PAIRS[:1], total=5)
    scores.add({}, outputs(6))
    with caplog.at_level("WARNING", logger="absl"):
        assert not figures(scores, COMPLETE)
    assert "6 clips are more than the 5 of the complete set" in caplog.text


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_rows_of_one_id_are_one_clip_however_they_are_batched(batch_size):
    found, ids = outputs(30), np.array([f"clip{i % 11}".encode() for i in range(30)])
    ids[[4, 20]] = b"-1"
    captions = np.array([f"row {i}".encode() for i in range(30)])
    scores = Retrieval("set", PAIRS[:1], total=11)
    for start in range(0, 30, batch_size):
        rows = slice(start, start + batch_size)
        batch = {"ids": ids[rows], "caption": captions[rows], "valid": np.ones(30)[rows]}
        scores.add(batch, {key: value[rows] for key, value in found.items()})
    texts = [one.decode() for one in ids]
    sides = [complete.mean_by_id(found[key].astype(np.float32), texts)[0] for key in ("t", "v")]
    ranks = metrics.ranks(metrics.similarity(*sides))
    result = scores.result()
    assert len(scores) == 11 and len(set(texts)) == 12
    own = {m.name: m.value for m in result.measures if (m.variant, m.query) == (MAIN, "text")}
    assert own["MeanRank"] == np.mean(ranks)
    # what is shown of a clip is what its first row has; clips are in the order of their ids
    shown = dict(zip(result.artefact["clips/index"], result.artefact["clips/caption"], strict=True))
    order = sorted({*texts} - {"-1"})
    assert shown == {i: f"row {texts.index(order[i])}" for i in shown}
