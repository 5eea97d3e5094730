"""Stateless random numbers that do not depend on the number of replicas.

Every draw is a function of (run seed and step, place in the model, global row), so that a step
repeated, a block recomputed or a batch split over more replicas sees the same masks. Beside
`replicas` the only module of `modeling` that calls a backend directly: Keras has no stateless draw
with a fixed algorithm.

    rng = Randomness(seed=[run_seed, step], first_row=replica * local_batch)
    keep = rng.child("video").child("layer_0").dropout_mask((8, 10, 96), rate=0.1)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from vatt.modeling.typing import Tensor


class Randomness:
    """A named place in the tree of random draws of one training step.

    Args:
      seed: two int32 numbers (tensor, array or list) that identify the run and the step.
      first_row: index in the global batch of the first row this replica holds (int or int32
        tensor).
      path: names of the places above this one; use `child` to go down.
    """

    def __init__(
        self, seed: Tensor | Sequence[int], first_row: Tensor | int = 0, path: tuple[str, ...] = ()
    ):
        self.seed = ops.convert_to_tensor(seed, dtype="int32")
        self.first_row = first_row
        self.path = path

    def child(self, name: str) -> Randomness:
        """Returns the place `name` below this one; draws there are independent of draws here."""
        return Randomness(self.seed, self.first_row, (*self.path, name))

    def rows(self, multiplier: int) -> Randomness:
        """Returns the same place for tensors with `multiplier` rows for each row of the batch."""
        return Randomness(self.seed, self.first_row * multiplier, self.path)

    def bits(self, shape: Sequence[int]) -> Tensor:
        """Returns uniform int32 `[rows, ..., n]`: the same for a row whatever replica holds it.

        An entry is `a * c + d` modulo 2^32, with c (odd) and d drawn once for each place of the
        last axis, and a a hash of the global row and of the place on the axes between. Each entry
        is uniform, because d is, and any two are independent where their hashes differ by an odd
        number, nearly so where by an even one. A product and a sum are a tenth of the work of
        drawing every entry.
        """
        rows, *inner, last = shape
        factor = self._hash_rows(rows)  # [rows]
        if inner:
            places = ops.arange(math.prod(inner), dtype="int32") * _int32(0x9E3779B1)
            factor = _mix(factor[:, None] + places[None, :])
        factor = ops.reshape(factor, (rows, *inner, 1))
        drawn = _uniform_int32((2, last), self._local_seed())
        return factor * ops.bitwise_or(drawn[0], 1) + drawn[1]

    def dropout_mask(self, shape: Sequence[int], rate: float) -> Tensor:
        """Returns bool `shape`, true with probability `1 - rate`."""
        return ops.greater_equal(self.bits(shape), ops.convert_to_tensor(threshold(rate), "int32"))

    def permutation(self, n: int) -> Tensor:
        """Returns a random order of `0 .. n-1`, int32 `[n]`, the same on every replica."""
        return ops.cast(ops.argsort(_uniform_int32((n,), self._local_seed())), "int32")

    def permutations(self, rows: Tensor | int, n: int) -> Tensor:
        """Returns a random order of `0 .. n-1` for each row of the batch, int32 `[rows, n]`.

        That of a row is the same whatever replica holds it.
        """
        return ops.cast(ops.argsort(self.bits((rows, n)), axis=-1), "int32")

    def _local_seed(self) -> Tensor:
        digest = hashlib.blake2b("/".join(self.path).encode(), digest_size=8).digest()
        return ops.bitwise_xor(self.seed, ops.convert_to_tensor(np.frombuffer(digest, "<i4")))

    def _hash_rows(self, rows: Tensor | int) -> Tensor:
        """Returns int32 `[rows]`, a well mixed function of (seed, global row)."""
        # Independent of `path`, so that graph optimisers compute it once for all layers.
        index = ops.arange(rows, dtype="int32") + ops.cast(self.first_row, "int32")
        mixed = _mix(index * _int32(0x9E3779B1) + self.seed[0])
        return _mix(mixed + self.seed[1])


def child(rng: Randomness | None, name: str) -> Randomness | None:
    """Returns the place `name` below `rng`; None where nothing is drawn."""
    return None if rng is None else rng.child(name)


def require(rng: Randomness | None, what: str) -> Randomness:
    """Returns `rng`, or fails with what needs it.

    Raises:
      ValueError: `rng` is None.
    """
    if rng is None:
        raise ValueError(f"{what} is active in training: pass rng=Randomness(seed, first_row)")
    return rng


def _mix(x: Tensor) -> Tensor:
    """Spreads every bit of int32 `x` over all: rounds of xor-shift and odd multiplication."""
    for shift, multiplier in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ops.bitwise_xor(x, _logical_right_shift(x, shift)) * _int32(multiplier)
    return ops.bitwise_xor(x, _logical_right_shift(x, 16))


def _logical_right_shift(x: Tensor, shift: int) -> Tensor:
    # int32 shifts keep the sign; TensorFlow has no unsigned arithmetic on every device.
    return ops.bitwise_and(ops.right_shift(x, shift), (1 << (32 - shift)) - 1)


def _int32(value: int) -> Tensor:
    return ops.convert_to_tensor(np.uint32(value).astype(np.int32))


def threshold(rate: float) -> int:
    """Returns the int32 below which that share of all `bits` lies."""
    return min(round(rate * 2**32), 2**32 - 1) - 2**31


def _uniform_int32(shape: Sequence[int], seed: Tensor) -> Tensor:
    """Returns int32 `shape`, uniform over all 2^32 values."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # 'philox' by name: the default algorithm differs between graph and XLA execution.
        return tf.random.stateless_uniform(shape, seed, None, None, tf.int32, alg="philox")
    if backend == "jax":
        import jax

        words = jax.lax.bitcast_convert_type(seed, "uint32")
        bits = jax.random.bits(
            jax.random.wrap_key_data(words, impl="threefry2x32"), tuple(shape), "uint32"
        )
        return jax.lax.bitcast_convert_type(bits, "int32")
    raise NotImplementedError(
        f"random draws need the tensorflow or jax backend of Keras, not {backend!r}"
    )
