"""A set of extracted features, made of the records of another set.

    made = make(card, Path("records/mine_features"), [extractor, ...])

Each record becomes one with the same captions, labels and times, and features in place of pictures
and sound. Splits and shards are those of the other set. A shard that is finished stays, so that the
same command goes on where it was interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vatt import locks
from vatt.data import cards, framing, records
from vatt.data import workers as pool
from vatt.data.cards import Card
from vatt.data.features import FEATURE_NAME, JOINED, name_fault
from vatt.data.ingest import classes, page, state, summary
from vatt.data.ingest.build import Made
from vatt.data.ingest.log import Log
from vatt.data.ingest.shards import SHOWN, Shard
from vatt.data.records import ClipRecord
from vatt.errors import DataError, UserError, short
from vatt.files import make_folder, sha256, version

FORMAT = 1  # raised when the same records give other ones than before
TOGETHER = 8  # records that an extractor is given at once
LOCK = ".ingest.lock"
# Of a card, what is written anew; the rest is that of the other set.
_MEASURED = {"name", "obtain", "ingest", "video", "audio", "text", "features", "splits"}
_MEASURED |= {"record_type", "fields", "num_classes", "labels", "label_file"}


# Float32 [steps, width]; None where a clip lacks what it is made of; why it cannot be used.
Extracted = np.ndarray | None | DataError


class Extractor(Protocol):
    """What makes one feature of records.

    Attributes:
      name: of the feature.
      rate: vectors per second.
      frame_rate: pictures per second that it needs.
      recipe: all that decides the vectors, as a card can say it.
    """

    name: str
    rate: float
    frame_rate: float
    recipe: Mapping[str, str | int | float | bool]

    def __call__(self, clips: Sequence[ClipRecord]) -> Iterable[Extracted]:
        """Returns what there is of each clip."""


def make(
    card: Card,
    folder: Path,
    extractors: Sequence[Extractor],
    *,
    name: str | None = None,
    keep_media: bool = False,
) -> Made:
    """Makes or completes a set of features.

    Args:
      card: of the set that it is made of.
      folder: of the new set.
      extractors: what makes the features.
      name: of the new set; the last part of `folder` by default.
      keep_media: records keep their pictures and sound.

    Raises:
      UserError: names that cannot be, features twice, or another process works there.
      DataError: the set is damaged, or nothing could be extracted.
    """
    name = name or folder.resolve().name
    _check(card, folder, name, extractors)
    make_folder(folder)
    with locks.held(folder / LOCK, "another command"):
        log = Log(folder)
        labels = tuple(card.labels or ())
        if labels:
            classes.write(folder, labels)
        shards = list(_shards(card, extractors, keep_media))
        counts = {k: n for split in card.splits for k, n in card.shard_records(split).items()}
        total = sum(counts.values())
        known = [_finished(shard, folder) for shard, _ in shards]
        done = sum(_clips(stats) for stats in known if stats)
        log.lines([f"clips: {total}, there already: {done}; shards: {len(shards)}"])
        with pool.progress(total, done, name, "clip") as bar:
            stats = [
                there or _shard(shard, path, card, extractors, keep_media, folder, bar.update)
                for (shard, path), there in zip(shards, known, strict=True)
            ]
        return _describe(name, folder, card, stats, extractors)


def _check(card: Card, folder: Path, name: str, extractors: Sequence[Extractor]) -> None:
    if fault := name_fault(name):
        raise UserError(f"--name '{short(name)}' (by default the folder's): {fault}")
    if folder.resolve() == card.folder.resolve():
        raise UserError(f"--output_dir: {folder} is the set that features are made of")
    counts = Counter(extractor.name for extractor in extractors)
    for feature, count in counts.items():
        if count > 1 or not FEATURE_NAME.fullmatch(feature):
            what = f"is given {count} times" if count > 1 else "letters, digits and _ only"
            raise UserError(f"feature '{short(feature)}': {what}")


def _shards(
    card: Card, extractors: Sequence[Extractor], keep_media: bool
) -> Iterator[tuple[Shard, Path]]:
    """Yields the shards to be made, each with the one that it is made of."""
    splits: dict[Path, list[str]] = {}
    for split in card.splits:
        for path in card.shards(split):
            splits.setdefault(path, []).append(split)
    groups: dict[str, list[Path]] = {}
    for path, names in splits.items():
        groups.setdefault(JOINED.join(sorted(names)), []).append(path)
    asked = [[e.name, e.rate, dict(e.recipe)] for e in extractors]
    for joined, paths in sorted(groups.items()):
        for index, path in enumerate(sorted(paths)):
            parts = [FORMAT, path.name, *version(path), keep_media, asked]
            print_ = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
            yield Shard(joined, index, len(paths), (), print_), path


def _finished(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Stats of a shard that is there; also with clips that failed, which would fail again."""
    stats = state.made(shard, folder)
    return stats if stats and stats["fingerprint"] == shard.fingerprint else None


def _clips(stats: Mapping[str, Any]) -> int:
    return stats["records"] + len(stats["failures"])


