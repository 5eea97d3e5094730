"""Runs that are compared, the measures they have in common, and what stands in the way of it."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vatt import configs
from vatt.errors import UserError
from vatt.evaluation import measures, summary
from vatt.evaluation.measures import Measure
from vatt.reporting import about, probes
from vatt.reporting.history import History, figure_of, read
from vatt.reporting.plots import COLORS

MOST = 2 * COLORS  # runs, so that each has a line of its own in the charts
TASKS = {
    measures.RETRIEVAL: "zero-shot retrieval",
    measures.GEOMETRY: "geometry of the common space",
    measures.ZERO_SHOT: "zero-shot classification",
    measures.CLASSIFICATION: "classification",
} | {task: title for task, (title, _) in probes.TITLES.items()}
# Settings by which a figure of the same name is another one.
PROTOCOL = (
    "eval.input.split",
    "eval.input.num_windows_test",
    "eval.input.multi_crop",
    "eval.best_on_test_of_last",
)
OWN = ("model_dir", "started", "command")  # what always differs

Rows = dict[tuple[str, ...], list[Measure | None]]  # by figure, the measure of each run


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the runs.

    Attributes:
      label: its name on the page.
      run: what its folder says.
      history: what it logged.
    """

    label: str
    run: about.Run
    history: History

    @functools.cached_property
    def step(self) -> int | None:
        """The step of the newest evaluation."""
        return max(self.history.measures.steps(), default=None)

    @functools.cached_property
    def newest(self) -> list[Measure]:
        """What the newest evaluation measured."""
        step = self.step
        found = [] if step is None else self.history.measures.at_step(step)
        return [measure for _, measure in found]

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        """The configuration by dotted path."""
        flat = configs.flat(self.run.config)
        return {path: value for path, value in flat.items() if path and path not in OWN}


def read_all(runs: Sequence[Path | str]) -> list[Side]:
    """Reads the runs; errors as of `write`."""
    folders = [about.folder(run) for run in runs]
    places: dict[Path, Path] = {}
    for folder in folders:
        if (before := places.setdefault(folder.resolve(), folder)) is not folder:
            same = "" if str(before) == str(folder) else f", which is also {before}"
            raise UserError(f"{folder} is given twice{same}: a run is not compared with itself")
    if len(folders) > MOST:
        raise UserError(f"{len(folders)} runs: at most {MOST} can be told apart on one page")
    histories = [read(folder / about.METRICS) for folder in folders]
    named = zip(_labels(list(places)), folders, histories, strict=True)
    return [Side(label, about.read(folder), history) for label, folder, history in named]


def _labels(folders: Sequence[Path]) -> list[str]:
    """The names of folders, with as many of the folders above as tell them apart."""
    most = max(len(folder.parts) for folder in folders)
    tried = (["/".join(f.parts[-depth:]) for f in folders] for depth in range(1, most + 1))
    return next(labels for labels in tried if len(set(labels)) == len(labels))


def remarks(sides: Sequence[Side]) -> Iterator[str]:
    """Sentences about what stands in the way of a comparison."""
    for side in sides:
        last, total = about.progress(side.run, side.history)
        if last is not None and total is not None and last < total:
            yield f"{side.label} is not finished: step {last:,} of {total:,}"
        if side.history.earlier:
            yield f"{side.label} has evaluations of an earlier version, which have no measures"
        elif side.step is None:
            yield f"{side.label} has no figures yet"
        if not side.run.config:
            yield f"{side.label}: {' '.join(side.run.problems) or 'config.yaml is empty'}"[:-1]
        if side.history.skipped or side.history.unread:
            yield f"{side.label}: parts of metrics.jsonl could not be read and are left out"
    steps = {side.label: side.step for side in sides if side.step is not None}
    if len(set(steps.values())) > 1:
        told = (f"step {step:,} of {label}" for label, step in steps.items())
        yield f"the newest figures are of different steps: {'; '.join(told)}"
    sets = Counter(data for side in sides for data in {m.set for m in side.newest})
    shared = [side for side in sides if any(sets[m.set] > 1 for m in side.newest)]
    for path in PROTOCOL:
        values = {s.label: s.settings[path] for s in shared if path in s.settings}
        if len(set(map(text, values.values()))) > 1:
            told = (f"{text(value)} in {label}" for label, value in values.items())
            yield f"evaluated in different ways, {path}: {', '.join(told)}"
    folders = dict.fromkeys(s.settings["data_dir"] for s in shared if s.settings.get("data_dir"))
    if len(folders) > 1:
        listed = ", ".join(map(text, folders))
        yield f"sets of the same name come from different folders, equal or not: {listed}"


def rows_of(sides: Sequence[Side]) -> Rows:
    """The measures of all runs, those of one set and task together."""
    found = [{figure_of(m): m for m in side.newest} for side in sides]
    every = {figure: own[figure] for own in reversed(found) for figure in own}
    groups = list(dict.fromkeys(group_of(m) for own in found for m in own.values()))
    order = dict.fromkeys(figure for own in found for figure in own)
    ordered = sorted(order, key=lambda figure: groups.index(group_of(every[figure])))
    return {figure: [own.get(figure) for own in found] for figure in ordered}


def group_of(measure: Measure) -> tuple[str, str, str]:
    return measure.set, measure.task, summary.fold_of(measure)


def alike(found: Iterable[Measure | None]) -> bool:
    """Whether measures of one figure are of the same clips, as far as can be told."""
    known = [m for m in found if m is not None]
    told = [(m.samples, m.gallery, None if m.chance is None else round(m.chance, 9)) for m in known]
    return all(len({*values} - {None}) < 2 for values in zip(*told, strict=True))


def not_alike(rows: Rows) -> Iterator[str]:
    """Sentences about sets that were not measured alike."""
    measured: dict[tuple[str, str], list[list[Measure | None]]] = {}
    for found in rows.values():
        first = next(filter(None, found))
        measured.setdefault((first.set, first.task), []).append(found)
    for (data, task), own in measured.items():
        other = next((found for found in own if not alike(found)), None)
        if other:
            counts = dict.fromkeys(summary.counts(m) for m in other if m)
            told = ", ".join(counts) if len(counts) > 1 else "guessing reaches other figures"
            yield f"{data}: not the same clips in all runs ({told}), its figures do not compare"
        every = [m for found in own for m in found if m]
        ways = dict.fromkeys(filter(None, map(summary.fold_of, every)))
        runs = sum(any(column) for column in zip(*own, strict=True))
        if runs > 1 and not any(sum(m is not None for m in found) > 1 for found in own):
            name = f"{data}, {TASKS.get(task, task)}"
            yield f"{name}: no figure was measured in two runs ({', '.join(ways) or 'other names'})"


def text(value: object) -> str:
    """A setting as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
