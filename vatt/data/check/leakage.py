"""Finds leakage: clips of the same source, or the same clips, in splits that should share none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vatt.data.features import other_folds

EXAMPLES = 5

Times = tuple[float, float]  # start and end of a clip in its source, s
Clips = dict[str, dict[str, list[Times]]]  # by split and source
Contents = dict[str, dict[str, str]]  # by split and content, a source


@dataclass
class Leak:
    """Sources that stand in two splits."""

    splits: tuple[str, str]
    sources: int
    overlapping: int  # of them, with clips that share some time
    examples: list[str]  # of overlapping sources if there are any
    renamed: bool = False  # found by their content: the sources have other names


def find(clips: Clips, contents: Contents) -> list[Leak]:
    """Returns the sources that two splits share, then those that are the same by their content.

    Folds of cross-validation share their sources on purpose: `train_1` is compared with `test_1`
    only, of all splits that end in a number.
    """
    found = []
    names = list(clips)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            if other_folds(first, second):
                continue
            shared = sorted(clips[first].keys() & clips[second].keys())
            if shared:
                overlapping = [s for s in shared if _overlap(clips[first][s], clips[second][s])]
                examples = (overlapping or shared)[:EXAMPLES]
                found.append(Leak((first, second), len(shared), len(overlapping), examples))
            copies = _copies(contents.get(first, {}), contents.get(second, {}), set(shared))
            if copies:
                found.append(Leak((first, second), len(copies), 0, copies[:EXAMPLES], True))
    return found


def _copies(first: dict[str, str], second: dict[str, str], known: set[str]) -> list[str]:
    """Pairs of sources with the same content, but for those that are shared by name."""
    pairs = {(first[content], second[content]) for content in first.keys() & second.keys()}
    return [f"{a} = {b}" for a, b in sorted(pairs) if a not in known and b not in known]


def _overlap(first: Sequence[Times], second: Sequence[Times]) -> bool:
    """Whether a piece of the one list shares time with a piece of the other."""
    pieces = sorted([(*times, 0) for times in first] + [(*times, 1) for times in second])
    latest = [float("-inf")] * 2  # end of the pieces so far, by list
    for start, end, side in pieces:
        if start < latest[1 - side]:
            return True
        latest[side] = max(latest[side], end)
    return False
