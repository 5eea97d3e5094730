"""The training loop: host iterations of several steps, and what happens between them.

Between calls of `Trainer.run` the loop logs, saves, evaluates, and answers signals that ask for an
end by saving and leaving with exit code 42. Several workers agree on that, and the chief writes.
Data order, augmentation and dropout are functions of (seed, step), so that a restored run continues
exactly as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.errors import EXIT_PREEMPTED, CheckpointError, DivergedError
from vatt.training import peers, signals
from vatt.training.checkpoint_files import Best, Retention
from vatt.training.checkpoints import CheckpointStore
from vatt.training.rundir import RunDir
from vatt.training.throughput import Progress, matmul_peak
from vatt.training.trainer import ParameterGroup, Recipe, StepResult, Trainer

__all__ = ["ParameterGroup", "Recipe", "train"]

_LONGEST_CALL_S = 10.0  # schedulers give 30 s and more from a request to stop to the end
_NOTHING = -1  # in place of a step, where there is no checkpoint


@dataclass
class _Host:
    """What every host iteration needs.

    Attributes:
      steps_per_call: at most.
      step_s: of the slowest worker, in the last call; None before one without tracing.
    """

    trainer: Trainer
    steps_per_call: int
    asked: Callable[[], bool]
    watchdog: signals.Watchdog
    workers: peers.Alone
    step_s: float | None = None
    _traced: bool = False

    def run(self, most: int) -> StepResult:
        """Runs `most` steps in one call, or as many as do not take it too long."""
        steps = 1 if self.step_s is None else max(int(_LONGEST_CALL_S / self.step_s), 1)
        begun = time.monotonic()
        result = self.trainer.run(min(steps, self.steps_per_call, most))
        took = (time.monotonic() - begun) / len(result.losses)
        slowest_us = max(self.workers.gather(int(took * 1e6)))  # all run the same number of steps
        self.step_s = max(slowest_us, 1) / 1e6 if self._traced else None
        self._traced = True
        return result

    def asked_to_stop(self) -> bool:
        """Whether any worker has been asked to stop."""
        return self.workers.any(self.asked())


def train(
    recipe: Recipe,
    cfg: configs.ExperimentConfig,
    strategy: tf.distribute.Strategy,
    rundir: RunDir,
    on_checkpoint: Callable[[int], object] = lambda step: None,
    workers: peers.Alone = peers.ALONE,
    best: Best | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> int:
    """Trains up to `total_steps`; returns the exit code (0, or 42 when asked to stop).

    Goes on from the newest valid checkpoint in the folder, else trains the model of the recipe.
    `on_checkpoint` runs after every save, on the chief, which alone writes; `enough` says after
    that whether to train no longer. `best` chooses a step to keep.

    Raises:
      DivergedError: a loss or gradient was not finite; nothing of that step was applied.
      CheckpointError, UserError: a checkpoint that cannot be used; workers that differ.
    """
    trainer = Trainer(recipe, cfg.train, strategy, cfg.seed)
    store = CheckpointStore(rundir.path, _retention(cfg.train, best))
    total = cfg.train.optimizer.learning_rate.total_steps
    start = _restore(trainer, store, workers)
    if _is_done(start, total, rundir, workers, enough):
        return 0
    trainer.start(start)
    progress = _progress(recipe, cfg, strategy, start)
    with signals.stop_requests() as asked, signals.watchdog(cfg.train.watchdog_s) as watchdog:
        host = _Host(trainer, cfg.train.iterations_per_loop, asked, watchdog, workers)
        while trainer.step < total:
            parts, stop = _run_until(host, _next_goal(trainer.step, cfg.train, total))
            waited = sum(part.data_wait_s for part in parts)
            metrics = _metrics(trainer, parts) | progress.update(trainer.step, waited)
            if workers.chief:
                rundir.write_metrics("train", trainer.step, metrics)
                progress.show(metrics)
            if parts[-1].stopped:
                progress.done()
                raise _diverged(trainer, parts[-1], cfg, rundir)
            due = trainer.step % cfg.train.save_checkpoint_freq == 0 or trainer.step == total
            whole = True  # nothing of what is due was broken off
            if due or stop:
                if workers.chief:
                    store.save(trainer.step, trainer.variables(), **_facts(recipe, cfg))
                    _tell_saved(rundir, trainer.step, watchdog)
                watchdog.alive()
                stop = host.asked_to_stop()
                if due and not stop:
                    progress.done()  # the line stays, so that others may follow it
                    with watchdog.paused(), trainer.weights_to_evaluate():
                        whole = workers.on_chief(lambda: on_checkpoint(trainer.step))
                    progress.resume()
                    stop = host.asked_to_stop()
                    if whole and _chief_says(workers, enough):
                        break
            if stop and not (whole and trainer.step == total):
                return _preempted(progress, trainer.step)
    progress.done()
    return 0


def _tell_saved(rundir: RunDir, step: int, watchdog: signals.Watchdog) -> None:
    """Sends a checkpoint to the store that has the run, if one has it, and tells trackers."""
    with watchdog.paused():
        rundir.send()
    rundir.tracking.note("checkpoint", f"ckpt-{step}")


def _retention(cfg: configs.experiment.TrainConfig, best: Best | None) -> Retention:
    return Retention(cfg.max_checkpoints, cfg.keep_every_steps or 0, best)


def _progress(
    recipe: Recipe, cfg: configs.ExperimentConfig, strategy: tf.distribute.Strategy, start: int
) -> Progress:
    total, size = cfg.train.optimizer.learning_rate.total_steps, cfg.train.input.batch_size
    peak = matmul_peak(strategy, cfg.precision)
    return Progress(total, start, size, recipe.flops_per_step, peak)


def _facts(recipe: Recipe, cfg: configs.ExperimentConfig) -> dict[str, object]:
    """Returns what a manifest says; the hash is that of the file config.yaml which holds `cfg`."""
    text = configs.to_yaml(cfg).encode(errors="backslashreplace")
    return {**recipe.checkpoint_metadata, "config_sha256": hashlib.sha256(text).hexdigest()}


def _next_goal(step: int, cfg: configs.experiment.TrainConfig, total: int) -> int:
    """Returns the step up to which nothing but training happens."""
    log_every = cfg.log_every_steps or cfg.iterations_per_loop
    return min(*((step // n + 1) * n for n in (log_every, cfg.save_checkpoint_freq)), total)


def _run_until(host: _Host, goal: int) -> tuple[list[StepResult], bool]:
    """Runs up to step `goal`, call by call; fewer steps when a stop is asked for or due.

    Returns what each call gave, and whether a stop was asked for.
    """
    parts: list[StepResult] = []
    stop = False
    while host.trainer.step < goal and not stop:
        parts.append(host.run(goal - host.trainer.step))
        host.watchdog.alive()
        if parts[-1].stopped:
            break
        stop = host.asked_to_stop()
    return parts, stop


def _metrics(trainer: Trainer, parts: Sequence[StepResult]) -> dict[str, float]:
    """Returns mean losses of all steps, rate and norms of the last one."""
    losses = np.concatenate([part.losses for part in parts])
    finite = losses[np.isfinite(losses).all(axis=1)]
    mean = finite.mean(axis=0) if len(finite) and not parts[-1].stopped else losses[-1]
    metrics = dict(zip(trainer.loss_names, map(float, mean), strict=True))
    metrics["learning_rate"] = trainer.learning_rate(trainer.step - 1)
    metrics |= trainer.norms(parts[-1])
    metrics["bad_steps"] = sum(part.bad_steps for part in parts)
    return metrics


def _restore(trainer: Trainer, store: CheckpointStore, workers: peers.Alone) -> int:
    step = store.restore_newest(trainer.variables(), clean=workers.chief)
    found = workers.gather(_NOTHING if step is None else step)
    if len(set(found)) > 1:
        seen = ["nothing" if step == _NOTHING else f"ckpt-{step}" for step in found]
        raise CheckpointError(
            f"{store.folder}: the workers do not find the same there, the chief {seen[0]}, the "
            f"others {', '.join(seen[1:])}. Give a folder that all of them share, or copy its "
            "newest checkpoint to all"
        )
    if step is not None:
        logging.info("initialised from %s, the newest checkpoint of this run", store.path(step))
    elif trainer.average:
        trainer.average.start()
    values = trainer.variables()
    workers.check_same("the weights", lambda: (v.numpy().tobytes() for v in values.values()))
    return 0 if step is None else step


def _is_done(
    start: int, total: int, rundir: RunDir, workers: peers.Alone, enough: Callable[[], bool]
) -> bool:
    """Whether there is nothing to train; takes out of the records what comes after `start`."""
    if start >= total:
        logging.info("already at step %d of %d, nothing to train", start, total)
        return True
    if workers.chief:
        rundir.forget_after(start)
    return _chief_says(workers, enough)


def _chief_says(workers: peers.Alone, enough: Callable[[], bool]) -> bool:
    """What the chief says, on all workers."""
    return workers.any(workers.chief and enough())


def _preempted(progress: Progress, saved: int) -> int:
    progress.done()
    logging.warning("asked to stop: saved ckpt-%d; the same command continues", saved)
    return EXIT_PREEMPTED


def _diverged(
    trainer: Trainer, result: StepResult, cfg: configs.ExperimentConfig, rundir: RunDir
) -> DivergedError:
    bad = dict(zip(trainer.loss_names, result.losses[-1], strict=True))
    named = ", ".join(f"{name} {value:g}" for name, value in bad.items() if not np.isfinite(value))
    what = named or f"gradient_norm {result.gradient_norms[0]:g}"
    return DivergedError(
        f"step {trainer.step}: not finite: {what}. The weights are those before this step; "
        f"metrics are in {rundir.path / 'metrics.jsonl'}. Lower the learning rate, set "
        f"train.gradient_clip_norm, or allow train.max_bad_steps (now {cfg.train.max_bad_steps}) "
        "to skip such steps. If it ends at this step again, look for a record to blame: python -m "
        "vatt.data.check reads a set end to end"
    )
