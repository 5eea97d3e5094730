"""Tables of the classes of files, as CSV or JSON lines, from the index that keeps their logits.

    write("predictions.csv", "predictions.npz", clips)

One row per file or piece of a file, with the mean of the logits of its windows, or one per window;
files, or parts of them, that cannot be used have a row with the reason under `problem`. Rows stand
in the order in which files were asked for; those of earlier commands follow.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vatt.api import index
from vatt.api.inputs import Clip
from vatt.api.results import LOGITS
from vatt.evaluation import predictions
from vatt.files import replacing

if TYPE_CHECKING:
    from vatt.api.model import Model

CLASSES = "classes"  # the key of the index
JSON_LINES = ".jsonl"
_FIRST = ("path", "start", "end")
_LAST = "problem"
Row = dict[str, Any]


def recipe(model: Model, stride: float | None) -> Row:
    """Returns what decides the logits of a fine-tuned model, and what they mean."""
    return {
        **model.recipe,
        "modalities": list(model.modalities),
        "layer": LOGITS,
        "stride": stride,
        "labels": model.labels,
        "multi_label": model.multi_label,
    }


def write(
    path: str | Path,
    kept: str | Path,
    asked: Sequence[Clip] = (),
    *,
    top: int = predictions.TOP,
    by_window: bool = False,
) -> int:
    """Writes the table, whole or not at all, and returns the number of its rows.

    Args:
      path: of the table, .csv or .jsonl.
      kept: the index with the logits.
      asked: in which order files come.
      top: how many classes are listed.
      by_window: a row for every window in place of one for each file.
    """
    made_as, arrays = index.read(kept)
    found = list(_rows(arrays, {clip: n for n, clip in enumerate(asked)}, by_window))
    said = (made_as["labels"], made_as["multi_label"], top)
    lines = Path(path).suffix.lower() == JSON_LINES
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        if lines:
            file.writelines(f"{json.dumps(_object(row, *said))}\n" for row in found)
        else:
            names = [*_FIRST, *predictions.columns(top, len(made_as["labels"])), _LAST]
            table = csv.DictWriter(file, names, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(_cells(row, *said) for row in found)
    return len(found)


def _rows(
    arrays: Mapping[str, np.ndarray], order: Mapping[Clip, int], by_window: bool
) -> Iterator[Row]:
    """Path, start and end (s), and logits [classes] or the problem, of each row."""
    told: dict[str, list[str]] = defaultdict(list)
    for name, reason in arrays["failures"].tolist():
        told[name].append(reason)
    clips = index.clips(arrays)
    numbers = {clip: number for number, clip in enumerate(clips)}
    failed = [clip for clip in order if clip not in numbers and str(clip) in told]
    for clip in sorted([*clips, *failed], key=lambda clip: order.get(clip, len(order))):
        problems = told.pop(str(clip), [])
        if clip in numbers:
            yield from _of_file(arrays, numbers[clip], clip, problems, by_window)
        else:
            yield _problem(clip.path, clip, problems)
    for name, reasons in told.items():  # of earlier commands
        yield _problem(name, Clip(name), reasons)


def _of_file(
    arrays: Mapping[str, np.ndarray],
    number: int,
    clip: Clip,
    problems: Sequence[str],
    by_window: bool,
) -> Iterator[Row]:
    of_file = arrays[f"{CLASSES}/file"]
    rows = slice(*np.searchsorted(of_file, (number, number + 1)))
    starts, ends = (arrays[f"{CLASSES}/{name}"][rows].tolist() for name in ("starts", "ends"))
    logits = arrays[f"{CLASSES}/{LOGITS}"][rows]
    if not by_window:
        found = (min(starts), max(ends), logits.mean(axis=0))
        yield _row(clip.path, *found, "; ".join(problems))
        return
    windows = {(start, end): row for start, end, row in zip(starts, ends, logits, strict=True)}
    for times, row in windows.items():  # of a short file evaluation takes one several times
        yield _row(clip.path, *times, row)
    for problem in problems:
        yield _problem(clip.path, clip, [problem])


def _row(
    path: str,
    start: float | None,
    end: float | None,
    logits: np.ndarray | None,
    problem: str = "",
) -> Row:
    times = {"start": start, "end": end}
    rounded = {name: None if x is None else round(x, 3) for name, x in times.items()}
    return {"path": path, **rounded, LOGITS: logits, _LAST: problem}


def _problem(path: str, clip: Clip, reasons: Sequence[str]) -> Row:
    return _row(path, clip.start, clip.end, None, "; ".join(reasons))


def _cells(row: Row, labels: Sequence[str], multi_label: bool, top: int) -> Row:
    """A row of the CSV."""
    logits = row[LOGITS]
    said = {} if logits is None else predictions.cells(logits, labels, multi_label, top)
    return {name: row[name] for name in (*_FIRST, _LAST)} | said


def _object(row: Row, labels: Sequence[str], multi_label: bool, top: int) -> Row:
    """A line of JSON."""
    logits, cells = row[LOGITS], _cells(row, labels, multi_label, top)
    chosen = [] if logits is None else predictions.predicted(logits, multi_label).tolist()
    places = range(1, 1 + sum(name.startswith("class_") for name in cells))
    best = [
        {"class": cells[f"class_{n}"], "probability": float(cells[f"probability_{n}"])}
        for n in places
    ]
    said = {"prediction": [labels[which] for which in chosen], "classes": best}
    return {name: row[name] for name in _FIRST} | said | {_LAST: row[_LAST]}
