"""Types that rooms share which know no framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


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
