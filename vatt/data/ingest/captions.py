"""Reads captions with times from the side file of a video: WebVTT, SubRip, CSV or plain text.

    read_captions("talk.vtt")  ->  [(0.3, 1.05, "the red disc swings"), ...]

Times are in seconds from the start of the video. CSV files have the columns start, end (s, or
hh:mm:ss.fff) and text (or caption), in any of the forms of `tables`. A .txt file is one caption for
the whole video, however long that is: its end is infinite.

WebVTT and SubRip break the standards in many ways; what is read is what a player shows, each line
once (`rolling`), without tags (`markup`). A cue ends with an empty line in WebVTT, where a line of
blanks is one of its lines, and with the next cue in SubRip.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vatt.data.ingest import rolling
from vatt.data.ingest.markup import lines_of, plain
from vatt.data.ingest.rolling import Cue
from vatt.data.ingest.tables import Table
from vatt.errors import DataError, nearest, short
from vatt.notices import Notices

Caption = tuple[float, float, str]

_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)$")
TABLES = (".csv", ".tsv")
ENDINGS = (".vtt", ".srt", *TABLES, ".txt")
_COLUMNS = ("start", "end", "text", "caption")
MAX_SECONDS = 1e9  # 31 years
_ARROW = re.compile(r"\s*-+>\s*")
# How a line of times begins, perhaps of wrong ones.
_TIMES = re.compile(r"\s*-?\d(?:.*-->|\d*:[\d:.,]+\s*->)")
_COMMENTS = ("NOTE", "STYLE", "REGION")  # first words of blocks that are not shown
_TIME_MAP = "X-TIMESTAMP-MAP="
_TICKS = 90_000  # of MPEG-2 in a second
_WRAP = 2**33 / _TICKS  # s after which its clock begins again


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


def read_captions(
    path: str | Path,
    notices: Notices | None = None,
    media_start: Callable[[], float] = lambda: 0.0,
) -> list[Caption]:
    """Returns the captions of a side file in order of start time.

    Args:
      path: the file.
      notices: what is noticed is added to them.
      media_start: returns the time stamp at which the video starts (s). It is asked for where the
        header of the file maps its times to such stamps (X-TIMESTAMP-MAP).

    Raises:
      DataError: the file is missing, of an unknown kind or cannot be understood.
    """
    path, notices = Path(path), Notices() if notices is None else notices
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
        return [(0.0, math.inf, plain(text))] if plain(text) else []
    try:
        if kind in TABLES:
            cues = _from_csv(path, text, notices)
        else:
            cues = _from_blocks(path, text, notices, media_start)
        captions = from_cues(cues, path.name, notices)
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None
    for kind, count in {
        "captions that end before they begin, left out": sum(c[1] < c[0] for c in captions),
        "captions that end when they begin, kept": sum(c[1] == c[0] for c in captions),
    }.items():
        if count:
            notices.add(kind, f"{path.name}: {count} of {len(captions)}", whole_file=True)
    if not captions:
        notices.add("caption files without a caption", path.name, whole_file=True)
    return sorted(caption for caption in captions if caption[0] <= caption[1])


def from_cues(cues: Iterable[Cue], name: str, notices: Notices) -> list[Caption]:
    """Returns the captions of cues in order of time, each line once."""
    cues = [cue for cue in cues if cue[2]]
    captions, again = rolling.unroll(cues)
    if again:
        detail = f"{name}: {again} of {len(cues)}"
        notices.add("captions that show words again, merged", detail, whole_file=True)
    return captions


def near(caption: Caption, start: float, end: float, context: float) -> bool:
    """Says whether a caption is heard within `context` seconds of a clip."""
    begin, finish, _ = caption
    return begin < end + context and (finish > start - context or begin >= start - context)


def overlapping(captions: list[Caption], start: float, end: float, context: float) -> list[Caption]:
    """Captions heard within `context` seconds of a clip, with times relative to its start.

    One without an end (infinite) is said of the whole video, and so has the times of the clip.
    """
    return [
        (begin - start, finish - start, text) if math.isfinite(finish) else (0.0, end - start, text)
        for begin, finish, text in captions
        if near((begin, finish, text), start, end, context)
    ]


# WebVTT and SubRip -------------------------------------------------------------------------------


def _from_blocks(
    path: Path, text: str, notices: Notices, media_start: Callable[[], float]
) -> Iterator[Cue]:
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    subrip = not text.startswith("WEBVTT")
    shift, shifts, lost = 0.0, set(), 0
    for block in [text] if subrip else re.split(r"\n\n+", text):
        lines = block.split("\n")
        words = lines[0].split()
        if words[:1] == ["WEBVTT"]:  # stands again where files were put one behind the other
            maps = [line for line in lines if line.startswith(_TIME_MAP)]
            shift = _shift(path, maps[0], media_start()) if maps else 0.0
            shifts.add(round(shift, 3))
        if words[:1] in ([word] for word in _COMMENTS):
            continue
        marks = _marks(lines)
        if not marks:
            lost += bool(words) and words[0] != "WEBVTT"
        for begin, finish, shown in _of_block(path, lines, marks, subrip):
            yield begin + shift, finish + shift, shown
    if any(shifts):
        several = ", ".join(f"{shift:g} s" for shift in sorted(shifts))
        kind = "captions with a time map in their header, shifted by it"
        notices.add(kind, f"{path.name}: {several}", whole_file=True)
    if lost:
        kind = "paragraphs without times in captions, left out"
        notices.add(kind, f"{path.name}: {lost}", whole_file=True)


def _marks(lines: list[str]) -> list[int]:
    """Numbers of the lines of times; in a sentence, there may also be an arrow."""
    arrows = [k for k, line in enumerate(lines) if "-->" in line or _TIMES.match(line)]
    return arrows[:1] + [k for k in arrows[1:] if _TIMES.match(lines[k])]


def _of_block(path: Path, lines: list[str], marks: list[int], subrip: bool) -> Iterator[Cue]:
    """Yields the cues of a block: each of its lines of times begins one.

    What stands between two ends with the number of the latter, if it has one.
    """
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        begin, finish = _ARROW.split(lines[mark], maxsplit=1)
        try:
            times = seconds(begin), seconds(finish.split()[0])
        except (ValueError, IndexError):
            raise DataError(
                f"{path}: '{short(lines[mark])}' is not 'start --> end' with times like "
                "00:01:02.500"
            ) from None
        shown = lines[mark + 1 : following]
        if following is not None:
            while subrip and shown and not shown[-1].strip():
                shown.pop()
            set_off = subrip or (len(shown) > 1 and not shown[-2].strip())
            if set_off and shown and shown[-1].strip().isdecimal():
                shown.pop()
        yield *times, lines_of("\n".join(shown))


def _shift(path: Path, line: str, media_start: float) -> float:
    """Returns what a map adds to times: they are those of a video that starts at `media_start`."""
    parts = (part.strip().partition(":") for part in line.removeprefix(_TIME_MAP).split(","))
    given = {name: value for name, _, value in parts}
    try:
        shift = int(given["MPEGTS"]) / _TICKS - seconds(given["LOCAL"]) - media_start
    except (KeyError, ValueError, OverflowError):
        raise DataError(
            f"{path}: '{short(line)}' is not {_TIME_MAP}LOCAL:00:00:00.000,MPEGTS:900000"
        ) from None
    return (shift + _WRAP / 2) % _WRAP - _WRAP / 2


# CSV ---------------------------------------------------------------------------------------------


def _from_csv(path: Path, text: str, notices: Notices) -> Iterator[Cue]:
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    table = Table(io.StringIO(text), _COLUMNS.__contains__, usual=usual)
    wording = _wording(path, table)
    rows = empty = 0
    for number, values in table:
        rows += 1
        where = f"{path}, line {number}"
        if len(values) > len(table.columns) and table.columns[-1] == wording:
            # A sentence with commas and without quotes: nothing else can stand behind it.
            last = len(table.columns) - 1
            values[last:] = [table.separator.join(values[last:])]
        if len(values) > len(table.columns):
            raise DataError(
                f"{where}: {len(values)} values for {len(table.columns)} columns; a {wording} with "
                f"'{table.separator}' in it must stand in double quotes"
            )
        try:
            row = table.fields(values)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        try:
            times = seconds(row["start"]), seconds(row.get("end", ""))
        except (KeyError, ValueError):
            raise DataError(
                f"{where}: start '{short(row.get('start', ''))}' and end "
                f"'{short(row.get('end', ''))}' must be times"
            ) from None
        lines = tuple(filter(None, map(plain, row.get(wording, "").split("\n"))))
        empty += not lines
        yield *times, lines
    if empty:
        kind = "captions without text, left out"
        notices.add(kind, f"{path.name}: {empty} of {rows}", whole_file=True)


def _wording(path: Path, table: Table) -> str:
    """Returns the column with the words, of a table that has all that is needed, once."""
    columns = table.named
    wording = next((name for name in ("text", "caption") if name in columns), None)
    missing = [name for name in ("start", "end") if name not in columns]
    missing += [] if wording else ["text"]
    if missing:
        raise DataError(
            f"{path}: column '{missing[0]}' is missing; found: "
            f"{short(', '.join(columns)) or 'none'}; needed: start, end, text."
            f"{nearest(missing[0], columns)}"
        )
    for name in ("start", "end", wording):
        if columns.count(name) > 1:
            raise DataError(f"{path}: column '{name}' stands {columns.count(name)} times")
    return wording