def _shard(
    shard: Shard,
    source: Path,
    card: Card,
    extractors: Sequence[Extractor],
    keep_media: bool,
    folder: Path,
    tick: Callable[[int], object],
) -> dict[str, Any]:
    """Writes one shard and returns its stats."""
    path, failures, files = folder / shard.name, [], []
    tally = summary.Tally(shard.split, show=SHOWN if shard.index == 0 else 0)
    found = enumerate(framing.walk(source))
    with records.ShardWriter(path) as writer:
        while group := list(itertools.islice(found, TOGETHER)):
            read = [_read(raw, f"{source.name}, record {number}", card) for number, raw in group]
            for clip, made in _extracted(read, extractors, keep_media):
                if isinstance(made, DataError):
                    failures.append([clip.source, *_times(clip), str(made)])
                else:
                    writer.write(records.encode(made))
                    tally.add(made)
                    files.append(clip.source)
            tick(len(group))
    if not writer.records:
        path.unlink()  # readers take an empty shard for a damaged one
    stats = {
        "file": path.name,
        "split": shard.split,
        "fingerprint": shard.fingerprint,
        "basis": ["extracted"],
        "root": str(card.folder.resolve()),
        "files": sorted(set(files)),
        "bytes": path.stat().st_size if writer.records else 0,
        "sha256": sha256(path) if writer.records else "",
        **tally.stats(),
        "failures": failures,
        "notices": [],
    }
    rates = {name: about.rate for name, about in card.features.items()}
    rates |= {extractor.name: extractor.rate for extractor in extractors}
    for feature, about in stats.get("features", {}).items():
        about["rate"] = rates[feature]
    state.write(folder, stats)
    return stats


def _times(clip: ClipRecord) -> tuple[float | None, float | None]:
    return (clip.start, clip.end) if clip.end > clip.start else (None, None)


def _read(raw: framing.RawRecord, place: str, card: Card) -> tuple[ClipRecord, DataError | None]:
    """A record of the other set, and what is wrong with it; of a damaged one only its place."""
    if raw.problem:
        return ClipRecord(place), DataError(raw.problem)
    clip, fault = records.examine(raw.data, card)
    return clip or ClipRecord(place), DataError(fault) if fault else None


def _extracted(
    read: Sequence[tuple[ClipRecord, DataError | None]],
    extractors: Sequence[Extractor],
    keep_media: bool,
) -> Iterator[tuple[ClipRecord, ClipRecord | DataError]]:
    """Yields each clip, and what it becomes or why it cannot be used."""
    usable = [clip for clip, fault in read if fault is None]
    made = [list(extractor(usable)) for extractor in extractors]
    features = iter([*zip(*made, strict=True)])
    for clip, fault in read:
        if fault is not None:
            yield clip, fault
            continue
        try:
            yield clip, _with_features(clip, extractors, next(features), keep_media)
        except DataError as error:
            yield clip, error


def _with_features(
    clip: ClipRecord,
    extractors: Sequence[Extractor],
    made: Sequence[Extracted],
    keep_media: bool,
) -> ClipRecord:
    """The record of features.

    Raises:
      DataError: one could not be made, or none.
    """
    features, found = dict(clip.features), False
    for extractor, vectors in zip(extractors, made, strict=True):
        if isinstance(vectors, DataError):
            raise DataError(f"{extractor.name}: {vectors}")
        if vectors is None or not len(vectors):
            continue
        if not np.isfinite(vectors).all():
            raise DataError(f"{extractor.name}: a value that is not finite came out")
        features[extractor.name], found = np.asarray(vectors, np.float32), True
    if not found:
        raise DataError("nothing can be extracted: it lacks what the features are made of")
    media = {} if keep_media else {"frames": None, "waveform": None}
    return dataclasses.replace(clip, features=features, **media)


def _describe(
    name: str, folder: Path, card: Card, stats: list[dict], extractors: Sequence[Extractor]
) -> Made:
    """Writes what describes the set: manifest, failures, card with the recipes, page."""
    failures, notices = summary.write_summary(folder, stats)
    if not any(shard["records"] for shard in stats):
        reason = f"; the first reason: {failures[0][3]} ({failures[0][0]})" if failures else ""
        raise DataError(f"nothing could be extracted of {len(failures)} clips{reason}")
    written = summary.write_card(
        name,
        folder,
        stats,
        fps=card.video.fps if card.video else 1.0,
        sample_rate=card.audio.sample_rate if card.audio else 1,
        labels=tuple(card.labels or ()),
        multi_label=card.multi_label,
    )
    recipes = {e.name: dict(e.recipe) for e in extractors}
    recipes = {n: about.recipe for n, about in card.features.items()} | recipes
    features = {
        n: about.model_copy(update={"recipe": recipes[n]}) for n, about in written.features.items()
    }
    copied = {field: getattr(card, field) for field in Card.model_fields.keys() - _MEASURED}
    written = written.model_copy(update={**copied, "features": features})
    cards.write(written, folder)
    shown = {f"{n}: {key}": str(x) for n in recipes for key, x in (recipes[n] or {}).items()}
    page.write(folder, written, stats, failures, shown, notices)
    return Made(summary.totals(stats), summary.by_split(stats), failures, notices)
