"""Activation functions by their published names."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator

import keras
from keras import ops

from vatt.errors import UserError, nearest
from vatt.modeling.typing import Tensor

_SQRT_HALF = math.sqrt(0.5)
_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)

GATED = "geglu"  # gelu(x W0) * (x W1): has two input kernels, see `FeedForward`


_plain = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Within it, models are traced with the backend's operations alone, without own gradients.

    So they are exported: other runtimes know those operations. The values differ by rounding.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact; its own gradient takes fewer passes over memory."""
    if keras.backend.standardize_dtype(x.dtype) != "float32" or _plain.get():
        return ops.gelu(x, approximate=False)  # 1 + erf cancels in half precision

    @ops.custom_gradient
    def activate(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        below = (ops.erf(x * _SQRT_HALF) + 1.0) * 0.5  # standard normal distribution function

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
            upstream = arguments[0] if upstream is None else upstream
            density = ops.exp(ops.square(x) * -0.5 - _LOG_SQRT_TAU)
            return upstream * (below + x * density)

        return x * below, gradient

    return activate(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
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
