"""Optimizers with the arithmetic of the published code (Keras OptimizerV2).

They differ from Keras 3's own in where epsilon stands, in the learning rate being part of the
velocity, and in weight decay, which is decoupled and *not* scaled by the learning rate. `TorchSGD`
has the arithmetic of PyTorch instead, `FlaxAdam` that of Flax's former optimizer, and `Muon` is not
of the published code. Each variable takes one fused TensorFlow kernel; the matrices of `Muon` take
some matrix products.

Gradients must be dense: sum repeated embedding rows first (`tf.convert_to_tensor`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from vatt.training import schedules

Rate = float | schedules.Schedule


def _raw(variable: keras.Variable | tf.Variable) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


class FusedOptimizer(keras.optimizers.Optimizer):
    """Common part: no clipping, unscaled weight decay, slots named `<variable path>_<slot>`."""

    slots: tuple[str, ...] = ()

    def __init__(self, learning_rate: Rate, *, decay: float = 0.0, name: str):
        super().__init__(learning_rate=learning_rate, name=name)
        self.decay = decay  # not Keras' `weight_decay`, which multiplies by the learning rate

    def build(
        self, variables: Sequence[keras.Variable], rate_scales: Mapping[str, float] | None = None
    ) -> None:
        """Creates the slots of every variable.

        Args:
          variables: what is trained.
          rate_scales: factors of the learning rate by variable path, where it is not 1.
        """
        if self.built:
            return
        super().build(variables)
        rate_scales = rate_scales or {}
        self._scales = [rate_scales.get(v.path, 1.0) for v in variables]
        self._paths = [v.path for v in variables]
        self._slots: dict[str, dict[str, keras.Variable]] = {}
        for slot in self.slots:
            having = [v for v in variables if self._has(slot, v)]
            made = self.add_optimizer_variables(having, slot)
            self._slots[slot] = {v.path: s for v, s in zip(having, made, strict=True)}

    def rate_at(self, step: int) -> float:
        """Returns the learning rate of the update of `step`, before any factor."""
        rate = self._learning_rate
        return float(rate(step) if callable(rate) else rate)

    def slot_variables(self) -> dict[str, dict[str, keras.Variable]]:
        """Returns the slot variables by published slot name and path of what they belong to."""
        return self._slots

    def _has(self, slot: str, variable: keras.Variable) -> bool:
        """Whether a variable has a slot; all have all of them, unless a class says otherwise."""
        del slot, variable
        return True

    def _slot(self, name: str, variable: tf.Variable) -> tf.Variable:
        return _raw(self._slots[name][self._path(variable)])

    def _path(self, variable: tf.Variable) -> str:
        return self._paths[self._get_variable_index(variable)]

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Applies one dense gradient to one variable."""
        scale = self._scales[self._get_variable_index(variable)]
        variable = _raw(variable)
        gradient = tf.convert_to_tensor(gradient)
        rate = tf.cast(learning_rate, variable.dtype)
        rate = rate if scale == 1.0 else rate * scale
        if self.decay:
            variable.assign_sub(variable * tf.cast(self.decay, variable.dtype))
        self._update(gradient, variable, rate)

    def _update(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal optimizer."""
        rate = self._learning_rate
        if isinstance(rate, schedules.Schedule):
            rate = keras.saving.serialize_keras_object(rate)
        else:
            rate = float(rate.numpy())
        return {"learning_rate": rate, "decay": self.decay, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FusedOptimizer:
        """Rebuilds the optimizer from `get_config`."""
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate, custom_objects)
        return cls(**{**config, "learning_rate": rate})


@keras.saving.register_keras_serializable("vatt")
class Adam(FusedOptimizer):
    """`p -= lr_t m / (sqrt(v) + epsilon)` with `lr_t = lr sqrt(1 - beta_2^t) / (1 - beta_1^t)`."""

    slots = ("m", "v")

    def __init__(
        self,
        learning_rate: Rate,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        decay: float = 0.0,
        name: str = "adam",
    ):
        super().__init__(learning_rate, decay=decay, name=name)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _update(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        step = tf.cast(_raw(self._iterations) + 1, variable.dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, variable.dtype), tf.cast(self.beta_2, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._slot("m", variable).handle,
            v=self._slot("v", variable).handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=self._epsilon(beta_2, step),
            grad=gradient,
        )

    def _epsilon(self, beta_2: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """What is added to sqrt(v), as its bias is not corrected there; `step` counts from 1."""
        del step
        return tf.cast(self.epsilon, beta_2.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal optimizer."""
        betas = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **betas}


