"""Pieces of the convolutional backbones: convolution with batch norm, DropBlock, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from vatt import configs
from vatt.errors import UserError, nearest
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.random import Randomness, require
from vatt.modeling.typing import Features, Shape, Tensor

CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


@keras.saving.register_keras_serializable("vatt")
class ConvNorm(ConfiguredLayer):
    """`convolution without bias -> batch norm [-> relu]` over one to three axes.

    Args:
      filters: channels of the output.
      kernel: size of the kernel along each axis.
      strides: along each axis.
      norm: options of batch normalisation.
      relu: whether the unit ends with relu.
      centred: with strides, pads `k - 1` per axis, half on either side, whatever the size of
        the input ('same' padding depends on it).
      zero_scale: the scale of the norm starts at zero, so that a residual branch does.
      kernel_initializer: name or configuration of the kernel's first values.
    """

    def __init__(
        self,
        filters: int,
        kernel: Sequence[int],
        strides: Sequence[int],
        norm: batch_norm.NormOptions,
        relu: bool = True,
        centred: bool = False,
        zero_scale: bool = False,
        kernel_initializer: str | Mapping[str, Any] = "glorot_uniform",
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        kernel, strides = tuple(kernel), tuple(strides)
        self.filters, self.relu = filters, relu
        self.padding = None
        if centred and max(strides) > 1 and max(kernel) > 1:
            self.padding = [(0, 0), *(((k - 1) // 2, k // 2) for k in kernel), (0, 0)]
        self.conv = CONVOLUTIONS[len(kernel)](
            filters,
            kernel,
            strides,
            padding="same" if self.padding is None else "valid",
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=kernel_initializer,
            name="conv",
            dtype=self.dtype_policy,
        )
        gamma = "zeros" if zero_scale else "ones"
        self.bn = batch_norm.make(norm, "bn", dtype=self.dtype_policy, gamma_initializer=gamma)

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[batch, *axes, channels]`; only the channels matter."""
        anything = (None,) * (len(input_shape) - 1)
        self.conv.build((*anything, input_shape[-1]))
        self.bn.build((*anything, self.filters))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Maps `[batch, *axes, channels]` to `[batch, *axes / strides, filters]`."""
        if self.padding is not None:
            x = ops.pad(x, self.padding)
        x = self.bn(self._convolve(x), training=training)
        return ops.relu(x) if self.relu else x

    def _convolve(self, x: Tensor) -> Tensor:
        if self.conv.rank == 1 and self.conv.kernel_size == (1,):
            # As a product: TensorFlow 2.21 on CPUs (oneDNN) writes outside of the gradient of one
            # place with a stride along one of two axes, which is how it computes one axis.
            return ops.matmul(x[:, :: self.conv.strides[0]], self.conv.kernel[0])
        if self.conv.rank == 3 and (x.shape[1] or 0) < self.conv.kernel_size[0]:
            # TensorFlow 2.21 on CPUs (oneDNN) gets the kernel's gradient in bfloat16 wrong, not a
            # number, or crashes, if the kernel is longer than the clip: float32 then.
            kernel = ops.cast(self.conv.kernel, "float32")
            return self.conv.convolution_op(ops.cast(x, "float32"), kernel)
        return self.conv(x)


def drop_block(
    x: Tensor, keep_prob: float, size: int, *, training: bool, rng: Randomness | None, name: str
) -> Tensor:
    """Zeroes squares of `x`, `[rows, height, width, channels]`, in all channels alike.

    DropBlock (Ghiasi et al., 2018), with one mask per row for all channels, and scaled by the
    expected instead of the actual share that is kept: a row does not depend on the others then,
    and the mean of outputs over masks and positions is the input, as in dropout.

    About `keep_prob` of the positions are kept (1: all). `size` is the side of a square, at most
    the height and width there are. `name` tells draws of one layer apart.

    Raises:
      ValueError: a mask is needed and `rng` is None.
    """
    if not training or keep_prob == 1.0:
        return x
    extent = x.shape[1:3]
    block = [min(size, axis) for axis in extent]
    corners = [axis - side + 1 for axis, side in zip(extent, block, strict=True)]
    rate = min(1.0, (1.0 - keep_prob) * np.prod(extent) / np.prod(block) / np.prod(corners))
    rng = require(rng, f"DropBlock ({name}, keep probability {keep_prob})").child(name)
    keep = rng.dropout_mask((ops.shape(x)[0], *corners), rate)  # no block starts at this corner
    dropped = ops.cast(ops.logical_not(keep), x.dtype)[..., None]
    dropped = ops.pad(dropped, [(0, 0), *((side - 1, side - 1) for side in block), (0, 0)])
    dropped = ops.max_pool(
        dropped, tuple(block), 1, padding="valid", data_format="channels_last"
    )  # [rows, height, width, 1]
    # A position is kept if no block starts at any of the corners that reach it.
    reaching = [
        np.convolve(np.ones(count), np.ones(side))
        for count, side in zip(corners, block, strict=True)
    ]
    share = np.mean((1.0 - rate) ** np.outer(*reaching))
    return x * ((1.0 - dropped) * ops.cast(1.0 / max(share, 1e-6), x.dtype))


def features_of(endpoints: dict[str, Tensor], final_endpoint: str) -> Features:
    """Returns the features in a backbone's endpoints, each `[batch, *axes, channels]`.

    `features_pooled`, the mean over all axes of the last endpoint, `[batch, channels]`;
    `features`, the endpoint asked for.
    """
    last = list(endpoints.values())[-1]
    pooled = ops.mean(last, axis=tuple(range(1, len(last.shape) - 1)))
    return {"features_pooled": pooled, "features": endpoints[final_endpoint]}


def check_config(
    config: configs.video.I3D | configs.audio.Resnet2DBase, endpoints: Iterable[str]
) -> None:
    """Checks the fields that both backbones have.

    Raises:
      UserError: unknown `final_endpoint`, or a `data_format` other than channels_last.
    """
    endpoints = list(endpoints)
    if config.final_endpoint not in endpoints:
        raise UserError(
            f"{config.name}: final_endpoint: {config.final_endpoint!r} is not one of {endpoints}."
            f"{nearest(str(config.final_endpoint), endpoints)}"
        )
    if config.data_format != "channels_last":
        raise UserError(
            f"{config.name}: data_format: {config.data_format!r} is not supported, "
            "only 'channels_last', the layout of the data pipeline."
        )
