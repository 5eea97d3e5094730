"""Checks the splits of a data set: all their shards, against the card and against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vatt.data.card_schema import MANIFEST_FILE, listed_shards
from vatt.data.check import leakage
from vatt.data.check.report import Report
from vatt.data.check.shards import AUDIO_TASK, Job, check_shard
from vatt.data.features import JOINED, splits_of
from vatt.data.ingest import levels, summary
from vatt.errors import DataError, nearest

if TYPE_CHECKING:
    from vatt.data.cards import Card


def check_splits(
    card: Card, splits: Sequence[str] | None = None, *, samples: int = 0, workers: int | None = None
) -> Report:
    """Reads a data set and returns what was found; writes nothing.

    Args:
      card: of the data set, read from its folder.
      splits: names; all by default.
      samples: how many clips to take out for a contact sheet, evenly spread.
      workers: processes; one per core by default.

    Raises:
      DataError: the card has no such split, or none at all.
    """
    from vatt.data import workers as pool

    if not card.splits:
        raise DataError(f"data set '{card.name}': the card names no split, so there is no shard")
    report = Report(card.name, card.folder)
    jobs = _jobs(card, list(dict.fromkeys(splits or card.splits)), samples, report)
    stats: list[dict] = [{}] * len(jobs)
    total = sum(job.expected or 0 for job in jobs) or None
    with pool.progress(total, 0, card.name, "record") as bar:
        orders = [(job, card) for job in jobs]
        count = workers or pool.available_cores()
        for number, found in pool.run_jobs(check_shard, orders, count, bar.update):
            stats[number] = found
    for shard in stats:
        report.bad += shard["rows"]
        report.problems += shard["problems"]
        report.samples += shard["shown"]
    for split in dict.fromkeys(name for job in jobs for name in splits_of(job.split)):
        part = [shard for shard in stats if split in splits_of(shard["split"])]
        _count(report, card, split, part)
    report.leaks = leakage.find(_clips_by_split(stats), _contents(stats))
    return report


# Planning ----------------------------------------------------------------------------------------


def _jobs(card: Card, splits: Sequence[str], samples: int, report: Report) -> list[Job]:
    """Jobs for all shards that are there; what is missing goes into the report."""
    listed = _listed(card.folder, report)
    of_path: dict[Path, list[str]] = {}  # a shard of several splits is read once
    alone: dict[Path, int | None] = {}
    for split in splits:
        stated = card.split(split)
        try:
            paths = card.shards(split)
        except DataError as error:
            report.problems.append(str(error))
            paths = stated.files(card.folder)
        for path in paths:
            of_path.setdefault(path, []).append(split)
            if len(paths) == stated.num_shards == 1:
                alone[path] = stated.records
    found: list[tuple[str, Path, int | None, str]] = []
    for path, names in of_path.items():
        expected, checksum = listed.get(path.name, (alone.get(path), ""))
        found.append((JOINED.join(names), path, expected, checksum))
    counts = [1 if expected is None else expected for _, _, expected, _ in found]
    wanted = defaultdict(list)
    for number, index in _for_every_split([split for split, *_ in found], counts, samples):
        wanted[number].append(index)
    return [
        Job(path, split, expected, checksum, tuple(wanted[number]))
        for number, (split, path, expected, checksum) in enumerate(found)
    ]


def _for_every_split(
    splits: Sequence[str], counts: Sequence[int], wanted: int
) -> Iterator[tuple[int, int]]:
    """Spreads `wanted` places over the shards, the same number in each split if possible."""
    from vatt.data.ingest.samples import spread

    names = list(dict.fromkeys(splits))
    for number, name in enumerate(names):
        share = (number + 1) * wanted // len(names) - number * wanted // len(names)
        part = [k for k, split in enumerate(splits) if split == name]
        for shard, index in spread([counts[k] for k in part], share):
            yield part[shard], index


def _listed(folder: Path, report: Report) -> dict[str, tuple[int, str]]:
    """What `manifest.json` says of each shard; {} without one."""
    try:
        return listed_shards(folder)
    except FileNotFoundError:
        report.notes.append("no manifest.json: checksums and records per shard are not known")
    except (OSError, ValueError) as error:
        report.problems.append(f"{folder / MANIFEST_FILE} cannot be used: {error}")
    return {}


# Judging -----------------------------------------------------------------------------------------


def _count(report: Report, card: Card, split: str, shards: list[dict]) -> None:
    """Adds the counts of a split to the report and compares them with the card."""
    found = summary.totals(shards)
    usable, bad = found.pop("records"), sum(shard["bad"] for shard in shards)
    counts = {"records": usable + bad, "usable": usable, "bad": bad, "shards": len(shards)}
    report.splits[split] = counts | found
    stated = card.split(split).records
    if stated is not None and stated != usable + bad:
        report.problems.append(
            f"split '{split}': the card says {stated} records, the shards hold {usable + bad}"
        )
    if not usable:
        report.problems.append(f"split '{split}': not one record can be used")
    for notice in levels.notices(found.get("levels", {})):
        report.notes.append(f"split '{split}': {notice.kind}: {notice.detail}")
    without = usable - found["with_video"]
    if card.video and without:
        tasks = ", ".join(task for task in card.tasks if task != AUDIO_TASK)
        needed = f", which {tasks} cannot use" if tasks else ""
        report.notes.append(
            f"split '{split}': {without} of {usable} records have no pictures{needed}"
        )
    stored = card.audio is not None and card.audio.feature is not None  # told with the features
    for modality in ("audio", "text") if not stored else ("text",):
        if getattr(card, modality) and usable and not found[f"with_{modality}"]:
            report.notes.append(f"split '{split}': the card has {modality}, but no record has")
    features = found.get("features", {})
    for name in card.features:
        if usable and name not in features:
            report.notes.append(f"split '{split}': the card has {name}, but no record has")
    for name in features:
        if name not in card.features:
            report.notes.append(
                f"split '{split}': {features[name]['records']} records have {name}, "
                f"of which the card says nothing.{nearest(name, card.features)}"
            )


def _clips_by_split(stats: Iterable[dict]) -> leakage.Clips:
    clips: leakage.Clips = {}
    for shard in stats:
        for split in splits_of(shard["split"]):
            sources = clips.setdefault(split, defaultdict(list))
            for source, start, end, _ in shard["clips"]:
                sources[source].append((start, end))
    return clips


def _contents(stats: Iterable[dict]) -> leakage.Contents:
    contents: leakage.Contents = {}
    for shard in stats:
        for split in splits_of(shard["split"]):
            sources = contents.setdefault(split, {})
            sources |= {content: source for source, *_, content in shard["clips"] if content}
    return contents
