"""Published names, written out for every task, and measures as they stand in metrics.jsonl."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from vatt.evaluation import metrics, summary
from vatt.evaluation.measures import Measure, curves, own_names, published_names


def retrieval(name, value, chance, query="text", target="video", variant="embd", **kwargs):
    found = {"split": "test", "samples": 320, "query": query, "target": target}
    return Measure(
        "toy", "retrieval", name, value, variant=variant, chance=chance, **found, **kwargs
    )


def test_retrieval():
    found = [
        retrieval("R1", 0.25, 0.003125, variant="cosine"),
        retrieval("R10", 0.5, 0.03125),
        retrieval("MedianRank", 4.0, 160.5),
        retrieval("top1_colour", 0.75, 0.125),
        retrieval("R10", 0.375, 0.03125, "video", "text"),
        retrieval("R10", 0.625, 0.03125, "audio", "video"),
        retrieval("R10", 0.875, 0.03125, "text", "audio"),
        retrieval("R10", 0.0, 0.03125, "text+video", "audio"),
    ]
    assert published_names(found) == {
        "toy_num_clips": 320.0,
        "toy_chance_R1": 0.003125,
        "toy_txt2vid_cosine_R1": 0.25,
        "toy_chance_R10": 0.03125,
        "toy_txt2vid_embd_R10": 0.5,
        "toy_chance_MedianRank": 160.5,
        "toy_txt2vid_embd_MedianRank": 4.0,
        "toy_chance_top1_colour": 0.125,
        "toy_txt2vid_embd_top1_colour": 0.75,
        "toy_vid2txt_embd_R10": 0.375,
        "toy_audio2vid_embd_R10": 0.625,
        "toy_txt2audio_embd_R10": 0.875,
        "toy_text+video2audio_embd_R10": 0.0,
    }
    assert own_names(found)[:2] == ["toy_txt2vid_cosine_R1", "toy_txt2vid_embd_R10"]


def test_geometry():
    found = [
        Measure("toy", "geometry", name, 0.5, query="video", target="text", samples=320)
        for name in ("modality_gap", "uniformity_text")
    ]
    assert published_names(found) == {
        "toy_geometry_video_text_modality_gap": 0.5,
        "toy_geometry_video_text_uniformity_text": 0.5,
    }


@pytest.mark.parametrize(
    ("probe", "infix"), [("linear", ""), ("knn", "knn_"), ("published_probe", "published_probe_")]
)
def test_probes_of_folds_and_their_means_in_two_modalities(probe, infix):
    found = []
    for target, value in (("video", 0.5), ("audio", 0.25)):
        figure = {"set": "acts", "task": probe, "name": "top_1_accuracy", "target": target}
        for fold in ("1", "2"):
            found += [
                Measure(**figure, value=1.0, split="train", fold=fold, samples=320),
                Measure(**figure, value=value, split="test", fold=fold, chance=0.125, samples=80),
            ]
        found.append(Measure(**figure, value=value, chance=0.125, samples=160))
    assert published_names(found) == {
        f"acts_1_train_{infix}top_1_accuracy": 1.0,
        f"acts_1_test_{infix}top_1_accuracy": 0.5,
        f"acts_2_train_{infix}top_1_accuracy": 1.0,
        f"acts_2_test_{infix}top_1_accuracy": 0.5,
        f"acts_{infix}top_1_accuracy": 0.5,
        "acts_chance_top_1_accuracy": 0.125,
        f"acts@audio_1_train_{infix}top_1_accuracy": 1.0,
        f"acts@audio_1_test_{infix}top_1_accuracy": 0.25,
        f"acts@audio_2_train_{infix}top_1_accuracy": 1.0,
        f"acts@audio_2_test_{infix}top_1_accuracy": 0.25,
        f"acts@audio_{infix}top_1_accuracy": 0.25,
        "acts@audio_chance_top_1_accuracy": 0.125,
    }


def test_sets_without_numbers_have_fold_0_and_chance_is_that_of_the_first_fold():
    found = [
        Measure("events", "linear", "mAP", 0.5, "test", "0", target="audio", chance=0.25),
        Measure("events", "linear", "d-prime", 1.5, "test", "0", target="audio"),
        Measure("events", "linear", "mAP", 0.5, target="audio", chance=0.375),
    ]
    assert published_names(found) == {
        "events_0_test_mAP": 0.5,
        "events_chance_mAP": 0.25,
        "events_0_test_d-prime": 1.5,
        "events_mAP": 0.5,
    }


def test_zero_shot():
    found = [
        Measure(
            "acts",
            "zero_shot",
            "top_5_accuracy",
            value,
            split="test",
            query="text",
            target=target,
            variant=variant,
            chance=0.625,
            samples=80,
        )
        for target, value in (("audio", 0.75), ("video", 0.5))
        for variant in ("cosine", "embd")
    ]
    assert published_names(found) == {
        "acts_zero_shot_chance_top_5_accuracy": 0.625,
        "acts_zero_shot_cosine_top_5_accuracy": 0.75,
        "acts_zero_shot_embd_top_5_accuracy": 0.75,
        "acts@video_zero_shot_chance_top_5_accuracy": 0.625,
        "acts@video_zero_shot_cosine_top_5_accuracy": 0.5,
        "acts@video_zero_shot_embd_top_5_accuracy": 0.5,
    }


def test_classification():
    of_set = {"split": "test", "target": "video", "samples": 41}
    found = [
        Measure("acts", "classification", "top_1_accuracy", 0.5, chance=0.25, **of_set),
        Measure("acts", "classification", "categorical_cross_entropy", 1.5, **of_set),
    ]
    assert published_names(found) == {
        "top_1_accuracy": 0.5,
        "chance_top_1_accuracy": 0.25,
        "categorical_cross_entropy": 1.5,
        "num_clips": 41.0,
    }


def test_round_trip_through_json():
    whole = Measure(
        "a set",
        "retrieval",
        "R1",
        0.25,
        "test",
        "1",
        "text",
        "video",
        "embd",
        0.0,
        17,
        23,
        0.5,
        "ab",
    )
    assert list(vars(whole)) == list(whole.as_dict())
    for measure in (whole, Measure("s", "knn", "mAP", 0.0), Measure("s", "linear", "mAP", 1.0)):
        assert Measure.from_dict(json.loads(json.dumps(measure.as_dict()))) == measure
    assert Measure("s", "knn", "mAP", 0.0).as_dict() == {
        "set": "s",
        "task": "knn",
        "name": "mAP",
        "value": 0.0,
    }
    later = whole.as_dict() | {"a field of a later version": 3}
    assert Measure.from_dict(later) == whole


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_in_json_and_nan_afterwards(value):
    row = Measure("s", "linear", "d-prime", value, chance=math.nan).as_dict()
    text = json.dumps(row, allow_nan=False)
    assert math.isnan(Measure.from_dict(json.loads(text)).value)


@pytest.mark.parametrize("wrong", [{}, {"set": "s", "task": "knn"}, {"set": "s", "value": "much"}])
def test_what_is_no_measure_is_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        Measure.from_dict(wrong)


def test_the_spread_over_folds_stands_beside_the_mean():
    mean = Measure("acts", "linear", "top_1_accuracy", 0.5, target="video", spread=0.125)
    assert published_names([mean]) == {"acts_top_1_accuracy": 0.5, "acts_top_1_accuracy_std": 0.125}
    assert metrics.spread([0.5, 0.75, 1.0]) == 0.25 and metrics.spread([0.5]) is None


def test_a_line_says_set_fold_clips_and_chance():
    asked = {"query": "text", "target": "video", "variant": "embd", "samples": 6, "gallery": 12}
    folded = {"split": "test_2", "fold": "2", "target": "audio", "samples": 40, "chance": 0.25}
    means = {"target": "video", "samples": 480, "chance": 0.125, "spread": 0.0471}
    found = [
        Measure("half", "retrieval", "R10", 0.75, "test", chance=10 / 12, **asked),
        Measure("half", "retrieval", "MedianRank", 5.5, "test", chance=6.5, **asked),
        Measure("noises", "classification", "top_1_accuracy", 0.9, **folded),
        Measure("acts", "linear", "top_1_accuracy", 0.40416, **means),
    ]
    assert summary.lines(found) == [
        "half, test, 6 queries in 12 clips: half_txt2vid_embd_R10 0.75 (chance 0.8333)  "
        "half_txt2vid_embd_MedianRank 5.5 (chance 6.5)",
        "noises, fold 2 (test_2), 40 clips: top_1_accuracy 0.9 (chance 0.25)",
        "acts, mean over folds, 480 clips: acts_top_1_accuracy 0.4042 ± 0.047 (chance 0.125)",
    ]


def test_a_set_too_small_to_tell_is_told_once():
    asked = {"query": "text", "target": "video", "samples": 7, "gallery": 7}
    tiny = [
        Measure("tiny", "retrieval", name, 1.0, "test", variant=variant, **asked)
        for variant in ("embd", "cosine")
        for name in ("R1", "R5", "R10", "MedianRank")
    ]
    assert summary.too_small(tiny) == [
        "tiny, test: 7 clips are too few to tell models apart, one of them is 14 % of all",
        "tiny, test: R@10 is 1 whatever the model, with 7 videos to find",
    ]
    enough = [dataclasses.replace(m, samples=30, gallery=30) for m in tiny]
    trained = Measure("acts", "linear", "top_1_accuracy", 1.0, "train", "1", samples=9)
    assert summary.too_small([*enough, trained]) == []


def test_lines_hold_the_most_telling_figures():
    def ranking(name, value, query, target, variant="embd"):
        fields = {"query": query, "target": target, "variant": variant}
        return Measure("toy", "retrieval", name, value, samples=320, **fields)

    def linear(name, target, value, task="linear", **of_fold):
        return Measure("acts", task, name, value, target=target, **of_fold)

    found = [
        ranking("R10", 0.1875, "text", "video"),
        ranking("R1", 0.1, "text", "video"),
        ranking("MedianRank", 27.0, "text", "video"),
        ranking("R10", 0.2, "text", "video", "cosine"),
        ranking("R10", 0.3, "video", "text"),
        ranking("R10", 0.05625, "audio", "video"),
        ranking("R10", 0.7, "text", "audio"),
        linear("top_1_accuracy", "video", 0.9, split="test", fold="1"),
        linear("top_1_accuracy", "video", 0.40416),
        linear("top_5_accuracy", "video", 1.0),
        linear("top_1_accuracy", "audio", 0.8875),
        linear("mAP", "video", 0.7, task="knn"),
    ]
    assert summary.lines(found) == [
        "toy, 320 clips: toy_txt2vid_embd_R10 0.1875  toy_txt2vid_embd_MedianRank 27  "
        "toy_audio2vid_embd_R10 0.05625",
        "acts, mean over folds: acts_top_1_accuracy 0.4042  acts@audio_top_1_accuracy 0.8875",
    ]
    names = ("top_1_accuracy", "top_5_accuracy", "mean_class_accuracy", "sklearn_mAP")
    found = [Measure("acts", "classification", name, 0.5, samples=7) for name in names]
    line = "acts, 7 clips: top_1_accuracy 0.5  top_5_accuracy 0.5  sklearn_mAP 0.5"
    assert summary.lines(found) == [line]


def test_curves_are_in_groups_and_without_constants():
    def probe(task, name, value, split="", fold=""):
        own = {"split": split, "fold": fold, "chance": 0.125, "samples": 80}
        return Measure("acts", task, name, value, target="video", **own)

    found = [
        retrieval("R1", 0.25, 0.003125),
        retrieval("R1", 0.5, 0.003125, variant="cosine"),
        retrieval("R1", 0.75, 0.003125, "audio", "text"),
        Measure("toy", "geometry", "alignment", 0.1, query="video", target="text", samples=320),
        probe("linear", "mAP", 0.3, "train", "1"),
        probe("linear", "mAP", 0.4, "test", "1"),
        probe("linear", "mAP", 0.6),
        probe("knn", "mAP", 0.7),
        Measure("acts", "zero_shot", "mAP", 0.8, target="video", variant="embd", chance=0.1),
        Measure("acts", "zero_shot", "mAP", 0.9, target="audio", variant="cosine", chance=0.1),
        Measure("acts", "classification", "top_1_accuracy", 1.0, split="test", samples=9),
    ]
    assert curves(found) == {
        "retrieval/toy/txt2vid/R1": 0.25,
        "retrieval/toy/txt2vid/cosine/R1": 0.5,
        "retrieval/toy/audio2txt/R1": 0.75,
        "geometry/toy/video_text/alignment": 0.1,
        "linear_folds/acts/vid/1_train/mAP": 0.3,
        "linear_folds/acts/vid/1_test/mAP": 0.4,
        "linear/acts/vid/mAP": 0.6,
        "knn/acts/vid/mAP": 0.7,
        "zero_shot/acts/vid/mAP": 0.8,
        "zero_shot/acts/audio/cosine/mAP": 0.9,
        "classification/acts/top_1_accuracy": 1.0,
    }
