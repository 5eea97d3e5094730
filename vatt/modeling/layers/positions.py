"""Positions: learned for one to three axes, and resampled; of a sequence, fixed or learned."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Unpack

import keras
import numpy as np
from keras import ops

from vatt.modeling.layers import sines
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.layers.norm import LayerNorm
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Shape, Tensor

NORM_EPSILON = 1e-6  # fixed in the published code, whatever the config says
DROPOUT_RATE = 0.1  # likewise


@functools.cache
def spline_matrix(rows: int, targets: int) -> np.ndarray:
    """Returns the linear map `[targets, rows]` that resamples a table of `rows` positions, float64.

    The curve is the natural cubic spline through (k / rows, row k), continued linearly beyond the
    last point, read at j / targets. That is what the published polyharmonic spline of order 3 is,
    without its dense system, which in float32 is noise for long tables.

    Raises:
      ValueError: fewer than one row or target.
    """
    if rows < 1 or targets < 1:
        raise ValueError(
            f"cannot resample a table of {rows} rows to {targets}: both must be at least 1"
        )
    if rows == targets:
        return np.eye(rows)
    if rows == 1:
        return np.ones((targets, 1))
    # Unit spacing: query j / targets lies at j * rows / targets between the knots 0 .. rows - 1.
    query = np.arange(targets) * (rows / targets)
    left = np.clip(np.floor(query).astype(int), 0, rows - 2)
    offset = query - left  # in [0, 1) except beyond the last knot
    inside = np.minimum(offset, 1.0)
    curvature = _curvature_matrix(rows)  # second derivatives at the knots as a map of the rows
    identity = np.eye(rows)
    a, b = (1 - inside)[:, None], inside[:, None]
    cubic = (a**3 - a) * curvature[left] + (b**3 - b) * curvature[left + 1]
    values = a * identity[left] + b * identity[left + 1] + cubic / 6
    last_slope = identity[-1] - identity[-2] + (curvature[-2] + 2 * curvature[-1]) / 6
    return values + np.maximum(offset - 1.0, 0.0)[:, None] * last_slope


def _curvature_matrix(rows: int) -> np.ndarray:
    """Returns `[rows, rows]`: second derivatives of the spline at the knots, unit spacing."""
    second_difference = np.zeros((rows, rows))
    system = np.eye(rows)  # first and last row: no curvature at the ends
    for k in range(1, rows - 1):
        second_difference[k, k - 1 : k + 2] = (6.0, -12.0, 6.0)
        system[k, k - 1 : k + 2] = (1.0, 4.0, 1.0)
    return np.linalg.solve(system, second_difference)  # well conditioned: diagonally dominant


def resample(table: Tensor, targets: int) -> Tensor:
    """Returns the table `[rows, features]` resampled to `[targets, features]`, differentiable."""
    if table.shape[0] == targets:
        return table
    matrix = spline_matrix(int(table.shape[0]), targets).astype("float32")
    return ops.matmul(ops.convert_to_tensor(matrix), ops.cast(table, "float32"))


@keras.saving.register_keras_serializable("vatt")
class Positions(ConfiguredLayer):
    """Adds `layer_norm(sum over axes of table[axis][index])` to tokens, then dropout.

    Args:
      axes: names of the axes, slowest first, for instance ('temporal', 'vertical', 'horizontal').
      buckets: rows of the table of each axis.
      d_model: width.
      first_axis_fastest: number the tokens as if the first axis were the fastest. The tokens
        themselves stay in row-major order: the published spectrogram models give token i the
        position of another patch, and their checkpoints have learned with that.
    """

    def __init__(
        self,
        axes: Sequence[str],
        buckets: Sequence[int],
        d_model: int,
        first_axis_fastest: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.axes, self.buckets, self.d_model = tuple(axes), tuple(buckets), d_model
        self.first_axis_fastest = first_axis_fastest
        self.layer_norm = LayerNorm(
            epsilon=NORM_EPSILON, name="layer_norm", dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape | None = None) -> None:
        """Creates one table `[buckets, d_model]` per axis and the norm."""
        initializer = keras.initializers.TruncatedNormal(stddev=self.d_model**-0.5)
        self.tables = [
            self.add_weight(shape=(rows, self.d_model), initializer=initializer, name=axis)
            for axis, rows in zip(self.axes, self.buckets, strict=True)
        ]
        self.layer_norm.build((None, self.d_model))

    def call(
        self,
        tokens: Tensor,
        grid: Sequence[int],
        kept: Tensor | None = None,
        training: bool = False,
        rng: Randomness | None = None,
    ) -> Tensor:
        """Returns `tokens`, `[batch, tokens, d_model]`, with their positions added.

        Args:
          tokens: tokens of the whole grid in row-major order, or only those in `kept`.
          grid: number of tokens along each axis.
          kept: indices of the tokens present, int32 `[tokens]`; None means all.
          training: whether dropout is active.
          rng: source of the dropout mask.
        """
        embedding = self.lookup(grid)  # [grid tokens, d_model]
        if kept is not None:
            embedding = ops.take(embedding, kept, axis=0)
        tokens = tokens + embedding[None]
        return dropout(tokens, DROPOUT_RATE, training=training, rng=rng, name="positions")

    def lookup(self, grid: Sequence[int]) -> Tensor:
        """Returns the normalised embedding of every position of `grid`, `[tokens, d_model]`."""
        total = None
        for axis, (table, size) in enumerate(zip(self.tables, grid, strict=True)):
            rows = ops.cast(resample(ops.convert_to_tensor(table), size), self.compute_dtype)
            shape = [1] * len(self.axes) + [self.d_model]
            shape[axis] = size
            rows = ops.reshape(rows, shape)
            total = rows if total is None else total + rows
        if self.first_axis_fastest:
            count = len(self.axes)
            total = ops.transpose(total, (*reversed(range(count)), count))
        return self.layer_norm(ops.reshape(total, (-1, self.d_model)))


@keras.saving.register_keras_serializable("vatt")
class SequencePositions(ConfiguredLayer):
    """Adds to each token a vector of its place in the sequence.

    Args:
      learned: vectors are learned, and resampled for sequences of another length; else they are
        sines and cosines (`sines.of_sequence`).
    """

    def __init__(self, learned: bool = False, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.learned, self.table, self.count = learned, None, 0

    def build(self, input_shape: Shape) -> None:
        """Creates for tokens `[batch, count, d]` the table `embeddings [count, d]`, if learned."""
        self.count = input_shape[1]
        if self.learned:
            initializer = keras.initializers.RandomNormal(stddev=0.02)
            shape = (self.count, input_shape[-1])
            self.table = self.add_weight(shape=shape, initializer=initializer, name="embeddings")

    def call(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns `tokens`, `[batch, tokens, d]`, with their positions added.

        Args:
          tokens: of all places in their order, or only those in `kept`.
          kept: places of the tokens, of as many as the layer is built for, int32 `[batch,
            tokens]`; None means all.
        """
        count = tokens.shape[1] if kept is None else self.count
        if self.table is None:
            table = sines.of_sequence(count, tokens.shape[-1])
        else:
            table = resample(ops.convert_to_tensor(self.table), count)
        table = ops.cast(ops.convert_to_tensor(table), self.compute_dtype)
        return tokens + (table[None] if kept is None else ops.take(table, kept, axis=0))
