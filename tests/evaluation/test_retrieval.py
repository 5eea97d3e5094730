"""The retrieval accumulator: every clip once, published names, artefacts without pickle."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vatt.errors import DataError
from vatt.evaluation import artefacts, metrics, retrieval, search
from vatt.evaluation.measures import published_names
from vatt.evaluation.retrieval import Retrieval, parse_attributes, spread
from vatt.modeling.pretraining import Pair

TEXT_VIDEO = Pair("text", "video", "text_tovid", "video_totxt")
AUDIO_VIDEO = Pair("audio", "video", "audio_tovid", "video_toaud")
TEXT_AUDIO = Pair("text", "audio", "text_toaud", "audio_totxt")
PAIRS = (TEXT_VIDEO, AUDIO_VIDEO)
COLOURS = ("red", "green", "blue")


def make(count: int, windows: int = 2, d: int = 6, seed: int = 0):
    """One batch of all clips and outputs in which text, audio and video mostly agree."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(count, d))
    outputs = {
        "text_tovid": truth + 0.3 * rng.normal(size=(count, d)),
        "video_totxt": truth[:, None] + 0.3 * rng.normal(size=(count, windows, d)),
        "audio_tovid": truth[:, None] + 0.6 * rng.normal(size=(count, windows, d)),
        "video_toaud": truth[:, None] + 0.6 * rng.normal(size=(count, windows, d)),
    }
    batch = {
        "valid": np.ones(count, np.float32),
        "caption": np.array([f"clip {i} ü".encode() for i in range(count)], object),
        "label_text": np.array(
            [f"colour={COLOURS[i % 3]}|shape=s{i % 4}|loud".encode() for i in range(count)], object
        ),
        "source": np.array([f"{i}.mp4".encode() for i in range(count)], object),
        "thumbnail": rng.integers(0, 255, size=(count, 3, 16, 20, 3)).astype(np.uint8),
        "audio": rng.uniform(-1, 1, size=(count, windows, 500, 1)).astype(np.float32),
    }
    return batch, outputs


def rows(tree, start, stop, pad=0):
    """A slice of every array, padded with zero rows that valid marks as such."""
    part = {}
    for name, array in tree.items():
        array = array[start:stop]
        filler = np.full((pad, *array.shape[1:]), b"" if array.dtype == object else 0, array.dtype)
        part[name] = np.concatenate([array, filler])
    return part


def test_metrics_do_not_depend_on_the_batch_size():
    batch, outputs = make(23)
    whole = Retrieval("set", PAIRS)
    whole.add(batch, outputs)
    parts = Retrieval("set", PAIRS)
    for start in range(0, 23, 5):
        stop = min(start + 5, 23)
        pad = 5 - (stop - start)
        parts.add(rows(batch, start, stop, pad), rows(outputs, start, stop, pad))
    expected, found = whole.result(), parts.result()
    assert found.measures == expected.measures
    assert published_names(found.measures)["set_num_clips"] == 23
    assert found.artefact.keys() == expected.artefact.keys()
    for name, array in expected.artefact.items():
        np.testing.assert_array_equal(found.artefact[name], array, err_msg=name)


def test_names_and_values():
    batch, outputs = make(30)
    retrieval = Retrieval("my_set", PAIRS)
    retrieval.add(batch, outputs)
    values = published_names(retrieval.result().measures)
    for direction in ("txt2vid", "audio2vid"):
        for variant in ("embd", "cosine"):
            for name in ("R1", "R5", "R10", "MedianRank"):
                assert f"my_set_{direction}_{variant}_{name}" in values
        for attribute in ("colour", "shape"):
            assert f"my_set_{direction}_embd_top1_{attribute}" in values
    assert not any("loud" in name for name in values)
    assert values["my_set_chance_R10"] == pytest.approx(10 / 30)
    assert values["my_set_chance_top1_colour"] == pytest.approx(1 / 3)
    assert values["my_set_txt2vid_embd_R10"] > 0.9
    assert values["my_set_txt2vid_embd_MedianRank"] <= 2
    assert all(type(value) is float for value in values.values())


def joint(count: int):
    """Outputs of a head with one space for all three."""
    batch, outputs = make(count)
    return batch, outputs | {
        "text_toaud": outputs["text_tovid"],
        "audio_totxt": outputs["audio_tovid"],
    }


