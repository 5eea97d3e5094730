"""Types of values that models take and return, whatever the backend of Keras.

def call(self, x: Tensor, training: bool = False) -> Tensor: ...
def build(self, input_shape: Shape) -> None: ...
"""

from __future__ import annotations

from typing import TypeAlias

import keras

from vatt.typing import Tensor

__all__ = ["DType", "Features", "Outputs", "Shape", "Tensor"]

Shape: TypeAlias = tuple[int | None, ...]  # None: any size
DType: TypeAlias = str | keras.DTypePolicy  # 'float32', 'mixed_bfloat16', or Keras' object for them
Features: TypeAlias = dict[str, Tensor]
# Features, and inner states by name: a tensor, one for each layer, or one for each endpoint.
Outputs: TypeAlias = dict[str, Tensor | list[Tensor] | dict[str, Tensor]]
