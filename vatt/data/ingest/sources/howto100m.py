"""Captions of long videos, as HowTo100M has them, and the videos by their ids.

    --input caption.json --media_root videos/     {"ID": {"start": [..], "end": [..], "text": [..]}}
    --input captions/    --media_root videos/     captions/ID.csv with the columns start, end, text

A video is `ID.mp4` (or any other ending) at any depth below `media_root`. Clips are `clip_seconds`
long: each begins with the first caption that no clip holds yet, and holds all that follow it and
end inside it. What is said around a clip comes with it, as far as `caption_context` reaches.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from vatt.data.ingest import captions as caption_files
from vatt.data.ingest import manifest
from vatt.data.ingest.captions import Caption
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import WHOLE, Listing, Options, files
from vatt.data.ingest.tables import Table
from vatt.errors import DataError, UserError, nearest
from vatt.notices import Notices

CLIP_SECONDS = 10.0
_KEYS = ("start", "end", "text")
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
    seen: set[str] = set()
    for name, captions in _from_json(path) if path.is_file() else _from_folder(path, listing):
        if wanted is not None and name not in wanted:
            continue
        seen.add(name)
        try:
            file = media.take(name)
            if file is None:
                raise DataError(f"no media file of that name below {options.media_root}")
            captions, bad = _captions(captions)
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
    for name in sorted((wanted or set()) - seen):
        listing.fail(split, name, WHOLE, f"no captions in {path}")
    if wanted is None:
        listing.notice("media files without captions, left out", sorted(set(media) - seen))
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


def _captions(found: object) -> tuple[list[Caption], int]:
    """Checks what stands for one video; returns it in order of time, and how many are unusable.

    Raises:
      DataError: it cannot be understood, or nothing is said.
    """
    if isinstance(found, DataError):
        raise found
    if not isinstance(found, list):
        parts = [found.get(key) for key in _KEYS] if isinstance(found, dict) else [None]
        if not all(isinstance(part, list) for part in parts):
            raise DataError("its captions are not lists of start, end and text")
        if len({len(part) for part in parts}) > 1:
            counts = (f"{len(part)} {key}" for key, part in zip(_KEYS, parts, strict=True))
            raise DataError(f"its lists of captions differ in length: {', '.join(counts)}")
        found = list(zip(*parts, strict=True))
    captions = sorted(
        (float(c[0]), float(c[1]), " ".join(c[2].split())) for c in found if _usable(*c)
    )
    if not captions:
        raise DataError("nothing is said in it")
    return captions, len(found) - len(captions)


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
                    f"{', '.join(table.named) or 'none'}.{nearest('video_id', table.named)}"
                )
            place = table.columns.index("video_id")
            ids = {values[place].strip() for _, values in table if len(values) > place}
            return ids - {""}
    except OSError as error:
        raise DataError(f"--list: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--list: {path} is not a CSV file in UTF-8 ({error})") from None


def _from_folder(path: Path, listing: Listing) -> Iterator[tuple[str, list[Caption] | DataError]]:
    """Yields (id, captions) of the files ID.csv in a folder."""
    for file in sorted(path.glob("*.csv")):
        noticed = Notices()
        try:
            yield file.stem, caption_files.read_captions(file, noticed)
        except DataError as error:
            yield file.stem, error
        for kind, detail, _ in noticed:
            listing.notice(kind, [file.stem], detail)


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
