"""Which checkpoint counts: for the figures of a fine-tuning, and for what a training keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vatt.configs.experiment import TrainConfig
from vatt.errors import UserError, nearest
from vatt.evaluation import measures
from vatt.reporting import figures, history
from vatt.reporting.history import Measures
from vatt.training.rundir import METRICS

Pick = Callable[[np.ndarray], float]


def chosen(found: Measures, last: int) -> Measures:
    """Returns the classification of the last checkpoint, or of the best out of `last` ones.

    The best has the highest first figure, top-1 accuracy or mAP; of equal ones, the earliest. It is
    chosen on the very split that is reported, so that its figures are too good.
    """
    own = found.where(lambda measure: measure.task == measures.CLASSIFICATION)
    if last == 1 or not len(own):
        return own
    first = next(measure.name for _, measure in own)
    steps, values = own.select(name=first).series()
    best = int(np.argmax(np.nan_to_num(values[-last:], nan=-np.inf)))
    return own.at_step(int(steps[-last:][best]))


def best(folder: Path, name: str, steps: Sequence[int]) -> int | None:
    """Returns which of some steps the best evaluation of a run is of: `train.keep_best`.

    Of equal ones the earliest; None where none of them has been evaluated.

    Args:
      folder: of the run.
      name: of the figure, as in metrics.json.
      steps: to choose from.

    Raises:
      UserError: there is no such figure, or nobody knows whether high values are good ones.
    """
    at, values, pick = _series(folder, name)
    usable = np.isin(at, steps) & np.isfinite(values)
    if not usable.any():
        return None
    return int(at[usable][np.argmax(values[usable] == pick(values[usable]))])


def since_best(folder: Path, name: str) -> tuple[int, int]:
    """Returns how many evaluations of a run came after the best one, and the step of that.

    Arguments and errors as of `best`. Without any, 0 and 0; a figure that is not finite is not the
    best, and where all are, none is better than nothing.
    """
    at, values, pick = _series(folder, name)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return len(at), 0
    first = finite[np.argmax(values[finite] == pick(values[finite]))]
    return len(at) - 1 - int(first), int(at[first])


def enough(folder: Path, train: TrainConfig) -> bool:
    """Whether a training ends early, `train.early_stop`; says so.

    Raises:
      UserError: as of `best`.
    """
    if train.early_stop is None or train.keep_best is None:
        return False
    after, step = since_best(folder, train.keep_best)
    if after < train.early_stop:
        return False
    logging.info(
        "train.early_stop: %s has not become better in %d evaluations%s",
        *(train.keep_best, after, f"; the best is ckpt-{step}" if step else ""),
    )
    return True


def _series(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, Pick]:
    """Returns steps, values and what picks the best of them; nothing where none is evaluated."""
    nothing = np.zeros(0, np.int64), np.zeros(0), np.max
    if not (folder / METRICS).exists():
        return nothing
    found = history.read(folder / METRICS).measures
    newest = [measure for _, measure in found]
    named = dict(zip(measures.own_names(newest), newest, strict=True))
    if not named:
        return nothing
    if name not in named:
        raise UserError(f"train.keep_best: no figure is called {name!r}.{nearest(name, named)}")
    pick = figures.of(named[name].name).best
    if pick is None:
        raise UserError(
            f"train.keep_best: of {name!r} it is not known whether high or low values are good"
        )
    return *found.where(lambda measure: measure is named[name]).series(), pick
