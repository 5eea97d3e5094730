"""Reads the manifest of a data set to be: one clip per row of a CSV file.

Columns: `path` (media file, relative to the manifest), `start`, `end` (s; empty: the whole file),
and any of `split` (default train), `label`, `caption` (one sentence for the whole clip), `captions`
(side file with times). `split` and `label` may hold several values, separated by ";".
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from vatt.data.captions import seconds
from vatt.errors import DataError, nearest

COLUMNS = ("path", "start", "end", "split", "label", "caption", "captions")
_SPLIT = re.compile(r"[A-Za-z0-9_]+$")
_SHOWN = 5


@dataclass(frozen=True)
class Row:
    """One clip. Paths are as written in the manifest; `start` and `end` None mean the file's."""

    path: str
    start: float | None = None
    end: float | None = None
    split: str = "train"
    labels: tuple[str, ...] = ()
    caption: str = ""
    captions: str = ""
    line: int = 0  # in the manifest


def read_manifest(path: str | Path) -> list[Row]:
    """Returns one `Row` per clip and split, in the order of the file.

    Raises:
        DataError: the file is missing, has no rows, lacks a column or has values that cannot be
            understood; all bad lines are counted and the first ones shown.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            _check_columns(path, columns)
            lines = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise DataError(f"--manifest: there is no file {path}") from None
    except OSError as error:
        raise DataError(f"--manifest: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    rows: list[Row] = []
    problems: list[str] = []
    for number, fields in lines:
        try:
            rows.extend(_rows(number, fields))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "\n  ".join(problems[:_SHOWN])
        raise DataError(f"{path}: {len(problems)} lines cannot be used:\n  {shown}{more}")
    if not rows:
        raise DataError(f"{path}: the manifest has no rows")
    return rows


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise DataError(
            f"{path}: column 'path' is missing; found: {', '.join(columns) or 'none'}; known: "
            f"{', '.join(COLUMNS)}.{nearest('path', columns)}"
        )
    for name in columns:
        if name not in COLUMNS:
            raise DataError(
                f"{path}: column '{name}' is unknown; known: {', '.join(COLUMNS)}."
                f"{nearest(name, COLUMNS)}"
            )


def _rows(number: int, fields: dict[str, str]) -> list[Row]:
    if None in fields:
        raise ValueError(f"{len(fields[None])} values more than there are columns")
    text = {name: (value or "").strip() for name, value in fields.items()}
    if not text["path"]:
        raise ValueError("path is empty")
    times = []
    for name in ("start", "end"):
        value = text.get(name, "")
        try:
            times.append(seconds(value) if value else None)
        except ValueError:
            raise ValueError(f"{name} '{value}' is not a time in seconds or h:mm:ss") from None
    start, end = times
    if (start is not None and start < 0) or (end is not None and end <= (start or 0.0)):
        raise ValueError(f"start {start} and end {end} are not a piece of a file")
    splits = _several(text.get("split", "")) or ("train",)
    for split in splits:
        if not _SPLIT.match(split):
            raise ValueError(f"split '{split}': letters, digits and _ only")
    return [
        Row(
            path=text["path"],
            start=start,
            end=end,
            split=split,
            labels=_several(text.get("label", "")),
            caption=text.get("caption", ""),
            captions=text.get("captions", ""),
            line=number,
        )
        for split in splits
    ]


def _several(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in value.split(";") if part.strip()))


def locate(root: Path, name: str) -> Path:
    """Returns the file `name` under `root`.

    Raises:
        ValueError: it is an address, or leads out of `root` (also through a link), or nowhere.
    """
    if "\0" in name or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name):
        raise ValueError("not a path of a local file")
    root = root.resolve()
    try:
        path = (root / name).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:  # a loop of links, a name too long, no permission
        raise ValueError(f"cannot be read: {error}") from None
    if not path.is_relative_to(root):
        raise ValueError(f"leads out of {root}; --media_root names the folder that holds all media")
    return path
