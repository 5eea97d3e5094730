"""The training loop: any method that gives losses, on any strategy.

One host iteration is one call of a `tf.function` that runs `iterations_per_loop` steps:

    batch -> losses and gradients per replica -> sum over replicas -> clip each group by its norm
          -> finite everywhere? -> apply -> moving average of the weights, if asked for

The two halves of a step are two `strategy.run` calls with the decision between them in
cross-replica context: a step whose loss or gradient is not finite changes no variable. Between host
iterations the loop logs, saves, and answers SIGTERM / SIGINT by saving and leaving with exit code
42. Data order, augmentation and dropout are functions of (seed, step), so that a restored run
continues exactly as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.errors import EXIT_PREEMPTED, DivergedError
from vatt.training.averaging import AveragedWeights
from vatt.training.checkpoints import CheckpointStore
from vatt.training.rundir import RunDir
from vatt.training.throughput import Progress

Losses = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Group:
    """Variables whose gradients are clipped together, by their common norm; 0 does not clip."""

    name: str
    variables: Sequence[keras.Variable]
    clip_norm: float


class Recipe(Protocol):
    """What a method brings to the loop."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss_names: tuple[str, ...]
    flops_per_step: float

    def batches(self, start_step: int, worker: tuple[int, int]) -> tf.data.Dataset:
        """Rows of worker (index, number of workers) of the global batches from `start_step` on."""

    def check_input(self) -> None:
        """Raises a UserError when it was the data that made the input fail."""

    def gradient_groups(self) -> Sequence[Group]:
        """The trainable variables, in groups that are clipped apart."""

    def losses(self, batch: Mapping[str, tf.Tensor], seed: tf.Tensor) -> Losses:
        """Losses of one replica's rows, `total_loss` among them; the mean over replicas counts."""


@dataclass
class StepResult:
    """Outcome of one call of the inner loop (host values)."""

    losses: np.ndarray  # [steps run, names]
    gradient_norms: np.ndarray  # [1 + groups]: of all, then of each group
    data_wait_s: float
    bad_steps: int
    stopped: bool


