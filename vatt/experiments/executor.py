"""A run of any task and mode: from a checked configuration to checkpoints, figures and a report.

run(cfg) -> strategy -> recipe (model and optimizer in its scope) -> initialise -> steps
-> checkpoints -> evaluation of each -> metrics.json, report.html

A model gets its first values from, in this order: the newest checkpoint of the run's own folder;
the checkpoint named by --override_checkpoint (`checkpoint_path`); random initialisation.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import keras
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.configs import experiment
from vatt.data.bad_records import BadRecords
from vatt.errors import EXIT_PREEMPTED, CheckpointError
from vatt.experiments import beforehand, remarks, selection
from vatt.experiments.evaluator import Evaluator
from vatt.experiments.finetune import Finetune
from vatt.experiments.pretrain import Pretrain
from vatt.reporting import report
from vatt.training import cluster, evaluations, loop, peers, signals, sources, sums, tracking
from vatt.training import strategy as strategies
from vatt.training.checkpoints import BEGIN_AGAIN, CheckpointStore
from vatt.training.rundir import RunDir
from vatt.training.stored_runs import StoredRun

_TOO_GOOD = ", a split to test on: figures there of the checkpoint that it chooses are too good"


class Recipe(loop.Recipe, Protocol):
    """What a task trains."""

    bad_records: BadRecords
    files: Mapping[str, str]  # name -> text of what belongs beside config.yaml

    def initialise(self, checkpoint: str | None) -> None:
        """Gives the model its first values, from a checkpoint if one is named."""


class Task(Protocol):
    """What one task brings to the executor."""

    def recipe(self, cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy) -> Recipe:
        """Builds data, model and optimizer for training."""

    def model(self, cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy) -> keras.Model:
        """Builds the model for evaluation alone."""

    def evaluator(
        self,
        cfg: configs.ExperimentConfig,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> Evaluator:
        """Returns what evaluates the checkpoints of that model."""


def _task(cfg: configs.ExperimentConfig) -> Task:
    """Returns the task of a configuration, by its class."""
    return Pretrain() if isinstance(cfg, experiment.Pretrain) else Finetune()


def run(
    cfg: configs.ExperimentConfig,
    command: Sequence[str] = (),
    *,
    allow_config_change: bool = False,
    fresh_start: bool = False,
    trackers: Sequence[str] = (),
    stored: StoredRun | None = None,
) -> int:
    """Runs `cfg.mode` and returns the exit code.

    `trackers` are told what is logged (`training.tracking`); `stored` is the run where its folder
    is in an object store.

    Raises:
      UserError: what the user gave cannot work; every kind carries its exit code.
    """
    task = _task(cfg)
    _compare_lengths(cfg)
    with signals.stop_requests(at_once=True):
        if cfg.mode == "eval":
            return _evaluate(cfg, task, command, trackers, stored)
        strategy = strategies.build(cfg.strategy_config)
        workers = peers.of(strategy)
        rundir = _folder(cfg, stored)
        alone = rundir.training() if workers.chief else contextlib.nullcontext()
        with workers.lost_ones_told(), alone:
            configs.check_batch(cfg, strategy.num_replicas_in_sync)
            workers.check_same("the configuration", lambda: [_decisive(cfg)])
            goes_on = workers.chief and not fresh_start and _has_begun(cfg, rundir)
            goes_on = bool(workers.gather(int(goes_on))[0])
            if cfg.checkpoint_path and not goes_on:
                sources.open_source(cfg.checkpoint_path)  # before data and model cost time
            if fresh_start:
                workers.on_chief(lambda: _move_aside(rundir))
            if stored is not None and not workers.chief:
                stored.pull(without=())  # the chief may have sent, or moved aside, something since
            run = _Run(cfg, task, strategy, workers, rundir, trackers if workers.chief else ())
            return run.train(command, goes_on, allow_config_change)


def _has_begun(cfg: configs.ExperimentConfig, rundir: RunDir) -> bool:
    """Whether the run goes on from a checkpoint of its own.

    Raises:
      CheckpointError: there have been checkpoints, but none that counts.
    """
    if CheckpointStore(rundir.path).has_begun():
        return True
    logged, first_save = rundir.last_trained(), cfg.train.save_checkpoint_freq
    if logged > first_save:
        raise CheckpointError(
            f"{rundir.path}: metrics.jsonl says that step {logged} has been reached, with a "
            f"checkpoint every {first_save}, but there is none. {BEGIN_AGAIN}"
        )
    return False


def _folder(cfg: configs.ExperimentConfig, stored: StoredRun | None) -> RunDir:
    rundir = RunDir(cfg.model_dir if stored is None else stored.folder)
    rundir.stored = stored
    return rundir


def _evaluate(
    cfg: configs.ExperimentConfig,
    task: Task,
    command: Sequence[str],
    trackers: Sequence[str],
    stored: StoredRun | None,
) -> int:
    """Evaluates in one process; of several workers, the chief's."""
    members = cluster.of_environment()
    if strategies.several(cfg.strategy_config) and members is not None and members.index:
        logging.info("%s has nothing to do: the chief evaluates alone", members.me)
        return 0
    sums.in_one_order()  # as in training, which evaluates as well
    strategy = strategies.build_local(cfg.strategy_config)
    if cfg.checkpoint_path:
        sources.open_source(cfg.checkpoint_path)  # before data and model cost time
    place = evaluations.place(_folder(cfg, stored), cfg)
    evaluator = task.evaluator(cfg, task.model(cfg, strategy), strategy, place)
    with contextlib.ExitStack() as stack:
        if stored is not None:
            stack.enter_context(stored.evaluating(place.path))
        evaluations.claim(place, cfg, command)
        ending = stack.enter_context(_tracked(cfg, trackers, place))
        try:
            ending.code = _ended(evaluator.run(), place)
        except signals.Interrupted:
            ending.code = _asked_to_stop()
    return ending.code


