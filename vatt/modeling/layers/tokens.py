"""From raw input to tokens: patches, DropToken, masking and the aggregation token."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.random import Randomness, require, threshold
from vatt.modeling.typing import DType, Shape, Tensor

# First values of patch projections: LeCun's rule, or that rule for one frame alone: put in the
# middle of a patch, or in all of its frames.
FAN_IN, CENTRAL, AVERAGE = "fan_in", "central", "average"


@keras.saving.register_keras_serializable("vatt")
class PatchEmbedding(ConfiguredLayer):
    """Projection of patches along one to three axes: a strided convolution computed as a matmul.

    As a matmul it can skip patches that DropToken removes, which a convolution cannot. The kernel
    keeps the shape of a convolution, `[*patch, channels, d_model]`. Remainders at the end of an
    axis are dropped ("valid").

    Args:
      patch: patch size along each axis.
      stride: distance between patches along each axis.
      d_model: width of a token.
      init_std: standard deviation of the first kernel; None takes Glorot's rule for convolutions,
        as VATT published it. That rule counts `patch volume * d_model` outputs, as if patches
        overlapped, and makes tokens many times smaller than the positions added to them: a long
        training grows out of that, a short one does not. "fan_in" takes LeCun's rule, which counts
        inputs alone, "central" and "average" the same for the frames of a patch.
    """

    def __init__(
        self,
        patch: Sequence[int],
        stride: Sequence[int],
        d_model: int,
        init_std: float | str | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.patch, self.stride, self.d_model = tuple(patch), tuple(stride), d_model
        self.init_std = init_std

    def build(self, input_shape: Shape) -> None:
        """Creates `kernel` and `bias` for inputs `[batch, *axes, channels]`."""
        shape = (*self.patch, input_shape[-1], self.d_model)
        initializer = "glorot_uniform"
        if self.init_std in (FAN_IN, CENTRAL, AVERAGE):
            initializer = functools.partial(_of_inputs, kind=self.init_std)
        elif self.init_std is not None:
            initializer = keras.initializers.RandomNormal(stddev=self.init_std)
        self.kernel = self.add_weight(shape=shape, initializer=initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.d_model,), initializer="zeros", name="bias")

    def grid(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the number of patches along each axis of an input `[batch, *axes, channels]`.

        Raises:
          ValueError: an axis is shorter than one patch.
        """
        sizes = tuple(input_shape[1:-1])
        if len(sizes) != len(self.patch) or any(
            n < p for n, p in zip(sizes, self.patch, strict=True)
        ):
            raise ValueError(
                f"{self.name}: input axes {sizes} do not hold one patch of {self.patch}"
            )
        return tuple(
            (n - p) // s + 1 for n, p, s in zip(sizes, self.patch, self.stride, strict=True)
        )

    def call(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns tokens `[batch, tokens, d_model]` in row-major order.

        Args:
          x: input `[batch, *axes, channels]`.
          kept: indices of the patches to project, int32 `[tokens]`, or `[batch, tokens]` where they
            differ between rows; None means all.
        """
        patches = self.patches(x, kept)  # [batch, tokens, patch volume * channels]
        kernel = ops.reshape(self.kernel, (-1, self.d_model))
        return ops.matmul(patches, kernel) + self.bias

    def patches(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns flat patches `[batch, tokens, volume * channels]`, all or those in `kept`."""
        axes, grid = len(self.patch), self.grid(x.shape)
        volume = math.prod(self.patch) * x.shape[-1]
        if axes == 1 and self.stride != self.patch:
            starts = ops.arange(grid[0], dtype="int32") if kept is None else kept
            index = (
                starts[:, None] * self.stride[0] + ops.arange(self.patch[0], dtype="int32")[None]
            )
            frames = ops.take(x, index, axis=1)  # [batch, tokens, patch, channels]
            return ops.reshape(frames, (-1, frames.shape[1], volume))
        if self.stride != self.patch:
            raise NotImplementedError(f"{self.name}: overlapping patches exist for one axis only")
        flat = flat_patches(x, self.patch)
        if kept is None:
            return flat
        return ops.take(flat, kept, axis=1) if len(kept.shape) == 1 else take_each(flat, kept)


def flat_patches(x: Tensor, patch: Sequence[int]) -> Tensor:
    """Returns what is in each patch, `[batch, tokens, volume * channels]`, in row-major order.

    Args:
      x: `[batch, *axes, channels]`, each axis at least a patch long; remainders are dropped.
      patch: sizes along each axis.
    """
    grid = tuple(n // p for n, p in zip(x.shape[1:-1], patch, strict=True))
    x = x[(slice(None), *(slice(n * p) for n, p in zip(grid, patch, strict=True)))]
    # The first axis of the grid joins the batch, channels the last one of the patch: six axes,
    # which is what some runtimes of exported models can transpose.
    split = [size for pair in zip(patch, (*grid[1:], x.shape[-1]), strict=True) for size in pair]
    split[-2:] = [split[-2] * split[-1]]
    volume, axes = math.prod(patch) * x.shape[-1], len(patch)
    x = ops.reshape(x, (-1, *split))
    order = (0, *range(2, 2 * axes, 2), *range(1, 2 * axes, 2))
    return ops.reshape(ops.transpose(x, order), (-1, math.prod(grid), volume))


def _of_inputs(shape: Shape, dtype: DType = None, *, kind: str) -> Tensor:
    """Returns a first kernel `[frames, *patch, channels, d_model]` (`patch` may have any axes)."""
    draw = keras.initializers.LecunNormal()
    if kind == FAN_IN:
        return draw(shape, dtype=dtype)
    frames = shape[0]
    one = draw((1, *shape[1:]), dtype=dtype)
    if kind == AVERAGE:
        return ops.repeat(one / frames, frames, axis=0)
    before = frames // 2
    return ops.pad(one, [(before, frames - 1 - before)] + [(0, 0)] * (len(shape) - 1))


def take_each(x: Tensor, indices: Tensor) -> Tensor:
    """Returns of each row of `x`, `[rows, n, d]`, its own entries: `[rows, k, d]`.

    Args:
      x: rows of entries.
      indices: int32 `[rows, k]`, which entries of each row.
    """
    rows, entries = ops.shape(x)[0], x.shape[1]
    first = ops.arange(rows, dtype="int32")[:, None] * entries
    flat = ops.reshape(x, (-1, x.shape[-1]))
    return ops.take(flat, first + indices, axis=0)


def num_kept(tokens: int, buckets: int, rate: float) -> int:
    """Returns how many tokens DropToken keeps.

    The published count is `int(rate * buckets)`, from the size of the position tables. An input
    with fewer tokens than that keeps `int(rate * tokens)` of its own (the published code fails
    there); a rate of 1 keeps all.
    """
    if rate >= 1.0:
        return tokens
    return max(1, min(int(rate * min(tokens, buckets)), tokens))


def drop_tokens(tokens: int, buckets: int, rate: float, rng: Randomness | None) -> Tensor | None:
    """Returns the indices of the tokens to keep, int32 `[kept]` in random order; None keeps all.

    One permutation is drawn for the whole batch (published behaviour).
    """
    kept = num_kept(tokens, buckets, rate)
    if kept == tokens:
        return None
    return require(rng, "DropToken").child("drop_tokens").permutation(tokens)[:kept]


@keras.saving.register_keras_serializable("vatt")
class TokenMasking(ConfiguredLayer):
    """Hides tokens in training: 80 % of those selected become a learned vector, 10 % others."""

    def __init__(self, mask_rate: float, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.mask_rate = mask_rate

    def build(self, input_shape: Shape) -> None:
        """Creates `embedding [d_model]`."""
        self.embedding = self.add_weight(
            shape=(input_shape[-1],), initializer="glorot_normal", name="embedding"
        )

    def call(self, tokens: Tensor, rng: Randomness | None = None) -> tuple[Tensor, Tensor]:
        """Returns `[batch, tokens, d_model]` and 1 where selected, `[batch, tokens]`."""
        rng = require(rng, "token masking").child("masking")
        shape = ops.shape(tokens)[:2]

        def below(name: str, rate: float) -> Tensor:
            draw = rng.child(name).bits(shape)
            return ops.less(draw, ops.convert_to_tensor(threshold(rate), "int32"))[..., None]

        selected = below("selected", self.mask_rate)
        hidden = ops.logical_and(selected, below("hidden", 0.8))
        swapped = ops.logical_and(selected, below("swapped", 0.5))
        flat = ops.reshape(tokens, (-1, tokens.shape[-1]))
        others = ops.take(flat, rng.child("others").permutation(shape[0] * shape[1]), axis=0)
        others = ops.stop_gradient(ops.reshape(others, ops.shape(tokens)))
        masked = ops.where(
            hidden, ops.cast(self.embedding, tokens.dtype), ops.where(swapped, others, tokens)
        )
        return masked, ops.cast(selected[..., 0], "float32")


@keras.saving.register_keras_serializable("vatt")
class AggregationToken(ConfiguredLayer):
    """A learned vector put before the tokens; its final state is the pooled feature."""

    def build(self, input_shape: Shape) -> None:
        """Creates `embedding [features]`."""
        self.embedding = self.add_weight(
            shape=(input_shape[-1],), initializer="glorot_normal", name="embedding"
        )

    def call(self, tokens: Tensor) -> Tensor:
        """Returns `[batch, 1 + tokens, features]`."""
        shape = (ops.shape(tokens)[0], 1, tokens.shape[-1])
        first = ops.broadcast_to(ops.cast(self.embedding, tokens.dtype)[None, None], shape)
        return ops.concatenate([first, tokens], axis=1)


def with_first(mask: Tensor) -> Tensor:
    """Returns a token mask `[batch, tokens]` extended by 1 for an aggregation token."""
    return ops.concatenate([ops.ones_like(mask[:, :1]), mask], axis=1)
