"""Learning rate schedules, evaluated in float32 from the step alone.

They follow the published formulas up to the last step and stay constant after it, where the
published code rises again or, with its defaults, is not a number (docs/differences.md).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt.configs import experiment
from vatt.errors import UserError
from vatt.typing import Tensor

Schedule = keras.optimizers.schedules.LearningRateSchedule


def _half_cosine(steps: Tensor, length: float, start: float, end: float) -> Tensor:
    """Returns `start` after 0 of `length` steps, `end` after all of them, along half a cosine."""
    # The order of operations is the published one: near the end float32 rounding decides the value.
    return (start - end) * (ops.cos(math.pi * steps / length) + 1.0) / 2.0 + end


def _warmup(step: Any, steps: int, start: float, end: float) -> Tensor:
    return start + step / max(steps, 1) * (end - start)


@keras.saving.register_keras_serializable("vatt")
class Constant(Schedule):
    """The same learning rate at every step."""

    def __init__(self, learning_rate_base: float):
        self.learning_rate_base = learning_rate_base

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the learning rate, float32."""
        return ops.convert_to_tensor(self.learning_rate_base, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal schedule."""
        return {"learning_rate_base": self.learning_rate_base}


@keras.saving.register_keras_serializable("vatt")
class CosineDecay(Schedule):
    """Linear warm-up to `learning_rate_base`, then half a cosine to 0 at `total_steps`."""

    def __init__(
        self,
        learning_rate_base: float,
        total_steps: int,
        warmup_learning_rate: float,
        warmup_steps: int,
    ):
        self.learning_rate_base, self.total_steps = learning_rate_base, total_steps
        self.warmup_learning_rate, self.warmup_steps = warmup_learning_rate, warmup_steps

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the learning rate at `step`, float32."""
        step = ops.minimum(ops.cast(step, "float32"), float(self.total_steps))
        length = max(self.total_steps - int(self.warmup_steps), 1)  # published, of half steps, too
        decayed = _half_cosine(step - self.warmup_steps, length, self.learning_rate_base, 0.0)
        rising = _warmup(
            step, self.warmup_steps, self.warmup_learning_rate, self.learning_rate_base
        )
        return ops.where(step < self.warmup_steps, rising, decayed)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal schedule."""
        return dict(vars(self))


@keras.saving.register_keras_serializable("vatt")
class StepwiseCosineDecay(Schedule):
    """Linear warm-up, then half a cosine from level to level, the last to 0 at `total_steps`.

    Level n holds at step `learning_rate_steps[n]`. A level that starts at `total_steps` or later
    only ends the segment before it.

    Raises:
      UserError: as many levels as steps are needed, in rising order, the first at the end of the
      warm-up.
    """

    def __init__(
        self,
        learning_rate_levels: Sequence[float],
        learning_rate_steps: Sequence[int],
        total_steps: int,
        warmup_learning_rate: float,
        warmup_steps: int,
    ):
        self.learning_rate_levels = tuple(learning_rate_levels)
        self.learning_rate_steps = tuple(learning_rate_steps)
        self.total_steps = total_steps
        self.warmup_learning_rate, self.warmup_steps = warmup_learning_rate, warmup_steps
        steps = self.learning_rate_steps
        if (
            not steps
            or len(steps) != len(self.learning_rate_levels)
            or list(steps) != sorted(set(steps))
        ):
            raise UserError(
                f"learning_rate_steps: {steps} must rise and be as many as learning_rate_levels "
                f"{self.learning_rate_levels}."
            )
        if steps[0] != warmup_steps:
            raise UserError(
                f"learning_rate_steps: the first, {steps[0]}, must be warmup_steps, {warmup_steps}."
            )

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the learning rate at `step`, float32."""
        step = ops.minimum(ops.cast(step, "float32"), float(self.total_steps))
        levels, steps = self.learning_rate_levels, self.learning_rate_steps
        rate = _warmup(step, self.warmup_steps, self.warmup_learning_rate, levels[0])
        for start, end, level, target in zip(
            steps, (*steps[1:], self.total_steps), levels, (*levels[1:], 0.0), strict=True
        ):
            if start < min(end, self.total_steps):  # an empty segment has no slope
                steps_in = ops.minimum(step - start, float(end - start))
                rate = ops.where(
                    step >= start, _half_cosine(steps_in, end - start, level, target), rate
                )
        return rate

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal schedule."""
        return dict(vars(self))


@keras.saving.register_keras_serializable("vatt")
class MultiStep(Schedule):
    """One rate for each epoch: linear warm-up, then times `gamma` from each milestone on."""

    def __init__(
        self,
        learning_rate_base: float,
        total_steps: int,
        steps_per_epoch: int,
        warmup_epochs: int,
        multiplier: float,
        milestones: Sequence[int],
        gamma: float,
    ):
        self.learning_rate_base, self.multiplier = learning_rate_base, multiplier
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.warmup_epochs = warmup_epochs
        self.milestones, self.gamma = tuple(milestones), gamma

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the learning rate at `step`, float32."""
        step = ops.minimum(ops.cast(step, "int64"), self.total_steps)
        epoch = ops.cast(ops.floor_divide(step, self.steps_per_epoch), "float32")
        rate = self.learning_rate_base * self.multiplier * ops.ones_like(epoch)
        for milestone in self.milestones:
            rate = ops.where(epoch >= milestone, rate * self.gamma, rate)
        if not self.warmup_epochs:
            return rate
        start = 0.0 if self.multiplier == 1 else self.learning_rate_base
        end = self.learning_rate_base * self.multiplier
        rising = _warmup(epoch, self.warmup_epochs, start, end)
        return ops.where(epoch <= self.warmup_epochs, rising, rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal schedule."""
        return dict(vars(self))


@keras.saving.register_keras_serializable("vatt")
class LinearWarmup(Schedule):
    """Linear warm-up, its last step at `learning_rate_base`, then constant or half a cosine."""

    def __init__(
        self,
        learning_rate_base: float,
        total_steps: int,
        warmup_learning_rate: float,
        warmup_steps: int,
        final_learning_rate: float | None,
    ):
        self.learning_rate_base, self.total_steps = learning_rate_base, total_steps
        self.warmup_learning_rate, self.warmup_steps = warmup_learning_rate, warmup_steps
        self.final_learning_rate = final_learning_rate

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the learning rate at `step`, float32."""
        step = ops.minimum(ops.cast(step, "float32"), float(self.total_steps))
        start, base, final = (
            self.warmup_learning_rate,
            self.learning_rate_base,
            self.final_learning_rate,
        )
        length = max(self.total_steps - self.warmup_steps, 1)
        # half a cosine, seen from its end: float32 keeps the digits of small rates
        share = ops.square(ops.sin(math.pi / 2.0 * (self.total_steps - step) / length))
        rate = base if final is None else final + (base - final) * share
        rising = _warmup(step, self.warmup_steps - 1, start, base)
        return ops.where(step < self.warmup_steps, rising, rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal schedule."""
        return dict(vars(self))


@functools.singledispatch
def build(config: experiment.LearningRate) -> Schedule:
    """Returns the schedule of a configuration, by its class.

    Raises:
      UserError: inconsistent settings.
    """
    return Constant(config.learning_rate_base)


@build.register
def _(config: experiment.CosineDecayLearningRate) -> CosineDecay:
    return CosineDecay(
        config.learning_rate_base,
        config.total_steps,
        config.warmup_learning_rate,
        config.warmup_steps,
    )


@build.register
def _(config: experiment.StepwiseCosineDecayLearningRate) -> StepwiseCosineDecay:
    return StepwiseCosineDecay(
        config.learning_rate_levels,
        config.learning_rate_steps,
        config.total_steps,
        config.warmup_learning_rate,
        config.warmup_steps,
    )


@build.register
def _(config: experiment.MultiStepLearningRate) -> MultiStep:
    return MultiStep(
        config.learning_rate_base,
        config.total_steps,
        config.steps_per_epoch,
        config.warmup_epochs,
        config.multiplier,
        config.milestones,
        config.gamma,
    )


@build.register
def _(config: experiment.LinearWarmupLearningRate) -> LinearWarmup:
    return LinearWarmup(
        config.learning_rate_base,
        config.total_steps,
        config.warmup_learning_rate,
        config.warmup_steps,
        config.final_learning_rate,
    )
