"""Confusion matrices as inline SVG: rows are true classes, columns predicted ones.

    svg(confusion, names)          # every class, or those that are confused most

The colour of a cell is the share of its row, in one hue whose strength follows the style sheet.
"""

from __future__ import annotations

import math
import unicodedata
from html import escape

import numpy as np

from vatt.reporting.plots import percent

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


def svg(confusion: np.ndarray, names: list[str]) -> str:
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
            return ""
        inside = confusion[np.ix_(chosen, chosen)]
        columns = np.column_stack([inside, clips[chosen] - inside.sum(axis=1)])
        labels = [names[which] for which in chosen]
    return _draw(columns, clips[chosen], labels, [*labels, OTHERS][: columns.shape[1]])


def _draw(counts: np.ndarray, clips: np.ndarray, rows: list[str], columns: list[str]) -> str:
    cell = 40 if len(rows) <= 8 else 32 if len(rows) <= 16 else 21
    widths = [_width(_short(name)) for name in columns]
    longest = max(widths)
    left, top = max(longest, 80.0) + 10, max(0.72 * longest, 34.0) + 14
    width = left + cell * len(columns) + 0.72 * max(widths[-4:]) + 12
    height = top + cell * len(rows) + 40
    right, bottom = left + cell * len(columns), top + cell * len(rows)
    lines = [f"M{left:.1f} {top + cell * i:.1f}H{right:.1f}" for i in range(len(rows) + 1)]
    lines += [f"M{left + cell * i:.1f} {top:.1f}V{bottom:.1f}" for i in range(len(columns) + 1)]
    parts = [
        f'<svg class="matrix" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="width:{width:.0f}px" role="img" aria-label="confusion matrix">',
        f'<path class="rule" d="{"".join(lines)}"/>',
    ]
    for row, name in enumerate(rows):
        y = top + cell * (row + 0.5)
        parts.append(_label(name, f'x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end"'))
    for column, name in enumerate(columns):
        x = left + cell * (column + 0.5) + 3
        place = f'transform="translate({x:.1f} {top - 7:.1f}) rotate(-45)"'
        parts.append(_label(name, place))
    for row, column in zip(*np.nonzero(counts), strict=True):
        count, total = int(counts[row, column]), int(clips[row])
        share = count / total
        x, y = left + cell * column, top + cell * row
        hover = f"true: {rows[row]}\npredicted: {columns[column]}\n"
        hover += f"{count:,} of {total:,} clip{'s' * (total != 1)}, {percent(share)}"
        text = ""
        if cell > 30:
            dark = " on" if _strength(share) > 0.55 else ""
            text = (
                f'<text class="count{dark}" x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}" '
                f'text-anchor="middle">{_count(count)}</text>'
            )
        parts.append(f"<g><title>{escape(hover)}</title>{_cell(x, y, cell, share)}{text}</g>")
    parts.append(_legend(left, bottom + 18))
    return "".join([*parts, "</svg>"])


def _legend(x: float, y: float) -> str:
    parts = [f'<text x="{x - 6:.1f}" y="{y + 11:.1f}" text-anchor="end">share of row</text>']
    for place, share in enumerate(LEGEND):
        at = x + 62 * place
        parts.append(_cell(at, y, 14, share))
        parts.append(f'<text x="{at + 19:.1f}" y="{y + 11:.1f}">{100 * share:.0f} %</text>')
    return "".join(parts)


def _cell(x: float, y: float, size: float, share: float) -> str:
    return (
        f'<rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{size - 1:g}" height="{size - 1:g}" '
        f'fill-opacity="{_strength(share):.3f}"/>'
    )


def _strength(share: float) -> float:
    return math.sqrt(share)  # so that a few clips in a hundred can be seen


def _label(name: str, place: str) -> str:
    return f"<text {place}>{escape(_short(name))}<title>{escape(name)}</title></text>"


def _short(name: str) -> str:
    return name if len(name) <= LABEL_CHARACTERS else f"{name[: LABEL_CHARACTERS - 1]}…"


def _width(text: str) -> float:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return CHARACTER * len(text) + (WIDE_CHARACTER - CHARACTER) * wide


def _count(count: int) -> str:
    return f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
