"""Captions of long videos, as HowTo100M has them, and the videos by their ids.

    --input caption.json --media_root videos/     {"ID": {"start": [..], "end": [..], "text": [..]}}
    --input caption.pickle  --media_root videos/  the same, of which no code is run
    --input captions/    --media_root videos/     captions/ID.csv, .tsv, .json or .jsonl

A CSV has the columns start, end, text; a JSON file is as the one of all videos, or has the lists of
the video it is called by; each line of a JSONL file is {"start": 0.5, "end": 2, "text": ".."}.

A video is `ID.mp4` (or any other ending) at any depth below `media_root`. Clips are `clip_seconds`
long: each begins with the first caption that no clip holds yet, and holds all that follow it and
end inside it. What is said around a clip comes with it, as far as `caption_context` reaches.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TextIO

from vatt.data.ingest import captions as caption_files
from vatt.data.ingest import manifest, pickled
from vatt.data.ingest.captions import Caption
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import WHOLE, Listing, Options, files
from vatt.data.ingest.tables import Table
from vatt.data.pickled_arrays import Array
from vatt.errors import DataError, UserError, nearest, short
from vatt.files import read_text
from vatt.notices import Notices

CLIP_SECONDS = 10.0
_KEYS = ("start", "end", "text")
_ENDINGS = (*caption_files.TABLES, ".json", *manifest.JSON_LINES)  # of caption files in a folder
_METADATA = ".info.json"  # of yt-dlp
_BLOCK = 1 << 20  # characters read at once
_MAX_VIDEO = 1 << 26  # characters of the captions of one video


def from_captions(path: Path, options: Options) -> Listing:
    """Clips of all videos that have captions; without the video they count as failures."""
    if options.media_root is None:
        raise UserError("--media_root: captions need the folder that holds the videos by their ids")
    if not options.media_root.is_dir():
        raise DataError(f"--media_root: there is no folder {options.media_root}")
    wanted = _ids(options.list) if options.list else None
    media = files.ByName(options.media_root)
    listing = Listing(options.media_root, [])
    split = options.split or "train"
    seen: dict[str, str] = {}  # where the captions of a video stand
    for name, place, captions in found(path, listing):
        if wanted is not None and name not in wanted:
            continue
        if name in seen:
            kind = "videos whose captions stand in several places, one taken"
            listing.notice(kind, [name], f"{seen[name]}, not {place}")
            continue
        seen[name] = place
        try:
            file = media.take(name)
            if file is None:
                raise DataError(f"no media file of that name below {options.media_root}")
            captions, bad = usable(captions, place)
        except DataError as error:
            listing.fail(split, name, WHOLE, str(error))
            continue
        listing.rows += _clips(file, captions, options)
        if bad:
            kind = "captions without text or with impossible times, left out"
            listing.notice(kind, [name], str(bad))
    media.tell(listing)
    if not seen:
        raise DataError(f"--input: {path} holds no captions of videos that are asked for")
    for name in sorted((wanted or set()) - seen.keys()):
        listing.fail(split, name, WHOLE, f"no captions in {path}")
    if wanted is None:
        listing.notice("media files without captions, left out", sorted(set(media) - seen.keys()))
    return listing


def _clips(path: str, captions: list[Caption], options: Options) -> Iterator[Row]:
    seconds = options.clip_seconds or CLIP_SECONDS
    for start in _starts(captions, seconds):
        end = start + seconds
        near = (c for c in captions if caption_files.near(c, start, end, options.caption_context))
        yield Row(
            path=path,
            start=start,
            end=end,
            split=options.split or "train",
            timed_captions=tuple(near),
            fit=manifest.TRIM,
        )


def _starts(captions: list[Caption], seconds: float) -> Iterator[float]:
    """Yields where clips begin, so that each caption lies in one unless it is longer than that."""
    end = -math.inf
    for begin, finish, _ in captions:
        if finish > end or begin >= end:
            yield begin
            end = begin + seconds


def usable(found: object, place: str) -> tuple[list[Caption], int]:
    """Checks what stands for one video; returns it in order of time, and how many are unusable.

    Raises:
      DataError: it cannot be understood, or nothing is said.
    """
    if isinstance(found, DataError):
        raise found
    try:
        told = _told(found)
    except ValueError as error:
        form = "captions are lists of start, end and text"
        raise DataError(f"{place}: {error}; {form}") from None
    captions = sorted(
        (float(c[0]), float(c[1]), " ".join(c[2].split())) for c in told if _usable(*c)
    )
    if not captions:
        raise DataError(f"{place}: nothing is said in it")
    return captions, len(told) - len(captions)


def _told(found: object) -> list[tuple]:
    """Returns (start, end, text) of what JSON has in lists, or caption by caption.

    Raises:
      ValueError: it is of neither form.
    """
    if isinstance(found, list):
        for number, one in enumerate(found, start=1):
            _check_keys(one, f"caption {number}", lambda part: not isinstance(part, list | dict))
        return [tuple(one[key] for key in _KEYS) for one in found]
    _check_keys(found, "what stands there", lambda part: isinstance(part, list))
    parts = [found[key] for key in _KEYS]
    if len({len(part) for part in parts}) > 1:
        counts = (f"{len(part)} {key}" for key, part in zip(_KEYS, parts, strict=True))
        raise ValueError(f"its lists differ in length: {', '.join(counts)}")
    return list(zip(*parts, strict=True))


def _check_keys(found: object, what: str, fits: Callable[[object], bool]) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{what} is {short(repr(found))}")
    for key in _KEYS:
        if key not in found:
            raise ValueError(f"'{key}' is missing in {what}.{nearest(key, found)}")
        if not fits(found[key]):
            raise ValueError(f"'{key}' is {short(repr(found[key]))} in {what}")


def _usable(start: object, end: object, text: object) -> bool:
    """Published files have NaN where nothing is said."""
    numbers = all(isinstance(time, int | float) for time in (start, end))
    return (
        numbers
        and 0 <= start <= end <= caption_files.MAX_SECONDS
        and isinstance(text, str)
        and bool(text.strip())
    )


# Files -------------------------------------------------------------------------------------------


def _ids(path: Path) -> set[str]:
    """The column `video_id` of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = Table(file, "video_id".__eq__, skipinitialspace=True)
            if "video_id" not in table.columns:
                raise DataError(
                    f"--list: {path} has no column 'video_id'; found: "
                    f"{table.shown}.{nearest('video_id', table.named)}"
                )
            place = table.columns.index("video_id")
            ids = {values[place].strip() for _, values in table if len(values) > place}
            return ids - {""}
    except OSError as error:
        raise DataError(f"--list: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--list: {path} is not a CSV file in UTF-8 ({error})") from None


