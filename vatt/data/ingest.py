"""Turns media files into a data set: sharded records, a card, and a list of what failed.

    python -m vatt.data.ingest --manifest clips.csv --output_dir data/my_set

writes into the output folder `<split>-00000-of-00016.tfrecord`, `card.yaml`, `manifest.json`
(records, bytes and SHA-256 of each shard) and `failures.csv` (the clips that could not be used, and
why). One clip per manifest row; see `vatt.data.manifest` for its columns.

Clips go to shards by a hash of what they are, so that neither the order of the manifest nor the
number of workers changes a byte. A shard appears when it is complete; starting the same command
again makes only the missing ones. Exit code: 0 all clips stored, 3 some failed (others are stored).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vatt.data import captions as caption_files
from vatt.data import ingest_summary as summary
from vatt.data import manifest as manifests
from vatt.data.manifest import Row
from vatt.errors import EXIT_DATA, DataError, UserError
from vatt.files import replace_text, sha256

FORMAT = 1  # raised when the same clips give other records than before
CLIPS_PER_SHARD = 200
MAX_SHARDS = 4096
_STATE = ".shards"  # folder of the facts of finished shards


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
    """One output file and the clips that belong into it."""

    split: str
    index: int
    count: int
    rows: tuple[Row, ...]
    fingerprint: str


# Planning ----------------------------------------------------------------------------------------


def plan_shards(rows: list[Row], num_shards: int | None, settings: Settings) -> list[Shard]:
    """Assigns clips to shards, per split, by the hash of path and times."""
    shards = []
    for split in sorted({row.split for row in rows}):
        ordered = sorted((r for r in rows if r.split == split), key=_order)
        count = num_shards or max(1, math.ceil(len(ordered) / CLIPS_PER_SHARD))
        count = min(count, len(ordered), MAX_SHARDS)
        for index in range(count):
            part = tuple(ordered[index::count])
            shards.append(Shard(split, index, count, part, _fingerprint(part, settings)))
    return shards


def _order(row: Row) -> tuple[bytes, Row]:
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


def make_shard(shard: Shard, settings: Settings, folder: Path) -> dict[str, Any]:
    """Writes one shard and returns its facts: file, records, sizes, failures."""
    from vatt.data import records

    path = folder / records.shard_name(shard.split, shard.index, shard.count)
    failures, sizes, seconds, texts = [], set(), 0.0, 0
    stored = {"video": 0, "audio": 0}
    with records.ShardWriter(path) as writer:
        for row in shard.rows:
            try:
                clip, record = _read(row, settings)
            except DataError as error:
                failures.append([row.path, row.start, row.end, str(error)])
                continue
            writer.write(records.encode(record))
            seconds += clip.end - clip.start
            texts += bool(record.captions)
            stored["video"] += bool(clip.frames)
            stored["audio"] += clip.waveform is not None
            if clip.frames:
                sizes.add((clip.height, clip.width))
    if not writer.records:
        path.unlink()  # readers take an empty shard for a damaged one
    facts = {
        "file": path.name,
        "split": shard.split,
        "fingerprint": shard.fingerprint,
        "records": writer.records,
        "bytes": path.stat().st_size if writer.records else 0,
        "sha256": sha256(path) if writer.records else "",
        "seconds": round(seconds, 3),
        "with_text": texts,
        "with_video": stored["video"],
        "with_audio": stored["audio"],
        "sizes": sorted(sizes)[:2],  # two are enough to know that they differ
        "failures": failures,
    }
    _state_file(folder, path.name).parent.mkdir(exist_ok=True)
    replace_text(_state_file(folder, path.name), json.dumps(facts))
    return facts


def _read(row: Row, settings: Settings) -> tuple[Any, Any]:
    from vatt.data import media, records

    root = Path(settings.media_root)
    clip = media.read_clip(
        _locate(root, row.path),
        row.start,
        row.end,
        fps=settings.fps,
        min_side=settings.min_side,
        sample_rate=settings.sample_rate,
        jpeg_quality=settings.jpeg_quality,
    )
    said = [(0.0, clip.end - clip.start, row.caption)] if row.caption else []
    if row.captions:
        told = caption_files.read_captions(_locate(root, row.captions))
        said += caption_files.overlapping(told, clip.start, clip.end, settings.caption_context)
    return clip, records.ClipRecord(
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


def _locate(root: Path, name: str) -> Path:
    try:
        return manifests.locate(root, name)
    except ValueError as error:
        raise DataError(str(error)) from None


def _state_file(folder: Path, shard: str) -> Path:
    return folder / _STATE / f"{shard}.json"


def _finished(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Facts of a shard that is there already, made from the same clips with the same settings.

    A shard with failures is made again: the reason may be gone.
    """
    from vatt.data import records

    name = records.shard_name(shard.split, shard.index, shard.count)
    try:
        facts = json.loads(_state_file(folder, name).read_text())
        complete = (folder / name).stat().st_size == facts["bytes"]
    except (OSError, ValueError, KeyError):
        return None
    same = facts["fingerprint"] == shard.fingerprint and not facts["failures"]
    return facts if same and complete else None