@dataclass
class _Ending:
    """How a tracked run ends: by an exit code, or None after an error."""

    code: int | None = None


@contextlib.contextmanager
def _tracked(
    cfg: configs.ExperimentConfig, trackers: Sequence[str], *places: RunDir
) -> Iterator[_Ending]:
    """Has trackers told what is written in the folders of a run while the block runs."""
    ending, told = _Ending(), None
    if trackers:
        values = configs.flat(cfg.as_dict())
        told = tracking.Tracking(places[0].checkpoints, trackers, values)
    for place in places if told else ():
        own = place.path == place.checkpoints
        place.tracking = told if own else told.below(place.path.name)
    try:
        yield ending
    finally:
        if told:
            told.end(ending.code)


def _asked_to_stop() -> int:
    logging.warning("asked to stop: what has been evaluated is kept; the same command continues")
    return EXIT_PREEMPTED


def _decisive(cfg: configs.ExperimentConfig) -> bytes:
    """What workers must agree on; each may have folders of its own."""
    own = {"model_dir": "", "data_dir": None, "checkpoint_path": None}
    return configs.to_yaml(cfg.model_copy(update=own)).encode()


def _move_aside(rundir: RunDir) -> None:
    if aside := rundir.move_aside():
        logging.warning("--fresh_start: the files of the earlier run are now in %s", aside)
        rundir.send()


@dataclass(frozen=True)
class _Run:
    """A training run, as one of its workers sees it."""

    cfg: configs.ExperimentConfig
    task: Task
    strategy: tf.distribute.Strategy
    workers: peers.Alone
    rundir: RunDir
    trackers: Sequence[str]

    def train(self, command: Sequence[str], goes_on: bool, allow_config_change: bool) -> int:
        """Trains from the first values on, and evaluates if asked for; returns the exit code."""
        cfg, rundir = self.cfg, self.rundir
        recipe = self.task.recipe(cfg, self.strategy)
        evaluator, place = None, evaluations.place(rundir, cfg)
        if cfg.mode == "train_and_eval":
            evaluator = self.task.evaluator(cfg, recipe.model, self.strategy, place)
        if not goes_on:
            recipe.initialise(cfg.checkpoint_path)
        elif cfg.checkpoint_path:
            logging.info(
                "checkpoint_path %s is not read: %s has checkpoints of its own",
                cfg.checkpoint_path,
                rundir.path,
            )

        def claim() -> None:
            of_run = cfg if place is rundir else evaluations.own(rundir, cfg)
            rundir.claim(of_run, recipe.files, allow_change=allow_config_change)
            rundir.record_launch(cfg, command)
            if evaluator is not None:
                evaluations.claim(place, cfg, command)

        self.workers.on_chief(claim)
        evaluate = {} if evaluator is None else {"on_checkpoint": evaluator.on_saved}
        best = None
        if named := cfg.train.keep_best:
            best = functools.partial(selection.best, rundir.path, named)
            if beforehand.chooses_on_test(cfg) and self.workers.chief:
                split = cfg.eval.input.split or "test"
                logging.warning("train.keep_best: %s is measured on %r%s", named, split, _TOO_GOOD)
        enough = {"enough": functools.partial(selection.enough, rundir.path, cfg.train)}
        more = {"workers": self.workers, "best": best, **evaluate, **enough}
        with _tracked(cfg, self.trackers, rundir, place) as ending:
            code = loop.train(recipe, cfg, self.strategy, rundir, **more)
            if evaluator and code == 0 and not self.workers.on_chief(evaluator.catch_up):
                code = _asked_to_stop()
            ending.code = code
        recipe.bad_records.summary()
        return _ended(code, rundir, place) if self.workers.chief else code


def _compare_lengths(cfg: configs.ExperimentConfig) -> None:
    """Says that clips last longer or shorter in evaluation than in training."""
    inputs = (cfg.train.input, cfg.eval.input)
    if all(data.fps for data in inputs) and "video" in getattr(cfg.model, "modalities", ("video",)):
        learned, measured = (data.num_frames * data.video_stride / data.fps for data in inputs)
        if learned != measured:
            logging.warning(
                "clips have %.3g s of pictures in training and %.3g s in evaluation: fps, "
                "video_stride and num_frames of train.input and eval.input decide",
                learned,
                measured,
            )


def _ended(code: int, *places: RunDir) -> int:
    """Says what a run that came to its end has not learned; it may be logged in two folders."""
    for path in dict.fromkeys(place.path for place in places) if code == 0 else ():
        for line in remarks.of_run(path):
            logging.warning("%s", line)
    if code == 0 and (page := places[-1].path / report.FILE_NAME).exists():
        logging.info("report: %s", page)
    return code
