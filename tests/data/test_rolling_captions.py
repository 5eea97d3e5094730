"""Captions that show lines again become the lines that were said."""

from __future__ import annotations

import itertools
import random

import pytest

from vatt.data.ingest.captions import read_captions
from vatt.data.ingest.rolling import unroll
from vatt.notices import Notices

SAID = [
    (0.1, 2.9, "first the onion gets cut"),
    (3.1, 5.9, "then butter melts slowly"),
    (6.1, 8.9, "now stir it all together"),
    (10.0, 12.0, "now stir it all together"),
]


def youtube(said) -> str:
    """WebVTT as YouTube makes it: each line word by word, then for 10 ms, then above the next."""
    text, upper = "WEBVTT\nKind: captions\nLanguage: en\n\n", " "
    for start, end, line in said:
        first, *rest = line.split()
        timed = first + "".join(
            f"<00:00:{start + 0.1 * k:06.3f}><c> {w}</c>" for k, w in enumerate(rest)
        )
        times = [f"00:00:{time:06.3f}" for time in (start, end, end + 0.01)]
        text += f"{times[0]} --> {times[1]} align:start\n{upper}\n{timed}\n\n"
        text += f"{times[1]} --> {times[2]} align:start\n{line}\n \n\n"
        upper = line
    return text


def test_a_file_of_youtube_holds_each_line_once_at_its_time(tmp_path):
    path, notices = tmp_path / "a.en.vtt", Notices()
    path.write_text(youtube(SAID))
    assert read_captions(path, notices) == SAID  # the last line is really said twice
    assert [(n.kind, n.detail) for n in notices] == [
        ("captions that show words again, merged", "a.en.vtt: 7 of 8")
    ]


def test_two_lines_that_move_up():
    lines = [f"this is line {k}" for k in range(8)]
    pairs = itertools.pairwise(["", *lines])
    cues = [(2.0 * k, 2.0 * k + 2, tuple(filter(None, pair))) for k, pair in enumerate(pairs)]
    cues.append((16.0, 18.0, (lines[-1],)))
    captions, again = unroll(cues)
    assert captions == [(2.0 * k, 2.0 * k + 2, line) for k, line in enumerate(lines)]
    assert again == 8


def test_lines_that_grow_word_by_word():
    words = ["add", "the", "butter", "and", "stir"]
    cues = [(k / 2, k / 2 + 0.5, (" ".join(words[: k + 1]),)) for k in range(5)]
    cues += [
        (2.5 + k / 2, 3.0 + k / 2, (" ".join(words), " ".join(["then", "fry", "it"][: k + 1])))
        for k in range(3)
    ]
    captions, _ = unroll(cues)
    assert captions == [(0.0, 2.5, "add the butter and stir"), (2.5, 4.0, "then fry it")]


@pytest.mark.parametrize(
    "cues",
    [
        [(1.0, 2.0, ("knead the dough",)), (2.0, 3.0, ("knead the dough",))],
        [(1.0, 2.0, ("add the salt",)), (3.0, 4.0, ("add the salt and pepper",))],
        [(1.0, 2.0, ("cut the",)), (2.0, 3.0, ("the onion",))],
        [(1.0, 3.0, ("let it rest",)), (2.0, 4.0, ("let it rest",))],
    ],
)
def test_what_is_said_twice_stays(cues):
    cues += [(10.0 + k, 11.0 + k, (f"something else {k}",)) for k in range(5)]
    captions, again = unroll(cues)
    assert captions == [(start, end, lines[0]) for start, end, lines in cues]
    assert again == 0


def test_the_same_cue_again_is_one():
    cues = [(1.0, 2.0, ("hello",)), (1.0, 2.0, ("hello",)), (5.0, 6.0, ("there",))]
    assert unroll(cues) == ([(1.0, 2.0, "hello"), (5.0, 6.0, "there")], 1)


def test_words_of_any_rolling_file_are_all_there_once():
    rng = random.Random(5)
    for _ in range(30):
        said = [
            " ".join(f"w{rng.randrange(10**6)}" for _ in range(rng.randint(2, 7))) for _ in range(9)
        ]
        depth = rng.randint(2, 3)
        cues = [(k, k + 1, tuple(said[max(0, k - depth + 1) : k + 1])) for k in range(9)]
        captions, _ = unroll(cues)
        assert [text for *_, text in captions] == said
