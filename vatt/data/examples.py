"""What a training example is: from a record to the arrays that a model is trained on.

A method describes its examples by a subclass of `Examples`; `pipeline.training_batches` reads,
mixes, shuffles and batches them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.data.cards import Card

if TYPE_CHECKING:
    from vatt import configs

Batch = dict[str, tf.Tensor]
# (seed int64 [2] of the element, serialized record) -> example
Maker = Callable[[tf.Tensor, tf.Tensor], Batch]


class Examples:
    """The examples of one configuration of the input.

    An example may hold several clips of a record and several views of a clip: axes of its arrays.
    """

    def __init__(self, cfg: configs.dataset.Dataset) -> None:
        """Takes the configuration of the input."""
        self.cfg = cfg

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name of what a model gets of one example, without the batch axis."""
        raise NotImplementedError

    @property
    def record_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name of what `maker` makes; they differ where `whole_batch` changes them."""
        return self.shapes

    def stride(self, card: Card) -> int:
        """Frames of a record of `card` per frame of an example."""
        return self.cfg.video_stride

    def maker(self, card: Card) -> Maker:
        """Returns what makes an example from a record of `card`.

        Raises:
          DataError: the set does not fit the configuration.
        """
        raise NotImplementedError

    def whole_batch(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """Does what needs all examples of a batch, or is cheaper so; `seed` is that of the step."""
        return batch
