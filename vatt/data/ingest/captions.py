"""Reads captions with times from the side file of a video: WebVTT, SubRip, CSV or plain text.

    read_captions("talk.vtt")  ->  [(0.3, 1.05, "the red disc swings"), ...]

Times are in seconds from the start of the video. CSV files have the columns start, end (s, or
hh:mm:ss.fff) and text (or caption). A .txt file is one caption for the whole video, however long
that is: its end is infinite.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from pathlib import Path

from vatt.errors import DataError, nearest

Caption = tuple[float, float, str]

_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)$")
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
ENDINGS = (".vtt", ".srt", ".csv", ".txt")
MAX_SECONDS = 1e9  # 31 years


def seconds(text: str) -> float:
    """Parses seconds ("12.5") or a clock time ("1:02:03.5", "02:03,500").

    Raises:
      ValueError: it is neither, or beyond any recording.
    """
    text = text.strip()
    match = _TIME.match(text)
    if match:
        hours, minutes, rest = match.groups()
        value = float(hours or 0) * 3600 + float(minutes) * 60 + float(rest.replace(",", "."))
    else:
        value = float(text)
    if not abs(value) <= MAX_SECONDS:  # nor "nan"
        raise ValueError(text)
    return value


def read_captions(path: str | Path) -> list[Caption]:
    """Returns the captions of a side file in order of start time.

    Raises:
      DataError: the file is missing, of an unknown kind or cannot be understood.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise DataError(
            f"{path}: captions must be one of {', '.join(ENDINGS)}, not '{path.suffix}'"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such caption file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: the captions are not UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if kind == ".txt":
        return [(0.0, math.inf, " ".join(text.split()))] if text.strip() else []
    try:
        captions = _from_csv(path, text) if kind == ".csv" else _from_cues(path, text)
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None
    return sorted(captions)


def overlapping(captions: list[Caption], start: float, end: float, context: float) -> list[Caption]:
    """Captions heard within `context` seconds of a clip, with times relative to its start.

    One without an end (infinite) is said of the whole video, and so has the times of the clip.
    """
    return [
        (begin - start, finish - start, text) if math.isfinite(finish) else (0.0, end - start, text)
        for begin, finish, text in captions
        if finish > start - context and begin < end + context
    ]


def _from_cues(path: Path, text: str) -> list[Caption]:
    """WebVTT and SubRip: blocks of lines, one of them "start --> end", the text after it."""
    captions = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip("\n").split("\n")
        timing = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if timing is None:
            continue  # header, note, style or an empty block
        begin, _, finish = lines[timing].partition("-->")
        try:
            times = seconds(begin), seconds(finish.split()[0])
        except (ValueError, IndexError):
            raise DataError(
                f"{path}: '{lines[timing]}' is not 'start --> end' with times like 00:01:02.500"
            ) from None
        words = html.unescape(_TAG.sub("", " ".join(lines[timing + 1 :])))
        if words.strip():
            captions.append((*times, " ".join(words.split())))
    return captions


def _from_csv(path: Path, text: str) -> list[Caption]:
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    wording = next((name for name in ("text", "caption") if name in columns), None)
    missing = [name for name in ("start", "end") if name not in columns]
    missing += [] if wording else ["text"]
    if missing:
        raise DataError(
            f"{path}: column '{missing[0]}' is missing; found: {', '.join(columns) or 'none'}; "
            f"needed: start, end, text.{nearest(missing[0], columns)}"
        )
    captions = []
    for number, row in enumerate(reader, start=2):
        try:
            times = seconds(row["start"] or ""), seconds(row["end"] or "")
        except ValueError:
            raise DataError(
                f"{path}, line {number}: start '{row['start']}' and end '{row['end']}' "
                "must be times"
            ) from None
        if (row[wording] or "").strip():
            captions.append((*times, " ".join(row[wording].split())))
    return captions