class Trainer:
    """Runs the steps of a recipe; knows nothing of what is being learned."""

    def __init__(
        self,
        recipe: Recipe,
        cfg: configs.experiment.TrainConfig,
        strategy: tf.distribute.Strategy,
        seed: int,
    ) -> None:
        """Builds the optimizer's variables and the step counter; traces nothing yet."""
        self._recipe, self._cfg, self._strategy = recipe, cfg, strategy
        self._seed = tf.constant([seed, 0x7A77], tf.int32)
        self._trainable = recipe.model.trainable_variables
        self._statistics = _batch_statistics(recipe.model)
        self._groups = recipe.gradient_groups()
        self._check_groups()
        with strategy.scope():
            recipe.optimizer.build(self._trainable)
            self.average = (
                AveragedWeights(self._trainable, cfg.ema_decay) if cfg.ema_decay else None
            )
        self._iterator: Iterator | None = None
        self.step = 0
        self._bad_in_a_row = 0

    def _check_groups(self) -> None:
        grouped = sorted(v.path for group in self._groups for v in group.variables)
        assert grouped == sorted(v.path for v in self._trainable), "groups are not a partition"

    def variables(self) -> dict[str, keras.Variable]:
        """Everything a checkpoint must hold, by stable name.

        With averaged weights these are the model of the checkpoint, and those being trained stand
        beside them: whoever reads a checkpoint gets the weights that are meant to be used.
        """
        named = variable_map(self._recipe.model, self._recipe.optimizer)
        return self.average.in_front(named) if self.average else named

    def start(self, step: int) -> None:
        """Opens the input at `step`."""
        self.step = step

        def local(context: tf.distribute.InputContext) -> tf.data.Dataset:
            worker = (context.input_pipeline_id, context.num_input_pipelines)
            dataset = self._recipe.batches(step, worker)
            replicas = context.num_replicas_in_sync
            if replicas == context.num_input_pipelines:
                return dataset
            return dataset.rebatch(self._cfg.input.batch_size // replicas)

        self._iterator = iter(self._strategy.distribute_datasets_from_function(local))

    def run(self, steps: int) -> StepResult:
        """Runs `steps` steps, fewer where one is not finite and `max_bad_steps` is used up.

        Raises:
          DataError: too many records cannot be used.
          DivergedError: never; the caller writes its metrics first and then raises it.
        """
        try:
            done, rows, norms, wait, bad, in_a_row = self._steps(
                self._iterator,
                tf.constant(self.step, tf.int64),
                tf.constant(steps, tf.int64),
                tf.constant(self._bad_in_a_row),
            )
        except tf.errors.OpError:
            self._recipe.check_input()
            raise
        self._bad_in_a_row = int(in_a_row)
        self.step += int(done)
        return StepResult(
            rows.numpy()[: int(done)],
            norms.numpy(),
            float(wait),
            int(bad),
            stopped=self._bad_in_a_row > self._cfg.max_bad_steps,
        )

    @tf.function
    def _steps(self, iterator, first, count, bad_in_a_row):
        """Returns steps done, losses [count, names], last norms, wait, bad, bad in a row."""
        done = tf.constant(0, tf.int64)
        names = self._recipe.loss_names
        rows = tf.TensorArray(tf.float32, size=tf.cast(count, tf.int32), element_shape=[len(names)])
        norms, wait = tf.zeros([1 + len(self._groups)]), tf.constant(0.0, tf.float64)
        bad = tf.constant(0)
        while done < count and bad_in_a_row <= self._cfg.max_bad_steps:
            with tf.control_dependencies([norms]):
                asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(iterator)
            with tf.control_dependencies(self._local(batch)):
                wait += tf.timestamp() - asked
            values, norms, finite = self._step(batch, first + done)
            rows = rows.write(tf.cast(done, tf.int32), values)
            done += 1
            bad += tf.cast(not finite, tf.int32)
            bad_in_a_row = tf.where(finite, 0, bad_in_a_row + 1)
        return done, rows.stack(), norms, wait, bad, bad_in_a_row

    def _local(self, batch) -> list[tf.Tensor]:
        parts = [self._strategy.experimental_local_results(x) for x in tf.nest.flatten(batch)]
        return [part for local in parts for part in local]

    def _step(self, batch, step):
        seed = tf.random.experimental.stateless_fold_in(self._seed, step)
        statistics = self._strategy.run(self._read_statistics)
        values, norms, finite, gradients = self._strategy.run(self._gradients, args=(batch, seed))
        values = self._strategy.reduce("MEAN", values, axis=None)
        norms, finite = self._first(norms), self._first(finite)
        if finite:
            self._strategy.run(self._apply, args=(gradients, step))
        else:
            self._strategy.run(self._write_statistics, args=(statistics,))
        return values, norms, finite

    def _first(self, value):
        return self._strategy.experimental_local_results(value)[0]

    def _gradients(self, batch, seed):
        """One replica: its losses, and gradients already summed over replicas and clipped."""
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        with tf.GradientTape() as tape:
            losses = self._recipe.losses(batch, seed)
            # inside the tape, so that the sum over replicas is the gradient of the global mean
            scaled = losses["total_loss"] / replicas
        assert set(losses) == set(self._recipe.loss_names), sorted(losses)
        gradients = tape.gradient(scaled, [v.value for v in self._trainable])
        missing = [v.path for v, g in zip(self._trainable, gradients, strict=True) if g is None]
        assert not missing, f"no gradient for {missing}"
        # Keras' Adam squares the rows of repeated embedding ids before adding them up: make dense
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        if replicas > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients, norms = self._clip(gradients)
        total = losses["total_loss"]
        if replicas > 1:
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, total)
        finite = tf.math.is_finite(norms[0]) & tf.math.is_finite(total)
        values = tf.stack([tf.cast(losses[name], tf.float32) for name in self._recipe.loss_names])
        return values, norms, finite, gradients

    def _clip(self, gradients):
        """Clips every group by its own norm; returns norms before that: of all, then of groups."""
        place = {v.path: i for i, v in enumerate(self._trainable)}
        clipped, squares = list(gradients), []
        for group in self._groups:
            members = [place[v.path] for v in group.variables]
            own = [gradients[i] for i in members]
            norm = tf.linalg.global_norm(own)
            squares.append(norm**2)
            if group.clip_norm > 0:
                own, _ = tf.clip_by_global_norm(own, group.clip_norm, norm)
            for i, gradient in zip(members, own, strict=True):
                clipped[i] = gradient
        return clipped, tf.sqrt(tf.stack([tf.add_n(squares), *squares]))

    def _apply(self, gradients, step):
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        # the optimizer sums over replicas once more; every replica holds the same sum already
        self._recipe.optimizer.apply([g / replicas for g in gradients], self._trainable)
        if self.average:
            self.average.update(step)

    def _read_statistics(self):
        return [tf.identity(v.value) for v in self._statistics]

    def _write_statistics(self, values):
        for variable, value in zip(self._statistics, values, strict=True):
            variable.assign(value)

    def gradient_norms(self, result: StepResult) -> dict[str, float]:
        """Norms of the last step's gradients before clipping: of all, and of several groups."""
        names = ["gradient_norm", *(f"gradient_norm/{group.name}" for group in self._groups)]
        pairs = zip(names, map(float, result.gradient_norms), strict=True)
        return dict(pairs if len(self._groups) > 1 else [next(pairs)])

    def weights_to_evaluate(self) -> contextlib.AbstractContextManager:
        """While it is open, the model holds the weights that a checkpoint calls the model's."""
        return self.average.in_use() if self.average else contextlib.nullcontext()

    def norms(self, before: list[np.ndarray]) -> dict[str, float]:
        """Norm of the parameters, and of their change since the snapshot `before`."""
        now = self.snapshot()
        change = sum(float(np.sum((a - b) ** 2)) for a, b in zip(now, before, strict=True))
        size = sum(float(np.sum(a**2)) for a in now)
        return {"parameter_norm": size**0.5, "update_norm": change**0.5}

    def snapshot(self) -> list[np.ndarray]:
        """Copies of the trainable variables."""
        return [np.array(v.numpy(), np.float64) for v in self._trainable]

    def learning_rate(self, step: int) -> float:
        """The schedule's value for the update of `step`."""
        schedule = self._recipe.optimizer._learning_rate
        return float(schedule(step) if callable(schedule) else schedule)


