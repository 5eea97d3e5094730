"""What a run has logged: reads `metrics.jsonl` into curves.

    history = read(model_dir / "metrics.jsonl")
    steps, values = history.series("train", "total_loss")
    recalls = history.measures.select(task="retrieval", set="toy_retrieval", name="R10")
    recalls.select(query="text", target="video").latest()      # (step, Measure)

One JSON object per line: {"step": int, "split": "train" | "eval", "time": unix seconds, "metrics":
{name: number}, "measures": [fields of a `vatt.evaluation.measures.Measure`, ...]}. Training has no
measures; of evaluation they are what is read, and the metrics are the same figures by name. A line
that cannot be read (the last one of a killed run is often cut short) is skipped and counted, as is
a single measure. A step logged twice, as after a resume, keeps the later value of each figure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from vatt.errors import UserError
from vatt.evaluation.measures import Measure, published_names
from vatt.files import parse_json

# The fields of a measure that say which figure it is.
FIELDS = ("set", "task", "split", "fold", "query", "target", "variant", "name")


def figure_of(measure: Measure) -> tuple[str, ...]:
    """Which figure a measure is: equal for the same one at another step or of another run."""
    return tuple(getattr(measure, field) for field in FIELDS)


class Measures:
    """Measures by step, in the order in which each figure first appeared.

    A figure is what all `FIELDS` of a measure tell apart. Methods that return one measure or one
    series are for selections of one figure; of several, the first that has the step counts.
    """

    def __init__(self) -> None:
        """Makes an empty collection."""
        self._found: dict[tuple[str, ...], dict[int, Measure]] = {}

    def add(self, step: int, measure: Measure) -> None:
        """Adds a measure; a later one of the same figure and step takes its place."""
        self._found.setdefault(figure_of(measure), {})[step] = measure

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[tuple[int, Measure]]:
        """Yields the latest (step, measure) of each figure."""
        for points in self._found.values():
            yield max(points.items(), key=lambda point: point[0])

    def where(self, accept: Callable[[Measure], bool]) -> Measures:
        """Returns the figures whose latest measure is accepted."""
        chosen = Measures()
        for (_, measure), (figure, points) in zip(self, self._found.items(), strict=True):
            if accept(measure):
                chosen._found[figure] = points
        return chosen

    def select(self, **wanted: str | Collection[str]) -> Measures:
        """Returns the figures with these values, each a text or several accepted ones."""
        places = [
            (FIELDS.index(field), {values} if isinstance(values, str) else set(values))
            for field, values in wanted.items()
        ]
        chosen = Measures()
        chosen._found = {
            figure: points
            for figure, points in self._found.items()
            if all(figure[place] in values for place, values in places)
        }
        return chosen

    def each(self, field: str) -> list[str]:
        """The values of a field, in order of first appearance."""
        return [value for (value,) in self.combinations(field)]

    def combinations(self, *fields: str) -> list[tuple[str, ...]]:
        """The values of several fields as they occur together, in order of first appearance."""
        places = [FIELDS.index(field) for field in fields]
        found = (tuple(figure[place] for place in places) for figure in self._found)
        return list(dict.fromkeys(found))

    def by_set(self, *fields: str) -> dict[str, Measures]:
        """The measures of each set by its name, and by its split or the like if it has several.

        "msrvtt" alone, but "msrvtt, test" and "msrvtt, validation".

        Args:
          fields: that are kept apart besides "split" and "fold".
        """
        fields = (*fields, "split", "fold")
        parts: dict[str, Measures] = {}
        for name in self.each("set"):
            own = self.select(set=name)
            found = own.combinations(*fields)
            for values in found:
                title = ", ".join(filter(None, (name, *values))) if len(found) > 1 else name
                parts[title] = own.select(**dict(zip(fields, values, strict=True)))
        return parts

    def at_step(self, step: int) -> Measures:
        """Returns what was measured at one step alone."""
        chosen = Measures()
        chosen._found = {
            figure: {step: points[step]} for figure, points in self._found.items() if step in points
        }
        return chosen

    def steps(self) -> list[int]:
        """All steps with a measure, ascending."""
        return sorted({step for points in self._found.values() for step in points})

    def series(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 [n], ascending, and values float64 [n]; values may be NaN or infinite."""
        points: dict[int, float] = {}
        for own in self._found.values():
            for step, measure in own.items():
                points.setdefault(step, measure.value)
        return _series(points)

    def at(self, step: int) -> Measure | None:
        """The measure of a step."""
        return next((points[step] for points in self._found.values() if step in points), None)

    def latest(self) -> tuple[int, Measure] | None:
        """The last (step, measure)."""
        return max(self, key=lambda point: point[0], default=None)


