"""Reads the manifest of a data set to be: one clip per row of a CSV, TSV or JSONL file.

Columns: `path` (media file, relative to the manifest), `start`, `end` (s; empty: the whole file),
and any of `split` (default train), `label`, `caption` (one sentence for the whole clip), `captions`
(side file with times). `split` and `label` may hold several values, separated by ";". A column
`feature/<name>` has a file of extracted features (`.npy` or `.npz`, [steps, width]) per row; with
one, a row needs no `path`. A CSV file may also have ";", "|" or tabs between its columns, and an
index without a name, as pandas writes it.

A JSONL file (.jsonl, .ndjson) has one object per line with the same names. There `split` and
`label` may also be lists, and `captions` a list of [start, end, text] (s from the file's start).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from vatt.data.features import FEATURE_NAME, MAX_NAME, RECORD
from vatt.data.ingest.captions import Caption, seconds
from vatt.data.ingest.tables import Table
from vatt.errors import DataError, nearest, short
from vatt.files import inside, parse_json

COLUMNS = ("path", "start", "end", "split", "label", "caption", "captions")
_KNOWN = (*COLUMNS, f"{RECORD.feature}NAME")
JSON_LINES = (".jsonl", ".ndjson")
FEATURE = RECORD.feature  # and a name
SPLIT = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_NAME}}}")
EXACT, TRIM, PIECE, STILL = "exact", "trim", "piece", "still"  # values of `Row.fit`
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SHOWN = 5
PICKLES = (".pkl", ".pickle")
_IN_PICKLE = re.compile(r"(.+\.(?:pkl|pickle))#(\d{1,9})/([^/]+)")


def in_pickle(path: str, row: int, key: str) -> str:
    """Returns what stands for a path where features are in a pickle: "test.pkl#3/2d"."""
    return f"{path}#{row}/{key}"


def place_in_pickle(name: str) -> tuple[str, int, str] | None:
    """Returns the path, row and key of such a name; None of the path of a file."""
    place = _IN_PICKLE.fullmatch(name)
    return (place[1], int(place[2]), place[3]) if place else None


@dataclass(frozen=True)
class Row:
    """One clip. Paths are as written in the manifest; `start` and `end` None mean the file's.

    `path` is empty where there are only features: those are (name, path), in order of names. `name`
    is what the clip is called where no file of its own stands for it.

    `fit` says how the times belong to the file: EXACT as they are, TRIM the file may end before the
    clip, PIECE as TRIM, and a file that is no longer than the clip has been cut to it already,
    STILL there are none: it is a picture, or the first one of a GIF.
    """

    path: str
    start: float | None = None
    end: float | None = None
    split: str = "train"
    labels: tuple[str, ...] = ()
    caption: str = ""
    captions: str = ""
    line: int = 0  # in the manifest
    timed_captions: tuple[Caption, ...] = ()  # with times from the start of the file
    fit: str = EXACT
    features: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @property
    def source(self) -> str:
        """What stands for the clip: its name, the media file, else the first one of features."""
        return self.name or self.path or (self.features[0][1] if self.features else "")

    @property
    def files(self) -> list[str]:
        """All files the clip is made of."""
        features = ((place_in_pickle(name) or (name,))[0] for _, name in self.features)
        return [name for name in (self.path, self.captions, *features) if name]


def read_manifest(path: str | Path, split: str = "train") -> list[Row]:
    """Returns one `Row` per clip and split, in the order of the file.

    Args:
      path: CSV, TSV (.tsv) or JSON lines (.jsonl, .ndjson).
      split: of rows that name none.

    Raises:
      DataError: the file is missing, has no rows, lacks a column or has values that cannot be
        understood; all bad lines are counted and the first ones shown.
    """
    path = Path(path)
    kind = "JSONL" if path.suffix.lower() in JSON_LINES else "CSV"
    rows: list[Row] = []
    problems: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = json_lines(file) if kind == "JSONL" else _table(path, file)
            for number, fields in lines:
                try:
                    rows.extend(_rows(number, fields, split))
                except ValueError as error:
                    problems.append(f"line {number}: {error}")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a {kind} file in UTF-8 ({error})") from None
    refuse_lines(path, problems)
    if not rows:
        raise DataError(f"{path}: the manifest has no rows")
    return rows


def refuse_lines(path: Path, problems: list[str]) -> None:
    """Raises a DataError that counts the bad lines of a file and shows the first ones, if any."""
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "\n  ".join(problems[:_SHOWN])
        raise DataError(f"{path}: {len(problems)} lines cannot be used:\n  {shown}{more}")


def _table(path: Path, file: TextIO) -> Iterator[tuple[int, dict[str, str] | ValueError]]:
    """The rows of a CSV or TSV file, with their line numbers; an error stands for a bad row."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    table = Table(file, lambda name: name in COLUMNS or name.startswith(FEATURE), usual=usual)
    _check_columns(path, table.named)
    for number, values in table:
        try:
            yield number, table.fields(values)
        except ValueError as error:
            yield number, error


