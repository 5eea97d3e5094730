"""Activation functions by their published names."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
from keras import ops

from vatt.errors import UserError, nearest
from vatt.modeling.layers import gradients
from vatt.modeling.typing import Tensor

_SQRT_HALF = math.sqrt(0.5)
_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)

GATED = "geglu"  # gelu(x W0) * (x W1): has two input kernels, see `FeedForward`


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact; its own gradient takes fewer passes over memory."""
    if keras.backend.standardize_dtype(x.dtype) != "float32" or gradients.is_plain():
        return ops.gelu(x, approximate=False)  # 1 + erf cancels in half precision

    @gradients.custom
    def activate(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        below = (ops.erf(x * _SQRT_HALF) + 1.0) * 0.5  # standard normal distribution function

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
            upstream = arguments[0] if upstream is None else upstream
            density = ops.exp(ops.square(x) * -0.5 - _LOG_SQRT_TAU)
            return upstream * (below + x * density)

        return x * below, gradient

    return activate(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its approximation by a hyperbolic tangent."""
    return ops.gelu(x, approximate=True)


def gelu_sigmoid(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its approximation by a sigmoid, as CLIP has it."""
    return x * ops.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_sigmoid": gelu_sigmoid,
    "relu": ops.relu,
    "swish": ops.silu,
    "linear": lambda x: x,
}


def get(name: str | None) -> Callable[[Tensor], Tensor]:
    """Returns the activation called `name`; None is the identity.

    'geglu' gives its activation part, gelu: the gate exists only inside a feed-forward layer, and
    projections that take the same config field use the plain function (the published code fails
    there).

    Raises:
      UserError: no such activation.
    """
    if name is None:
        return ACTIVATIONS["linear"]
    if name == GATED:
        return gelu
    if name not in ACTIVATIONS:
        choices = [*ACTIVATIONS, GATED]
        raise UserError(f"activation: {name!r} is not one of {choices}.{nearest(name, choices)}")
    return ACTIVATIONS[name]
