"""Crops of feature maps: boxes in space, windows in time, one set for all clips of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keras import ops

from vatt.methods.stica.config import Crops
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Tensor

# A uniform number in 0 .. n - 1.
Draw = Callable[[int], Tensor | int]
Start = tuple[Tensor | int, ...]  # first place along each of the axes


@dataclass(frozen=True)
class Starts:
    """Where the crops of one view begin: the large ones, the small ones."""

    large: tuple[Start, ...] = ()
    small: tuple[Start, ...] = ()


def draw_starts(crops: Crops, sides: tuple[int, ...], draw: Draw) -> Starts:
    """Draws where the crops of one view begin, in the published order.

    For each large crop its place and those of as many small ones as a view has; of small ones the
    first are used. None are drawn where nothing would be compared.

    Args:
      crops: what is cut.
      sides: of the map, along the axes in which crops are smaller than it.
      draw: gives the random numbers.
    """
    if not crops.comparisons:
        return Starts()

    def place(small: bool) -> Start:
        sizes = (crops.size(side, small) for side in sides)
        pairs = zip(sides, sizes, strict=True)
        return tuple(draw(places(side, size, crops.published_offsets)) for side, size in pairs)

    large, small = [], []
    for _ in range(crops.large):
        large.append(place(False))
        small += [place(True) for _ in range(crops.small)]
    return Starts(tuple(large), tuple(small))


def places(side: int, size: int, published: bool) -> int:
    """Returns how many places a crop has; the published code leaves out the last of several."""
    return max(side - size + (not published), 1)


def drawn_by(rng: Randomness) -> Draw:
    """Returns draws of `rng`, one after another: the same on every replica."""
    drawn = 0

    def draw(n: int) -> Tensor:
        nonlocal drawn
        drawn += 1
        return rng.child(str(drawn)).permutation(n)[0]

    return draw


def cut(x: Tensor, crops: Crops, start: Start, small: bool) -> Tensor:
    """Cuts maps `[rows, time, height, width, channels]` at `start`."""
    begin, shape = [0] * len(x.shape), list(x.shape)
    for axis, first in zip(crops.axes, start, strict=True):
        begin[axis], shape[axis] = first, crops.size(x.shape[axis], small)
    return ops.slice(x, ops.stack([ops.cast(first, "int32") for first in begin]), shape)