DIRECTIONS = {
    "txt2vid": ("text_video", "text_tovid", "video_totxt"),
    "vid2txt": ("video_text", "video_totxt", "text_tovid"),
    "audio2vid": ("audio_video", "audio_tovid", "video_toaud"),
    "vid2audio": ("video_audio", "video_toaud", "audio_tovid"),
    "txt2audio": ("text_audio", "text_toaud", "audio_totxt"),
    "audio2txt": ("audio_text", "audio_totxt", "text_toaud"),
}


def test_every_direction_has_its_metrics_and_examples():
    batch, outputs = joint(30)
    retrieval = Retrieval("set", [*PAIRS, TEXT_AUDIO])
    retrieval.add(batch, outputs)
    result = retrieval.result()
    values = published_names(result.measures)
    ranks = {}
    for direction, (kind, query, gallery) in DIRECTIONS.items():
        for variant in ("embd", "cosine"):
            scores = metrics.similarity(outputs[query], outputs[gallery], variant)
            ranks[direction] = metrics.ranks(scores)
            for name, value in metrics.rank_metrics(ranks[direction]).items():
                assert values[f"set_{direction}_{variant}_{name}"] == value
        scores = metrics.similarity(outputs[query], outputs[gallery], "embd")
        right = [COLOURS[i % 3] == COLOURS[j % 3] for i, j in enumerate(scores.argmax(axis=1))]
        assert values[f"set_{direction}_embd_top1_colour"] == np.mean(right)
        assert f"set_{direction}_cosine_top1_colour" not in values
        shown = result.artefact[f"{kind}/query"]
        np.testing.assert_array_equal(result.artefact[f"{kind}/rank"], metrics.ranks(scores)[shown])
        np.testing.assert_array_equal(
            result.artefact[f"{kind}/top"], metrics.top_columns(scores, 5)[shown]
        )
    assert (ranks["txt2vid"] != ranks["vid2txt"]).any()  # directions are different questions
    assert values["set_chance_MeanRank"] == 15.5
    clips = result.artefact["clips/index"]
    assert result.artefact["clips/envelope"].shape == (len(clips), 96, 2)
    for clip, outline in zip(clips, result.artefact["clips/envelope"], strict=True):
        np.testing.assert_array_equal(outline, artefacts.envelope(batch["audio"][clip, 1]))


def test_published_single_window_leaves_embd_as_it_is():
    _, outputs = make(25, windows=1)
    outputs = {name: value * np.linspace(1, 9, 25).reshape(-1, *[1] * (value.ndim - 1))
               for name, value in outputs.items()}  # fmt: skip
    values = {}
    for published in (True, False):
        retrieval = Retrieval("set", PAIRS, published_single_window=published)
        retrieval.add({}, outputs)
        values[published] = published_names(retrieval.result().measures)
    scores = outputs["text_tovid"] @ outputs["video_totxt"][:, 0].T
    mean = np.mean(metrics.ranks(scores))
    assert values[True]["set_txt2vid_embd_MeanRank"] == pytest.approx(mean)
    assert values[False]["set_txt2vid_embd_MeanRank"] < mean
    assert values[True]["set_txt2vid_cosine_R1"] == values[False]["set_txt2vid_embd_R1"]


@pytest.mark.parametrize(("windows", "searches"), [(1, 2), (2, 4)])
def test_what_is_the_same_with_one_window_is_searched_once(monkeypatch, windows, searches):
    calls = []
    real = search.search
    monkeypatch.setattr(
        search, "search", lambda *sides, **absent: calls.append(1) or real(*sides, **absent)
    )
    batch, outputs = make(11, windows)
    retrieval = Retrieval("set", PAIRS)
    for start in (0, 4, 8):
        retrieval.add(rows(batch, start, start + 4), rows(outputs, start, start + 4))
    measures = retrieval.result().measures
    found = published_names(measures)
    assert len(calls) == searches  # two pairs of modalities
    same = found["set_txt2vid_embd_MeanRank"] == found["set_txt2vid_cosine_MeanRank"]
    assert same or windows > 1
    assert retrieval.result().measures == measures  # what was put together is still there


