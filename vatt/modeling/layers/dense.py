"""Dense layers and their first values."""

from __future__ import annotations

import keras

from vatt.modeling.typing import Shape


def start_uniformly(layer: keras.layers.Layer, inputs: int) -> None:
    """Has a layer that is not built yet begin with uniform values within `1 / sqrt(inputs)`.

    Kernel and bias alike, as PyTorch's dense layers do. `inputs` are those of one output.
    """
    limit = inputs**-0.5
    # One each: an initializer gives the same values to everything of the same shape.
    layer.kernel_initializer = keras.initializers.RandomUniform(-limit, limit)
    layer.bias_initializer = keras.initializers.RandomUniform(-limit, limit)


@keras.saving.register_keras_serializable("vatt")
class FanInDense(keras.layers.Dense):
    """A dense layer that begins with uniform values within `1 / sqrt(inputs)`."""

    def build(self, input_shape: Shape) -> None:
        """Creates kernel and bias for inputs `[..., features]`."""
        start_uniformly(self, input_shape[-1])
        super().build(input_shape)
