"""Dropout with stateless masks."""

from __future__ import annotations

from typing import Any

from keras import ops

from vatt.modeling.random import Randomness, require


def dropout(x: Any, rate: float, *, training: bool, rng: Randomness | None, name: str) -> Any:
    """Zeroes entries of `x`, `[rows, ...]`, with probability `rate` and scales up the rest.

    Costs nothing when `rate` is 0 or `training` is false. `name` tells draws of one layer apart.

    Raises:
        ValueError: a mask is needed and `rng` is None.
    """
    if not training or rate == 0.0:
        return x
    keep = (
        require(rng, f"dropout ({name}, rate {rate})").child(name).dropout_mask(ops.shape(x), rate)
    )
    return x * (ops.cast(keep, x.dtype) * ops.cast(1.0 / (1.0 - rate), x.dtype))
