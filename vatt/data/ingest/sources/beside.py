"""Which caption file belongs to which media file: captions lie beside it, under its name.

    talk.vtt   talk.mp4.vtt   talk.en.vtt   talk.pt-BR.srt         of talk.mp4

What stands between name and ending must be a language; a file of its own name has its captions,
so that `intro.cut.vtt` is of `intro.cut.mp4` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from vatt.data.ingest import captions as caption_files
from vatt.data.ingest import languages, spoken
from vatt.data.ingest.sources import Listing
from vatt.notices import Notices


def match(
    media: Sequence[str], captions: Sequence[str], wanted: str | None, listing: Listing
) -> dict[str, str]:
    """Returns {media file: its captions} and lists in `listing` what is not taken.

    Of several files, times come before plain text, then the language decides, then the ending.
    """
    by_name: dict[str, list[tuple[str, str]]] = {}  # (language, file) by the name they are for
    own = {str(PurePosixPath(name).with_suffix("")) for name in media} | set(media)
    for name in captions:
        stem = PurePosixPath(name).with_suffix("")
        tag = stem.suffix.removeprefix(".")
        if str(stem) not in own and languages.code(tag):
            by_name.setdefault(str(stem.with_suffix("")), []).append((tag, name))
        else:
            by_name.setdefault(str(stem), []).append(("", name))
    found: dict[str, str] = {}
    owned: set[str] = set()
    for name in media:
        there = [*by_name.get(name, ()), *by_name.get(str(PurePosixPath(name).with_suffix("")), ())]
        owned.update(file for _, file in there)
        tag, chosen = _choose(there, wanted) or (None, "")
        if chosen:
            found[name] = chosen
        noticed = Notices()
        spoken.tell([tag for tag, _ in there], tag, wanted, noticed, "beside the file")
        for kind, detail, _ in noticed:
            listing.notice(kind, [name], detail)
    unused = owned - set(found.values())
    kind = "captions of a file of which others are taken, or none of that language, left out"
    listing.notice(kind, sorted(unused))
    kind = "captions without a media file of that name, left out"
    listing.notice(kind, sorted(set(captions) - owned))
    return found


def _choose(there: Sequence[tuple[str, str]], wanted: str | None) -> tuple[str, str] | None:
    """Returns one of (language, file); None if there is none, or none of the language wanted."""
    ordered = sorted(there, key=lambda pair: (_kind(pair[1]), pair[1]))
    timed = [pair for pair in ordered if not pair[1].lower().endswith(".txt")]
    for group in (timed, [pair for pair in ordered if pair not in timed]):
        number = languages.choose([tag for tag, _ in group], wanted)
        if number is not None:
            return group[number]
    return None


def _kind(name: str) -> int:
    return caption_files.ENDINGS.index(PurePosixPath(name).suffix.lower())
