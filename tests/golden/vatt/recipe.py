"""Weights of golden files that store none: numbers that follow from the weight's key."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np


def recipe_weights(
    keys: Iterable[str], shapes: Iterable[Sequence[int]], salt: str = ""
) -> dict[str, np.ndarray]:
    """Returns {key: float32 array of its shape}; the recipe stands in the conformance README."""
    pairs = zip(keys, shapes, strict=True)
    return {str(key): _weight(str(key), tuple(shape), salt) for key, shape in pairs}


def _weight(key: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    u = _uniform(zlib.crc32((salt + key).encode()), int(np.prod(shape)))
    s = 2.0 * u - 1.0
    leaf = key.rpartition("/")[2]
    if leaf == "gamma":
        values = 1.0 + 0.2 * s
    elif leaf in ("beta", "moving_mean", "bias"):
        values = 0.2 * s
    elif leaf == "moving_variance":
        values = 0.5 + u
    elif leaf == "embeddings":
        values = 0.5 * s
    else:
        values = s * np.sqrt(6.0 / np.prod(shape[:-1]))
    return values.reshape(shape).astype(np.float32)


def _uniform(start: int, count: int) -> np.ndarray:
    """Returns float64 `[count]` in [0, 1): SplitMix64's output function of a counter."""
    with np.errstate(over="ignore"):  # all arithmetic is modulo 2^64
        x = np.arange(count, dtype=np.uint64) + np.uint64(start) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
