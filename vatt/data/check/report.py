"""What a check found: as files beside the card, and as text."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.check import leakage
from vatt.data.ingest import levels, summary
from vatt.files import replace_text

if TYPE_CHECKING:
    from vatt.data.ingest.samples import Sample

COLUMNS = ("data_set", "split", "shard", "record", "offset", "reason")  # of bad_records.csv
_SHOWN = 5


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
    splits = report.splits.values()
    features = sorted({name for counts in splits for name in counts.get("features", {})})
    heads = ("split", "records", "usable", "bad", *summary.MODALITIES, *features, "hours")
    rows = [heads]
    for split, counts in report.splits.items():
        numbers = [counts[key] for key in ("records", "usable", "bad")]
        numbers += [counts[f"with_{modality}"] for modality in summary.MODALITIES]
        found = counts.get("features", {})
        numbers += [found[name]["records"] if name in found else 0 for name in features]
        rows.append((split, *(f"{number:,}" for number in numbers), _hours(counts["seconds"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [f"{report.name} ({report.folder})"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        lines.append("  " + "  ".join(cells))
    heard = {name: split["levels"] for name, split in report.splits.items() if split.get("levels")}
    for name, counted in heard.items():
        shown = ", ".join(f"{what} {figure}" for what, figure in levels.figures(counted).items())
        lines.append(f"  {name}, level of the sound: {shown}")
    if report.bad:
        bad = sum(split["bad"] for split in report.splits.values())
        lines.append(f"bad records: {bad:,}, listed in {report.folder / 'bad_records.csv'}")
        for _, split, shard, index, offset, reason in report.bad[:_SHOWN]:
            lines.append(f"  {split}, {shard}, record {index} at byte {offset}: {reason}")
        lines += _more(len(report.bad))
    for leak in report.leaks:
        first, second = leak.splits
        times = f", {leak.overlapping:,} of them with the same moments" if leak.overlapping else ""
        what = "clips with the same content" if leak.renamed else "sources"
        names = " under other names" if leak.renamed else ""
        lines.append(
            f"leakage: {leak.sources:,} {what} are in {first} and in {second}{names}{times}"
        )
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
