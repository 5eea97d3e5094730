"""The work of ingest: clips are assigned to shards, and a shard is made of its clips.

What a shard holds depends on its clips and the settings alone, so that it does not matter which
process, machine or runner makes it. What is there already, `vatt.data.ingest.state` knows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.features import JOINED
from vatt.data.ingest import levels, spoken, state
from vatt.data.ingest import manifest as manifests
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import WHOLE, Times
from vatt.errors import DataError
from vatt.files import sha256, version
from vatt.notices import Notices

if TYPE_CHECKING:
    from vatt.data import media
    from vatt.data.ingest.features import File, Kind
    from vatt.data.records import ClipRecord

FORMAT = 3  # raised when the same clips give other records than before
CLIPS_PER_SHARD = 200
MAX_SHARDS = 4096
_LONGEST_NAME = 200  # of the splits in the name of a file, of which systems allow 255
SHOWN = 6  # clips of a split on its page


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a record, beside the media file."""

    media_root: str
    fps: float
    min_side: int
    sample_rate: int
    jpeg_quality: int
    caption_context: float
    labels: tuple[str, ...]
    features: tuple[Kind, ...] = ()
    caption_language: str | None = None
    downmix: str = "auto"


@dataclass(frozen=True)
class Shard:
    """One output file and the clips that belong into it.

    `split` names all splits that its clips are in, joined by "+".
    """

    split: str
    index: int
    count: int
    rows: tuple[Row, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        from vatt.data import records

        return records.shard_name(self.split, self.index, self.count)


# Planning ----------------------------------------------------------------------------------------


def plan_shards(rows: Sequence[Row], num_shards: int | None, settings: Settings) -> list[Shard]:
    """Assigns clips to shards by the hash of path and times.

    A clip of several splits is stored once: a shard holds clips that are in the same splits.
    """
    shards = []
    for split, clips in sorted(_by_splits(rows).items()):
        ordered = sorted(clips, key=_order)
        count = num_shards or max(1, math.ceil(len(ordered) / CLIPS_PER_SHARD))
        count = min(count, len(ordered), MAX_SHARDS)
        for index in range(count):
            part = tuple(ordered[index::count])
            shards.append(Shard(split, index, count, part, _fingerprint(part, settings)))
    return shards


def _by_splits(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Clips by the splits they are in, joined by "+"; what a manifest names twice stays twice."""
    splits: dict[tuple[Row, int], list[Row]] = {}
    seen: Counter[Row] = Counter()
    for row in rows:
        place = dataclasses.replace(row, line=0)
        clip = dataclasses.replace(place, split="")
        splits.setdefault((clip, seen[place]), []).append(row)
        seen[place] += 1
    found: dict[str, list[Row]] = {}
    for same in splits.values():
        joined = JOINED.join(sorted(row.split for row in same))
        if len(joined) > _LONGEST_NAME:  # stored once in each split
            for row in same:
                found.setdefault(row.split, []).append(row)
        else:
            first = dataclasses.replace(same[0], split=joined)
            found.setdefault(joined, []).append(first)
    return found


def _order(row: Row) -> tuple[bytes, int]:
    text = "\0".join(
        [row.path, str(row.start), str(row.end), *(part for pair in row.features for part in pair)]
    )
    return hashlib.sha256(text.encode()).digest(), row.line


def _fingerprint(rows: tuple[Row, ...], settings: Settings) -> str:
    """Hash of everything a shard is made from; files enter with size and time of change."""
    root = Path(settings.media_root)
    asked = dataclasses.asdict(settings)
    del asked["features"]
    parts: list[Any] = [FORMAT, asked]
    for row in rows:
        fields = dataclasses.asdict(row)
        del fields["line"]
        # As fields were when the first shards were made, so that finished ones are kept.
        fields["told"] = fields.pop("timed_captions")
        for name in ("features", "name"):  # later ones
            if not fields[name]:
                del fields[name]
        parts.append([fields, *(version(root / name) for name in row.files)])
    used = {name for row in rows for name, _ in row.features}
    parts += [[kind.name, kind.rate, kind.width] for kind in settings.features if kind.name in used]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# Work --------------------------------------------------------------------------------------------


def make_shard(
    shard: Shard, settings: Settings, folder: Path, tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Writes one shard and returns its stats: file, records, sizes, failures.

    `tick` is called after each clip.
    """
    from vatt.data import records
    from vatt.data.ingest import summary

    path = folder / shard.name
    failures, notices = [], []
    tally = summary.Tally(shard.split, show=SHOWN if shard.index == 0 else 0)
    with records.ShardWriter(path) as writer:
        for row in shard.rows:
            noticed = Notices()
            try:
                record = read_record(row, settings, noticed)
                writer.write(records.encode(record))
                tally.add(record)
            except DataError as error:
                failures.append([row.source, row.start, row.end, str(error)])
            for kind, detail, whole_file in noticed:
                times = WHOLE if whole_file else (row.start, row.end)
                notices.append([row.source, *times, kind, detail])
            tick()
    if not writer.records:
        path.unlink()  # readers take an empty shard for a damaged one
    stats = {
        "file": path.name,
        "split": shard.split,
        "fingerprint": shard.fingerprint,
        "basis": state.basis(settings, any(row.labels for row in shard.rows)),
        "root": settings.media_root,
        "files": sorted({row.source for row in shard.rows}),
        "bytes": path.stat().st_size if writer.records else 0,
        "sha256": sha256(path) if writer.records else "",
        **tally.stats(),
        "failures": failures,
        "notices": notices,
    }
    for kind in settings.features:
        if kind.name in stats.get("features", {}):
            stats["features"][kind.name]["rate"] = kind.rate
    state.write(folder, stats)
    return stats


def read_record(row: Row, settings: Settings, notices: Notices) -> ClipRecord:
    """Decodes a clip and returns what is stored of it; adds what was noticed.

    Raises:
      DataError: it cannot be used.
    """
    from vatt.data import records
    from vatt.data.ingest import features as feature_files

    root = Path(settings.media_root)
    files = feature_files.of_row(row, settings.features, root)
    clip = _read_media(row, root, settings) if row.path else _without_media(row, files)
    notices.extend(clip.notices)
    if lengths := feature_files.unequal(files):
        notices.add(feature_files.UNEQUAL, lengths)
    if clip.waveform is not None and levels.is_silent(clip.waveform, settings.sample_rate):
        notices.add(levels.SILENT)
    whole = row.start is None and row.end is None
    times = (0.0, math.inf) if whole else (clip.start, clip.end)
    path = _locate(root, row.path) if row.path else None
    side_file = _locate(root, row.captions) if row.captions else None
    return records.ClipRecord(
        source=row.source,
        start=clip.start,
        end=clip.end,
        fps=settings.fps,
        sample_rate=settings.sample_rate,
        frames=clip.frames,
        waveform=clip.waveform,
        captions=spoken.of_clip(row, clip, path, side_file, settings, notices),
        labels=row.labels,
        label_indices=tuple(settings.labels.index(label) for label in row.labels),
        features=feature_files.of_clip(files, *times),
    )


def _read_media(row: Row, root: Path, settings: Settings) -> media.MediaClip:
    from vatt.data import media

    path = _locate(root, row.path)
    start, end = _fitted(row, path)
    return media.read_clip(
        path,
        start,
        end,
        fps=settings.fps,
        min_side=settings.min_side,
        sample_rate=settings.sample_rate,
        jpeg_quality=settings.jpeg_quality,
        downmix=settings.downmix,
        still=row.fit == manifests.STILL,
    )


def _without_media(row: Row, files: Sequence[File]) -> media.MediaClip:
    """The times of a clip that has features only: without an end, that of the longest file."""
    from vatt.data import media

    longest = max(file.seconds for file in files)
    return media.MediaClip(row.start or 0.0, longest if row.end is None else row.end)


def _fitted(row: Row, path: Path) -> Times:
    """Returns the times of a clip in its file; see `manifest.Row`."""
    from vatt.data import media

    if row.fit in (manifests.EXACT, manifests.STILL):
        return row.start, row.end
    length = media.length(path)
    if row.fit == manifests.PIECE and length <= row.end - row.start + media.SLACK:
        return None, None
    return row.start, min(row.end, length) if length > row.start else row.end


def _locate(root: Path, name: str) -> Path:
    try:
        return manifests.locate(root, name)
    except ValueError as error:
        raise DataError(str(error)) from None
