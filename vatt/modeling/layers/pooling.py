"""Pooling of feature maps over space and time, by averaging or by a small transformer over time."""

from __future__ import annotations

import functools
from typing import Unpack

import keras
import numpy as np
from keras import ops

from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import Shape, Tensor

POSITIONS = 64  # rows of the table of learned positions: the most steps there can be
D_FF = 2048
EPSILON = 1e-12  # of the layer norms
DEVIATION = 0.02  # of the first values of dense layers


@keras.saving.register_keras_serializable("vatt")
class TemporalPooling(ConfiguredLayer):
    """Feature maps of any size to one vector each.

    Without layers that is the mean over time and space. With layers the map is averaged over space
    and, in `steps` overlapping bins, over time; a post-norm transformer reads these steps, and its
    first state is the result. Shorter maps, such as crops, are stretched.

    Source: STiCA. Its attention projects only queries and keys unless `project_values`.

    Args:
      d_model: channels of the maps.
      num_layers: of the transformer; 0 for the mean.
      num_heads: of its attention.
      steps: length of its input.
      dropout_rate: on attention weights and what attention returns.
      positions: add learned positions to the steps.
      project_values: attention projects values and its output, too.
    """

    def __init__(
        self,
        d_model: int,
        num_layers: int = 2,
        num_heads: int = 4,
        steps: int = 4,
        dropout_rate: float = 0.0,
        positions: bool = False,
        project_values: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.features_dim, self.steps = d_model, steps
        self.encoder = self.positions = None
        if num_layers and positions:
            self.positions = keras.layers.Embedding(
                POSITIONS,
                d_model,
                embeddings_initializer=keras.initializers.RandomNormal(0.0, 1.0),
                name="positions",
                dtype=self.dtype_policy,
            )
        if num_layers:
            options = EncoderOptions(
                num_layers,
                d_model,
                num_heads,
                d_kv=d_model // num_heads,
                d_ff=D_FF,
                pre_norm=False,
                dropout_rate=dropout_rate,
                layer_norm_epsilon=EPSILON,
                project_values=project_values,
                feed_forward_dropout=False,
            )
            self.encoder = Encoder(options, name="encoder", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for maps `[rows, time, height, width, channels]`."""
        if self.positions is not None:
            self.positions.build((None, self.steps))
        if self.encoder is not None:
            for layer in self.encoder._flatten_layers():
                if isinstance(layer, keras.layers.Dense):
                    layer.kernel_initializer = keras.initializers.RandomNormal(0.0, DEVIATION)
            self.encoder.build((None, self.steps, input_shape[-1]))

    def call(self, x: Tensor, training: bool = False, rng: Randomness | None = None) -> Tensor:
        """Maps `[rows, time, height, width, channels]` to `[rows, channels]`."""
        if self.encoder is None:
            return ops.mean(x, axis=(1, 2, 3))
        return self.states(self.to_steps(x), training, rng)[:, 0]

    def to_steps(self, x: Tensor) -> Tensor:
        """Returns the sequence of a map, `[rows, steps, channels]`."""
        over_time = ops.convert_to_tensor(bins(x.shape[1], self.steps), dtype=self.compute_dtype)
        return ops.matmul(over_time, ops.mean(x, axis=(2, 3)))

    def states(
        self, sequence: Tensor, training: bool = False, rng: Randomness | None = None
    ) -> Tensor:
        """Returns the last states of the transformer, `[rows, steps, channels]`."""
        if self.positions is not None:
            table = self.positions.embeddings[: sequence.shape[1]]
            sequence = sequence + ops.cast(table, self.compute_dtype)
        return self.encoder(sequence, training=training, rng=child(rng, "encoder"))[0]


@functools.cache
def bins(length: int, count: int) -> np.ndarray:
    """Returns the map `[count, length]` to means over bins, float32.

    Bin i is from `floor(i * length / count)` to before `ceil((i + 1) * length / count)`: bins share
    places where the length is not a multiple, and repeat them where it is shorter.
    """
    matrix = np.zeros((count, length), np.float32)
    for index in range(count):
        first, end = index * length // count, -(-(index + 1) * length // count)
        matrix[index, first:end] = 1.0 / (end - first)
    return matrix
