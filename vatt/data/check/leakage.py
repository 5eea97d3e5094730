"""Finds leakage: clips of the same source in splits that should share none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

EXAMPLES = 5

Times = tuple[float, float]  # start and end of a clip in its source, s
Clips = dict[str, dict[str, list[Times]]]  # by split and source


@dataclass
class Leak:
    """Sources that stand in two splits."""

    splits: tuple[str, str]
    sources: int
    overlapping: int  # of them, with clips that share some time
    examples: list[str]  # of overlapping sources if there are any


def find(clips: Clips) -> list[Leak]:
    """Returns the sources that two splits share; see `Clips`.

    Folds of cross-validation share their sources on purpose: `train_1` is compared with `test_1`
    only, of all splits that end in a number.
    """
    found = []
    names = list(clips)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            if _other_folds(first, second):
                continue
            shared = sorted(clips[first].keys() & clips[second].keys())
            if shared:
                overlapping = [s for s in shared if _overlap(clips[first][s], clips[second][s])]
                examples = (overlapping or shared)[:EXAMPLES]
                found.append(Leak((first, second), len(shared), len(overlapping), examples))
    return found


def _other_folds(first: str, second: str) -> bool:
    folds = [re.search(r"\d+$", name) for name in (first, second)]
    return all(folds) and int(folds[0][0]) != int(folds[1][0])


def _overlap(first: Sequence[Times], second: Sequence[Times]) -> bool:
    """Whether a piece of the one list shares time with a piece of the other."""
    pieces = sorted([(*times, 0) for times in first] + [(*times, 1) for times in second])
    latest = [float("-inf")] * 2  # end of the pieces so far, by list
    for start, end, side in pieces:
        if start < latest[1 - side]:
            return True
        latest[side] = max(latest[side], end)
    return False
