"""Types of values that models take and return, whatever the backend of Keras.

def call(self, x: Tensor, training: bool = False) -> Tensor: ...
def build(self, input_shape: Shape) -> None: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import keras


class Tensor(Protocol):
    """What `keras.ops` takes and returns: the backend's tensor, or an array that becomes one."""

    @property
    def shape(self) -> Sequence[int | None]:
        """Size of each axis; None where a graph does not know it."""

    @property
    def dtype(self) -> Any:
        """Type of the values, the backend's own object."""

    def __getitem__(self, key: Any) -> Tensor: ...

    def __add__(self, other: Tensor | float) -> Tensor: ...

    def __sub__(self, other: Tensor | float) -> Tensor: ...

    def __mul__(self, other: Tensor | float) -> Tensor: ...

    def __rsub__(self, other: Tensor | float) -> Tensor: ...

    def __rmul__(self, other: Tensor | float) -> Tensor: ...

    def __truediv__(self, other: Tensor | float) -> Tensor: ...


Shape: TypeAlias = tuple[int | None, ...]  # None: any size
DType: TypeAlias = str | keras.DTypePolicy  # 'float32', 'mixed_bfloat16', or Keras' object for them
Features: TypeAlias = dict[str, Tensor]
# Features, and inner states by name: a tensor, one for each layer, or one for each endpoint.
Outputs: TypeAlias = dict[str, Tensor | list[Tensor] | dict[str, Tensor]]
