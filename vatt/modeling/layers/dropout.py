"""Dropout and stochastic depth with stateless masks."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from vatt.modeling.layers import gradients
from vatt.modeling.random import Randomness, require
from vatt.modeling.typing import Tensor


def dropout(x: Tensor, rate: float, *, training: bool, rng: Randomness | None, name: str) -> Tensor:
    """Zeroes entries of `x`, `[rows, ...]`, with probability `rate` and scales up the rest.

    Costs nothing when `rate` is 0 or `training` is false. `name` tells draws of one layer apart.

    Raises:
      ValueError: a mask is needed and `rng` is None.
    """
    if not training or rate == 0.0:
        return x
    place = require(rng, f"dropout ({name}, rate {rate})").child(name)
    keep = place.dropout_mask(ops.shape(x), rate)
    return masked(x, keep, 1.0 / (1.0 - rate))


def masked(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    """Returns `scale * x` where `keep` and 0 elsewhere, both `[rows, ...]`.

    The backward pass has the mask alone to remember, a byte for each entry.
    """

    def apply(values: Tensor) -> Tensor:  # two products take less than one selection
        return values * (ops.cast(keep, values.dtype) * ops.cast(scale, values.dtype))

    if not gradients.with_closures():
        return apply(x)

    @gradients.custom
    def scaled(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return apply(x), apply

    return scaled(x)


def left_out(
    x: Tensor,
    rate: float,
    *,
    training: bool,
    rng: Randomness | None,
    name: str,
    scaled: bool = False,
) -> Tensor:
    """Zeroes whole rows of `x`, `[rows, ...]`, with probability `rate`; may scale up the rest.

    Of a branch beside a residual connection that is stochastic depth (Huang et al., 2016,
    <https://arxiv.org/abs/1603.09382>). `name` tells draws of one layer apart.

    Raises:
      ValueError: rows are to be drawn and `rng` is None.
    """
    if not training or rate == 0.0:
        return x
    place = require(rng, f"stochastic depth ({name}, rate {rate})").child(name).child("depth")
    shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
    kept = x * ops.cast(1.0 / (1.0 - rate), x.dtype) if scaled else x
    return ops.where(place.dropout_mask(shape, rate), kept, ops.zeros((), x.dtype))
