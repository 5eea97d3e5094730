"""An exponential moving average of the weights, kept beside the weights that are trained.

average = AveragedWeights(model.trainable_variables, decay=0.999)   # in the strategy's scope
average.update(step)                     # in every replica, after the optimizer
with average.in_use(): evaluate(model)   # the model holds the averages
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import keras
import tensorflow as tf

TRAINED = "trained"  # prefix of the weights being trained, in a checkpoint whose model is averaged


class AveragedWeights:
    """Averages `a = d a + (1 - d) w` with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps forgets the weights training began with, which would otherwise
    weigh on a short run.
    """

    def __init__(self, variables: Sequence[keras.Variable], decay: float) -> None:
        """Creates one variable per variable, with its value."""
        self._variables, self._decay = list(variables), decay
        self._averages = [
            keras.Variable(v.numpy(), trainable=False, dtype="float32", name=f"average_{v.name}")
            for v in self._variables
        ]

    def start(self) -> None:
        """Sets every average to the variable's present value."""
        for average, variable in zip(self._averages, self._variables, strict=True):
            average.assign(variable.value)

    def update(self, step: tf.Tensor) -> None:
        """Moves the averages after the update of `step` (from 0); called in every replica."""
        step = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(self._decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self._averages, self._variables, strict=True):
            change = tf.cast(variable.value, tf.float32) - average.value
            average.value.assign_add(share * change)

    def in_front(self, named: Mapping[str, keras.Variable]) -> dict[str, keras.Variable]:
        """Returns `named` with averages under the names of their variables, these under others."""
        by_identity = {id(v): a for v, a in zip(self._variables, self._averages, strict=True)}
        result = {name: by_identity.get(id(v), v) for name, v in named.items()}
        trained = {f"{TRAINED}/{n}": v for n, v in named.items() if id(v) in by_identity}
        return result | trained

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While open, the variables hold their averages."""
        trained = [v.numpy() for v in self._variables]
        for average, variable in zip(self._averages, self._variables, strict=True):
            variable.assign(average.value)
        try:
            yield
        finally:
            for value, variable in zip(trained, self._variables, strict=True):
                variable.assign(value)