def found(path: Path, listing: Listing) -> Iterator[tuple[str, str, object]]:
    """Yields (id, place, captions) of a file, or of all files below a folder."""
    if path.is_file():
        yield from _in_file(path, path.name, listing)
        return
    left_out: dict[str, list[str]] = {}
    for name in files.walk(path):
        file = PurePosixPath(name)
        ending = "".join(file.suffixes[-2:] if name.endswith(_METADATA) else file.suffixes[-1:])
        if files.is_hidden(name):
            left_out.setdefault("hidden files", []).append(name)
        elif ending.lower() in _ENDINGS:
            try:
                yield from _in_file(path / name, name, listing)
            except DataError as error:
                yield file.stem, name, error
        elif ending.lower() not in files.VIDEO + files.AUDIO:
            kind = f"files ending in {ending}" if ending else "files without an ending"
            left_out.setdefault(kind, []).append(name)
    for kind, names in sorted(left_out.items()):
        listing.notice(f"{kind}, left out", names)


def _in_file(path: Path, shown: str, listing: Listing) -> Iterator[tuple[str, str, object]]:
    """Yields (id, place, captions) of a file: of many videos, or of the one it is called by."""
    if path.suffix.lower() in caption_files.TABLES:
        noticed = Notices()
        captions = caption_files.read_captions(path, noticed)
        for kind, detail, _ in noticed:
            listing.notice(kind, [path.stem], detail)
        columns = {key: [caption[k] for caption in captions] for k, key in enumerate(_KEYS)}
        yield path.stem, shown, columns
        return
    if path.suffix.lower() in manifest.JSON_LINES:
        yield path.stem, shown, _from_lines(path)
        return
    if path.suffix.lower() in manifest.PICKLES:
        yield from _from_pickle(path, shown)
        return
    loose: dict[str, object] = {}
    for number, (name, value) in enumerate(_from_json(path), start=1):
        if isinstance(value, dict):
            yield name, f"{shown}, entry {number}", value
        else:
            loose[name] = value
    if loose.keys() & set(_KEYS):
        yield path.stem, shown, loose
    else:
        yield from ((name, shown, value) for name, value in loose.items())


