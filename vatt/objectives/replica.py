"""How objectives see other replicas: rows of a batch that were computed elsewhere.

    everyone = replica.gather(embeddings)           # [count * rows, d], replica-major
    others = replica.gather_others(embeddings)      # [(count - 1) * rows, d]

In a training step it is `vatt.training.replica.of_this_step`; `ALONE` is that of a single replica.
"""

from __future__ import annotations

from typing import Protocol

from vatt.typing import Tensor


class Replica(Protocol):
    """One of `count` replicas, each of which holds `rows` rows of the global batch.

    Rows of the global batch are replica-major: this one's begin with `index * rows`.
    """

    index: int | Tensor  # a tensor, int32, in a graph
    count: int

    def gather(self, x: Tensor) -> Tensor:
        """Returns `x`, `[rows, ...]`, of all replicas, `[count * rows, ...]`, with gradients."""

    def gather_others(self, x: Tensor) -> Tensor:
        """Returns `x` of all replicas but this one, `[(count - 1) * rows, ...]`, in their order."""


class Alone:
    """The only replica."""

    index: int = 0
    count: int = 1

    def gather(self, x: Tensor) -> Tensor:
        """Returns `x`."""
        return x

    def gather_others(self, x: Tensor) -> Tensor:
        """Returns no row."""
        return x[:0]


ALONE = Alone()
