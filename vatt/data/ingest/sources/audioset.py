"""Segments of videos with several labels, as AudioSet publishes them.

    --input train=balanced_train_segments.csv --input test=eval_segments.csv --media_root media/

    # YTID, start_seconds, end_seconds, positive_labels
    --PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"

`class_labels_indices.csv` (index,mid,display_name), beside the segments or given as `--labels`,
names the classes and their order. Media lie at any depth below `media_root`, as the whole video
(`ID.mp4`) or cut to the segment (`ID_30.000_40.000.wav`, `ID_30.flac`, ...), also with a Y before
the id. A file `ID.wav` that is no longer than the segment is taken as cut, too.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vatt.data.ingest import manifest
from vatt.data.ingest.captions import MAX_SECONDS
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import Listing, Options, files
from vatt.data.ingest.tables import Table
from vatt.errors import DataError, nearest

CLASSES = "class_labels_indices.csv"
_COLUMNS = ("index", "mid", "display_name")


def looks_like(path: Path) -> bool:
    """Says whether a CSV file holds segments, by its first line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = next((line for line in file if line.strip()), "")
        if line.startswith("#"):
            return True
        _segment(next(csv.reader([line], skipinitialspace=True), []))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError):
        return False
    return True


def from_segments(path: Path, options: Options) -> Listing:
    """One clip per segment; without its media it counts as a failure."""
    root = options.media_root or path.parent
    if not root.is_dir():
        raise DataError(f"--media_root: there is no folder {root}")
    names = read_classes(options.labels or path.parent / CLASSES)
    media = files.ByName(root)
    listing = Listing(root, [], tuple(names.values()))
    problems: list[str] = []
    split = options.split or "train"
    for number, name, start, end, mids in _segments(path, problems):
        unknown = [mid for mid in mids if mid not in names]
        if unknown:
            hint = nearest(unknown[0], names)
            problems.append(f"line {number}: '{unknown[0]}' is not in the table of classes.{hint}")
            continue
        cut_names = list(_cut_names(name, start, end))
        path = media.take(*cut_names, name, f"Y{name}")
        if path:
            cut = PurePosixPath(path).stem in cut_names
            row = Row(
                path=path,
                start=None if cut else start,
                end=None if cut else end,
                split=split,
                labels=tuple(names[mid] for mid in mids),
                line=number,
                fit=manifest.EXACT if cut else manifest.PIECE,
            )
            listing.rows.append(row)
        else:
            listing.fail(split, name, (start, end), f"no media file of that id below {root}")
    manifest.refuse_lines(path, problems)
    media.tell(listing)
    return listing


def _cut_names(name: str, start: float, end: float) -> Iterator[str]:
    """Names of files that hold a segment alone, as downloaders write them (s or ms)."""
    for prefix in ("", "Y"):
        for scale, form in ((1, ".3f"), (1, "g"), (1, ".1f"), (1000, ".0f")):
            first, last = format(scale * start, form), format(scale * end, form)
            yield f"{prefix}{name}_{first}_{last}"
        for form in (".3f", "g", ".1f"):
            yield f"{prefix}{name}_{format(start, form)}"


def _segments(
    path: Path, problems: list[str]
) -> Iterator[tuple[int, str, float, float, tuple[str, ...]]]:
    """Yields (line, id, start, end, mids); what is wrong with other lines goes to `problems`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            for fields in reader:
                is_head = reader.line_num == 1 and fields[1:2] == ["start_seconds"]
                if not fields or fields[0].startswith("#") or is_head:
                    continue
                try:
                    yield reader.line_num, *_segment(fields)
                except ValueError as error:
                    problems.append(f"line {reader.line_num}: {error}")
    except OSError as error:
        raise DataError(f"--input: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None


def _segment(fields: list[str]) -> tuple[str, float, float, tuple[str, ...]]:
    if len(fields) != 4:
        raise ValueError(
            f'{len(fields)} values, not YTID, start_seconds, end_seconds, "label,label"'
        )
    name, mids = fields[0].strip(), fields[3].split(",")
    try:
        start, end = float(fields[1]), float(fields[2])
    except ValueError:
        start = end = math.nan
    if not 0 <= start < end <= MAX_SECONDS:
        raise ValueError(f"'{fields[1]}' and '{fields[2]}' are not start and end in seconds")
    mids = tuple(dict.fromkeys(mid.strip() for mid in mids if mid.strip()))
    if not name or not mids:
        raise ValueError("the id or the labels are empty")
    return name, start, end, mids


def read_classes(path: Path) -> dict[str, str]:
    """Returns {mid: display name} in order of the index.

    Raises:
      DataError: there is no such table, or it is not one of classes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = Table(file, _COLUMNS.__contains__, skipinitialspace=True)
            missing = [name for name in _COLUMNS if name not in table.named]
            if missing:
                raise DataError(
                    f"{path}: column '{missing[0]}' is missing; found: "
                    f"{table.shown}; needed: {', '.join(_COLUMNS)}"
                )
            rows, problems = [], []
            for number, values in table:
                try:
                    rows.append(table.fields(values))
                except ValueError as error:
                    problems.append(f"line {number}: {error}")
    except FileNotFoundError:
        raise DataError(
            f"there is no table of classes {path}: put {CLASSES} ({','.join(_COLUMNS)}) there, or "
            "name it by --labels"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    manifest.refuse_lines(path, problems)
    if [row.get("index", "").strip() for row in rows] != [
        str(number) for number in range(len(rows))
    ]:
        raise DataError(f"{path}: the column 'index' must count 0, 1, 2, ...")
    names = {row.get("mid", "").strip(): row.get("display_name", "").strip() for row in rows}
    if not rows or len(set(names.values())) != len(rows) or not all(names.values()):
        raise DataError(f"{path}: each class needs a mid and a display_name of its own")
    return names
