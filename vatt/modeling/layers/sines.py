"""Fixed positions: sines and cosines of a token's place, along one to three axes.

table = sines.of_sequence(1568, 1024)       # [1568, 1024]
table = sines.of_grid((8, 14, 14), 1152)    # [1568, 1152]
"""

from __future__ import annotations

import functools
import math

import numpy as np

_LONGEST = 10_000.0  # wave length, in places times 2 pi


@functools.lru_cache(maxsize=32)
def of_sequence(count: int, width: int) -> np.ndarray:
    """Returns float32 `[count, width]`, sines at even and cosines at odd places of the width.

    Of entry `2 i` and `2 i + 1` the frequency is `10000 ** (-2 i / width)`.
    """
    pairs = np.arange(0, width, 2) / width
    angle = np.arange(count)[:, None] * _LONGEST**-pairs
    table = np.zeros((count, width))
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle[:, : width // 2])
    return table.astype(np.float32)


@functools.lru_cache(maxsize=32)
def of_grid(grid: tuple[int, ...], width: int) -> np.ndarray:
    """Returns float32 `[tokens, width]` of a grid in row-major order, its slowest axis first.

    Each axis has a block of sines and one of cosines, side by side: with a time axis that first,
    then columns, then rows.

    Args:
      grid: tokens along `(rows, columns)` or `(times, rows, columns)`.
      width: a multiple of twice the number of axes.

    Raises:
      ValueError: another width.
    """
    block, rest = divmod(width, 2 * len(grid))
    if rest:
        raise ValueError(f"width {width}: positions on {len(grid)} axes take a multiple of "
                         f"{2 * len(grid)}")  # fmt: skip
    *times, rows, columns = np.meshgrid(*map(np.arange, grid), indexing="ij")
    frequencies = _LONGEST ** -(np.arange(block) / block)
    blocks = []
    for places in (*times, columns, rows):
        angle = places.reshape(math.prod(grid), 1) * frequencies
        blocks += [np.sin(angle), np.cos(angle)]
    return np.concatenate(blocks, axis=1).astype(np.float32)
