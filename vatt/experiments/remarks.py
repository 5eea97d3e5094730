"""What is said at the end of a run: that nothing was learned, or could not be told.

    for line in remarks.of_run(folder):
        logging.warning(line)

A run that learns nothing ends like any other, with figures; whoever does not know what guessing
reaches takes them for a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vatt.errors import DataError
from vatt.evaluation import artefacts, measures
from vatt.evaluation.measures import Measure
from vatt.reporting import history
from vatt.reporting.history import History

LOSS = "total_loss"
MOVED = 0.01  # share of its first value that a loss falls by when something is learned
DEVIATIONS = 2.0  # of guessing, within which a figure may be luck
RANK = "MeanRank"
_SHOWN = 5


def of_run(folder: Path) -> list[str]:
    """Returns a line for everything that stands in the way of a result, none where all is well."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    logged = history.read(path)
    return [*_loss(logged), *_guessing(logged), *_absent(logged, folder)]


def _loss(logged: History) -> Iterator[str]:
    steps, values = logged.series("train", LOSS)
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    if len(values) < 2:
        return
    between = f"from step {steps[0]} to step {steps[-1]}"
    if np.ptp(values) <= 1e-6 * max(1.0, abs(values[0])):
        yield f"the loss never moved: {LOSS} is {values[-1]:.4g} {between}"
        return
    quarter = len(values) // 4
    if quarter:
        first, last = values[:quarter].mean(), values[-quarter:].mean()
        if last > first - MOVED * abs(first):
            yield f"the loss did not fall: {LOSS} {first:.4g} became {last:.4g} {between}"


def _guessing(logged: History) -> Iterator[str]:
    """Figures of the last evaluation that guessing reaches as well, in one line."""
    steps = logged.measures.steps()
    found = [measure for _, measure in logged.measures.at_step(steps[-1])] if steps else []
    names = dict(zip(map(id, found), measures.own_names(found), strict=True))
    poor = [
        f"{names[id(measure)]} {_shown(measure, measure.value)} "
        f"(chance {_shown(measure, measure.chance)})"
        for measure in found
        if _telling(measure) and _is_guessed(measure)
    ]
    if poor:
        more = f" and {len(poor) - _SHOWN} more" if len(poor) > _SHOWN else ""
        shown = ", ".join(poor[:_SHOWN])
        yield f"not clearly better than chance at step {steps[-1]}: {shown}{more}"


def _telling(measure: Measure) -> bool:
    if measure.task == measures.RETRIEVAL:
        return measure.variant == "embd" and measure.name == RANK
    if measure.task == measures.LINEAR and measure.split:
        return False  # of one fold
    tasks = (measures.LINEAR, measures.CLASSIFICATION, measures.ZERO_SHOT)
    return measure.task in tasks and measure.name in ("top_1_accuracy", "mAP", "sklearn_mAP")


def _is_guessed(measure: Measure) -> bool:
    """Whether a figure is within what guessing gives by luck."""
    chance, samples = measure.chance, measure.samples
    if chance is None or not samples or not math.isfinite(measure.value):
        return False
    if measure.name == RANK:
        places = 2 * chance - 1
        return measure.value >= chance - DEVIATIONS * math.sqrt((places**2 - 1) / 12 / samples)
    if not 0 < chance < 1:
        return False
    return measure.value <= chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / samples)


def _shown(measure: Measure, value: float) -> str:
    return f"{value:.1f}" if measure.name == RANK else f"{100 * value:.1f} %"


def _absent(logged: History, folder: Path) -> Iterator[str]:
    """Classes that no clip of the last evaluation of a classifier has."""
    found = logged.measures.select(task=measures.CLASSIFICATION)
    for name in found.each("set"):
        step, measure = found.select(set=name).latest()
        try:
            arrays = artefacts.load(folder / "eval" / f"{name}-{step}.npz")
            absent = arrays["classes/name"][arrays["classes/clips"] == 0].tolist()
        except (DataError, KeyError, IndexError):
            continue  # removed since, or of a version that counted none
        if absent:
            more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
            yield (
                f"{name}, split {measure.split}: no clip of class {', '.join(absent[:_SHOWN])}"
                f"{more}: whether it was learned is not known"
            )