@dataclasses.dataclass
class History:
    """What was logged.

    Attributes:
      values: split -> name -> step -> value, of every line.
      times: split -> step -> unix seconds.
      measures: what evaluations found.
      unmeasured: name -> step -> value, of figures of evaluations that no measure describes.
      lines: number of lines.
      skipped: how many of them could not be read.
      unread: how many measures on other lines could not be read.
      earlier: how many evaluations have no measures, as earlier versions wrote them.
    """

    values: dict[str, dict[str, dict[int, float]]] = dataclasses.field(default_factory=dict)
    times: dict[str, dict[int, float]] = dataclasses.field(default_factory=dict)
    measures: Measures = dataclasses.field(default_factory=Measures)
    unmeasured: dict[str, dict[int, float]] = dataclasses.field(default_factory=dict)
    lines: int = 0
    skipped: int = 0
    unread: int = 0
    earlier: int = 0

    def names(self, split: str) -> list[str]:
        """Metric names of a split, in the order in which they first appeared."""
        return list(self.values.get(split, {}))

    def series(self, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 [n], ascending, and values float64 [n]; values may be NaN or infinite."""
        return _series(self.values.get(split, {}).get(name, {}))

    def steps(self, split: str) -> list[int]:
        """All steps at which anything was logged, ascending."""
        return sorted({step for points in self.values.get(split, {}).values() for step in points})

    def latest(self, split: str, name: str) -> tuple[int, float] | None:
        """Last (step, value) of a metric; None if it was never logged."""
        points = self.values.get(split, {}).get(name, {})
        return max(points.items(), key=lambda point: point[0]) if points else None


def read(path: Path) -> History:
    """Reads a metrics file.

    Raises:
      UserError: there is no such file.
    """
    history = History()
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). A training run writes it after its first "
            "steps; give the --model_dir of a run that has started."
        ) from error
    with file:
        for line in file:
            if line.strip():
                history.lines += 1
                history.skipped += not _add(history, line)
    return history


def _add(history: History, line: str) -> bool:
    """Adds one line; False if it is not a metrics line."""
    try:
        entry = parse_json(line)
        step, split = int(entry["step"]), str(entry["split"])
        numbers = {str(name): _number(value) for name, value in entry["metrics"].items()}
        rows = entry.get("measures")
        if not -(2**63) <= step < 2**63:
            raise OverflowError("a step that no run reaches")
        if not isinstance(rows, list | None):
            raise TypeError("'measures' is not a list")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return False
    for name, value in numbers.items():
        history.values.setdefault(split, {}).setdefault(name, {})[step] = value
    time = entry.get("time")
    if isinstance(time, int | float) and abs(time) < 1e12:  # s
        history.times.setdefault(split, {})[step] = float(time)
    if split == "eval":
        history.earlier += rows is None and bool(numbers)
        _add_measures(history, step, numbers, rows or [])
    return True


def _add_measures(
    history: History, step: int, numbers: dict[str, float], rows: list[object]
) -> None:
    """Adds the measures of one evaluation, and those of its figures that none of them describes."""
    measures = []
    for fields in rows:
        try:
            measures.append(_measure(fields))
        except (ValueError, TypeError, AttributeError, OverflowError):
            history.unread += 1
    for measure in measures:
        history.measures.add(step, measure)
    described = published_names(measures)
    for name in described:
        history.unmeasured.get(name, {}).pop(step, None)
    for name, value in numbers.items():
        if name not in described:
            history.unmeasured.setdefault(name, {})[step] = value


def _measure(fields: object) -> Measure:
    """A measure from JSON.

    Raises:
      TypeError, ValueError, AttributeError, OverflowError: it is none.
    """
    measure = Measure.from_dict(fields)
    if "chance" in fields and fields["chance"] is None:
        measure = dataclasses.replace(measure, chance=math.nan)
    if not all(isinstance(getattr(measure, field), str) for field in FIELDS):
        raise TypeError(f"{fields}: one of {FIELDS} is no text")
    numbers = measure.chance, measure.samples, measure.gallery, measure.spread
    sane = (isinstance(n, int | float | None) and not abs(n or 0) > 1e18 for n in numbers)
    if not all(sane):
        raise TypeError(f"{fields}: chance, samples, gallery or spread is no number")
    if not (measure.set and measure.task and measure.name):
        raise ValueError(f"{fields}: set, task or name is empty")
    return measure


def _series(points: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    ordered = sorted(points.items())
    steps = np.array([step for step, _ in ordered], np.int64)
    return steps, np.array([value for _, value in ordered], np.float64)


def _number(value: object) -> float:
    return math.nan if value is None else float(value)  # null is how strict JSON spells NaN
