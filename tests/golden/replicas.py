"""Several replicas in one process: an objective on each, as if they had gathered from each other.

    losses = simulate(lambda r, replica: objective(parts[r], replica), count=2)

The mean over replicas and its gradients are those of a mirrored strategy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from vatt.objectives.replica import Replica

Result = TypeVar("Result")


class _Simulated:
    """A replica whose gatherings `exchange` answers."""

    def __init__(self, index: int, count: int, exchange: Callable[[Any], Any]) -> None:
        self.index, self.count, self.gather = index, count, exchange

    def gather_others(self, x: Any) -> Any:
        """Returns `x` of all replicas but this one, in their order."""
        everyone, rows = self.gather(x), x.shape[0]
        start = self.index * rows
        return tf.concat([everyone[:start], everyone[start + rows :]], axis=0)


def simulate(compute: Callable[[int, Replica], Result], count: int) -> list[Result]:
    """Returns what `compute(index, replica)` gives on each of `count` replicas.

    It is called twice for each: the first time to see what it gathers, the second to hand out that
    of all, inside the caller's gradient tape.
    """
    sent: list[list[Any]] = []
    for index in range(count):
        mine: list[Any] = []
        sent.append(mine)

        def record(x: Any, mine: list[Any] = mine) -> Any:
            mine.append(x)
            return tf.concat([x] * count, axis=0)

        compute(index, _Simulated(index, count, record))
    results = []
    for index in range(count):
        rounds = iter(list(zip(*sent, strict=True)))

        def hand_out(_: Any, rounds: Any = rounds) -> Any:
            return tf.concat(next(rounds), axis=0)

        results.append(compute(index, _Simulated(index, count, hand_out)))
    return results
