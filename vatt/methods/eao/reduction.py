"""Long audio in fewer tokens: which of DAVEnet's tokens, or how they are pooled.

Of a row `v` tokens are of its sound. Where they are more than `n`, each of the `n` that remain is
one of them, or the maximum or mean over a window of them; else the first `n` are taken.
"""

from __future__ import annotations

import functools

import numpy as np
from keras import ops

from vatt.modeling.layers.tokens import take_each
from vatt.modeling.typing import Tensor

NONE, CLIP, NEAREST = "none", "clip", "nearest"
MAXIMUM, MEAN = "max_pool", "avg_pool"
STRATEGIES = (NONE, CLIP, NEAREST, MAXIMUM, MEAN)
_LEAST = -3e38  # of what is not in a window


def reduce(x: Tensor, valid: Tensor, count: int, strategy: str) -> Tensor:
    """Returns `count` tokens of each row, `[rows, count, d]`.

    Args:
      x: `[rows, tokens, d]`; as it is where there are no more than `count`, and with `NONE`.
      valid: tokens that are of a row's sound, int32 `[rows]`.
      count: how many remain.
      strategy: one of `STRATEGIES`.
    """
    tokens = x.shape[1]
    if strategy == NONE or tokens <= count:
        return x
    if strategy == CLIP:
        return x[:, :count]
    valid = ops.clip(valid, 0, tokens)
    if strategy == NEAREST:
        return take_each(x, ops.take(ops.convert_to_tensor(_nearest(tokens, count)), valid, axis=0))
    inside = ops.take(ops.convert_to_tensor(_windows(tokens, count)), valid, axis=0)
    if strategy == MEAN:
        weights = inside / ops.sum(inside, axis=-1, keepdims=True)
        return ops.matmul(ops.cast(weights, x.dtype), x)
    outside = ops.cast((1.0 - inside) * _LEAST, x.dtype)  # [rows, count, tokens]
    # One window after another: all at once would be `count` times the tokens.
    windows = [ops.max(x + outside[:, i, :, None], axis=1) for i in range(count)]
    return ops.stack(windows, axis=1)


@functools.cache
def _nearest(tokens: int, count: int) -> np.ndarray:
    """Returns which tokens remain by how many are valid, int32 `[tokens + 1, count]`.

    Products in float32 as published: exact arithmetic gives other indices for some lengths.
    """
    table = np.tile(np.arange(count, dtype=np.int32), (tokens + 1, 1))
    places = np.arange(count, dtype=np.float32)
    for valid in range(count + 1, tokens + 1):
        indices = np.floor(places * np.float32(valid / count)).astype(np.int32)
        table[valid] = np.minimum(indices, valid - 1)
    return table


@functools.cache
def _windows(tokens: int, count: int) -> np.ndarray:
    """Returns 1 where a token is in a window, float32 `[tokens + 1, count, tokens]`.

    By how many tokens are valid. Window i is from `floor(i * valid / count)` to before `ceil((i +
    1) * valid / count)`.
    """
    table = np.zeros((tokens + 1, count, tokens), np.float32)
    for valid in range(tokens + 1):
        for i in range(count):
            if valid <= count:
                table[valid, i, i] = 1.0
            else:
                table[valid, i, i * valid // count : -(-(i + 1) * valid // count)] = 1.0
    return table
