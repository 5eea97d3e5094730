"""Undoes rolling captions, as automatic subtitles have them: each line once, when it is said.

    we cut                       we cut onions
    we cut onions          ->    then we fry
    we cut onions / then we fry

Each cue of such a file shows words that the cue before it has shown: the last line moves up, or
grows word by word, or stays for some milliseconds more. A sentence may also simply be said twice:
words are taken for the same ones only where they have the same times or are shown for some
milliseconds, or where a file does so all the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from vatt.data.ingest.markup import Lines

Cue = tuple[float, float, Lines]  # start and end (s), and the lines that are shown

_FLASH = 0.05  # s; what is shown for so short only ends a line
_NEXT = 0.25  # s between cues of which one goes on with the other
_PAUSE = 2.0  # s between cues after which nothing is shown on, in a file that rolls
_SEAM = 4  # words in a row that are not said twice by chance
_SHARE = 0.25  # of the cues of a file that rolls, at least


class _Again(NamedTuple):
    """What a cue shows again."""

    words: int = 0  # at its beginning
    sure: bool = False  # whatever the rest of the file is like
    likely: bool = False  # that the file rolls
    grown: int = 0  # words that follow in the same line


def unroll(cues: Sequence[Cue]) -> tuple[list[tuple[float, float, str]], int]:
    """Returns captions in order of time, and how many cues showed words again.

    New words have the times of their cue; a line that grows, those of all its cues.
    """
    cues = sorted(cues, key=lambda cue: cue[0])
    again = [_shown_again(*pair) for pair in itertools.pairwise(cues)]
    rolls = sum(shown.sure or shown.likely for shown in again) > _SHARE * len(again)
    captions: list[tuple[float, float, str]] = []
    merged = 0
    for number, (start, end, lines) in enumerate(cues):
        shown = again[number - 1] if number else _Again()
        words = " ".join(lines).split()
        if shown.words and (shown.sure or rolls):
            merged += 1
            if shown.grown:
                begin, finish, text = captions.pop()
                grown = words[shown.words : shown.words + shown.grown]
                captions.append((begin, max(finish, end), " ".join([text, *grown])))
            words = words[shown.words + shown.grown :]
        if words:
            captions.append((start, end, " ".join(words)))
    return captions, merged


def _shown_again(before: Cue, cue: Cue) -> _Again:
    """Compares a cue with the one before it: which of its first words end that one, too?"""
    (*times, old_lines), (*own_times, new_lines) = before, cue
    (_, finish), (start, end) = times, own_times
    if start > finish + _PAUSE:
        return _Again()
    old, new = (" ".join(lines).split() for lines in (old_lines, new_lines))
    old_starts, new_starts = _starts(old_lines), _starts(new_lines)
    for count in range(min(len(old), len(new)), 0, -1):
        if old[-count:] != new[:count]:
            continue
        line = len(old) - count in old_starts  # whole lines of the cue before it
        if not line and count < _SEAM:
            continue
        if count == len(new):
            return _Again(count, sure=own_times == times or end - start <= _FLASH)
        # Where the line goes on behind them, it has grown: it ends where the next one starts.
        next_line = min(place for place in (*new_starts, len(new)) if place >= count)
        grown = next_line - count if line else 0
        likely = count > 1 and start <= finish + _NEXT
        return _Again(count, likely=likely, grown=grown)
    return _Again()


def _starts(lines: Lines) -> list[int]:
    """Numbers of the words with which lines begin."""
    starts = [0]
    for line in lines[:-1]:
        starts.append(starts[-1] + len(line.split()))
    return starts
