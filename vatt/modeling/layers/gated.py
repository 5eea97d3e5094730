"""Gated units, and the projections that are made of them or of one dense layer."""

from __future__ import annotations

from typing import Unpack

import keras
from keras import ops

from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.dense import FanInDense
from vatt.modeling.typing import DType, Shape, Tensor

GATED, MINIMAL, NONE = "gated", "minimal", ""
PROJECTIONS = (GATED, MINIMAL, NONE)


@keras.saving.register_keras_serializable("vatt")
class GatedUnit(ConfiguredLayer):
    """`y * sigmoid(gate(y))` with `y = fc(x)` (Miech et al., 2018, "context gating")."""

    def __init__(self, units: int, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.units = units
        self.fc = FanInDense(units, name="fc", dtype=self.dtype_policy)
        self.gate = FanInDense(units, name="gate", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        """Creates both layers for inputs `[..., features]`."""
        self.fc.build(input_shape)
        self.gate.build((*input_shape[:-1], self.units))

    def call(self, x: Tensor) -> Tensor:
        """Maps `[..., features]` to `[..., units]`."""
        y = self.fc(x)
        return y * ops.sigmoid(self.gate(y))


def projection(kind: str, units: int, name: str, dtype: DType) -> keras.layers.Layer | None:
    """Returns a layer to `units`: "gated", "minimal" (dense), or none for "" (as it is).

    Raises:
      ValueError: another kind.
    """
    if kind == NONE:
        return None
    if kind == GATED:
        return GatedUnit(units, name=name, dtype=dtype)
    if kind == MINIMAL:
        return FanInDense(units, name=name, dtype=dtype)
    raise ValueError(f"projection: {kind!r} is not one of {PROJECTIONS}")