def _batch_statistics(model: keras.Model) -> list[keras.Variable]:
    """Moving statistics: the only variables that a forward pass in training changes."""
    norms = (x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization))
    return [v for layer in norms for v in layer.non_trainable_variables]


def variable_map(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> dict[str, keras.Variable]:
    """Stable name -> variable, for all variables of `model` and `optimizer`."""
    named = [(f"model/{v.path}", v) for v in model.variables]
    if optimizer is not None:
        named += [(f"optimizer/{v.path}", v) for v in optimizer.variables]
    names = [name for name, _ in named]
    repeated = sorted({name for name in names if names.count(name) > 1})
    assert not repeated, f"variables that share a name: {repeated}"
    return dict(named)


def train(
    recipe: Recipe,
    cfg: configs.ExperimentConfig,
    strategy: tf.distribute.Strategy,
    rundir: RunDir,
    on_checkpoint: Callable[[int], None] = lambda step: None,
) -> int:
    """Trains up to `total_steps`; returns the exit code (0, or 42 when asked to stop).

    Goes on from the newest valid checkpoint of the run's folder, where there is one, else trains
    the model as the recipe has it. `on_checkpoint` runs after every save.

    Raises:
      DivergedError: a loss or gradient was not finite; nothing of that step was applied.
      CheckpointError: a checkpoint that cannot be used.
    """
    trainer = Trainer(recipe, cfg.train, strategy, cfg.seed)
    store = CheckpointStore(rundir.path, keep=cfg.train.max_checkpoints)
    total = cfg.train.optimizer.learning_rate.total_steps
    start = _restore(trainer, store)
    if start >= total:
        logging.info("already at step %d of %d, nothing to train", start, total)
        return 0
    rundir.forget_after(start)
    trainer.start(start)
    log_every = cfg.train.log_every_steps or cfg.train.iterations_per_loop
    progress = Progress(total, start, cfg.train.input.batch_size, recipe.flops_per_step)
    saved = start
    with _stop_requests() as asked_to_stop, _watchdog(cfg.train.watchdog_s) as alive:
        while trainer.step < total:
            goal = min(
                _next(trainer.step, log_every),
                _next(trainer.step, cfg.train.save_checkpoint_freq),
                total,
            )
            metrics, result = _run_until(
                trainer, goal, cfg.train.iterations_per_loop, asked_to_stop, alive
            )
            metrics |= progress.update(trainer.step, result.data_wait_s)
            rundir.write_metrics("train", trainer.step, metrics)
            progress.show(metrics)
            if result.stopped:
                progress.done()
                raise _diverged(trainer, recipe, result, cfg, rundir)
            due = trainer.step % cfg.train.save_checkpoint_freq == 0 or trainer.step == total
            if due or asked_to_stop():
                store.save(trainer.step, trainer.variables())
                saved = trainer.step
                alive()
                if not asked_to_stop():
                    progress.done()  # the line stays, so that others may follow it
                    with trainer.weights_to_evaluate():
                        on_checkpoint(saved)
                    progress.resume()
                    alive()
            if asked_to_stop() and trainer.step < total:
                progress.done()
                logging.warning("asked to stop: saved ckpt-%d; the same command continues", saved)
                return EXIT_PREEMPTED
    progress.done()
    return 0


def _run_until(trainer, goal, per_call, asked_to_stop, alive):
    """Runs up to step `goal`; returns mean losses plus norms of the last step, and the sum."""
    parts, before = [], None
    while trainer.step < goal:
        left = goal - trainer.step
        if left == 1:
            before = trainer.snapshot()
        parts.append(trainer.run(min(per_call, left - 1) if left > 1 else 1))
        alive()
        if parts[-1].stopped or asked_to_stop():
            break
    losses = np.concatenate([part.losses for part in parts])
    finite = losses[np.isfinite(losses).all(axis=1)]
    mean = finite.mean(axis=0) if len(finite) and not parts[-1].stopped else losses[-1]
    metrics = dict(zip(trainer._recipe.loss_names, map(float, mean), strict=True))
    metrics["learning_rate"] = trainer.learning_rate(trainer.step - 1)
    metrics |= trainer.gradient_norms(parts[-1])
    if before is not None:
        metrics |= trainer.norms(before)
    metrics["bad_steps"] = sum(part.bad_steps for part in parts)
    last = parts[-1]
    last.data_wait_s = sum(part.data_wait_s for part in parts)
    return metrics, last


def _restore(trainer: Trainer, store: CheckpointStore) -> int:
    step = store.restore_newest(trainer.variables())
    if step is None:
        if trainer.average:
            trainer.average.start()
        return 0
    logging.info("initialised from %s, the newest checkpoint of this run", store.path(step))
    return step


def _diverged(trainer, recipe, result, cfg, rundir) -> DivergedError:
    bad = dict(zip(recipe.loss_names, result.losses[-1], strict=True))
    named = ", ".join(f"{name} {value:g}" for name, value in bad.items() if not np.isfinite(value))
    what = named or f"gradient_norm {result.gradient_norms[0]:g}"
    return DivergedError(
        f"step {trainer.step}: not finite: {what}. The weights are those before this step; "
        f"metrics are in {rundir.path / 'metrics.jsonl'}. Lower the learning rate, set "
        f"train.gradient_clip_norm, or allow train.max_bad_steps (now {cfg.train.max_bad_steps}) "
        "to skip such steps"
    )


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """SIGTERM or SIGINT asks for a save and a clean end; a second one ends at once."""
    requests: list[int] = []

    def request(number: int, _frame: object) -> None:
        if requests:
            os._exit(128 + number)
        requests.append(number)
        name = signal.Signals(number).name
        print(
            f"\n{name}: saving after this loop, then leaving (again to leave at once)",
            file=sys.stderr,
        )

    previous = {
        number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _watchdog(seconds: float) -> Iterator[Callable[[], None]]:
    """Without a sign of life for `seconds`, dumps the stacks of all threads and exits (0 = off)."""

    def alive() -> None:
        if seconds > 0:
            faulthandler.dump_traceback_later(seconds, exit=True)

    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()
