"""Dropout with stateless masks."""

from __future__ import annotations

from keras import ops

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
    # Selected, not multiplied: the backward pass keeps the mask alone, a byte for each entry.
    return ops.where(keep, x * ops.cast(1.0 / (1.0 - rate), x.dtype), ops.zeros((), x.dtype))