def test_pictures_beyond_the_memory_for_them_go_to_a_file(monkeypatch):
    batch, outputs = make(20)
    expected = Retrieval("set", PAIRS)
    expected.add(batch, outputs)
    monkeypatch.setattr(retrieval, "PICTURES_IN_MEMORY", 2000)
    spilled = Retrieval("set", PAIRS)
    spilled.add(rows(batch, 0, 9), rows(outputs, 0, 9))
    spilled.result()  # reading in between does not disturb what is added later
    spilled.add(rows(batch, 9, 20), rows(outputs, 9, 20))
    for name, array in expected.result().artefact.items():
        np.testing.assert_array_equal(spilled.result().artefact[name], array, err_msg=name)


def test_sets_with_one_kind_of_query():
    batch, outputs = make(12)
    only_text = Retrieval("t", [TEXT_VIDEO])
    only_text.add(
        {k: v for k, v in batch.items() if k != "audio"},
        {"text_tovid": outputs["text_tovid"], "video_totxt": outputs["video_totxt"]}
        | {"audio_tovid": None},
    )
    result = only_text.result()
    assert not any("audio2vid" in name for name in published_names(result.measures))
    assert not any(name.startswith("audio_video/") for name in result.artefact)
    only_audio = Retrieval("a", [AUDIO_VIDEO])
    only_audio.add(
        {"valid": batch["valid"], "audio": batch["audio"]},
        {"audio_tovid": outputs["audio_tovid"], "video_toaud": outputs["video_toaud"]},
    )
    result = only_audio.result()
    assert not any("txt2vid" in name for name in published_names(result.measures))
    assert "clips/jpeg" not in result.artefact
    assert result.artefact["audio_video/query"].shape == (6,)
    assert result.artefact["clips/envelope"].shape == (len(result.artefact["clips/index"]), 96, 2)


def test_any_pairs_that_a_model_offers_and_an_embedding_in_several_of_them():
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(20, 6))
    outputs = {
        key: truth[:, None] + 0.8 * rng.normal(size=(20, 2, 6)) for key in ("v", "a", "t", "tv")
    }
    pairs = [
        Pair("text", "video", "t", "v"),
        Pair("text+video", "audio", "tv", "a"),
        Pair("audio", "video", "a", "v"),
    ]
    scores = Retrieval("set", pairs, split="valid")
    scores.add({"valid": np.ones(12)}, {key: value[:12] for key, value in outputs.items()})
    scores.add({"valid": np.ones(8)}, {key: value[12:] for key, value in outputs.items()})
    result = scores.result()
    names = published_names(result.measures)
    for query, target, left, right in (
        ("txt", "vid", "t", "v"),
        ("vid", "txt", "v", "t"),
        ("text+video", "audio", "tv", "a"),
        ("audio", "text+video", "a", "tv"),
        ("audio", "vid", "a", "v"),
        ("vid", "audio", "v", "a"),
    ):
        for variant in ("embd", "cosine"):
            ranks = metrics.ranks(metrics.similarity(outputs[left], outputs[right], variant))
            for name, value in metrics.rank_metrics(ranks).items():
                assert names[f"set_{query}2{target}_{variant}_{name}"] == value
    asked = {(m.query, m.target) for m in result.measures if m.task == "retrieval"}
    assert len(asked) == 6 and ("text+video", "audio") in asked
    assert {m.split for m in result.measures} == {"valid"}
    assert {m.samples for m in result.measures} == {20}
    assert "set_geometry_audio_text+video_uniformity_text+video" in names
    assert result.artefact["text+video_audio/top"].shape == (6, 5)
    assert result.artefact["audio_text+video/query"].shape == (6,)


def test_nothing_to_evaluate_and_missing_pairs_are_errors():
    batch, outputs = make(4)
    retrieval = Retrieval("empty", PAIRS)
    with pytest.raises(ValueError, match="no valid clip"):
        retrieval.result()
    with pytest.raises(ValueError, match="video_totxt with text_tovid"):
        retrieval.add(batch, {"text_tovid": outputs["text_tovid"]})
    with pytest.raises(ValueError, match="video_toaud with audio_tovid"):
        retrieval.add(batch, outputs | {"video_toaud": None})
    retrieval.add(batch | {"valid": np.zeros(4)}, outputs)
    with pytest.raises(ValueError, match="no valid clip"):
        retrieval.result()
    with pytest.raises(ValueError, match="no pair"):
        Retrieval("empty", [])


