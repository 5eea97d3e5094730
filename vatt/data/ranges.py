"""Pairs of a lower and an upper end, and the checks of what a view is described by."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

Range = tuple[float, float]


def between(share: tf.Tensor, ends: Range) -> tf.Tensor:
    """A draw `share` from [0, 1) as one from [low, high)."""
    low, high = ends
    return low + share * (high - low)


def check_probability(field: str, value: float) -> None:
    """Refuses a `value` outside of 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{field} is {value}; accepted: a probability, 0 to 1")


def check_range(field: str, value: Range, least: float = 0.0) -> None:
    """Refuses what is no pair of a lower and an upper end, the lower one at least `least`."""
    if len(value) != 2 or not least <= value[0] <= value[1]:
        raise ValueError(
            f"{field} is {value}; accepted: a lower and an upper end, at least {least:g}"
        )


def check_positive(field: str, values: Sequence[float]) -> None:
    """Refuses a number that is not above 0."""
    if not all(value > 0 for value in values):
        raise ValueError(f"{field} is {values}; accepted: numbers above 0")
