"""The same transformers written plainly, to compare with: what one would write down first.

`install()` replaces, in this process: patches are projected by a convolution over all of them, and
DropToken takes from the result; q, k and v are three products; attention maps are kept, and a mask
of ones is added to the scores; dropout is TensorFlow's; gradients are those of the single
operations. The weights are the same.
"""

from __future__ import annotations

import tensorflow as tf
from keras import ops

from vatt.modeling.layers import attention, dropout, encoder, gradients, norm, positions, tokens


def install() -> None:
    """Replaces the parts."""
    gradients.with_closures = lambda: False
    gradients.is_plain = lambda: True
    for module in (dropout, encoder, positions):
        module.dropout = _dropout
    attention.masked = lambda x, keep, scale: _dropout(x, keep, training=True)
    attention.Attention._mask = lambda self, shape, rng: self.dropout_rate
    attention.Attention._projections = _projections
    attention.Attention.call = _keeping_maps(attention.Attention.call)
    tokens.PatchEmbedding.call = _patches
    norm.LayerNorm.call = _layer_norm


def _dropout(x, rate, *, training, rng=None, name=None):
    return tf.nn.dropout(x, rate) if training and rate else x


def _projections(self, x):
    rows, length = ops.shape(x)[:2]
    heads = (ops.reshape(layer(x), (rows, length, self.num_heads, self.d_kv))
             for layer in (self.q, self.k, self.v))  # fmt: skip
    return tuple(ops.transpose(part, (0, 2, 1, 3)) for part in heads)


def _keeping_maps(call):
    def with_maps(self, x, bias=None, training=False, rng=None, return_weights=False):
        bias = attention.padding_bias(ops.ones(ops.shape(x)[:2])) if bias is None else bias
        return call(self, x, bias=bias, training=training, rng=rng, return_weights=True)

    return with_maps


def _patches(self, x, kept=None):
    projected = ops.conv(x, self.kernel, strides=self.stride, padding="valid") + self.bias
    projected = ops.reshape(projected, (ops.shape(x)[0], -1, self.d_model))
    return projected if kept is None else ops.take(projected, kept, axis=1)


def _layer_norm(self, x):
    wide = ops.cast(x, "float32")
    mean, variance = ops.moments(wide, axes=-1, keepdims=True)
    unit = (wide - mean) * ops.rsqrt(variance + self.epsilon)
    return ops.cast(unit * self.gamma + self.beta, self.compute_dtype)
