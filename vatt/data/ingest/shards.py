"""The work of ingest: clips are assigned to shards, and a shard is made of its clips.

What a shard holds depends on its clips and the settings alone, so that it does not matter which
process, machine or runner makes it. Beside the shards, the folder `.shards` holds their facts: with
them the same command starts again where it stopped, and knows what it can keep.
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

from vatt.data.features import JOINED, splits_of
from vatt.data.ingest import captions as caption_files
from vatt.data.ingest import manifest as manifests
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import Times
from vatt.errors import DataError
from vatt.files import replace_text, sha256

if TYPE_CHECKING:
    from vatt.data.records import ClipRecord

FORMAT = 2  # raised when the same clips give other records than before
CLIPS_PER_SHARD = 200
MAX_SHARDS = 4096
_LONGEST_NAME = 200  # of the splits in the name of a file, of which systems allow 255
SHOWN = 6  # clips of a split on its page
_STATE = ".shards"  # folder of the facts of finished shards
_UNUSED = "unused.json"  # in it: what was found but could not become a clip


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
    text = f"{row.path}\0{row.start}\0{row.end}"
    return hashlib.sha256(text.encode()).digest(), row.line


def _fingerprint(rows: tuple[Row, ...], settings: Settings) -> str:
    """Hash of everything a shard is made from; files enter with size and time of change."""
    root = Path(settings.media_root)
    facts: list[Any] = [FORMAT, dataclasses.asdict(settings)]
    for row in rows:
        fields = dataclasses.asdict(row)
        del fields["line"]
        files = [name for name in (row.path, row.captions) if name]
        facts.append([fields, *(_version(root / name) for name in files)])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _version(path: Path) -> tuple[int, int]:
    """Size and time of change of a file: two files can well have the same size."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return facts.st_size, facts.st_mtime_ns


# Work --------------------------------------------------------------------------------------------