def test_broken_embeddings_give_nan_metrics_and_a_loadable_artefact(tmp_path):
    batch, outputs = make(12)
    outputs["text_tovid"][3] = np.nan
    retrieval = Retrieval("nan", PAIRS)
    retrieval.add(batch, outputs)
    result = retrieval.result()
    names = published_names(result.measures)
    assert np.isnan(names["nan_txt2vid_embd_R10"])
    assert not np.isnan(names["nan_audio2vid_embd_R10"])
    artefacts.load(result.save(tmp_path, 1))


def test_artefact_round_trip(tmp_path):
    batch, outputs = make(40)
    retrieval = Retrieval("set-b", PAIRS)
    retrieval.add(batch, outputs)
    result = retrieval.result()
    path = result.save(tmp_path, step=1200)
    assert path == tmp_path / "eval" / "set-b-1200.npz"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file stays
    arrays = artefacts.load(path)
    assert int(arrays["step"]) == 1200 and str(arrays["dataset"]) == "set-b"
    assert arrays["text_video/query"].tolist() == spread(40, 8).tolist()
    assert arrays["text_video/top"].shape == (8, 5) and arrays["audio_video/top"].shape == (6, 5)
    for kind in ("text_video", "audio_video"):
        rank, hit = arrays[f"{kind}/rank"], arrays[f"{kind}/hit"]
        np.testing.assert_array_equal(hit.any(axis=1), rank <= 5)
        assert set(arrays[f"{kind}/top"].ravel()) <= set(arrays["clips/index"])
    clip = int(arrays["text_video/query"][3])
    row = int(np.searchsorted(arrays["clips/index"], clip))
    assert arrays["clips/caption"][row] == f"clip {clip} ü"
    with Image.open(io.BytesIO(artefacts.clip_jpeg(arrays, row))) as picture:
        assert picture.size == (60, 16)


def test_load_refuses_pickles_and_rubbish(tmp_path):
    np.savez(tmp_path / "pickle.npz", a=np.array([{"x": 1}], object))
    (tmp_path / "rubbish.npz").write_bytes(b"not a zip file")
    for name in ("pickle.npz", "rubbish.npz", "absent.npz"):
        with pytest.raises(DataError, match=name):
            artefacts.load(tmp_path / name)


def test_big_thumbnails_are_shrunk_and_sounds_outlined():
    jpeg = artefacts.strip_jpeg(np.zeros((3, 224, 224, 3), np.uint8))
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.size == (288, 96)
    wave = np.sin(np.linspace(0, 60, 9600))[:, None]
    outline = artefacts.envelope(wave)
    assert outline.shape == (96, 2) and (outline[:, 0] <= outline[:, 1]).all()
    assert artefacts.envelope(np.ones((50, 80, 1))).tolist() == [[-1, 1]] * 50


def test_spread_and_attributes():
    assert spread(3, 8).tolist() == [0, 1, 2]
    assert spread(0, 8).size == 0
    for total in (8, 9, 20, 256, 1000):
        chosen = spread(total, 8)
        assert len(set(chosen)) == 8 and chosen.min() >= 0 and chosen.max() < total
    assert np.diff(spread(256, 8)).max() <= 256 // 4
    assert len(set(spread(256, 8) % 4)) > 2  # not the same place of a period again and again
    assert parse_attributes(["b=2|a=1", "a=3|a=0|speech", ""]) == {
        "a": ["1", "0+3", None],
        "b": ["2", None, None],
    }


def test_golden_evaluator_end_to_end(shared_dir):
    with np.load(shared_dir / "conformance" / "metrics.npz", allow_pickle=False) as archive:
        golden = {
            name.removeprefix("modality_similarity/"): archive[name]
            for name in archive.files
            if name.startswith("modality_similarity/")
        }
    windows = int(golden["n_windows"])
    clips = {
        "video_totxt": golden["in:test_vid2txt_embd"].reshape(7, windows, -1),
        "video_toaud": golden["in:test_vid2aud_embd"].reshape(7, windows, -1),
        "text_tovid": golden["in:test_txt2vid_embd"],
        "audio_tovid": golden["in:test_aud2vid_embd"][:, None],
    }
    retrieval = Retrieval("golden", PAIRS)
    retrieval.add({"valid": np.ones(7)}, clips)
    values = published_names(retrieval.result().measures)
    names = [name.removeprefix("out:") for name in golden if name.startswith("out:")]
    assert len(names) == 16
    for name in names:
        assert values[f"golden_{name}"] == pytest.approx(float(golden[f"out:{name}"]), abs=1e-12)


