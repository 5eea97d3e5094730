"""Finds the clips of a data set to be, in the forms in which people have their media.

    listing = sources.read(["clips.csv"], "auto", Options())
    listing.rows       # one `manifest.Row` per clip and split
    listing.root       # the folder their paths are relative to

| format          | what it is                                                                  |
|-----------------|-----------------------------------------------------------------------------|
| manifest        | CSV, TSV or JSONL file with one clip per row                                |
| folder          | videos or sounds: split/class/file, class/file, split/file or file (`tree`) |
| images          | pictures in the same kinds of trees (`tree`)                                |
| howto100m       | captions of videos: one file of all, or a folder with a file for each       |
| audioset        | segment CSV: YTID, start_seconds, end_seconds, "mid,mid"                    |
| esc50           | the folder with meta/esc50.csv and audio/                                   |
| feature_files   | captions, a list of videos, and files of features of each                   |
| feature_pickles | a pickle of clips with their features                                       |

A format is one function `(path, options) -> Listing`. What cannot be used is refused, or stands in
`failures` (by split) or `notices`: nothing is left out silently.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vatt.data.ingest import manifest
from vatt.data.ingest.manifest import Row
from vatt.errors import DataError, UserError, nearest

AUTO = "auto"
Times = tuple[float | None, float | None]  # start and end (s)
WHOLE: Times = (None, None)


@dataclass(frozen=True)
class Options:
    """What the user asked for beside the input itself; None and 0: not asked for."""

    media_root: Path | None = None
    split: str | None = None  # of the input, given as split=PATH
    clip_seconds: float | None = None
    clip_step: float | None = None
    test_share: float = 0.0
    list: Path | None = None  # CSV file with the ids to take
    labels: Path | None = None  # the classes in order
    caption_context: float = 2.0  # s
    caption_language: str | None = None  # "en", "pt-BR"
    downmix: str = "auto"  # of the channels of sound
    workers: int = 1
    feature_rate: Mapping[str, float] = field(default_factory=dict)  # vectors per second, by name
    feature: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # folder and form, by name


@dataclass
class Listing:
    """The clips that were found."""

    root: Path
    rows: list[Row]
    labels: tuple[str, ...] | None = None  # all classes in order, where the format tells
    failures: dict[str, list[list]] = field(default_factory=dict)  # [path, start, end, reason]
    notices: list[list] = field(default_factory=list)  # [path, start, end, kind, detail]
    drawn: tuple[str, ...] = ()  # splits into which the files were drawn, though one may be empty
    feature_rate: Mapping[str, float] = field(default_factory=dict)  # where the format tells

    def rates(self, options: Options) -> dict[str, float]:
        """Vectors per second of features, by name: those asked for, else those of the format."""
        return {**self.feature_rate, **options.feature_rate}

    def fail(self, split: str, path: str, times: Times, reason: str) -> None:
        """Lists something that should have become a clip of `split` and cannot."""
        self.failures.setdefault(split, []).append([path, *times, reason])

    def notice(self, kind: str, names: Iterable[str], detail: str = "") -> None:
        """Lists files about which something was noticed; see `vatt.notices`."""
        self.notices += [[name, *WHOLE, kind, detail] for name in names]


@dataclass(frozen=True)
class _Format:
    function: str  # module:name
    options: tuple[str, ...]  # fields of Options it takes


FORMATS = {
    "manifest": _Format(
        "vatt.data.ingest.sources:from_manifest",
        ("split", "labels", "media_root", "feature_rate", "caption_language"),
    ),
    "folder": _Format(
        "vatt.data.ingest.sources.tree:from_folder",
        (
            *("split", "labels", "media_root", "clip_seconds", "clip_step", "test_share"),
            "caption_language",
        ),
    ),
    "images": _Format(
        "vatt.data.ingest.sources.tree:from_images",
        ("split", "labels", "media_root", "test_share", "caption_language"),
    ),
    "howto100m": _Format(
        "vatt.data.ingest.sources.howto100m:from_captions",
        ("split", "media_root", "clip_seconds", "list"),
    ),
    "audioset": _Format(
        "vatt.data.ingest.sources.audioset:from_segments",
        ("split", "labels", "media_root", "caption_language"),
    ),
    "esc50": _Format("vatt.data.ingest.sources.esc50:from_esc50", ("labels",)),
    "feature_files": _Format(
        "vatt.data.ingest.sources.feature_files:from_videos",
        ("split", "media_root", "list", "feature", "feature_rate"),
    ),
    "feature_pickles": _Format("vatt.data.ingest.sources.feature_pickles:from_pickles", ("split",)),
}
_OPTIONAL = {name for form in FORMATS.values() for name in form.options}


def read(inputs: Sequence[str], form: str, options: Options) -> Listing:
    """Returns the clips of all inputs.

    Args:
      inputs: paths, or split=PATH.
      form: a name in FORMATS, or "auto".
      options: everything else.

    Raises:
      UserError: an option that the format does not have.
      DataError: an input that cannot be used.
    """
    if form != AUTO and form not in FORMATS:
        raise UserError(
            f"--format: '{form}' is unknown; known: auto, {', '.join(FORMATS)}."
            f"{nearest(form, FORMATS)}"
        )
    parts = [_split_of(text) for text in inputs]
    unnamed = [path for split, path in parts if split is None]
    if len(parts) > 1 and unnamed:
        raise UserError(
            f"--input: {len(parts)} inputs need a split each, as in train=PATH; '{unnamed[0]}' has "
            "none"
        )
    for _, path in parts:
        if not path.exists():
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path}: there is no such file or folder.{nearest(path.name, beside)}")
    forms = {detect(path, options) if form == AUTO else form for _, path in parts}
    if len(forms) > 1:
        raise UserError(f"--input: all must be of one format, found {', '.join(sorted(forms))}")
    form = forms.pop()
    _check_options(form, options, [split for split, _ in parts if split])
    module, _, name = FORMATS[form].function.partition(":")
    function: Callable[[Path, Options], Listing] = getattr(importlib.import_module(module), name)
    listings = [function(path, dataclasses.replace(options, split=split)) for split, path in parts]
    listing = _joined(listings)
    _join_labels(listing)
    if not listing.rows and not listing.failures:
        raise DataError(f"{', '.join(inputs)}: there is no clip in it")
    return listing


def _split_of(text: str) -> tuple[str | None, Path]:
    """Returns (split, path) of "split=path" or of a path."""
    split, sign, path = text.partition("=")
    if sign and manifest.SPLIT.fullmatch(split) and path and not Path(text).exists():
        return split, Path(path)
    return None, Path(text)


def _check_options(form: str, options: Options, splits: list[str]) -> None:
    """Refuses options that would do nothing."""
    given = {name for name in _OPTIONAL if name != "split" and getattr(options, name)}
    for name in sorted(given | ({"split"} if splits else set())):
        if name not in FORMATS[form].options:
            others = [other for other in FORMATS if name in FORMATS[other].options]
            what = "--input SPLIT=PATH" if name == "split" else f"--{name}"
            raise UserError(
                f"{what} has no meaning for --format {form}; it is for {', '.join(others)}"
            )


def _joined(listings: list[Listing]) -> Listing:
    """One listing of several, with paths from the folder that holds all their media."""
    if len(listings) == 1:
        return listings[0]
    if any(listing.labels != listings[0].labels for listing in listings):
        raise DataError("--input: the inputs have different tables of classes; --labels names one")
    root = Path(os.path.commonpath([listing.root.resolve() for listing in listings]))
    rates = {name: rate for listing in listings for name, rate in listing.feature_rate.items()}
    joined = Listing(root, [], listings[0].labels, feature_rate=rates)
    for listing in listings:
        prefix = listing.root.resolve().relative_to(root).as_posix()
        for row in listing.rows:
            try:  # what leads out of its own folder must not become valid in the wider one
                for name in row.files:
                    manifest.locate(listing.root, name)
            except ValueError as error:
                joined.fail(row.split, row.source, (row.start, row.end), str(error))
                continue
            joined.rows.append(
                dataclasses.replace(
                    row,
                    path=_under(prefix, row.path),
                    captions=_under(prefix, row.captions),
                    features=tuple((name, _under(prefix, path)) for name, path in row.features),
                )
            )
        for split, rows in listing.failures.items():
            joined.failures.setdefault(split, []).extend(rows)
        joined.notices += listing.notices
    return joined


def _join_labels(listing: Listing) -> None:
    """Makes one row of those that differ in their labels only: tables with one label per row.

    What is the same in labels, too, stays as it is.
    """
    same: dict[Row, list[Row]] = {}
    for row in listing.rows:
        same.setdefault(dataclasses.replace(row, labels=(), line=0), []).append(row)
    joined: dict[int, Row | None] = {}  # by the identity of a row; None: it is in another one
    for rows in same.values():
        if len(rows) == 1:
            continue
        row, times = rows[0], (rows[0].start, rows[0].end)
        kinds = {row.labels for row in rows}
        if len(kinds) == 1:
            kind = "rows that stand several times, stored as often"
            listing.notices.append([row.source, *times, kind, f"{len(rows)} times"])
            continue
        labels = tuple(dict.fromkeys(label for row in rows for label in row.labels))
        joined |= {id(other): None for other in rows}
        joined[id(row)] = dataclasses.replace(row, labels=labels)
        kind = "several rows of one clip with other labels, joined"
        listing.notices.append([row.source, *times, kind, ", ".join(labels)])
    if joined:
        rows = (joined.get(id(row), row) for row in listing.rows)
        listing.rows = [row for row in rows if row is not None]


def _under(prefix: str, name: str) -> str:
    return name if prefix == "." or not name else f"{prefix}/{name.removeprefix('./')}"


def from_manifest(path: Path, options: Options) -> Listing:
    """A CSV, TSV or JSONL file, see `vatt.data.ingest.manifest`."""
    rows = manifest.read_manifest(path, options.split or "train")
    listing = Listing(options.media_root or path.parent, rows)
    if any("\\" in name for row in rows for name in row.files):
        listing.rows = [_from_windows(row, listing) for row in rows]
    return listing


def _from_windows(row: Row, listing: Listing) -> Row:
    """The row with the paths of Windows as paths of this system, where that is what they are."""

    def here(name: str) -> str:
        turned = name.replace("\\", "/")
        if name == turned or os.path.exists(listing.root / name):
            return name
        if os.path.exists(listing.root / turned):
            listing.notice("paths with \\ read as paths with /", [name])
            return turned
        return name

    features = tuple((name, here(path)) for name, path in row.features)
    return dataclasses.replace(
        row, path=here(row.path), captions=here(row.captions), features=features
    )


# Which format it is ------------------------------------------------------------------------------


def detect(path: Path, options: Options) -> str:
    """Returns the format of an input, told by what is there.

    Raises:
      DataError: it is none of them.
    """
    if path.is_dir() and not options.feature:
        return _detect_folder(path)
    kind = path.suffix.lower()
    if options.feature:
        return "feature_files"
    if kind in manifest.PICKLES:
        return "howto100m" if options.media_root else "feature_pickles"
    if kind == ".json":
        return "howto100m"
    if kind in manifest.JSON_LINES or kind == ".tsv":
        return "manifest"
    if kind == ".csv":
        from vatt.data.ingest.sources import audioset

        return "audioset" if audioset.looks_like(path) else "manifest"
    raise DataError(
        f"--input: {path} is a file of no known format; accepted: .csv, .tsv, .jsonl, .json "
        "(captions), .pkl (features), or a folder. --format names it where it cannot be told"
    )


def _detect_folder(path: Path) -> str:
    from vatt.data.ingest.sources import esc50, files

    if (path / esc50.TABLE).is_file():
        return "esc50"
    endings = files.count_endings(path)
    media = sum(endings[ending] for ending in files.VIDEO + files.AUDIO)
    pictures = sum(endings[ending] for ending in files.IMAGES if ending not in files.VIDEO)
    kinds = (".csv", ".tsv", *manifest.JSON_LINES)
    tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() in kinds)
    mostly_json = endings[".json"] > endings.total() / 2
    if not media and not pictures and (tables or mostly_json):
        return "howto100m"
    if media and pictures:
        raise DataError(
            f"--input: {path} holds {media} videos or sounds and {pictures} pictures: say "
            "--format folder to take the former, or --format images to take the latter"
        )
    if media and any(name.startswith("manifest.") for name in tables):
        named = next(name for name in tables if name.startswith("manifest."))
        raise DataError(
            f"--input: {path} holds {media} media files and the table {named}: say --input "
            f"{path / named} to take the table, or --format folder to take the files"
        )
    return "images" if pictures else "folder"
