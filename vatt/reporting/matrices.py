"""Confusion matrices as inline SVG: rows are true classes, columns predicted ones.

    svg(confusion, names)          # every class, or those that are confused most

The colour of a cell is the share of its row, in one hue whose strength follows the style sheet.
"""

from __future__ import annotations

import math
import unicodedata

import numpy as np

from vatt.pages import Markup
from vatt.reporting.plots import html, percent

ALL_CLASSES = 40  # a matrix of more classes shows some of them
CONFUSED_CLASSES = 30
OTHERS = "all others"
LABEL_CHARACTERS = 26
CHARACTER, WIDE_CHARACTER = 6.8, 12.0  # user units, of the widest system fonts at 11.5 px
LEGEND = (0.01, 0.05, 0.2, 0.5, 1.0)


def most_confused(confusion: np.ndarray, count: int = CONFUSED_CLASSES) -> np.ndarray:
    """Numbers of at most `count` classes, ascending: those of the most frequent confusions.

    Args:
      confusion: int [true, predicted].
      count: at least 2.
    """
    chosen: list[int] = []
    for true, predicted, _ in confusions(confusion):
        new = [which for which in (true, predicted) if which not in chosen]
        if len(chosen) + len(new) > count:
            break
        chosen += new
    return np.sort(np.array(chosen, np.int64))


def confusions(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """(true class, predicted class, clips) of all wrong answers, the most frequent first."""
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    true, predicted = np.nonzero(wrong)
    order = np.argsort(-wrong[true, predicted], kind="stable")
    return [(int(true[i]), int(predicted[i]), int(wrong[true[i], predicted[i]])) for i in order]


def svg(confusion: np.ndarray, names: list[str]) -> Markup:
    """Picture of a confusion matrix; empty if it has too many classes and none is confused.

    Args:
      confusion: int [true, predicted].
      names: of the classes.
    """
    clips = confusion.sum(axis=1)
    chosen, columns = np.arange(len(names)), confusion
    labels = list(names)
    if len(names) > ALL_CLASSES:
        chosen = most_confused(confusion)
        if not len(chosen):
            return Markup()
        inside = confusion[np.ix_(chosen, chosen)]
        columns = np.column_stack([inside, clips[chosen] - inside.sum(axis=1)])
        labels = [names[which] for which in chosen]
    return _draw(columns, clips[chosen], labels, [*labels, OTHERS][: columns.shape[1]])


def _draw(counts: np.ndarray, clips: np.ndarray, rows: list[str], columns: list[str]) -> Markup:
    cell = 40 if len(rows) <= 8 else 32 if len(rows) <= 16 else 21
    widths = [_width(_short(name)) for name in columns]
    longest = max(widths)
    left, top = max(longest, 80.0) + 10, max(0.72 * longest, 34.0) + 14
    width = left + cell * len(columns) + 0.72 * max(widths[-4:]) + 12
    height = top + cell * len(rows) + 40
    right, bottom = left + cell * len(columns), top + cell * len(rows)
    lines = [f"M{left:.1f} {top + cell * i:.1f}H{right:.1f}" for i in range(len(rows) + 1)]
    lines += [f"M{left + cell * i:.1f} {top:.1f}V{bottom:.1f}" for i in range(len(columns) + 1)]
    labels, cells = [], []
    for row, name in enumerate(rows):
        y = top + cell * (row + 0.5)
        place = {"x": f"{left - 6:.1f}", "y": f"{y + 4:.1f}", "text-anchor": "end"}
        labels.append((place, name, _short(name)))
    for column, name in enumerate(columns):
        x = left + cell * (column + 0.5) + 3
        place = {"transform": f"translate({x:.1f} {top - 7:.1f}) rotate(-45)"}
        labels.append((place, name, _short(name)))
    for row, column in zip(*np.nonzero(counts), strict=True):
        count, total = int(counts[row, column]), int(clips[row])
        share = count / total
        x, y = left + cell * column, top + cell * row
        hover = f"true: {rows[row]}\npredicted: {columns[column]}\n"
        hover += f"{count:,} of {total:,} clip{'s' * (total != 1)}, {percent(share)}"
        middle = (f"{x + cell / 2:.1f}", f"{y + cell / 2 + 4:.1f}")
        text, dark = _count(count) if cell > 30 else "", _strength(share) > 0.55
        cells.append(((x, y, cell, _strength(share)), hover, text, *middle, dark))
    size = (f"{width:.0f}", f"{height:.0f}")
    return html.matrix(*size, "".join(lines), labels, cells, _legend(left, bottom + 18))


def _legend(x: float, y: float) -> list[tuple]:
    below = f"{y + 11:.1f}"
    parts: list[tuple] = [(None, f"{x - 6:.1f}", below, "share of row")]
    for place, share in enumerate(LEGEND):
        at = x + 62 * place
        square = (at, y, 14, _strength(share))
        parts.append((square, f"{at + 19:.1f}", below, f"{100 * share:.0f} %"))
    return parts


def _strength(share: float) -> float:
    return math.sqrt(share)  # so that a few clips in a hundred can be seen


def _short(name: str) -> str:
    return name if len(name) <= LABEL_CHARACTERS else f"{name[: LABEL_CHARACTERS - 1]}…"


def _width(text: str) -> float:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return CHARACTER * len(text) + (WIDE_CHARACTER - CHARACTER) * wide


def _count(count: int) -> str:
    return f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
