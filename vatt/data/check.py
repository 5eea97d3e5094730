"""Reads a data set end to end and says what is in it and what is wrong with it.

    python -m vatt.data.check data/my_set --contact_sheet sheet.png

Every record is read and every frame decoded. Shards are compared with `manifest.json` and the card,
and splits with each other: the same source in two of them is leakage. Writes `check.json` and
`bad_records.csv` beside the card. Exit code: 0 all is well, 3 something is wrong.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data import ingest_summary as summary
from vatt.data import leakage
from vatt.errors import EXIT_DATA, DataError, UserError
from vatt.files import replace_text, sha256

if TYPE_CHECKING:
    from vatt.data.cards import Card
    from vatt.data.samples import Sample

COLUMNS = ("data_set", "split", "shard", "record", "offset", "reason")  # of bad_records.csv
_SHOWN = 5


@dataclass(frozen=True)
class Job:
    """One shard to be read."""

    path: Path
    split: str
    expected: int | None  # records, where known
    sha256: str  # "" where unknown
    show: tuple[int, ...]  # records wanted as samples; a bad one is replaced by the next good one


@dataclass
class Report:
    """What a check found."""

    name: str
    folder: Path
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # `summary.totals` and more
    bad: list[list] = field(default_factory=list)  # rows as in `COLUMNS`
    leaks: list[leakage.Leak] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # with files, card and labels
    notes: list[str] = field(default_factory=list)  # what is worth knowing, but no fault
    samples: list[Sample] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.bad or self.leaks or self.problems)


def run(
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
    facts: list[dict] = [{}] * len(jobs)
    total = sum(job.expected or 0 for job in jobs) or None
    with pool.progress(total, 0, card.name, "record") as bar:
        orders = [(job, card) for job in jobs]
        count = workers or pool.available_cores()
        for number, found in pool.run_jobs(check_shard, orders, count, bar.update):
            facts[number] = found
    for shard in facts:
        report.bad += shard["rows"]
        report.problems += shard["problems"]
        report.samples += shard["shown"]
    for split in dict.fromkeys(job.split for job in jobs):
        part = [shard for shard in facts if shard["split"] == split]
        _count(report, card, split, part)
    report.leaks = leakage.find(_clips_by_split(facts))
    return report


# Planning ----------------------------------------------------------------------------------------


def _jobs(card: Card, splits: Sequence[str], samples: int, report: Report) -> list[Job]:
    """Jobs for all shards that are there; what is missing goes into the report."""
    from vatt.data.samples import spread

    listed = _manifest(card.folder, report)
    found: list[tuple[str, Path, int | None, str]] = []
    for split in splits:
        facts = card.split(split)
        try:
            paths = card.shards(split)
        except DataError as error:
            report.problems.append(str(error))
            paths = sorted(path for path in card.folder.glob(facts.pattern) if path.is_file())
        alone = facts.records if len(paths) == facts.num_shards == 1 else None
        for path in paths:
            known = listed.get(path.name, {})
            found.append((split, path, known.get("records", alone), known.get("sha256", "")))
    counts = [1 if expected is None else expected for _, _, expected, _ in found]
    wanted = defaultdict(list)
    for number, index in _for_every_split([split for split, *_ in found], counts, samples, spread):
        wanted[number].append(index)
    return [
        Job(path, split, expected, checksum, tuple(wanted[number]))
        for number, (split, path, expected, checksum) in enumerate(found)
    ]


def _for_every_split(splits, counts, wanted, spread) -> Iterator[tuple[int, int]]:
    """Spreads `wanted` places over the shards, the same number in each split if possible."""
    names = list(dict.fromkeys(splits))
    for number, name in enumerate(names):
        share = (number + 1) * wanted // len(names) - number * wanted // len(names)
        part = [k for k, split in enumerate(splits) if split == name]
        for shard, index in spread([counts[k] for k in part], share):
            yield part[shard], index


def _manifest(folder: Path, report: Report) -> dict[str, dict]:
    """What `manifest.json` says of each shard; {} without one."""
    path = folder / "manifest.json"
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["shards"]
        return {
            shard["file"]: {"records": int(shard["records"]), "sha256": str(shard["sha256"])}
            for shard in shards
        }
    except FileNotFoundError:
        report.notes.append("no manifest.json: checksums and records per shard are not known")
    except (OSError, ValueError, KeyError, TypeError) as error:
        report.problems.append(f"{path} cannot be used: {type(error).__name__}: {error}")
    return {}


# Work --------------------------------------------------------------------------------------------


def check_shard(job: Job, card: Card) -> dict[str, Any]:
    """Reads one shard; returns the facts of `summary.Tally` and what is wrong."""
    from vatt.data import records, workers

    reading = _Reading(job, card)
    try:
        for record in records.walk(job.path):
            reading.add(record)
            workers.tick()
        lost = records.losses(job.path, reading.damaged, reading.found, job.expected)
        changed = job.sha256 and sha256(job.path) != job.sha256
    except OSError as error:
        return reading.facts([], f"{job.path.name} cannot be read: {error.strerror}")
    return reading.facts(
        lost, f"{job.path.name}: its SHA-256 is not that of manifest.json" * bool(changed)
    )


class _Reading:
    """What is known of a shard while it is read."""

    def __init__(self, job: Job, card: Card) -> None:
        self.job, self.card = job, card
        self.tally = summary.Tally(job.split)
        self.damaged: list = []
        self.found = 0
        self.unusable: list[tuple[int, int, str]] = []  # index, offset, reason
        self.clips: list[tuple[str, float, float]] = []
        self.shown: list[Sample] = []
        self.misnamed = 0
        self.example = ""

    def add(self, record: Any) -> None:
        """Takes in one record of the walk."""
        from vatt.data import records, samples

        self.found += 1
        if record.problem:
            self.damaged.append(record)
            return
        clip, fault = records.examine(record.data, self.card)
        if fault:
            self.unusable.append((record.index, record.offset, fault))
            return
        names = [self.card.labels[k] for k in clip.label_indices] if self.card.labels else []
        if names and clip.labels and names != clip.labels:
            self.misnamed += 1
            self.example = self.example or f"record {record.index}: {clip.labels}, card: {names}"
        clip.labels = clip.labels or names or [str(index) for index in clip.label_indices]
        self.tally.add(clip)
        self.clips.append((clip.source or _content(clip), clip.start, clip.end))
        if len(self.shown) < len(self.job.show) and record.index >= self.job.show[len(self.shown)]:
            self.shown.append(samples.make(clip, self.job.split, frames=8, width=200))

    def facts(self, lost: Sequence[Any], problem: str) -> dict[str, Any]:
        """Everything found, when the shard has been read."""
        from vatt.data import records

        job, shard = self.job, self.job.path.name
        rows = [
            (records.true_index(index, offset, lost), offset, reason)
            for index, offset, reason in self.unusable
        ]
        problems = [problem] if problem else []
        for damage in lost:
            several = f"; {damage.records} records lost" if damage.records > 1 else ""
            if damage.records < 0:
                problems.append(f"{shard}: {damage.reason}")
            else:
                rows.append((damage.index, damage.offset, damage.reason + several))
        if self.misnamed:
            problems.append(
                f"{shard}: label texts are not the card's names for their indices, in "
                f"{self.misnamed} of the records; {self.example}"
            )
        return self.tally.facts() | {
            "split": job.split,
            "bad": len(self.unusable) + sum(max(damage.records, 0) for damage in lost),
            "rows": [[self.card.name, job.split, shard, *row] for row in sorted(rows)],
            "problems": problems,
            "clips": self.clips,
            "shown": self.shown,
        }


def _content(clip: Any) -> str:
    """Stands for the source of a clip that names none: equal pictures and sound, equal source."""
    import hashlib

    digest = hashlib.blake2b(digest_size=12)
    for frame in clip.frames or ():
        digest.update(frame)
    if clip.waveform is not None:
        digest.update(clip.waveform.tobytes())
    return f"content {digest.hexdigest()}"


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
    for modality in ("audio", "text"):
        if getattr(card, modality) and usable and not found[f"with_{modality}"]:
            report.notes.append(f"split '{split}': the card has {modality}, but no record has")


def _clips_by_split(facts: Iterable[dict]) -> leakage.Clips:
    clips: leakage.Clips = {}
    for shard in facts:
        sources = clips.setdefault(shard["split"], defaultdict(list))
        for source, start, end in shard["clips"]:
            sources[source].append((start, end))
    return clips


# Output ------------------------------------------------------------------------------------------


def write(report: Report) -> None:
    """Writes `check.json` and `bad_records.csv` into the folder of the data set."""
    content = {
        "name": report.name,
        "fine": report.fine,
        "splits": report.splits,
        "bad_records": sum(split["bad"] for split in report.splits.values()),
        "leaks": [dataclasses.asdict(leak) for leak in report.leaks],
        "problems": report.problems,
        "notes": report.notes,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace_text(report.folder / "check.json", text)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(report.bad)
    replace_text(report.folder / "bad_records.csv", table.getvalue())


def describe(report: Report) -> str:
    """Returns the report as text for the screen."""
    heads = ("split", "records", "usable", "bad", "video", "audio", "text", "labels", "hours")
    rows = [heads]
    for split, counts in report.splits.items():
        numbers = [counts[key] for key in ("records", "usable", "bad")]
        numbers += [counts[f"with_{modality}"] for modality in summary.MODALITIES]
        rows.append((split, *(f"{number:,}" for number in numbers), _hours(counts["seconds"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [f"{report.name} ({report.folder})"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        lines.append("  " + "  ".join(cells))
    if report.bad:
        bad = sum(split["bad"] for split in report.splits.values())
        lines.append(f"bad records: {bad:,}, listed in {report.folder / 'bad_records.csv'}")
        for _, split, shard, index, offset, reason in report.bad[:_SHOWN]:
            lines.append(f"  {split}, {shard}, record {index} at byte {offset}: {reason}")
        lines += _more(len(report.bad))
    for leak in report.leaks:
        first, second = leak.splits
        times = f", {leak.overlapping:,} of them with the same moments" if leak.overlapping else ""
        lines.append(f"leakage: {leak.sources:,} sources are in {first} and in {second}{times}")
        lines += [f"  {source}" for source in leak.examples]
        lines += _more(leak.overlapping or leak.sources)
    if report.problems:
        lines.append("problems:")
        lines += [f"  {problem}" for problem in report.problems[:_SHOWN]]
        lines += _more(len(report.problems))
    lines += [f"note: {note}" for note in report.notes]
    lines.append("all is well" if report.fine else "something is wrong, see above")
    return "\n".join(lines)


def _more(count: int) -> list[str]:
    return [f"  ... and {count - _SHOWN:,} more"] if count > _SHOWN else []


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f}" if seconds < 360_000 else f"{seconds / 3600:,.0f}"


# Command line ------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.data.check",
        description="Read a data set end to end and say what is wrong with it.",
    )
    add = parser.add_argument
    add("card", help="folder of the data set, its card.yaml, or a name in $VATT_DATA_DIR")
    add("--splits", nargs="+", metavar="SPLIT", help="only these (default: all)")
    add("--contact_sheet", type=Path, metavar="PNG", help="picture of clips to be written")
    add("--samples", type=int, default=12, help="clips on the contact sheet (12)")
    add("--workers", type=int, help="processes (default: one per core)")
    arguments = parser.parse_args(argv)
    for name, value in (("samples", arguments.samples), ("workers", arguments.workers)):
        if value is not None and value < 1:
            parser.error(f"--{name}: {value} is not a number from 1 on")
    return arguments


def find_card(name: str) -> Card:
    """Returns the card in a folder or file, or that of a data set in $VATT_DATA_DIR.

    Raises:
        DataError: there is none, or it is not valid.
    """
    from vatt.data import cards

    path = Path(name)
    if path.is_dir() and not (path / cards.CARD_FILE).is_file():
        inside = ", ".join(sorted(p.parent.name for p in path.glob(f"*/{cards.CARD_FILE}")))
        hint = f"; data sets in it: {inside}" if inside else ""
        raise DataError(f"{path}: there is no {cards.CARD_FILE} in this folder{hint}")
    if path.is_dir():
        return cards.read(path / cards.CARD_FILE)
    if path.exists() or path.suffix or len(path.parts) != 1:
        return cards.read(path)
    return cards.load(name)


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = parse_arguments(argv)
    shown = arguments.samples if arguments.contact_sheet else 0
    try:
        card = find_card(arguments.card)
        report = run(card, arguments.splits, samples=shown, workers=arguments.workers)
        print(describe(report))
        write(report)
        if arguments.contact_sheet:
            from vatt.data import contact_sheet

            contact_sheet.write(arguments.contact_sheet, report.samples, card.name)
            print(f"contact sheet: {arguments.contact_sheet}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # disk full, no permission
        print(f"error: {error}", file=sys.stderr)
        return EXIT_DATA
    except KeyboardInterrupt:
        print("\nstopped; nothing was written.", file=sys.stderr)
        return 130
    return 0 if report.fine else EXIT_DATA


if __name__ == "__main__":
    sys.exit(main())
