"""What a run has logged: reads `metrics.jsonl` into curves.

    history = read(model_dir / "metrics.jsonl")
    steps, values = history.series("train", "total_loss")
    history.latest("eval", "toy_retrieval_txt2vid_embd_R10")   # (step, value)

One JSON object per line: {"step": int, "split": "train" | "eval", "time": unix seconds, "metrics":
{name: number}}. A line that cannot be read (the last one of a killed run is often cut short) is
skipped and counted. A step logged twice, as after a resume, keeps the later value of each metric.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from vatt.errors import UserError


@dataclasses.dataclass
class History:
    """Metrics by split, name and step; `skipped` lines could not be read."""

    values: dict[str, dict[str, dict[int, float]]]  # split -> name -> step -> value
    times: dict[str, dict[int, float]]  # split -> step -> unix seconds
    lines: int = 0
    skipped: int = 0

    def names(self, split: str) -> list[str]:
        """Metric names of a split, in the order in which they first appeared."""
        return list(self.values.get(split, {}))

    def series(self, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 [n], ascending, and values float64 [n]; values may be NaN or infinite."""
        points = sorted(self.values.get(split, {}).get(name, {}).items())
        steps = np.array([step for step, _ in points], np.int64)
        return steps, np.array([value for _, value in points], np.float64)

    def steps(self, split: str) -> list[int]:
        """All steps at which anything was logged, ascending."""
        return sorted({step for points in self.values.get(split, {}).values() for step in points})

    def value(self, split: str, name: str, step: int) -> float | None:
        return self.values.get(split, {}).get(name, {}).get(step)

    def latest(self, split: str, name: str) -> tuple[int, float] | None:
        """Last (step, value) of a metric; None if it was never logged."""
        points = self.values.get(split, {}).get(name, {})
        return max(points.items(), key=lambda point: point[0]) if points else None


def read(path: Path) -> History:
    """Reads a metrics file.

    Raises:
        UserError: there is no such file.
    """
    history = History(values={}, times={})
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
        entry = json.loads(line)
        step, split = int(entry["step"]), str(entry["split"])
        numbers = {str(name): _number(value) for name, value in entry["metrics"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return False
    for name, value in numbers.items():
        history.values.setdefault(split, {}).setdefault(name, {})[step] = value
    time = entry.get("time")
    if isinstance(time, int | float) and math.isfinite(time):
        history.times.setdefault(split, {})[step] = float(time)
    return True


def _number(value: object) -> float:
    return math.nan if value is None else float(value)  # null is how strict JSON spells NaN
