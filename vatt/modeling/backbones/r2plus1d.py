"""R(2+1)D: residual blocks on video that convolve over places and then over frames.

Tran et al., 2018: "A Closer Look at Spatiotemporal Convolutions for Action Recognition".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.modeling.backbones.basic_resnet import (
    FAN_OUT,
    BasicBlock,
    BasicResNet,
    norm_options,
)
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.conv import ConvNorm
from vatt.modeling.layers.pooling import TemporalPooling
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Features, Outputs, Shape, Tensor


def middle_channels(inputs: int, filters: int) -> int:
    """Returns the channels between the two convolutions of a pair.

    With them the pair has as many weights as one 3x3x3 convolution of `inputs` to `filters`
    channels has, rounded down.
    """
    return 27 * inputs * filters // (9 * inputs + 3 * filters)


@keras.saving.register_keras_serializable("vatt")
class FlatConvNorm(ConvNorm):
    """A unit on video whose kernel spans frames only, or places only.

    Computed with two axes instead of three, the other two in one: the same numbers, but on CPUs in
    half of the time, and on GPUs with the faster kernels that there are for images.
    """

    def _convolve(self, x: Tensor) -> Tensor:
        _, frames, height, width, channels = ops.shape(x)
        kernel = ops.cast(self.conv.kernel, x.dtype)
        if kernel.shape[0] == 1:
            images = ops.reshape(x, (-1, height, width, channels))
            y = self._images(images, kernel[0], self.conv.strides[1:])
            return ops.reshape(y, (-1, frames, *ops.shape(y)[1:]))
        columns = ops.reshape(x, (-1, frames, height * width, channels))
        y = self._images(columns, kernel[:, :, 0], (self.conv.strides[0], 1))
        return ops.reshape(y, (-1, ops.shape(y)[1], height, width, self.filters))

    def _images(self, x: Tensor, kernel: Tensor, strides: tuple[int, int]) -> Tensor:
        return ops.conv(x, kernel, strides, self.conv.padding, data_format="channels_last")


@keras.saving.register_keras_serializable("vatt")
class SpaceTimeConv(ConfiguredLayer):
    """A pair of convolutions with batch norm: over places, relu, then over three frames [, relu].

    Args:
      filters: channels of the output.
      middle: channels between the two.
      side: of the kernel over places, in pixels.
      strides: over frames, and over places.
      norm: options of batch normalisation.
      relu: whether the pair ends with relu.
    """

    def __init__(
        self,
        filters: int,
        middle: int,
        side: int,
        strides: tuple[int, int],
        norm: batch_norm.NormOptions,
        relu: bool = True,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.filters, (frames, places) = filters, strides
        common = {"centred": True, "kernel_initializer": FAN_OUT, "dtype": self.dtype_policy}
        self.spatial = FlatConvNorm(
            middle, (1, side, side), (1, places, places), norm, name="spatial", **common
        )
        self.temporal = FlatConvNorm(
            filters, (3, 1, 1), (frames, 1, 1), norm, relu=relu, name="temporal", **common
        )

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[batch, frames, height, width, channels]`."""
        self.spatial.build(input_shape)
        self.temporal.build((*input_shape[:-1], self.spatial.filters))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Maps `[batch, frames, height, width, channels]` to as many / strides of `filters`."""
        return self.temporal(self.spatial(x, training=training), training=training)


@keras.saving.register_keras_serializable("vatt")
class SpaceTimeBlock(BasicBlock):
    """A block of two pairs of convolutions; both have the middle channels of the whole block."""

    rank, side = 3, 3

    def convolution(self, stride: int, name: str, relu: bool = True) -> SpaceTimeConv:
        """Returns a pair of convolutions, of 3x3 places and of 3 frames."""
        middle = middle_channels(self.inputs, self.filters)
        return SpaceTimeConv(
            self.filters,
            middle,
            self.side,
            (stride, stride),
            self.norm,
            relu=relu,
            name=name,
            dtype=self.dtype_policy,
        )


@keras.saving.register_keras_serializable("vatt")
class R2Plus1D(BasicResNet):
    """The backbone, without classifier.

    Args:
      blocks: blocks of each stage.
      widths: channels of each stage.
      stem_channels: between the two convolutions of the stem.
      norm: options of batch normalisation.
      pooling: options of `TemporalPooling`, by which the last map becomes one feature.
      final_endpoint: which of `configs.residual.ENDPOINTS` is returned as `features`.
      frozen: neither trained nor differentiated through.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        stem_channels: int,
        norm: batch_norm.NormOptions,
        pooling: Mapping[str, Any] | None = None,
        final_endpoint: str = "layer4",
        frozen: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        stem = SpaceTimeConv(
            widths[0], stem_channels, 7, (1, 2), norm, name="stem", dtype=self.dtype_policy
        )
        self.pooling = None
        if pooling and pooling["num_layers"]:
            self.pooling = TemporalPooling(
                widths[-1], **pooling, name="pooling", dtype=self.dtype_policy
            )
        self.assemble(stem, SpaceTimeBlock, blocks, widths, norm, final_endpoint, frozen)

    def build(self, input_shape: Shape) -> None:
        """Creates all variables; only the channels of `input_shape` matter."""
        super().build(input_shape)
        if self.pooling is not None:
            self.pooling.build((*(None for _ in input_shape[:-1]), self.features_dim))

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes `x` as `BasicResNet` does, but for another `features_pooled` with a pooling."""
        outputs, inner = super().encode(x, training, rng, intermediates)
        if self.pooling is not None:
            last = inner["endpoints"]["layer4"]
            pooled = self.pooling(last, training=training, rng=child(rng, "pooling"))
            outputs = {**outputs, "features_pooled": pooled}
        return outputs, inner


def r2plus1d(
    config: configs.video.R2Plus1D18, *, name: str = "video", dtype: DType = "float32"
) -> R2Plus1D:
    """Returns the backbone of an R(2+1)D config, for `[batch, frames, height, width, channels]`."""
    return R2Plus1D(
        blocks=config.blocks,
        widths=config.widths,
        stem_channels=config.stem_channels,
        norm=norm_options(config),
        pooling={
            "num_layers": config.pooling_layers,
            "num_heads": config.pooling_heads,
            "steps": config.pooling_steps,
            "dropout_rate": config.pooling_dropout_rate,
            "positions": config.pooling_positions,
            "project_values": config.pooling_values,
        },
        final_endpoint=config.final_endpoint,
        frozen=config.freeze_backbone,
        name=name,
        dtype=dtype,
    )
