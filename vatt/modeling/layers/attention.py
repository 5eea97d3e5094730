"""Multi-head attention, one implementation for all transformers here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Unpack

import keras
from keras import ops

from vatt.modeling.layers import gradients
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.dropout import masked
from vatt.modeling.random import Randomness, require
from vatt.modeling.typing import Shape, Tensor

MASKED = -1e9  # added to the scores of padding; finite, so that a fully masked row stays finite


@keras.saving.register_keras_serializable("vatt")
class Attention(ConfiguredLayer):
    """Self-attention `softmax(q k^T * scale + bias) v`, then an output projection.

    Without `project_values` the values are the inputs, split into heads, and what they are mixed to
    is the output.

    Args:
      d_model: width of the output.
      num_heads: number of heads; `num_heads * d_kv` need not equal `d_model`.
      d_kv: width of one head.
      use_bias: whether the projections have biases.
      scaled: multiply the scores by `1 / sqrt(d_kv)`; T5 does not.
      dropout_rate: dropout on the attention probabilities.
      project_values: whether values and output are projected; if not, `num_heads * d_kv` must be
        the width of the inputs.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_kv: int,
        use_bias: bool = True,
        scaled: bool = True,
        dropout_rate: float = 0.0,
        project_values: bool = True,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.d_model, self.num_heads, self.d_kv = d_model, num_heads, d_kv
        self.scale = 1.0 / math.sqrt(d_kv) if scaled else 1.0
        self.dropout_rate = dropout_rate
        inner = num_heads * d_kv
        self.q, self.k = (self._dense(inner, name, use_bias=use_bias) for name in "qk")
        self.v = self.o = None
        if project_values:
            self.v = self._dense(inner, "v", use_bias=use_bias)
            self.o = self._dense(d_model, "o", use_bias=use_bias)

    def build(self, input_shape: Shape) -> None:
        """Creates the projections for inputs `[batch, tokens, features]`."""
        build_each((self.q, self.k, self.v), input_shape)
        build_each((self.o,), (*input_shape[:-1], self.num_heads * self.d_kv))

    def call(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        training: bool = False,
        rng: Randomness | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from every token of `x` to every token of `x`.

        Args:
          x: `[batch, tokens, features]`.
          bias: added to the scores, broadcastable to `[batch, heads, tokens, tokens]`; padding is
            `MASKED`.
          training: whether dropout is active.
          rng: source of the dropout mask.
          return_weights: also return the probabilities. They are the largest values here; who
            does not need them leaves attention free to compute without keeping them.

        Returns:
          Output `[batch, tokens, d_model]`, and probabilities `[batch, heads, tokens, tokens]`
          (after dropout) if asked for, else None.
        """
        q, k, v = self._projections(x)  # [batch, heads, tokens, d_kv]
        q = q * ops.cast(self.scale, self.compute_dtype)  # smaller than the scores
        dropped = training and self.dropout_rate > 0.0
        keep = self._mask(ops.shape(q), rng) if dropped else None
        scale = 1.0 / (1.0 - self.dropout_rate) if dropped else 1.0
        weights = None
        if training and not return_weights and gradients.with_closures():
            mixed = _mix_with_own_gradient(q, k, v, bias, keep, scale)
        else:
            weights = _probabilities(q, k, bias)
            weights = weights if keep is None else masked(weights, keep, scale)
            mixed = ops.matmul(weights, v)
        mixed = ops.transpose(mixed, (0, 2, 1, 3))  # [batch, tokens, heads, d_kv]
        merged = ops.reshape(mixed, (*ops.shape(x)[:2], self.num_heads * self.d_kv))
        output = merged if self.o is None else self.o(merged)
        return output, weights if return_weights else None

    def _mask(self, shape: Sequence[int], rng: Randomness | None) -> Tensor:
        """Returns which probabilities dropout keeps, bool `[batch, heads, tokens, tokens]`."""
        place = require(rng, f"dropout (weights, rate {self.dropout_rate})").child("weights")
        return place.dropout_mask((*shape[:3], shape[2]), self.dropout_rate)

    def _projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns q, k and v, `[batch, heads, tokens, d_kv]`.

        One matmul with the kernels side by side: for narrow models one for each takes longer.
        """
        layers = (self.q, self.k) if self.v is None else (self.q, self.k, self.v)
        joined = ops.matmul(x, ops.concatenate([layer.kernel for layer in layers], axis=1))
        if self.q.use_bias:
            joined = joined + ops.concatenate([layer.bias for layer in layers], axis=0)
        # Heads are the slow part of the inner axis.
        if self.v is None:
            joined = ops.concatenate([joined, x], axis=-1)
        joined = ops.reshape(joined, (*ops.shape(x)[:2], 3, self.num_heads, self.d_kv))
        return tuple(ops.unstack(ops.transpose(joined, (2, 0, 3, 1, 4)), 3, axis=0))


def _probabilities(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Returns `softmax(q k^T + bias)`, `[batch, heads, tokens, tokens]`, computed in float32."""
    scores = ops.cast(ops.matmul(q, ops.swapaxes(k, -1, -2)), "float32")
    if bias is not None:
        # In float16 padding is -inf by now, of which a fully masked row would be 0 / 0.
        scores = scores + ops.maximum(ops.cast(bias, "float32"), MASKED)
    return ops.cast(ops.softmax(scores, axis=-1), q.dtype)


def _mix_with_own_gradient(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, keep: Tensor | None, scale: float
) -> Tensor:
    """Returns `scale * (keep * probabilities) v`, `[batch, heads, tokens, d_kv]`.

    Probabilities are the largest values here: the backward pass remembers them and the mask, not
    what the mask leaves of them, and goes over them less often than the derivatives of the single
    operations do. The product of the probabilities and their gradients, summed over keys, is that
    of the output and its gradient (Dao et al., 2022, "FlashAttention", appendix B).
    """

    def kept(values: Tensor) -> Tensor:
        return values if keep is None else values * ops.cast(keep, values.dtype)

    def scaled(values: Tensor) -> Tensor:
        return values if keep is None else values * ops.cast(scale, values.dtype)

    @gradients.custom
    def mix(q: Tensor, k: Tensor, v: Tensor, *biases: Tensor) -> tuple[Tensor, Callable]:
        weights = _probabilities(q, k, *(biases or (None,)))
        output = scaled(ops.matmul(kept(weights), v))

        def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
            along = ops.sum(ops.cast(upstream * output, "float32"), axis=-1, keepdims=True)
            upstream = scaled(upstream)
            left = kept(weights)
            by_scores = left * ops.matmul(upstream, ops.swapaxes(v, -1, -2))
            by_scores = by_scores - weights * ops.cast(along, weights.dtype)
            by_q, by_k = ops.matmul(by_scores, k), ops.matmul(ops.swapaxes(by_scores, -1, -2), q)
            by_v = ops.matmul(ops.swapaxes(left, -1, -2), upstream)
            return by_q, by_k, by_v, *(_summed_to(by_scores, b) for b in biases)

        return output, gradient

    return mix(q, k, v) if bias is None else mix(q, k, v, bias)


def _summed_to(gradient: Tensor, value: Tensor) -> Tensor:
    """Returns the gradient of a value that was broadcast to the shape of `gradient`."""
    axes = tuple(axis for axis, size in enumerate(value.shape) if size == 1)
    return ops.cast(ops.sum(ops.cast(gradient, "float32"), axis=axes, keepdims=True), value.dtype)


def padding_bias(mask: Tensor) -> Tensor:
    """Returns the score bias `[batch, 1, 1, tokens]` of a mask `[batch, tokens]` (0 = padding)."""
    return ((1.0 - ops.cast(mask, "float32")) * MASKED)[:, None, None, :]
