"""Which tokens are masked: an order of the tokens of each row, its first ones masked.

masked, visible = mask.hidden, mask.visible         # int32 [rows, ...], places of tokens
"""

from __future__ import annotations

from dataclasses import dataclass

from keras import ops

from vatt.modeling.layers.tokens import take_each
from vatt.modeling.typing import Tensor


@dataclass(frozen=True)
class Mask:
    """A mask of tokens.

    Attributes:
      order: int32 `[rows, tokens]`, places of the masked tokens, then of those that are seen.
      count: masked tokens of each row.
    """

    order: Tensor
    count: int

    @property
    def visible(self) -> Tensor:
        """Places of the tokens that are seen, int32 `[rows, tokens - count]`."""
        return self.order[:, self.count :]

    @property
    def places(self) -> Tensor:
        """Where in `order` each token stands, int32 `[rows, tokens]`."""
        return ops.cast(ops.argsort(self.order, axis=-1), "int32")

    @property
    def flags(self) -> Tensor:
        """1 where a token is masked, float32 `[rows, tokens]`."""
        return ops.cast(self.places < self.count, "float32")

    def filled(self, visible: Tensor, vector: Tensor) -> Tensor:
        """Returns `visible` at their places and `vector` at those of masked tokens.

        Args:
          visible: `[rows, tokens - count, d]`, in the order of `self.visible`.
          vector: `[d]`.
        """
        hidden = (ops.shape(visible)[0], self.count, visible.shape[-1])
        masked = ops.broadcast_to(ops.cast(vector, visible.dtype)[None, None], hidden)
        return take_each(ops.concatenate([masked, visible], axis=1), self.places)


def tube(order: Tensor, count: int, steps: int) -> Mask:
    """Returns the mask of the same places at each time; tokens of either kind stand in their order.

    Args:
      order: int32 `[rows, places]` of the tokens of one time.
      count: masked places.
      steps: times.
    """
    kept = 1.0 - Mask(order, count).flags
    tokens = order.shape[1] * steps
    later = ops.cast(ops.tile(kept, (1, steps)), "int32") * tokens
    key = later + ops.arange(tokens, dtype="int32")[None]
    return Mask(ops.cast(ops.argsort(key, axis=-1), "int32"), count * steps)
