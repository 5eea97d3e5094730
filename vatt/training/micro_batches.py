"""Towers that take their rows in parts, one after another, while losses compare all rows.

    towers = micro_batches.InParts(run_towers, 8, model)
    features = towers(inputs, seed, first_row)      # of all rows, as `run_towers` gives them

Only the inputs and the features that the model reads in training are kept for the backward pass,
which runs each part again, with the same random numbers, and adds up the gradients: contrastive
losses keep all their negatives with the activations of one part, for a second forward pass
(Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from vatt.modeling.pretraining import Features, PretrainingModel
from vatt.training.trainer import STATISTICS

Inputs = Mapping[str, tf.Tensor]
Towers = Callable[[Inputs, tf.Tensor, tf.Tensor], Features]


class InParts:
    """A function that gives what `towers` gives, and has its gradients.

    Equal to it but for batch norm, which normalises each part by itself; moving statistics follow
    the parts in their order.

    Args:
      towers: from inputs `[rows, ...]` by modality, the seed of the step and the index of the first
        row in the global batch, which decides what is drawn for a row.
      parts: divides the number of rows.
      model: what `towers` runs.
    """

    def __init__(self, towers: Towers, parts: int, model: PretrainingModel) -> None:
        self._towers, self._parts, self._model = towers, parts, model
        self._statistics = [v for v in model.non_trainable_variables if v.name in STATISTICS]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # Traced once and not for every part, unless batch norm waits for other replicas inside; not
        # inlined, so that a part begins when all it is given is there, and ends as a whole.
        alone = replicas == 1 or not self._statistics
        apart = tf.function(autograph=False, experimental_attributes={"_noinline": True})
        self._once = apart if alone else lambda function: function

    def __call__(self, inputs: Inputs, seed: tf.Tensor, first_row: tf.Tensor) -> Features:
        """Returns the features that the model reads in training, by modality and name."""
        names = list(inputs)
        rows = inputs[names[0]].shape[0] // self._parts
        structure: Features = {}

        def arguments(values: Sequence[tf.Tensor], index: int, after: Sequence[tf.Tensor]) -> tuple:
            """Returns what the towers take of a part, which begins when `after` is there.

            The seed waits as well: masks of dropout depend on nothing else.
            """
            with tf.control_dependencies(after):
                own = [tf.identity(x) for x in self._part(values, index)]
                place = tf.identity(seed), first_row + index * rows
            return dict(zip(names, own, strict=True)), *place

        @tf.custom_gradient
        def features_of(*values: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., Any]]:
            forward, found = self._once(self._read), [[]]
            for index in range(self._parts):
                features = forward(*arguments(values, index, found[-1]))
                found.append(tf.nest.flatten(features))
            structure.update(features)

            def backward(
                *wanted: tf.Tensor, variables: Sequence[tf.Variable] = ()
            ) -> tuple[list[None], list[tf.Tensor]]:
                def gradients(*given: Any) -> list[tf.Tensor]:
                    return self._gradients(variables, *given)

                again, total = self._once(gradients), []
                with tf.control_dependencies(wanted):
                    kept = [tf.identity(v.value) for v in self._statistics]
                for index in range(self._parts):
                    given = arguments(values, index, [*(total or wanted), *kept])
                    more = again(self._part(wanted, index), *given)
                    total = [a + b for a, b in zip(total, more, strict=True)] if total else more
                with tf.control_dependencies(total):
                    for variable, value in zip(self._statistics, kept, strict=True):
                        variable.assign(value)
                return [None] * len(values), total

            return [tf.concat(x, axis=0) for x in zip(*found[1:], strict=True)], backward

        flat = features_of(*inputs.values())
        return tf.nest.pack_sequence_as(structure, flat)

    def _part(self, values: Sequence[tf.Tensor], index: int) -> list[tf.Tensor]:
        """Returns a part of each tensor; of captions there may be several rows for a clip."""
        sizes = [x.shape[0] // self._parts for x in values]
        return [x[index * size : (index + 1) * size] for x, size in zip(values, sizes, strict=True)]

    def _read(self, inputs: Inputs, seed: tf.Tensor, first_row: tf.Tensor) -> Features:
        found, names = self._towers(inputs, seed, first_row), self._model.read_in_training
        return {m: {n: x for n, x in values.items() if n in names} for m, values in found.items()}

    def _gradients(
        self, variables: Sequence[tf.Variable], wanted: Sequence[tf.Tensor], *given: Any
    ) -> list[tf.Tensor]:
        """Returns dense gradients of the features of a part times `wanted`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            features = tf.nest.flatten(self._read(*given))
        found = tape.gradient(features, variables, wanted, tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) for gradient in found]