@keras.saving.register_keras_serializable("vatt")
class FlaxAdam(Adam):
    """`p -= lr m' / (sqrt(v') + epsilon)` with corrected moments, then `kernel *= 1 - lr decay`."""

    def __init__(
        self,
        learning_rate: Rate,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        kernel_decay: float = 0.0,
        name: str = "flax_adam",
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name)
        self.kernel_decay = kernel_decay

    def _epsilon(self, beta_2: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.epsilon, beta_2.dtype) * tf.sqrt(1.0 - tf.pow(beta_2, step))

    def _update(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        super()._update(gradient, variable, rate)
        if self.kernel_decay and self._path(variable).endswith("/kernel"):
            variable.assign(variable * (1.0 - rate * tf.cast(self.kernel_decay, rate.dtype)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal optimizer."""
        common = {key: value for key, value in super().get_config().items() if key != "decay"}
        return {**common, "kernel_decay": self.kernel_decay}


# Traced once for each shape, not for each of a model's many matrices.
@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def _near_orthogonal(matrix: tf.Tensor) -> tf.Tensor:
    """Returns a matrix with the same singular vectors, and singular values in 0.6 to 1.3.

    Those below 3 thousandths of the norm come out smaller.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(matrix) if tall else matrix  # products of the shorter side cost less
    x /= tf.norm(x) + 1e-7
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        square = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    return tf.transpose(x) if tall else x


@keras.saving.register_keras_serializable("vatt")
class Muon(Adam):
    """Moves matrices along all their directions alike; the rest is moved by Adam.

    A matrix is the kernel of a dense layer, and with `convolutions` that of a convolution, too, one
    row for each weight of an output channel's filter. Of its momentum with Nesterov's look ahead,
    `m = momentum * m + g; u = g + momentum * m`, the singular values are brought near 1 by five
    steps of a Newton-Schulz iteration (Jordan et al., 2024, <https://kellerjordan.github.io/posts/
    muon>). Times `update_rms * sqrt(max(rows, columns))` its elements have about that root mean
    square (Liu et al., 2025, <https://arxiv.org/abs/2502.16982>); those of Adam have about 0.2.
    """

    slots = ("m", "v", "momentum")

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.95,
        update_rms: float = 0.2,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        convolutions: bool = False,
        decay: float = 0.0,
        name: str = "muon",
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, decay=decay, name=name)
        self.momentum, self.update_rms, self.convolutions = momentum, update_rms, convolutions

    def _has(self, slot: str, variable: keras.Variable) -> bool:
        rank = len(variable.shape)
        is_matrix = rank == 2 or (self.convolutions and rank > 2)
        return (is_matrix and variable.path.endswith("/kernel")) == (slot == "momentum")

    def _update(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        if self._path(variable) not in self._slots["momentum"]:
            super()._update(gradient, variable, rate)
            return
        momentum = self._slot("momentum", variable)
        momentum.assign(momentum * self.momentum + gradient)
        ahead = gradient + self.momentum * momentum
        matrix = tf.reshape(ahead, [-1, variable.shape[-1]])
        update = tf.reshape(_near_orthogonal(matrix), variable.shape)
        scale = self.update_rms * max(matrix.shape) ** 0.5
        variable.assign_sub(rate * scale * update)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal optimizer."""
        own = {"momentum": self.momentum, "update_rms": self.update_rms}
        return {**super().get_config(), **own, "convolutions": self.convolutions}


@keras.saving.register_keras_serializable("vatt")
class SGD(FusedOptimizer):
    """`v = momentum * v - lr * g; p += v`; Nesterov: `p += momentum * v - lr * g`."""

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.0,
        nesterov: bool = False,
        decay: float = 0.0,
        name: str = "sgd",
    ):
        super().__init__(learning_rate, decay=decay, name=name)
        self.slots = ("momentum",) if momentum else ()
        self.momentum, self.nesterov = momentum, nesterov

    def _update(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        if not self.momentum:
            variable.assign_sub(gradient * rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self._slot("momentum", variable).handle,
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal optimizer."""
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


@keras.saving.register_keras_serializable("vatt")
class TorchSGD(FusedOptimizer):
    """`v = momentum * v + g + l2 * p; p -= lr * v`, as in PyTorch."""

    def __init__(
        self, learning_rate: Rate, momentum: float = 0.0, l2: float = 0.0, name: str = "torch_sgd"
    ):
        super().__init__(learning_rate, name=name)
        self.slots = ("momentum",) if momentum else ()
        self.momentum, self.l2 = momentum, l2

    def _update(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        if self.l2:
            gradient += variable * tf.cast(self.l2, variable.dtype)
        if not self.momentum:
            variable.assign_sub(gradient * rate)
            return
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=self._slot("momentum", variable).handle,
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal optimizer."""
        common = {key: value for key, value in super().get_config().items() if key != "decay"}
        return {**common, "momentum": self.momentum, "l2": self.l2}
