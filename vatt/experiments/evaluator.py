"""Which checkpoints are evaluated, when, and what is written; `measure` says by what.

The folder of a run is looked at every `eval.poll_interval_s`; every committed checkpoint is
evaluated once, in order, until that of the final step, or the training has ended early. With
`checkpoint_path` only that one is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.errors import CheckpointError, UserError
from vatt.evaluation import measures, summary
from vatt.evaluation.measures import Measure
from vatt.evaluators.subject import Arrays
from vatt.experiments import selection
from vatt.locks import HeldError
from vatt.reporting import report
from vatt.training import signals, transfer
from vatt.training.checkpoints import (
    CheckpointStore,
    Damage,
    fingerprint,
    restore,
    variable_map,
)
from vatt.training.rundir import EVAL, RunDir
from vatt.training.strategy import local_replicas

# A `tf.function` that calls `strategy.run`: from inputs to outputs of replicas, by name.
ReplicaFunction = Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]
OnReplicas = Callable[[ReplicaFunction, Mapping[str, np.ndarray]], Arrays]


class Evaluator:
    """Evaluates one model's checkpoints, each once, in order."""

    def __init__(
        self,
        cfg: configs.ExperimentConfig,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> None:
        """Takes the model whose variables the checkpoints hold.

        Raises:
          UserError: a batch that the replicas cannot share.
        """
        self._cfg, self._model, self._strategy, self._rundir = cfg, model, strategy, rundir
        self._store = CheckpointStore(rundir.checkpoints)
        self._logged: dict[int, str] = {}  # by step, why it was not evaluated
        replicas, size = local_replicas(strategy), cfg.eval.input.batch_size
        if size % replicas:
            raise UserError(
                f"eval.input.batch_size: {size} is not divisible by {replicas} replicas"
            )

    def measure(self, step: int, checkpoint: str) -> list[Measure]:
        """Evaluates the model as it is.

        Args:
          step: updates behind the weights.
          checkpoint: fingerprint of the file that holds them, which may be gone by now.
        """
        raise NotImplementedError

    def check(self, prefix: str | os.PathLike) -> None:
        """Raises DataError where a checkpoint does not belong to what it is evaluated on."""

    def final(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns the figures of the run, the newest checkpoint, of `step`, having these."""
        return {**metrics, "step": step}

    # -- which checkpoints -----------------------------------------------------------------

    def run(self) -> int:
        """`--mode=eval`: the checkpoint asked for once, else every one until the final step."""
        if self._cfg.checkpoint_path:
            loaded = transfer.load(self._cfg.checkpoint_path, self._model)
            self.check(loaded.source.prefix)
            self.evaluate(loaded.source.step, fingerprint(loaded.source.prefix))
            return 0
        final = self._cfg.train.optimizer.learning_rate.total_steps
        last_new, told = time.monotonic(), False
        place = self._cfg.model_dir if self._rundir.stored else self._store.folder
        while True:
            self._rundir.pull()
            if self.catch_up():
                last_new = time.monotonic()
            run = self._rundir.checkpoints
            if final in self._rundir.evaluated() or selection.enough(run, self._cfg.train):
                return 0
            if time.monotonic() - last_new > self._cfg.eval.timeout_s:
                logging.warning(
                    "no new checkpoint in %s for %.0f s, leaving (eval.timeout_s)",
                    place,
                    self._cfg.eval.timeout_s,
                )
                return 0
            if not told:
                logging.info(
                    "waiting for checkpoints in %s: looking every %.0f s, leaving when none has "
                    "come for %.0f s (eval.timeout_s)",
                    place,
                    self._cfg.eval.poll_interval_s,
                    self._cfg.eval.timeout_s,
                )
            told = True
            with signals.stop_requests(at_once=True):  # or one came while something was written
                time.sleep(self._cfg.eval.poll_interval_s)

    def catch_up(self) -> int:
        """Evaluates every committed checkpoint that has not been; returns how many.

        Training may remove one at any moment, and one that is damaged may be whole the next time.

        Raises:
          CheckpointError: an undamaged checkpoint of another model.
        """
        return sum(self._catch_up_with(step) for step in self._store.steps())

    def _catch_up_with(self, step: int) -> bool:
        """Evaluates a checkpoint unless that has been done, by this process or another."""
        if step in self._rundir.evaluated():
            return False
        with self._turn():
            if step in self._rundir.evaluated():
                return False
            checkpoint = self._restore(step)
            if isinstance(checkpoint, Damage):
                gone = step not in self._store.steps()
                why = "removed, as old checkpoints are" if gone else str(checkpoint)
                if self._logged.get(step) != why:
                    logging.warning("ckpt-%d is not evaluated: %s", step, why)
                self._logged[step] = why
                return False
            self._evaluate(step, checkpoint)
            self._rundir.send()
            return True

    def on_saved(self, step: int) -> None:
        """Evaluates the model as it is, which has just been saved; another process may do it."""
        try:
            with self._rundir.evaluating(wait=False):
                if step not in self._rundir.evaluated():
                    self._evaluate(step, fingerprint(self._store.path(step)))
        except HeldError as held:
            logging.info("%s: ckpt-%d is evaluated later", held, step)

    def _restore(self, step: int) -> str | Damage:
        """Gives the model the weights of a checkpoint; returns its fingerprint."""
        prefix = self._store.path(step)
        damage = self._store.verify(step)
        if damage is None:
            try:
                restore(prefix, variable_map(self._model))
                self.check(prefix)
                return fingerprint(prefix)
            except (CheckpointError, OSError):
                damage = self._store.verify(step)  # again: it may have changed since
                if damage is None:
                    raise
        return damage

    # -- one checkpoint --------------------------------------------------------------------

    def evaluate(self, step: int, checkpoint: str) -> dict[str, float]:
        """Evaluates the model as it is, as checkpoint `step`; writes measures and the report.

        Args:
          step: updates behind the weights.
          checkpoint: fingerprint of the file that holds them.

        Returns:
          The measures by their published names.
        """
        with self._turn():
            return self._evaluate(step, checkpoint)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until no other process evaluates for the same folder."""
        with contextlib.ExitStack() as stack:
            with signals.stop_requests(at_once=True):
                stack.enter_context(self._rundir.evaluating(wait=True))
            yield

    def _evaluate(self, step: int, checkpoint: str) -> dict[str, float]:
        with signals.stop_requests(at_once=True):
            found = [
                dataclasses.replace(measure, checkpoint=checkpoint)
                for measure in self.measure(step, checkpoint)
            ]
        with signals.stop_requests():  # what is measured is written down whole
            self._write(step, found)
        if self._cfg.eval.report:
            with signals.stop_requests(at_once=True):
                self._rundir.tracking.file(report.write(self._rundir.path))
        return measures.published_names(found)

    def _write(self, step: int, found: Sequence[Measure]) -> None:
        metrics = measures.published_names(found)
        rows, curves = [measure.as_dict() for measure in found], measures.curves(found)
        self._rundir.write_metrics(EVAL, step, metrics, rows, curves)
        done = {*self._rundir.evaluated(), step}
        if step == max(done):  # an earlier checkpoint evaluated once more is not the final figure
            self._rundir.write_final(self.final(step, metrics))
            for checkpoint in {measure.checkpoint for measure in found}:
                self._rundir.tracking.note("evaluated", f"ckpt-{step} ({checkpoint})")
        self._rundir.set_evaluated(done)
        for line in summary.lines(found):
            logging.info("step %d: %s", step, line)
        for line in summary.too_small(found):
            logging.warning("step %d: %s", step, line)

    # -- for `measure` ---------------------------------------------------------------------

    def on_replicas(self, function: ReplicaFunction, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Calls `function` on every replica with its rows of `inputs`; joins what they return.

        The replicas are those of this process: of several workers, the chief evaluates alone.
        Rows are taken a batch of `eval.input.batch_size` at a time, the last one filled up with
        zeros, so that the function is traced once.

        Args:
          function: what is called.
          inputs: arrays `[rows, ...]`, of at least one row.
        """
        size, rows = self._cfg.eval.input.batch_size, len(next(iter(inputs.values())))
        parts = []
        for start in range(0, rows, size):
            batch = {key: _filled_up(x[start : start + size], size) for key, x in inputs.items()}
            parts.append(self._one_batch(function, batch))
        return {key: np.concatenate([part[key] for part in parts])[:rows] for key in parts[0]}

    def _one_batch(self, function: ReplicaFunction, inputs: Mapping[str, np.ndarray]) -> Arrays:
        count = local_replicas(self._strategy)

        def rows_of(context: tf.distribute.ValueContext) -> dict[str, tf.Tensor]:
            index = context.replica_id_in_sync_group % count
            return {
                key: tf.constant(np.split(value, count)[index]) for key, value in inputs.items()
            }

        outputs = function(self._strategy.experimental_distribute_values_from_function(rows_of))
        local = self._strategy.experimental_local_results
        return {
            key: np.concatenate([part.numpy() for part in local(value)])
            for key, value in outputs.items()
        }


def _filled_up(values: np.ndarray, rows: int) -> np.ndarray:
    missing = rows - len(values)
    if not missing:
        return values
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
