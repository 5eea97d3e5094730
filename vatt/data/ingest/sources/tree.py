"""A folder tree of videos or sounds, or of pictures: the folders are the splits and classes.

    split/class/file    class/file    split/file    file

Folders are splits when they are called train, val, test and the like, with or without a number.
Beside `talk.mp4`, a file `talk.vtt` (or .srt, .csv, .tsv, .txt; also `talk.en.vtt`) holds its
captions; see `beside`.
Trees that mix these forms are refused with what was found.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vatt.data.features import split_part
from vatt.data.ingest import captions as caption_files
from vatt.data.ingest.manifest import STILL, Row
from vatt.data.ingest.sources import WHOLE, Listing, Options, Times, beside, files
from vatt.errors import DataError, UserError

_ACCEPTED = "accepted: split/class/file, class/file, split/file, or files without folders"
_BATCH = 64  # files whose lengths one job reads


def from_folder(path: Path, options: Options) -> Listing:
    """Videos and sounds; with `clip_seconds` long files are cut into clips."""
    if options.clip_step and not options.clip_seconds:
        raise UserError("--clip_step needs --clip_seconds")
    listing = _listing(path, options, files.VIDEO + files.AUDIO, "videos or sounds")
    if options.clip_seconds:
        _cut(listing, options)
    return listing


def from_images(path: Path, options: Options) -> Listing:
    """Pictures: each becomes a clip of one frame."""
    listing = _listing(path, options, files.IMAGES, "pictures")
    listing.rows = [dataclasses.replace(row, fit=STILL) for row in listing.rows]
    return listing


def _listing(path: Path, options: Options, endings: Sequence[str], what: str) -> Listing:
    if not path.is_dir():
        raise DataError(f"--input: {path} is a file; this format is a folder of {what}")
    root = options.media_root or path
    try:
        prefix = path.resolve().relative_to(root.resolve())
    except ValueError:
        raise DataError(f"--media_root: {root} does not hold the input {path}") from None
    listing = Listing(root, [])
    media, captions, left_out = _scan(path, endings)
    for kind, names in left_out:
        listing.notice(f"{kind}, left out", names)
    if not media:
        found = files.count_endings(path).most_common(5)
        shown = ", ".join(f"{ending or 'no ending'} ({count})" for ending, count in found)
        raise DataError(
            f"--input: {path} holds no {what}; found: {shown or 'nothing'}; accepted: "
            f"{', '.join(endings)}"
        )
    caption_of = beside.match(media, captions, options.caption_language, listing)
    listing.notice("folders without media, left out", _empty_folders(path, media))
    splits, classes = _layout(path, [name.split("/") for name in media], options.split)
    test: set[str] = set()
    if options.test_share:
        if splits or options.split:
            raise UserError("--test_share is for trees without splits, and this one has them")
        test = _drawn(media, options.test_share, classes, listing)
        listing.drawn = ("test", "train")
    for name in media:
        parts = name.split("/")
        drawn = options.split or ("test" if name in test else "train")
        row = Row(
            path=_below(prefix, name),
            split=parts[0] if splits else drawn,
            labels=(parts[-2],) if classes else (),
            captions=_below(prefix, caption_of[name]) if name in caption_of else "",
        )
        if files.is_utf8(name):
            listing.rows.append(row)
        else:
            shown = row.path.encode(errors="backslashreplace").decode()
            listing.fail(row.split, shown, WHOLE, "the name of the file is not UTF-8")
    return listing


def _below(prefix: Path, name: str) -> str:
    return files.relative((PurePosixPath(prefix.as_posix()) / name).as_posix())


def _drawn(media: list[str], share: float, classes: bool, listing: Listing) -> set[str]:
    """Chooses the files of the split `test` by the hashes of their names.

    Files that differ in their ending alone, as `a.mp4` and `a.wav`, are drawn together, by the
    first of them, videos before sounds. Without classes each is drawn by its name alone: files that
    come or go do not move others. Of a class its share is taken, the files with the lowest hashes:
    a file that comes or goes moves at most one other, and none to or from another class. Each part
    gets one file at least.
    """
    same: dict[str, list[str]] = {}
    for name in sorted(media, key=lambda name: (files.is_sound(name), name)):
        same.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    groups: dict[str, list[list[str]]] = {}
    for names in same.values():
        groups.setdefault(names[0].split("/")[-2] if classes else "", []).append(names)
    chosen: set[str] = set()
    for group, members in groups.items():
        if classes:
            count = math.floor(len(members) * share + 0.5)
            if 0 < share < 1:
                count = max(1, min(count, len(members) - 1)) if len(members) > 1 else 0
        else:
            count = sum(_draw(names) < share for names in members)
        for names in sorted(members, key=_draw)[:count]:
            chosen.update(names)
        if 0 < share < 1 and count in (0, len(members)):
            what, part = "classes" if classes else "folders", "train" if count else "test"
            kind = f"{what} without a file in the split {part}"
            listing.notice(kind, [group or "."], f"{len(members)} in all")
    return chosen


def _draw(names: list[str]) -> float:
    """A number from 0 to 1 that stands for files of one name, by the first of them."""
    name_bytes = names[0].encode(errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(name_bytes).digest()[:8]) / 2**64


# What is there -----------------------------------------------------------------------------------


def _scan(
    path: Path, endings: Sequence[str]
) -> tuple[list[str], list[str], list[tuple[str, list[str]]]]:
    """Returns the media files, the files that may be captions, and the others by reason."""
    media: list[str] = []
    captions: list[str] = []
    left_out: dict[str, list[str]] = {}
    links: list[str] = []
    for name in files.walk(path, links):
        ending = PurePosixPath(name).suffix.lower()
        if files.is_hidden(name):
            left_out.setdefault("hidden files", []).append(name)
        elif ending in endings:
            media.append(name)
        elif ending in caption_files.ENDINGS:
            captions.append(name)
        else:
            reason = f"files ending in {ending}" if ending else "files without an ending"
            left_out.setdefault(reason, []).append(name)
    if links:
        left_out["links to folders"] = links
    return media, captions, sorted(left_out.items())


def _empty_folders(path: Path, media: list[str]) -> Iterator[str]:
    """Yields the folders that hold nothing to take, the outermost ones."""
    filled = {str(folder) for name in media for folder in PurePosixPath(name).parents}
    for name in files.folders(path):
        above = str(PurePosixPath(name).parent)
        if name not in filled and above in filled and not files.is_hidden(name):
            yield name


def _layout(path: Path, media: list[list[str]], split: str | None) -> tuple[bool, bool]:
    """Returns whether the tree has folders for splits, and for classes; `split`: given as such."""
    depths = Counter(len(parts) - 1 for parts in media)
    if len(depths) > 1 or max(depths) > 2:
        places = "; ".join(
            f"{count} below {depth} {'folder' if depth == 1 else 'folders'}, as "
            f"{next('/'.join(parts) for parts in media if len(parts) - 1 == depth)}"
            for depth, count in sorted(depths.items())
        )
        raise DataError(f"--input: {path} is not a tree of one form: {places}; {_ACCEPTED}")
    depth = max(depths)
    if depth == 0:
        return False, False
    tops = sorted({parts[0] for parts in media})
    named = [top for top in tops if split_part(top)[0]]
    others = [top for top in tops if top not in named]
    if split and (depth == 2 or not others):
        raise DataError(
            f"--input: {path} is given as split '{split}', but has folders for splits itself "
            f"({_some(tops)}): give it without '{split}='"
        )
    if split:
        return False, True
    if named and others:
        raise DataError(
            f"--input: {path} holds folders that are splits ({_some(named)}) beside others "
            f"({_some(others)}); {_ACCEPTED}. If all are classes: --input train={path}"
        )
    if depth == 2 and others:
        raise DataError(
            f"--input: {path} holds folders in folders, as {'/'.join(media[0])}, but "
            f"{_some(others)} is no name of a split (train, val, test, train_1, ...); {_ACCEPTED}. "
            f"Splits of other names: --input NAME={path / others[0]}, once for each"
        )
    return bool(named), depth == 2 or not named


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# Long files --------------------------------------------------------------------------------------


def _cut(listing: Listing, options: Options) -> None:
    """Replaces each row by clips of `clip_seconds`, one every `clip_step`."""
    from vatt.data import workers

    names = [row.path for row in listing.rows]
    jobs = [(listing.root, names[k : k + _BATCH]) for k in range(0, len(names), _BATCH)]
    found: list[list[float | str]] = [[] for _ in jobs]
    with workers.progress(len(listing.rows), 0, "lengths", "file") as bar:
        for number, lengths in workers.run_jobs(files.lengths, jobs, options.workers):
            found[number] = lengths
            bar.update(len(lengths))
    whole, listing.rows = listing.rows, []
    for row, length in zip(whole, itertools.chain.from_iterable(found), strict=True):
        if isinstance(length, str):
            listing.fail(row.split, row.path, WHOLE, length)
        else:
            pieces = _pieces(
                length, options.clip_seconds, options.clip_step or options.clip_seconds
            )
            for start, end in pieces:
                listing.rows.append(dataclasses.replace(row, start=start, end=end))


def _pieces(length: float, seconds: float, step: float) -> Iterator[Times]:
    """Yields start and end of the clips of a file, in ms; a file as long as a clip is one.

    The last clip ends with the file and begins earlier than its turn would be. Where it would then
    be the one before it over again, for more than half of it, that one lasts to the end instead.
    """
    length = math.floor(length * 1000) / 1000
    if length <= seconds:
        yield WHOLE
        return
    starts = [round(k * step, 3) for k in range(1 + math.floor((length - seconds) / step + 1e-6))]
    yield from ((start, round(start + seconds, 3)) for start in starts[:-1])
    last = starts[-1]
    rest = length - max(last + seconds, last + step)
    if rest >= seconds / 2:
        yield last, round(last + seconds, 3)
        yield round(length - seconds, 3), length
    else:
        yield last, length if step <= seconds else round(last + seconds, 3)