def _from_lines(path: Path) -> object:
    """Returns what a JSONL file says of a video: a caption in each line, or all in the only one."""
    try:
        lines = list(manifest.json_lines(io.StringIO(read_text(path, _MAX_VIDEO))))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: not lines of JSON in UTF-8 ({error})") from None
    for number, value in lines:
        if isinstance(value, ValueError):
            raise DataError(f"{path}, line {number}: {value}")
    values = [value for _, value in lines]
    first = values[0] if len(values) == 1 else None
    return first if isinstance(first, dict) and isinstance(first.get("start"), list) else values


def _from_pickle(path: Path, shown: str) -> Iterator[tuple[str, str, object]]:
    """Yields (id, place, captions) of a pickled mapping, its arrays as lists."""
    videos = pickled.content(path)
    if not isinstance(videos, dict):
        raise DataError(f"{path}: holds a {type(videos).__name__}, not captions by id")
    for number, (name, told) in enumerate(videos.items(), start=1):
        if isinstance(told, dict):
            arrays = {key: part for key, part in told.items() if isinstance(part, Array)}
            told = {**told, **{key: part.array().tolist() for key, part in arrays.items()}}
        yield str(name), f"{shown}, entry {number}", told


def _from_json(path: Path) -> Iterator[tuple[str, object]]:
    """Yields (id, captions) of a JSON object of which only one video at a time is in memory."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            reader = _Reader(file)
            sign = reader.sign("{")
            while sign != "}":
                if reader.peek() == "}":
                    break
                name = reader.value()
                reader.sign(":")
                yield str(name), reader.value()
                sign = reader.sign(",}")
    except OSError as error:
        raise DataError(f"--input: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(
            f'--input: {path} is not a JSON object of the form {{"ID": {{"start": [...], "end": '
            f'[...], "text": [...]}}, ...}} ({error})'
        ) from None


class _Reader:
    """Reads signs and values of a JSON text one after the other."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._place = file, "", 0
        self._before = 0  # characters that are gone from the text
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Returns the next sign that is not a space; "" at the end of the file."""
        while True:
            while self._place < len(self._text):
                if not self._text[self._place].isspace():
                    return self._text[self._place]
                self._place += 1
            if not self._more():
                return ""

    def sign(self, accepted: str) -> str:
        sign = self.peek()
        if not sign or sign not in accepted:
            raise ValueError(
                f"{sign or 'the end of the file'!r} where one of {accepted!r} is needed, at "
                f"character {self._before + self._place}"
            )
        self._place += 1
        return sign

    def value(self) -> object:
        self.peek()
        while True:
            try:
                value, self._place = self._decoder.raw_decode(self._text, self._place)
                return value
            except ValueError as error:
                if len(self._text) - self._place > _MAX_VIDEO or not self._more():
                    at = self._before + self._place
                    raise ValueError(f"the value at character {at}: {error}") from None

    def _more(self) -> bool:
        """Reads on; each time as much again as is not used yet, so that long values are cheap."""
        rest = self._text[self._place :]
        block = self._file.read(max(_BLOCK, len(rest)))
        self._before += self._place
        self._text, self._place = rest + block, 0
        return bool(block)
