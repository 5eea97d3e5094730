"""What networks of basic residual blocks have in common, on sounds and on videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.conv import ConvNorm, features_of
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Features, Outputs, Shape, Tensor

# First values of kernels as dicts, so that each layer draws its own: normal with variance
# 2 / fan_out (He et al., 2015), and PyTorch's, uniform within 1 / sqrt(fan_in).
FAN_OUT = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}
FAN_IN = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}


class BasicBlock(ConfiguredLayer):
    """`relu(shortcut(x) + conv_2(conv_1(x)))`; a subclass says how large its kernels are.

    The shortcut is a convolution at single places, with the stride, where the shape changes; else
    nothing.

    Args:
      inputs: channels of the input.
      filters: channels of the output.
      stride: of the first convolution, along all axes.
      norm: options of batch normalisation.

    Attributes:
      rank: number of axes between batch and channels.
      side: of the kernels, along each of these axes.
    """

    rank: ClassVar[int]
    side: ClassVar[int]

    def __init__(
        self,
        inputs: int,
        filters: int,
        stride: int,
        norm: batch_norm.NormOptions,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.inputs, self.filters, self.norm = inputs, filters, norm
        self.conv1 = self.convolution(stride, "conv1")
        self.conv2 = self.convolution(1, "conv2", relu=False)
        self.shortcut = None
        if stride != 1 or inputs != filters:
            self.shortcut = ConvNorm(
                filters,
                (1,) * self.rank,
                (stride,) * self.rank,
                norm,
                relu=False,
                kernel_initializer=FAN_OUT,
                name="shortcut",
                dtype=self.dtype_policy,
            )

    def convolution(self, stride: int, name: str, relu: bool = True) -> keras.layers.Layer:
        """Returns a convolution to `filters` channels with batch norm, and relu."""
        return ConvNorm(
            self.filters,
            (self.side,) * self.rank,
            (stride,) * self.rank,
            self.norm,
            relu=relu,
            centred=True,
            kernel_initializer=FAN_OUT,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[batch, *axes, channels]`."""
        self.conv1.build(input_shape)
        self.conv2.build((*input_shape[:-1], self.filters))
        if self.shortcut is not None:
            self.shortcut.build(input_shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Maps `[batch, *axes, inputs]` to `[batch, *axes / stride, filters]`."""
        shortcut = x if self.shortcut is None else self.shortcut(x, training=training)
        x = self.conv2(self.conv1(x, training=training), training=training)
        return ops.relu(shortcut + x)


class BasicResNet(Backbone):
    """A stem and stages of basic blocks; all stages, or all but the first, halve every axis.

    A subclass calls `assemble` at the end of its constructor.

    Attributes:
      pools: whether the maximum over 3 places, every second one, is taken behind the stem.
      first_stride: of the first stage; that of the others is 2.
    """

    pools: ClassVar[bool] = False
    first_stride: ClassVar[int] = 1

    def assemble(
        self,
        stem: keras.layers.Layer,
        block: type[BasicBlock],
        blocks: Sequence[int],
        widths: Sequence[int],
        norm: batch_norm.NormOptions,
        final_endpoint: str,
        frozen: bool,
    ) -> None:
        """Makes the layers.

        Args:
          stem: gives `stem.filters` channels.
          block: what the stages consist of.
          blocks: how many of each stage.
          widths: channels of each stage.
          norm: options of batch normalisation.
          final_endpoint: which is returned as `features`: the stem, or a stage, "layer1", ...
          frozen: neither trained nor differentiated through.
        """
        self.stem, self.final_endpoint, self.features_dim = stem, final_endpoint, widths[-1]
        inputs, made = stem.filters, []
        for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True), start=1):
            for index in range(count):
                stride = 1
                if index == 0:
                    stride = self.first_stride if stage == 1 else 2
                name = f"layer{stage}_{index}"
                made.append(
                    block(inputs, filters, stride, norm, name=name, dtype=self.dtype_policy)
                )
                inputs = filters
        self.blocks = made
        if frozen:
            self.freeze()

    def build(self, input_shape: Shape) -> None:
        """Creates all variables; only the channels of `input_shape` matter."""
        shape = (*(None for _ in input_shape[:-1]), input_shape[-1])
        for layer in (self.stem, *self.blocks):
            layer.build(shape)
            shape = (*shape[:-1], layer.filters)

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes `x`, `[batch, *axes, channels]`; nothing here is random.

        Returns:
          `features_pooled` `[batch, widths[-1]]`, the mean of the last stage over all axes;
          `features`, `[batch, *axes, channels]` of the final endpoint. As inner states
          `endpoints` by name: the stem, and every stage.
        """
        x = self.stem(x, training=training)
        endpoints = {"stem": x}
        x = _pool(x) if self.pools else x
        for block in self.blocks:
            x = block(x, training=training)
            endpoints[block.name.partition("_")[0]] = x
        return features_of(endpoints, self.final_endpoint), {"endpoints": endpoints}


def _pool(x: Tensor) -> Tensor:
    axes = len(x.shape) - 2
    x = ops.pad(x, [(0, 0), *[(1, 1)] * axes, (0, 0)])  # zeros never win: relu came before
    return ops.max_pool(x, 3, 2, padding="valid", data_format="channels_last")


def norm_options(config: configs.residual.Residual) -> batch_norm.NormOptions:
    """Returns the options of batch normalisation, PyTorch's, of a configuration."""
    return {
        "momentum": config.batch_norm_decay,
        "epsilon": config.batch_norm_epsilon,
        "scale": True,
        "synchronized": config.use_xreplica_bn,
        "unbiased": True,
    }
