"""What is asked becomes one vector in a space that all lie in; what cannot be compared is told."""

from __future__ import annotations

import numpy as np
import pytest
import small_indexes
from small_indexes import axis

from vatt.errors import UserError
from vatt.search.finder import Finder, as_json, fused
from vatt.search.spaces import choose

SPACES = small_indexes.StandIn.spaces
THERE = {"video": ["v_text", "v_sound", "features_pooled"], "audio": ["a_video"]}


@pytest.mark.parametrize(
    ("asked", "target", "space", "expected"),
    [
        (["text"], None, None, ("video", "v_text", {"text": "t_video"})),
        (["audio"], None, None, ("video", "v_sound", {"audio": "a_video"})),
        (["audio"], "audio", None, ("audio", "a_video", {"audio": "a_video"})),
        (["video"], None, None, ("video", "v_text", {"video": "v_text"})),
        (["video"], None, "v_sound", ("video", "v_sound", {"video": "v_sound"})),
        (["video"], "audio", None, ("audio", "a_video", {"video": "v_sound"})),
        (["text", "video"], None, None,
         ("video", "v_text", {"text": "t_video", "video": "v_text"})),
        (["video", "audio"], None, None,
         ("video", "v_sound", {"video": "v_sound", "audio": "a_video"})),
    ],
)  # fmt: skip
def test_a_space_has_all_of_them(asked, target, space, expected):
    plan = choose(SPACES, THERE, asked, target, space)
    assert (plan.target, plan.key, plan.asked) == expected


@pytest.mark.parametrize(
    ("asked", "target", "space", "told"),
    [
        (["text"], "audio", None, "the index has sound, which this model does not compare with "
         "text: no space of it has them all. It compares sound with pictures; text with pictures"),
        (["text", "audio"], None, None, r"pictures or sound, .* with text and sound together"),
        (["text"], None, "v_tex", r"space: 'v_tex'; .* by text in v_text. Did you mean 'v_text'"),
    ],
)  # fmt: skip
def test_without_such_a_space_it_is_told(asked, target, space, told):
    with pytest.raises(UserError, match=told):
        choose(SPACES, THERE, asked, target, space)


def test_a_model_that_compares_nothing_finds_the_same_modality():
    assert choose((), {"video": ["features_pooled"]}, ["video"]).key == "features_pooled"
    with pytest.raises(UserError, match="It compares nothing across modalities"):
        choose((), {"video": ["features_pooled"]}, ["audio"])


def test_vectors_are_added_up_at_length_one():
    both = fused([5 * axis(0), 0.1 * axis(1)])
    np.testing.assert_allclose(both[:2], [0.5**0.5] * 2, atol=1e-6)
    assert both.dtype == np.float32


def test_a_sentence_finds_the_moment(finder):
    found = finder.search("a green ball bouncing", top=2)
    assert found.asked == (("text", "a green ball bouncing"),)
    assert found.title == '"a green ball bouncing"'
    assert found.notices == ("the model does not know bouncing",)
    best = found.hits[0]
    assert best.file.endswith("sub/green.mp4") and best.score == pytest.approx(0.9, abs=1e-6)
    assert (best.start, best.end) == pytest.approx((1.6, 2.4)) and best.when == "0:01.6-0:02.4"
    every = finder.search("green", top=3, every=True).hits
    assert [hit.start for hit in every] == pytest.approx([1.6, 2.4, 0.8])


def test_sentence_and_video_together_find_what_has_both(finder, indexed):
    found = finder.search("red", video=indexed / "media" / "blue.avi", top=2)
    assert found.title == '"red" and pictures of blue.avi'
    assert sorted(hit.number for hit in found.hits) == [0, 2]
    np.testing.assert_allclose([hit.score for hit in found.hits], 0.9 / 2**0.5, atol=1e-6)


def test_a_sound_finds_sounds_where_they_are_asked_for(finder, indexed):
    bell = indexed / "media" / "bell.wav"
    hits = finder.search(audio=[bell], modality="audio", top=1).hits
    assert hits[0].number == 3 and hits[0].modality == "audio"
    assert finder.search(audio=bell).plan.key == "v_sound"


def test_what_cannot_be_asked_is_told(finder, indexed):
    with pytest.raises(UserError, match="nothing is asked"):
        finder.search("  ")
    with pytest.raises(UserError, match="with text and sound together"):
        finder.search("red", audio=indexed / "media" / "bell.wav")
    finder.model.modalities = ("video", "audio")
    with pytest.raises(UserError, match="toy takes video, audio, no text"):
        finder.search("red")


def test_files_read_otherwise_than_those_of_the_index_are_refused(finder, indexed):
    other = Finder(finder.gallery, finder.model, ["frame_rate"])
    assert other.search("red").hits
    with pytest.raises(UserError, match=r"made otherwise .*: frame_rate"):
        other.search(video=indexed / "media" / "red.mp4")


def test_as_json(finder):
    found = as_json(finder.gallery, finder.search("blue", top=1))
    (result,) = found.pop("results")
    assert result | {"file": ""} == {"rank": 1, "file": "", "start": 1.6, "end": 2.4, "score": 0.9,
                                     "row": 10, "notice": ""}  # fmt: skip
    assert found["modality"] == "video" and found["space"] == "v_text"
    assert (found["files"], found["windows"], found["notices"]) == (4, 13, [])
