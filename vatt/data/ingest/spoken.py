"""What is said in a clip and around it: from its row, the side file, or the media file itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vatt.data.ingest import captions as caption_files
from vatt.data.ingest import languages, markup
from vatt.data.ingest.captions import Caption
from vatt.data.ingest.manifest import Row
from vatt.errors import DataError
from vatt.files import version
from vatt.notices import Notice, Notices

if TYPE_CHECKING:
    from vatt.data import media
    from vatt.data.ingest.shards import Settings


def of_clip(
    row: Row,
    clip: media.MediaClip,
    path: Path | None,
    side_file: Path | None,
    settings: Settings,
    notices: Notices,
) -> list[Caption]:
    """Returns captions with times from the start of a clip, those that overlap it first.

    Args:
      row: the clip.
      clip: what was read of it; its times count.
      path: its media file.
      side_file: its captions.
      settings: of the set.
      notices: what is noticed is added to them.

    Raises:
      DataError: the side file cannot be used.
    """
    seconds = clip.end - clip.start
    said = [(0.0, seconds, row.caption)] if row.caption else []
    timed = list(row.timed_captions)
    if side_file is not None:
        found, noticed = _beside(side_file, path, *version(side_file))
        timed += found
        notices.extend(noticed)
    elif path is not None and seconds > 0 and not said and not timed:
        timed += _inside(path, clip.start, clip.end, settings, notices)
    if path is not None and seconds > 0:
        timed = _within(timed, path, clip.end, side_file, notices)
    said += caption_files.overlapping(timed, clip.start, clip.end, settings.caption_context)
    return sorted(said, key=lambda caption: not caption_files.near(caption, 0.0, seconds, 0.0))


# Clips of one file ask again.
@functools.lru_cache(maxsize=64)
def _beside(
    side_file: Path, path: Path | None, *_version: int
) -> tuple[tuple[Caption, ...], tuple[Notice, ...]]:
    from vatt.data import media

    notices = Notices()
    start = functools.partial(media.first_stamp, path) if path is not None else float
    return tuple(caption_files.read_captions(side_file, notices, start)), tuple(notices)


@functools.lru_cache(maxsize=4096)
def _length(path: Path, *_version: int) -> float:
    """How long a file is (s), infinite if that cannot be told."""
    from vatt.data import media

    try:
        return media.length(path)
    except DataError:
        return math.inf


def _inside(
    path: Path, start: float, end: float, settings: Settings, notices: Notices
) -> list[Caption]:
    """Subtitles of a media file; one that has none is no fault of it."""
    from vatt.data import media

    context, wanted = settings.caption_context, settings.caption_language
    choose = functools.partial(languages.choose, wanted=wanted)
    try:
        found, spoken, others = media.read_subtitles(path, start - context, end + context, choose)
    except media.MediaError as error:
        kind = "captions inside the file that cannot be read, left out"
        notices.add(kind, str(error), whole_file=True)
        return []
    for kind in others:
        kept = "subtitles inside the file that are no text, left out"
        notices.add(kept, kind, whole_file=True)
    number = languages.choose(spoken, wanted)
    taken = None if number is None else spoken[number]
    tell(spoken, taken, wanted, notices, "inside the file")
    cues = [(begin, finish, markup.lines_of(text)) for begin, finish, text in found]
    if found:
        notices.add("captions taken from inside the file", whole_file=True)
    noticed = Notices()
    captions = sorted(caption_files.from_cues(cues, path.name, noticed))
    for kind, *_ in noticed:  # the numbers are those of a clip
        notices.add(kind, path.name, whole_file=True)
    return captions


def tell(
    tags: Sequence[str], taken: str | None, wanted: str | None, notices: Notices, where: str
) -> None:
    """Adds what is to be known of captions in several languages, or in none that is asked for.

    Args:
      tags: the languages there are.
      taken: the one that is taken; None if none is.
      wanted: the one that is asked for, if one is.
      notices: to which it is added.
      where: the captions are.
    """
    several = languages.told(tags)
    if taken is None and several:
        kind = f"captions {where} in other languages than --caption_language, left out"
        notices.add(kind, ", ".join(several), whole_file=True)
    elif wanted is None and len(several) > 1:
        kind = f"captions {where} in several languages, one taken; --caption_language says which"
        detail = f"{taken or 'the one without a language'}, of {', '.join(several)}"
        notices.add(kind, detail, whole_file=True)


def _within(
    captions: list[Caption], path: Path, end: float, side_file: Path | None, notices: Notices
) -> list[Caption]:
    """Leaves out captions behind the end of the file, which may be those of another one."""
    timed = [begin for begin, finish, _ in captions if math.isfinite(finish)]
    if max(timed, default=0.0) < end:
        return captions
    length = _length(path, *version(path))
    late = sum(begin >= length for begin in timed)
    if late:
        kind = "captions that begin after the end of the file, left out"
        detail = f"{side_file.name}: {late} of {len(captions)}" if side_file else ""
        notices.add(kind, detail, whole_file=True)
    return [c for c in captions if c[0] < length or not math.isfinite(c[1])]
