"""The steps of training: any method that gives losses, on any strategy.

One call of `Trainer.run` is one call of a `tf.function` that runs several steps:

    batch -> losses and gradients per replica -> sum over replicas -> clip each group by its norm
          -> finite everywhere? -> apply -> moving average of the weights, if asked for

The two halves of a step are two `strategy.run` calls with the decision between them in
cross-replica context: a step whose loss or gradient is not finite changes no variable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from vatt.configs.experiment import TrainConfig
from vatt.data.sampling import plain_graph
from vatt.training import sums
from vatt.training.averaging import AveragedWeights
from vatt.training.checkpoints import variable_map
from vatt.training.optimizers import FusedOptimizer

Losses = Mapping[str, tf.Tensor]
Batch = Mapping[str, tf.Tensor]
RUN_SEED = 0x7A77  # second number of the seed that every step's is folded from
STATISTICS = ("moving_mean", "moving_variance")  # what a forward pass in training changes


@dataclass(frozen=True)
class ParameterGroup:
    """Variables that are treated alike.

    Attributes:
      name: in logs.
      variables: trainable ones.
      clip_norm: their gradients are clipped together, by their common norm; 0 does not clip.
      rate_scales: factors of the learning rate by variable path, where it is not 1.
    """

    name: str
    variables: Sequence[keras.Variable]
    clip_norm: float
    rate_scales: Mapping[str, float] = field(default_factory=dict)


class Recipe(Protocol):
    """What is trained, and on what."""

    model: keras.Model
    optimizer: FusedOptimizer
    loss_names: tuple[str, ...]
    flops_per_step: float

    @property
    def checkpoint_metadata(self) -> Mapping[str, object]:
        """What the manifest of a checkpoint says of the model: kind, method, architecture, ..."""

    def batches(self, start_step: int, worker: tuple[int, int]) -> tf.data.Dataset:
        """Rows of worker (index, number of workers) of the global batches from `start_step` on."""

    def check_input(self) -> None:
        """Raises a UserError when it was the data that made the input fail."""

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """The trainable variables, each in one group."""

    def losses(self, batch: Batch, seed: tf.Tensor) -> Losses:
        """Losses of one replica's rows, `total_loss` among them; the mean over replicas counts."""


@dataclass(frozen=True)
class StepResult:
    """Outcome of one call of `Trainer.run` (host values)."""

    losses: np.ndarray  # [steps run, names]
    gradient_norms: np.ndarray  # [1 + groups]: of all, then of each group; of the last step
    weight_norms: np.ndarray  # [2]: of the parameters, and of their change in the last step
    data_wait_s: float
    bad_steps: int
    stopped: bool


