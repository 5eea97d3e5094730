"""What every layer here shares: an explicit name and dtype, and arguments that rebuild it."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterable, Mapping
from typing import Any, Required, Self, TypedDict

import keras

from vatt.modeling.layers import activations
from vatt.modeling.typing import DType, Shape


class LayerOptions(TypedDict, total=False):
    """What every layer takes beside its own arguments, `**kwargs: Unpack[LayerOptions]`.

    Names are required because variable paths are the keys of checkpoints: Keras' automatic names
    count instances and change from process to process.
    """

    name: Required[str]
    dtype: DType
    trainable: bool


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose constructor arguments are its serialised form.

    They are written down before the constructor runs, so that a subclass names each only in its
    signature. A subclass that is given layers serialises these itself, in `get_config`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Makes the layer and notes with which arguments."""
        layer = super().__new__(cls, *args, **kwargs)
        # Read-only, and not a dict: Keras would take layers in it for parts of this one.
        given = types.MappingProxyType(_own_arguments(cls, args, kwargs))
        layer._constructor_arguments = given
        return layer

    def __init__(self, *, name: str, dtype: DType = "float32", **kwargs: Any) -> None:
        """Passes name, dtype and `trainable` on to Keras."""
        super().__init__(name=name, dtype=dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), **self._constructor_arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the layer from `get_config`."""
        layer = cls(**{key: value for key, value in config.items() if key != "trainable"})
        # Not an argument: on TensorFlow a layer that is made untrainable ignores it when the
        # constructor freezes it and its parts, and the parts stay trainable.
        if not config.get("trainable", True):
            layer.trainable = False
        return layer

    def get_build_config(self) -> None:
        """Returns None: whoever owns a rebuilt layer builds it, so that variable paths agree."""

    def _dense(
        self, units: int, name: str, activation: str | None = None, use_bias: bool = True
    ) -> keras.layers.Dense:
        """Returns a dense layer of this layer's precision; `activation` as in `activations.get`."""
        function = activations.get(activation)
        return keras.layers.Dense(
            units, function, use_bias=use_bias, name=name, dtype=self.dtype_policy
        )


def build_each(layers: Iterable[keras.layers.Layer | None], input_shape: Shape) -> None:
    """Builds layers that all have inputs of one shape; None stands for a part that is left out."""
    for layer in layers:
        if layer is not None:
            layer.build(input_shape)


def _own_arguments(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a constructor by name, with its defaults, as copies.

    Without those of `LayerOptions`, which Keras serialises.
    """
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return {}  # the constructor is called with the same and says what is wrong
    bound.apply_defaults()
    _, *parameters = signature.parameters.values()
    shared = inspect.signature(ConfiguredLayer.__init__).parameters
    return {
        p.name: _plain(bound.arguments[p.name])
        for p in parameters
        if p.name not in shared and p.kind is not p.VAR_KEYWORD
    }


def _plain(value: Any) -> Any:
    """Returns a copy in dicts and tuples, equal to that of the same value after JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return value
