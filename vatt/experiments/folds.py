"""Every fold of a set, one after another, and what they reach on average.

    code = folds.run(cfg, "all", command)        # python -m vatt.main --task=finetune --folds=all

Each fold is a run of its own in `<model_dir>/fold_<number>/`, trained and evaluated on its splits.
Once all are done, `<model_dir>` gets metrics.json and a report with mean and standard deviation of
the newest figures of each fold. The same command continues after an interruption.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from absl import logging

from vatt import configs
from vatt.data import pipeline
from vatt.errors import DataError, UserError, nearest
from vatt.evaluation import measures, metrics, summary
from vatt.evaluation.measures import Measure
from vatt.experiments import executor, selection
from vatt.reporting import history, report
from vatt.training import strategy as strategies
from vatt.training.rundir import RunDir

ALL = "all"
NAME = "fold_{}"  # of the folder of a fold


def run(
    cfg: configs.ExperimentConfig,
    wanted: str,
    command: Sequence[str] = (),
    *,
    allow_config_change: bool = False,
    fresh_start: bool = False,
    trackers: Sequence[str] = (),
) -> int:
    """Runs `cfg.mode` for each fold and returns the exit code.

    Args:
      cfg: of a fine-tuning, without splits.
      wanted: "all", or numbers of folds joined by commas.
      command: the command line, for run.json.
      allow_config_change: see `executor.run`.
      fresh_start: see `executor.run`.
      trackers: see `executor.run`; each fold is a tracked run.

    Raises:
      UserError: a set without folds or without one of those wanted, or what `executor.run` raises.
    """
    chosen = _chosen(cfg, wanted)
    place = RunDir(cfg.model_dir)
    if fresh_start and (aside := place.move_aside()):
        logging.warning("--fresh_start: the files of the earlier run are now in %s", aside)
    if cfg.mode != "eval":
        place.claim(cfg, allow_change=allow_config_change)
        place.record_launch(cfg, command)
    for number, (train, test) in chosen.items():
        logging.info("fold %s of %s: trained on %s, evaluated on %s", number, wanted, train, test)
        code = executor.run(
            _of_fold(cfg, number, train, test),
            command,
            allow_config_change=allow_config_change,
            trackers=trackers,
        )
        keras.utils.clear_session()
        if code:
            return code
    if cfg.mode != "train":
        _sum_up(cfg, place, list(chosen))
    return 0


def _chosen(cfg: configs.ExperimentConfig, wanted: str) -> dict[str, tuple[str, str]]:
    """The folds to run: number -> (split to train on, split to test on)."""
    if not isinstance(cfg, configs.experiment.Finetune):
        raise UserError(
            "--folds is for --task=finetune; probes of a pretrained model take every fold anyway"
        )
    if cfg.checkpoint_path and cfg.mode == "eval":
        raise UserError(
            "--folds evaluates the checkpoints of each fold on its own test split, not one "
            "checkpoint on all: leave out --override_checkpoint"
        )
    if strategies.several(cfg.strategy_config):
        raise UserError(
            "--folds runs in one process; with several workers run one command for each fold, with "
            "train.input.split=train_1,eval.input.split=test_1 and a --model_dir of its own"
        )
    data = cfg.train.input
    for part, given in (("train", data.split), ("eval", cfg.eval.input.split)):
        if given:
            raise UserError(f"{part}.input.split: '{given}' is given, but --folds says the splits")
    if data.name != cfg.eval.input.name:
        raise UserError(
            f"eval.input.name: '{cfg.eval.input.name}'; --folds evaluates on folds of the set that "
            f"is trained on, '{data.name}'"
        )
    card = pipeline.load_card(data.name, cfg.data_dir)
    folds = {card.fold_of(pair[1]): pair for pair in card.folds()}
    if "" in folds or not folds:
        raise DataError(
            f"data set '{data.name}' has no folds (splits train_1 and test_1, train_2 and test_2, "
            f"...); its splits: {', '.join(card.splits)}"
        )
    numbers = list(folds) if wanted == ALL else [part.strip() for part in wanted.split(",")]
    for number in numbers:
        if number not in folds:
            raise UserError(
                f"--folds={wanted}: data set '{data.name}' has no fold '{number}'; accepted: "
                f"{ALL}, or some of {','.join(folds)}.{nearest(number, [ALL])}"
            )
    return {number: folds[number] for number in dict.fromkeys(numbers)}


def _of_fold(
    cfg: configs.ExperimentConfig, number: str, train: str, test: str
) -> configs.ExperimentConfig:
    own = cfg.model_copy(deep=True)
    own.model_dir = str(Path(cfg.model_dir) / NAME.format(number))
    own.train.input.split, own.eval.input.split = train, test
    return own


def _sum_up(cfg: configs.ExperimentConfig, place: RunDir, numbers: Sequence[str]) -> None:
    """Writes mean and spread of the figures of each fold, and the report."""
    found: list[tuple[int, Measure]] = []
    for number in numbers:
        own = history.read(place.path / NAME.format(number) / "metrics.jsonl").measures
        found += selection.chosen(own, cfg.eval.best_on_test_of_last)
    step, of_folds = min(step for step, _ in found), [measure for _, measure in found]
    means = mean_measures(of_folds)
    names = measures.published_names(means)
    rows = [measure.as_dict() for measure in (*means, *of_folds)]
    place.write_metrics("eval", step, names, rows)
    place.write_final(names | {"step": step})
    for line in summary.lines(means):
        logging.info("folds %s: %s", ", ".join(numbers), line)
    if cfg.eval.report:
        report.write(place.path)


def mean_measures(of_folds: Sequence[Measure]) -> list[Measure]:
    """Returns mean and standard deviation over folds of each figure that every fold has."""

    def figure(measure: Measure) -> tuple[str, ...]:
        return measure.set, measure.target, measure.name

    order = list(dict.fromkeys(map(figure, of_folds)))
    groups = itertools.groupby(sorted(of_folds, key=lambda m: order.index(figure(m))), key=figure)
    found = {which: list(own) for which, own in groups}
    most = max(map(len, found.values()), default=0)
    return [
        Measure(
            data,
            measures.CLASSIFICATION,
            name,
            float(np.mean([measure.value for measure in own])),
            target=target,
            chance=_mean_chance(own),
            samples=sum(measure.samples or 0 for measure in own),
            spread=metrics.spread([measure.value for measure in own]),
        )
        for (data, target, name), own in found.items()
        if len(own) == most
    ]


def _mean_chance(of_folds: Sequence[Measure]) -> float | None:
    chances = [measure.chance for measure in of_folds]
    return None if None in chances else float(np.mean(chances))
