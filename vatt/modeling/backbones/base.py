"""What the backbones of one modality share: how they are called, frozen, and what they return."""

from __future__ import annotations

import keras
from keras import ops

from vatt.modeling.layers import gradients
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Features, Outputs, Tensor


class Backbone(ConfiguredLayer):
    """A layer that turns the inputs of one modality into features; a subclass brings `encode`.

    Attributes:
      features_dim: width of the features.
      frozen: neither trained nor differentiated through; see `freeze`.
    """

    features_dim: int
    frozen: bool = False

    def freeze(self) -> None:
        """Freezes the backbone with all its parts; the last thing a constructor does."""
        self.frozen = True
        self.trainable = False

    def call(
        self,
        x: Tensor,
        training: bool = False,
        rng: Randomness | None = None,
        intermediates: bool = False,
    ) -> Outputs:
        """Encodes a batch.

        Args:
          x: inputs `[batch, *axes, channels]`, or word ids `[batch, words]`.
          training: whether DropToken, masking, dropout and DropBlock are active and batch norm
            uses the batch's statistics; a frozen backbone works as in evaluation.
          rng: source of what is drawn in training, for these rows.
          intermediates: also return inner states.

        Returns:
          `features_pooled` `[batch, d]`, one for each row; `features`, one for each token or
          place; and what else `encode` of the class names.
        """
        training = training and not self.frozen
        with gradients.only_if(training):
            outputs, inner = self.encode(x, training, rng, intermediates)
        if self.frozen:
            outputs = keras.tree.map_structure(ops.stop_gradient, outputs)
        return {**outputs, **inner} if intermediates else outputs

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Returns the outputs of `call` and the inner states, which may be left out if not asked.

        Raises:
          NotImplementedError: the class has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `encode`")