def _remove_others(folder: Path, shards: list[Shard]) -> None:
    """Removes partial files and shards of an earlier run with another number of shards."""
    from vatt.data import records

    wanted = {records.shard_name(s.split, s.index, s.count) for s in shards}
    for state in (folder / _STATE).glob("*.tfrecord.json"):
        if state.stem not in wanted:  # only what this command wrote has such a file
            (folder / state.stem).unlink(missing_ok=True)
            state.unlink()
    for partial in folder.glob("*.tfrecord.partial"):
        partial.unlink()


def ingest(
    manifest: Path,
    output_dir: Path,
    *,
    name: str | None = None,
    media_root: Path | None = None,
    num_shards: int | None = None,
    fps: float = 10.0,
    min_side: int = 256,
    sample_rate: int = 48000,
    jpeg_quality: int = 90,
    caption_context: float = 2.0,
    workers: int | None = None,
) -> tuple[int, list[list]]:
    """Makes or completes a data set; returns the number of clips stored and the failures.

    Args:
        manifest: CSV file, see `vatt.data.manifest`.
        output_dir: folder of the data set.
        name: of the data set; the last part of `output_dir` by default.
        media_root: folder that holds all media files; the folder of the manifest by default.
        num_shards: shards per split; one per 200 clips by default.
        fps: frames stored per second.
        min_side: pixels of the shorter side of a stored frame; smaller videos stay as they are.
        sample_rate: Hz.
        jpeg_quality: 1 to 100.
        caption_context: seconds around a clip within which captions still belong to it.
        workers: processes; one per core by default.

    Raises:
        UserError: the manifest cannot be used, or no clip could be stored.
    """
    from vatt.data import workers as pool

    rows = manifests.read_manifest(manifest)
    labels = tuple(sorted({label for row in rows for label in row.labels}))
    root = (media_root or manifest.parent).resolve()
    settings = Settings(
        str(root), fps, min_side, sample_rate, jpeg_quality, caption_context, labels
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    shards = plan_shards(rows, num_shards, settings)
    _remove_others(output_dir, shards)
    facts = [_finished(shard, output_dir) for shard in shards]
    todo = [number for number, known in enumerate(facts) if known is None]
    done = sum(len(shard.rows) for shard, known in zip(shards, facts, strict=True) if known)
    jobs = [(shards[number], settings, output_dir) for number in todo]
    count = workers or pool.available_cores()
    with pool.progress(len(rows), done, output_dir.resolve().name, "clip") as bar:
        for job, made in pool.run_jobs(make_shard, jobs, count):
            facts[todo[job]] = made
            bar.update(len(shards[todo[job]].rows))
    failures = summary.write_summary(output_dir, facts)
    stored = sum(shard["records"] for shard in facts)
    if not stored:
        raise DataError(
            f"none of the {len(rows)} clips could be stored; the first reason: {failures[0][3]} "
            f"({failures[0][0]}). All are in {output_dir / 'failures.csv'}"
        )
    multi_label = any(len(row.labels) > 1 for row in rows)
    summary.write_card(
        name or output_dir.resolve().name,
        output_dir,
        facts,
        fps=fps,
        sample_rate=sample_rate,
        labels=labels,
        multi_label=multi_label,
    )
    return stored, failures


# Command line ------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.data.ingest", description="Turn media files into a data set."
    )
    add = parser.add_argument
    add("--manifest", type=Path, required=True, help="CSV file with one clip per row")
    add("--output_dir", type=Path, required=True, help="folder of the data set")
    add("--name", help="name of the data set (default: the folder's)")
    add("--media_root", type=Path, help="folder that holds all media (default: the manifest's)")
    add("--num_shards", type=_whole(1, MAX_SHARDS), help="per split (default: 1 per 200 clips)")
    add("--fps", type=_real(0.01, 240), default=10.0, help="frames stored per second (10)")
    add("--min_side", type=_whole(8, 4320), default=256, help="shorter side in pixels (256)")
    add("--sample_rate", type=_whole(1000, 192_000), default=48000, help="Hz (48000)")
    add("--jpeg_quality", type=_whole(1, 100), default=90, help="1 to 100 (90)")
    add(
        "--caption_context",
        type=_real(0, 3600),
        default=2.0,
        help="seconds around a clip within which captions still belong to it (2)",
    )
    add("--workers", type=_whole(1, 1024), help="processes (default: one per core)")
    return parser.parse_args(argv)


def _whole(low: int, high: int):
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {low} to {high}")
        return int(text)

    return number


def _real(low: float, high: float):
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low} to {high}")
        return value

    return number


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = parse_arguments(argv)
    started = time.monotonic()
    try:
        stored, failures = ingest(**vars(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # disk full, no permission, a file where a folder should be
        print(f"error: {error}", file=sys.stderr)
        return EXIT_DATA
    except KeyboardInterrupt:
        print("\nstopped; finished shards are kept, the same command continues.", file=sys.stderr)
        return 130
    folder = arguments.output_dir
    print(f"{folder.name}: {stored} clips in {time.monotonic() - started:.1f} s -> {folder}")
    if failures:
        print(f"{len(failures)} clips failed and are listed in {folder / 'failures.csv'}:")
        for path, start, end, reason in failures[:5]:
            print(f"  {path} [{start} - {end}]: {reason}")
        return EXIT_DATA
    return 0


if __name__ == "__main__":
    sys.exit(main())