class Trainer:
    """Runs the steps of a recipe; knows nothing of what is being learned."""

    def __init__(
        self, recipe: Recipe, cfg: TrainConfig, strategy: tf.distribute.Strategy, seed: int
    ) -> None:
        """Builds the optimizer's variables and the step counter; traces nothing yet."""
        sums.in_one_order()
        self._recipe, self._cfg, self._strategy = recipe, cfg, strategy
        self._seed = tf.constant([seed, RUN_SEED], tf.int32)
        self._trainable = recipe.model.trainable_variables
        self._statistics = [v for v in recipe.model.non_trainable_variables if v.name in STATISTICS]
        self._groups = recipe.parameter_groups()
        grouped = sorted(v.path for group in self._groups for v in group.variables)
        assert grouped == sorted(v.path for v in self._trainable), "groups are not a partition"
        scales = {path: s for group in self._groups for path, s in group.rate_scales.items()}
        with strategy.scope():
            recipe.optimizer.build(self._trainable, scales)
            self.average = (
                AveragedWeights(self._trainable, cfg.ema_decay) if cfg.ema_decay else None
            )
        self._iterator: Iterator[Batch] | None = None
        self.step = 0
        self._bad_in_a_row = 0

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the columns of `StepResult.losses`."""
        return self._recipe.loss_names

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
        """
        try:
            done, rows, gradient_norms, weight_norms, wait, bad, in_a_row = self._steps(
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
            gradient_norms.numpy(),
            weight_norms.numpy(),
            float(wait),
            int(bad),
            stopped=self._bad_in_a_row > self._cfg.max_bad_steps,
        )

    @tf.function
    def _steps(
        self,
        iterator: Iterator[Batch],
        first: tf.Tensor,
        count: tf.Tensor,
        bad_in_a_row: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Returns steps done, losses [count, names], norms (2), wait, bad, bad in a row."""
        done = tf.constant(0, tf.int64)
        names = self.loss_names
        rows = tf.TensorArray(tf.float32, size=tf.cast(count, tf.int32), element_shape=[len(names)])
        gradient_norms, weight_norms = tf.zeros([1 + len(self._groups)]), tf.zeros([2])
        bad, wait = tf.constant(0), tf.constant(0.0, tf.float64)
        while done < count and bad_in_a_row <= self._cfg.max_bad_steps:
            with tf.control_dependencies([gradient_norms]):
                asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(iterator)
            with tf.control_dependencies(self._local(batch)):
                arrived = tf.timestamp()
            wait += arrived - asked
            last = tf.equal(done + 1, count)
            with tf.control_dependencies([arrived]):  # a lone thread would look at the clock last
                values, gradient_norms, weight_norms, finite = self._step(batch, first + done, last)
            rows = rows.write(tf.cast(done, tf.int32), values)
            done += 1
            bad += tf.cast(not finite, tf.int32)
            bad_in_a_row = tf.where(finite, 0, bad_in_a_row + 1)
        return done, rows.stack(), gradient_norms, weight_norms, wait, bad, bad_in_a_row

    @plain_graph
    def _local(self, batch: Batch) -> list[tf.Tensor]:
        parts = [self._strategy.experimental_local_results(x) for x in tf.nest.flatten(batch)]
        return [part for local in parts for part in local]

    @plain_graph
    def _step(
        self, batch: Batch, step: tf.Tensor, measured: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """One step; weights are only `measured` where that is asked for, as it costs a copy.

        And where nothing changes, which may be the last step too.
        """
        seed = tf.random.experimental.stateless_fold_in(self._seed, step)
        statistics = self._strategy.run(self._read_statistics)
        before = self._strategy.run(self._read_weights, args=(measured,))
        values, norms, finite, gradients = self._strategy.run(self._gradients, args=(batch, seed))
        values = self._strategy.reduce("MEAN", values, axis=None)
        norms, finite = self._first(norms), self._first(finite)
        tf.cond(
            finite,
            lambda: self._strategy.run(self._apply, args=(gradients, step)),
            lambda: self._strategy.run(self._write_statistics, args=(statistics,)),
        )
        weight_norms = self._strategy.run(self._weight_norms, args=(before, measured, finite))
        return values, norms, self._first(weight_norms), finite

    def _first(self, value: tf.Tensor) -> tf.Tensor:
        return self._strategy.experimental_local_results(value)[0]

    def _gradients(
        self, batch: Batch, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """One replica: its losses, and gradients already summed over replicas and clipped."""
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        with tf.GradientTape() as tape:
            losses = self._recipe.losses(batch, seed)
            # inside the tape, so that the sum over replicas is the gradient of the global mean
            scaled = losses["total_loss"] / replicas
        assert set(losses) == set(self.loss_names), sorted(losses)
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
        values = tf.stack([tf.cast(losses[name], tf.float32) for name in self.loss_names])
        return values, norms, finite, gradients

    def _clip(self, gradients: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
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
        return clipped, tf.sqrt(tf.stack([tf.reduce_sum(squares), *squares]))

    def _apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        # the optimizer sums over replicas once more; every replica holds the same sum already
        self._recipe.optimizer.apply([g / replicas for g in gradients], self._trainable)
        if self.average:
            self.average.update(step)

    def _read_statistics(self) -> list[tf.Tensor]:
        return [tf.identity(v.value) for v in self._statistics]

    def _write_statistics(self, values: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(self._statistics, values, strict=True):
            variable.assign(value)

    def _read_weights(self, measured: tf.Tensor) -> list[tf.Tensor]:
        """Copies of the trainable variables, flat; nothing where they are not `measured`."""
        return tf.cond(
            measured,
            lambda: [tf.reshape(v.value, [-1]) for v in self._trainable],
            lambda: [tf.zeros([0], v.dtype) for v in self._trainable],
        )

    def _weight_norms(
        self, before: Sequence[tf.Tensor], measured: tf.Tensor, changed: tf.Tensor
    ) -> tf.Tensor:
        """Norm of the parameters, and of their change since `before`; [2]."""
        now = [tf.reshape(v.value, [-1]) for v in self._trainable]

        def change() -> tf.Tensor:
            pairs = zip(now, before, strict=True)
            return tf.linalg.global_norm([tf.cast(a - b, tf.float32) for a, b in pairs])

        def norms() -> tf.Tensor:
            size = tf.linalg.global_norm([tf.cast(a, tf.float32) for a in now])
            return tf.stack([size, tf.cond(changed, change, lambda: tf.zeros([]))])

        return tf.cond(measured | ~changed, norms, lambda: tf.zeros([2]))

    def norms(self, result: StepResult) -> dict[str, float]:
        """Norms of the last step by name: of its gradients before clipping, of the weights."""
        names = ["gradient_norm", *(f"gradient_norm/{group.name}" for group in self._groups)]
        pairs = zip(names, map(float, result.gradient_norms), strict=True)
        gradients = dict(pairs if len(self._groups) > 1 else [next(pairs)])
        size, change = map(float, result.weight_norms)
        return gradients | {"parameter_norm": size, "update_norm": change}

    def weights_to_evaluate(self) -> contextlib.AbstractContextManager:
        """While it is open, the model holds the weights that a checkpoint calls the model's."""
        return self.average.in_use() if self.average else contextlib.nullcontext()

    def learning_rate(self, step: int) -> float:
        """The schedule's value for the update of `step`."""
        return self._recipe.optimizer.rate_at(step)
