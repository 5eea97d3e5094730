"""What every layer here shares: an explicit name and dtype, and a config that rebuilds it."""

from __future__ import annotations

from typing import Any

import keras


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose constructor arguments are its serialised form.

    A subclass passes its own arguments as `config`. Names are required because variable paths are
    the keys of
    checkpoints: Keras' automatic names count instances and change from process to process.
    """

    def __init__(self, *, config: dict[str, Any], name: str, dtype: Any = "float32", **kwargs: Any):
        super().__init__(name=name, dtype=dtype, **kwargs)
        self._constructor_config = dict(config)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), **self._constructor_config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ConfiguredLayer:
        """Rebuilds the layer from `get_config`."""
        layer = cls(**{key: value for key, value in config.items() if key != "trainable"})
        # Not an argument: on TensorFlow a layer that is made untrainable ignores it when the
        # constructor freezes it and its parts, and the parts stay trainable.
        if not config.get("trainable", True):
            layer.trainable = False
        return layer

    def get_build_config(self) -> None:
        """Returns None: whoever owns a rebuilt layer builds it, so that variable paths agree."""