def without_some(count: int = 12):
    """A set in which every other clip has no caption and every third no sound."""
    batch, outputs = joint(count)
    masks = {
        "text_mask": (np.arange(count) % 2 == 0).astype(np.float32),
        "audio_mask": (np.arange(count) % 3 != 0).astype(np.float32),
    }
    there = {"txt": masks["text_mask"] > 0.5, "vid": np.ones(count, bool)}
    return batch | masks, outputs, there | {"audio": masks["audio_mask"] > 0.5}


def test_clips_without_caption_or_sound_are_neither_queries_nor_found():
    batch, outputs, there = without_some()
    scores = Retrieval("set", [*PAIRS, TEXT_AUDIO])
    for start in (0, 5, 10):
        scores.add(rows(batch, start, start + 5), rows(outputs, start, start + 5))
    result = scores.result()
    values = published_names(result.measures)
    assert values["set_num_clips"] == 12
    for direction, (kind, query, gallery) in DIRECTIONS.items():
        given, wanted = direction.split("2")
        asked = np.flatnonzero(there[given] & there[wanted])
        found = np.flatnonzero(there[wanted])
        assert values[f"set_{direction}_num_queries"] == len(asked)
        assert values[f"set_{direction}_num_gallery"] == len(found)
        for variant in ("embd", "cosine"):
            part = metrics.similarity(outputs[query][asked], outputs[gallery][found], variant)
            ranks = metrics.ranks(part, np.searchsorted(found, asked))
            for name, value in metrics.rank_metrics(ranks).items():
                assert values[f"set_{direction}_{variant}_{name}"] == value
        own = [m for m in result.measures if (m.query, m.target) == tuple(kind.split("_"))]
        chance = {m.name: m.chance for m in own}
        assert chance["R1"] == 1 / len(found) and chance["MeanRank"] == (len(found) + 1) / 2
        alike = [COLOURS[i % 3] == COLOURS[j % 3] for i in asked for j in found]
        assert chance["top1_colour"] == pytest.approx(np.mean(alike))
        shown = result.artefact[f"{kind}/query"]
        assert set(shown) <= set(asked) and set(result.artefact[f"{kind}/top"].ravel()) <= set(
            found
        )
    # Chance by direction, where it is not that of the set's first one.
    assert values["set_chance_R5"] == 5 / 12 and values["set_vid2txt_chance_R5"] == 5 / 6
    assert "set_txt2vid_chance_R5" not in values


def test_the_geometry_of_a_pair_is_that_of_clips_with_both():
    batch, outputs, there = without_some()
    scores = Retrieval("set", [TEXT_VIDEO])
    scores.add(batch, outputs)
    both = there["txt"]
    alone = Retrieval("set", [TEXT_VIDEO])
    alone.add(
        rows({k: v[both] for k, v in batch.items()}, 0, 6), {k: v[both] for k, v in outputs.items()}
    )
    for left, right in zip(scores.result().measures, alone.result().measures, strict=True):
        if left.task == "geometry":
            assert left == right and left.samples == 6


def test_a_collapsed_model_is_at_chance_whichever_clips_have_captions():
    count = 12
    batch, outputs, _ = without_some(count)
    same = {key: np.ones_like(value) for key, value in outputs.items()}
    order = np.arange(count)
    scores = Retrieval("set", [TEXT_VIDEO])
    scores.add(batch | {"text_mask": (order >= 6).astype(np.float32)}, same)
    # Ties go by position in the set, those without captions included: ranks 7 to 12.
    assert published_names(scores.result().measures)["set_txt2vid_embd_MeanRank"] == 9.5


def test_a_set_without_any_caption_has_no_figures_of_text():
    batch, outputs, _ = without_some()
    scores = Retrieval("set", PAIRS)
    scores.add(batch | {"text_mask": np.zeros(12, np.float32)}, outputs)
    result = scores.result()
    values = published_names(result.measures)
    assert np.isnan(values["set_txt2vid_embd_R10"]) and values["set_txt2vid_num_queries"] == 0
    assert values["set_audio2vid_embd_R10"] > 0 and len(result.artefact["text_video/query"]) == 0
