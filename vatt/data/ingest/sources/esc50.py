"""The folder of ESC-50, or of a set of sounds laid out like it.

    meta/esc50.csv    filename,fold,target,category,...
    audio/            the sounds

Fold k is the split `test_k`, all others together are `train_k`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from vatt.data.ingest import manifest
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import Listing, Options
from vatt.data.ingest.tables import Table
from vatt.errors import DataError, nearest

TABLE = Path("meta", "esc50.csv")
_COLUMNS = ("filename", "fold", "target", "category")


def from_esc50(path: Path, options: Options) -> Listing:
    """One clip per sound and fold."""
    table = path / TABLE
    problems: list[str] = []
    sounds, classes = [], {}
    for number, fields in _rows(table):
        try:
            name, fold, target, category = (fields[column] for column in _COLUMNS)
            if not fold.isdecimal() or not target.isdecimal() or not name or not category:
                raise ValueError(f"fold '{fold}' and target '{target}' must be whole numbers")
            if classes.setdefault(int(target), category) != category:
                raise ValueError(f"target {target} is '{classes[int(target)]}' and '{category}'")
            sounds.append((number, name, int(fold), category))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    manifest.refuse_lines(table, problems)
    labels = tuple(classes[target] for target in sorted(classes))
    if len(set(labels)) != len(labels):
        raise DataError(f"{table}: a category has several targets")
    folds = sorted({fold for _, _, fold, _ in sounds})
    rows = [
        Row(
            path=f"audio/{name}",
            split=f"{'test' if fold == part else 'train'}_{part}",
            labels=(category,),
            line=number,
        )
        for number, name, fold, category in sounds
        for part in folds
    ]
    return Listing(path, rows, labels)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = Table(file, _COLUMNS.__contains__)
            for name in _COLUMNS:
                if name not in table.columns:
                    raise DataError(
                        f"{path}: column '{name}' is missing; found: "
                        f"{table.shown}.{nearest(name, table.named)}"
                    )
            for number, values in table:
                row = dict(zip(table.columns, values, strict=False))
                yield number, {name: row.get(name, "").strip() for name in _COLUMNS}
    except OSError as error:
        raise DataError(f"--input: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None