def make_shard(
    shard: Shard, settings: Settings, folder: Path, tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Writes one shard and returns its facts: file, records, sizes, failures.

    `tick` is called after each clip.
    """
    from vatt.data import records
    from vatt.data.ingest import summary

    path = folder / shard.name
    failures = []
    tally = summary.Tally(shard.split, show=SHOWN if shard.index == 0 else 0)
    with records.ShardWriter(path) as writer:
        for row in shard.rows:
            try:
                record = read_record(row, settings)
                writer.write(records.encode(record))
                tally.add(record)
            except DataError as error:
                failures.append([row.path, row.start, row.end, str(error)])
            tick()
    if not writer.records:
        path.unlink()  # readers take an empty shard for a damaged one
    facts = {
        "file": path.name,
        "split": shard.split,
        "fingerprint": shard.fingerprint,
        "basis": _basis(settings, any(row.labels for row in shard.rows)),
        "bytes": path.stat().st_size if writer.records else 0,
        "sha256": sha256(path) if writer.records else "",
        **tally.facts(),
        "failures": failures,
    }
    (folder / _STATE).mkdir(exist_ok=True)
    replace_text(_state_file(folder, path.name), json.dumps(facts))
    return facts


def read_record(row: Row, settings: Settings) -> ClipRecord:
    """Decodes a clip and returns what is stored of it.

    Raises:
        DataError: it cannot be used.
    """
    from vatt.data import media, records

    root = Path(settings.media_root)
    path = _locate(root, row.path)
    start, end = _fitted(row, path)
    clip = media.read_clip(
        path,
        start,
        end,
        fps=settings.fps,
        min_side=settings.min_side,
        sample_rate=settings.sample_rate,
        jpeg_quality=settings.jpeg_quality,
    )
    said = [(0.0, clip.end - clip.start, row.caption)] if row.caption else []
    told = list(row.told)
    if row.captions:
        told += caption_files.read_captions(_locate(root, row.captions))
    said += caption_files.overlapping(told, clip.start, clip.end, settings.caption_context)
    return records.ClipRecord(
        source=row.path,
        start=clip.start,
        end=clip.end,
        fps=settings.fps,
        sample_rate=settings.sample_rate,
        frames=clip.frames,
        waveform=clip.waveform,
        captions=said,
        labels=row.labels,
        label_indices=tuple(settings.labels.index(label) for label in row.labels),
    )


def _fitted(row: Row, path: Path) -> Times:
    """Returns the times of a clip in its file; see `manifest.Row`."""
    from vatt.data import media

    if row.fit == manifests.EXACT:
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


# What is there already ---------------------------------------------------------------------------


def _state_file(folder: Path, shard: str) -> Path:
    return folder / _STATE / f"{shard}.json"


def finished(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Facts of a shard that is there already, made from the same clips with the same settings.

    A shard with failures is made again: the reason may be gone.
    """
    facts = made(shard, folder)
    same = facts is not None and facts.get("fingerprint") == shard.fingerprint
    return facts if same and not facts["failures"] else None


def made(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Facts of a complete shard of this name; None if there is none."""
    return _complete(_state_file(folder, shard.name), folder)


def _complete(state: Path, folder: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(state.read_text(encoding="utf-8"))
        size = (folder / facts["file"]).stat().st_size if facts["records"] else 0
        return facts if size == facts["bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def remove_others(folder: Path, shards: list[Shard]) -> None:
    """Removes partial files, and shards of these splits that earlier commands made otherwise."""
    wanted, splits = {shard.name for shard in shards}, _splits(shards)
    for state in (folder / _STATE).glob("*.tfrecord.json"):
        if splits.issuperset(splits_of(_joined(state))) and state.stem not in wanted:
            (folder / state.stem).unlink(missing_ok=True)  # only what we wrote has such a file
            state.unlink()
    for partial in folder.glob("*.tfrecord.partial"):
        partial.unlink()


def kept(folder: Path, shards: list[Shard], settings: Settings) -> list[dict[str, Any]]:
    """Facts of the shards of other splits, which earlier commands made.

    Raises:
        DataError: they are not complete, or cannot stand in one data set with these shards.
    """
    splits = _splits(shards)
    others: dict[str, list[Path]] = {}
    for state in sorted((folder / _STATE).glob("*.tfrecord.json")):
        split = _joined(state)
        if splits.isdisjoint(splits_of(split)):
            others.setdefault(split, []).append(state)
        elif not splits.issuperset(splits_of(split)):
            raise DataError(
                f"{folder} holds clips that are in several splits ({', '.join(splits_of(split))}) "
                "once for all of them: make these splits by one command, or choose a new folder"
            )
    facts = []
    for split, states in others.items():
        found = [known for state in states if (known := _complete(state, folder))]
        count = int(states[0].name.partition("-of-")[2].partition(".")[0])
        accepted = [_basis(settings, labelled) for labelled in (True, False)]
        if len(found) != count:
            problem = f"which has {len(found)} of {count} shards: complete it by its own command"
        elif any(known.get("basis") not in accepted for known in found):
            problem = (
                "which was made with another --fps, --min_side, --sample_rate or --jpeg_quality, "
                "or with other classes: make all splits by one command"
            )
        else:
            facts += found
            continue
        raise DataError(f"{folder} holds the split '{split}', {problem}, or choose a new folder")
    return facts


def _splits(shards: Sequence[Shard]) -> set[str]:
    return {split for shard in shards for split in splits_of(shard.split)}


def _joined(state: Path) -> str:
    return state.name.partition("-")[0]  # the name of a split has no "-"


def _basis(settings: Settings, labelled: bool) -> list:
    """What shards of one data set must have in common; the order of classes only with labels."""
    common = (settings.fps, settings.min_side, settings.sample_rate, settings.jpeg_quality)
    labels = "\n".join(settings.labels) if labelled else ""
    return [*common, hashlib.sha256(labels.encode()).hexdigest()]


def unused(folder: Path, splits: set[str], found: dict[str, list[list]]) -> list[dict[str, Any]]:
    """Keeps what could not become a clip, by split, and returns it in the form of facts.

    Args:
        folder: of the data set.
        splits: those this command makes.
        found: {split: [path, start, end, reason]} of this command.
    """
    from vatt.data.ingest import summary

    path = folder / _STATE / _UNUSED
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    merged = {split: rows for split, rows in known.items() if split not in splits} | found
    if merged or known:
        path.parent.mkdir(exist_ok=True)
        replace_text(path, json.dumps(merged))
    empty = {"file": "", "bytes": 0, "sha256": ""}
    return [
        {**empty, "split": split, **summary.Tally(split).facts(), "failures": rows}
        for split, rows in sorted(merged.items())
        if rows
    ]