def json_lines(file: TextIO) -> Iterator[tuple[int, dict[str, object]]]:
    """The objects of a JSONL file, with their line numbers; an error stands for a bad line."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                yield number, ValueError(f"not JSON ({error})")


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns and not any(name.startswith(FEATURE) for name in columns):
        raise DataError(
            f"{path}: column 'path' is missing; found: {', '.join(columns) or 'none'}; known: "
            f"{', '.join(_KNOWN)}.{nearest('path', columns)}"
        )
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(f"{path}: column '{name}' stands {columns.count(name)} times")
        _check_name(name, f"{path}: column ")


def _check_name(name: str, where: str = "") -> None:
    """Refuses what is neither one of COLUMNS nor a feature.

    Raises:
      DataError: the reason.
    """
    shown, feature = short(name), name.removeprefix(FEATURE)
    if feature != name and not FEATURE_NAME.fullmatch(feature):
        raise DataError(f"{where}'{shown}': the name of a feature is letters, digits and _ only")
    if feature == name and name not in COLUMNS:
        close = nearest(shown, (*COLUMNS, FEATURE + shown.rpartition("/")[2]))
        raise DataError(f"{where}'{shown}' is unknown; known: {', '.join(_KNOWN)}.{close}")


def _rows(number: int, fields: object, default_split: str) -> list[Row]:
    if isinstance(fields, ValueError):
        raise fields
    if not isinstance(fields, dict):
        raise ValueError(f"a {type(fields).__name__}, not an object with {', '.join(_KNOWN)}")
    for name in fields:
        try:
            _check_name(name)
        except DataError as error:
            raise ValueError(str(error)) from None
    path, features = _text(fields, "path"), _features(fields)
    if not path and not features:
        raise ValueError("path is empty")
    start, end = (_time(fields, name) for name in ("start", "end"))
    if (start is not None and start < 0) or (end is not None and end <= (start or 0.0)):
        raise ValueError(f"start {start} and end {end} are not a piece of a file")
    splits = _several(fields, "split") or (default_split,)
    for split in splits:
        check_split(split)
    captions = fields.get("captions")
    inline = isinstance(captions, list)
    return [
        Row(
            path=path,
            start=start,
            end=end,
            split=split,
            labels=_several(fields, "label"),
            caption=_text(fields, "caption"),
            captions="" if inline else _text(fields, "captions"),
            line=number,
            timed_captions=_timed_captions(captions) if inline else (),
            features=features,
        )
        for split in splits
    ]


def _features(fields: dict[str, object]) -> tuple[tuple[str, str], ...]:
    """(name, path) of the features that a row has, in order of names."""
    names = sorted(name for name in fields if name.startswith(FEATURE))
    paths = ((name.removeprefix(FEATURE), _text(fields, name)) for name in names)
    return tuple((name, path) for name, path in paths if path)


def check_split(split: str) -> None:
    """Raises a ValueError for what cannot be the name of a split."""
    if not SPLIT.fullmatch(split):
        raise ValueError(f"split '{short(split)}': letters, digits and _ only, at most {MAX_NAME}")


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} {short(repr(value))} is not text")
    return value.strip()


def _time(fields: dict[str, object], name: str) -> float | None:
    value = fields.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    try:
        value = (value or "").strip()
        return seconds(value) if value else None
    except (ValueError, AttributeError):
        raise ValueError(f"{name} '{short(value)}' is not a time in seconds or h:mm:ss") from None


def _several(fields: dict[str, object], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    if isinstance(value, list):
        if not all(isinstance(part, str) and part.strip() for part in value):
            raise ValueError(f"{name} {short(repr(value))} is not a list of names")
        return tuple(dict.fromkeys(part.strip() for part in value))
    return tuple(
        dict.fromkeys(part.strip() for part in _text(fields, name).split(";") if part.strip())
    )


def _timed_captions(captions: list) -> tuple[Caption, ...]:
    timed = []
    for caption in captions:
        try:
            start, end, text = caption
            times = seconds(str(start)), seconds(str(end))
            words = " ".join(text.split())
        except (TypeError, ValueError, AttributeError):
            raise ValueError(f"caption {short(repr(caption))} is not [start, end, text]") from None
        if words:
            timed.append((*times, words))
    return tuple(sorted(timed))


def locate(root: Path, name: str) -> Path:
    """Returns the file `name` under `root`.

    Raises:
      ValueError: it is an address, or leads out of `root` (also through a link), or nowhere.
    """
    if _DRIVE.match(name):
        raise ValueError("begins with a drive: paths are relative to the table or --media_root")
    if "\0" in name or is_address(name):
        raise ValueError("not a path of a local file")
    return inside(root, name, "; --media_root names the folder that holds all media")


def is_address(name: str) -> bool:
    """Says whether a name could be read as an address (`http://...`) or a drive (`C:...`)."""
    return bool(_ADDRESS.match(name))
