"""Names of classes: the files that list them, by index."""

from __future__ import annotations

import collections
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from vatt.errors import DataError, short

_SHOWN = 5


def read_labels(path: str | os.PathLike) -> list[str]:
    """Returns the class names in a file, by index.

    A text file has one name per line. A CSV file (`.csv`) has the index, from 0, in its first
    column and the name in its last, with or without a header: "index,name", or
    `class_labels_indices.csv` of AudioSet.

    Raises:
      DataError: the file cannot be read, an index or name is missing, or a name stands twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text))) if path.suffix.lower() == ".csv" else None
    except FileNotFoundError:
        raise DataError(f"label_file: there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"label_file: {path} cannot be read: {error}") from None
    if rows is None:
        names = [line.strip() for line in text.rstrip().splitlines()]
    else:
        names = _indexed_names(path, [row for row in rows if row])
    if not all(names):
        raise DataError(f"label_file: {path}: class {names.index('')} has no name")
    fault = label_fault(names, None)
    if fault:
        raise DataError(f"label_file: {path}: {fault}")
    return names


def _indexed_names(path: Path, rows: list[list[str]]) -> list[str]:
    if rows and not rows[0][0].strip().isdecimal():
        rows = rows[1:]  # header
    for position, row in enumerate(rows):
        if len(row) < 2 or row[0].strip() != str(position):
            found = short(",".join(row))
            raise DataError(
                f"label_file: {path}: '{found}' stands where class {position} should; "
                f"each row is 'index,name', and indices count from 0 without gaps"
            )
    return [row[-1].strip() for row in rows]


def label_fault(labels: Sequence[str] | None, num_classes: int | None) -> str:
    """Returns what is wrong with class names, "" if nothing."""
    if labels is None:
        return ""
    twice = [name for name, times in collections.Counter(labels).items() if times > 1]
    if twice:
        return f"{len(twice)} labels stand more than once: {short(', '.join(twice[:_SHOWN]), 400)}"
    if num_classes is not None and len(labels) != num_classes:
        return f"{len(labels)} labels, but num_classes is {num_classes}"
    return ""
