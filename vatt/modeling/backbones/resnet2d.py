"""ResNet on spectrograms: bottleneck blocks in four groups (He et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.errors import UserError, nearest
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.conv import ConvNorm, check_config, drop_block, features_of
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Features, Outputs, Shape, Tensor

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}  # blocks of each group
FILTERS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
EXPANSION = 4  # the last convolution of a block is this much wider than the others
ENDPOINTS = ("unit_out_0", "unit_out_1", "unit_out_2", "unit_out_3", "last_conv")


@keras.saving.register_keras_serializable("vatt")
class Bottleneck(ConfiguredLayer):
    """`relu(shortcut(x) + conv1x1(conv3x3(conv1x1(x))))`.

    Args:
      filters: of the first two convolutions; the last has four times as many. May be a fraction:
        each convolution rounds its own number down.
      stride: of the 3x3 convolution, along both axes.
      norm: options of batch normalisation.
      projection: whether the shortcut is a 1x1 convolution with the stride, or nothing.
      keep_prob: of DropBlock, after every convolution and on the shortcut; 1 for none.
      block_size: of DropBlock, in positions.
    """

    def __init__(
        self,
        filters: float,
        stride: int,
        norm: batch_norm.NormOptions,
        projection: bool,
        keep_prob: float = 1.0,
        block_size: int = 1,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.keep_prob, self.block_size = keep_prob, block_size
        self.filters = int(EXPANSION * filters)
        common = {"norm": norm, "dtype": self.dtype_policy}
        strides = (stride, stride)
        self.conv_0 = ConvNorm(int(filters), (1, 1), (1, 1), name="conv_0", **common)
        self.conv_1 = ConvNorm(int(filters), (3, 3), strides, centred=True, name="conv_1", **common)
        self.conv_2 = ConvNorm(
            self.filters, (1, 1), (1, 1), relu=False, zero_scale=True, name="conv_2", **common
        )
        self.projection = None
        if projection:
            self.projection = ConvNorm(
                self.filters, (1, 1), strides, relu=False, name="projection", **common
            )

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[batch, time, mel, channels]`."""
        if self.projection is not None:
            self.projection.build(input_shape)
        for conv in (self.conv_0, self.conv_1, self.conv_2):
            conv.build(input_shape)
            input_shape = (*input_shape[:-1], conv.filters)

    def call(self, x: Tensor, training: bool = False, rng: Randomness | None = None) -> Tensor:
        """Maps `[batch, time, mel, channels]` to `[batch, time / stride, mel / stride, 4 f]`."""

        def drop(values: Tensor, name: str) -> Tensor:
            return drop_block(
                values, self.keep_prob, self.block_size, training=training, rng=rng, name=name
            )

        shortcut = x if self.projection is None else self.projection(x, training=training)
        for conv in (self.conv_0, self.conv_1, self.conv_2):
            x = drop(conv(x, training=training), conv.name)
        return ops.relu(drop(shortcut, "shortcut") + x)


@keras.saving.register_keras_serializable("vatt")
class BlockGroup(ConfiguredLayer):
    """`depth` blocks of the same width; the first has the stride and a projected shortcut.

    Takes the arguments of `Bottleneck` besides `depth`.
    """

    def __init__(
        self,
        depth: int,
        filters: float,
        stride: int,
        norm: batch_norm.NormOptions,
        keep_prob: float = 1.0,
        block_size: int = 1,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.blocks = [
            Bottleneck(
                filters,
                stride if index == 0 else 1,
                norm,
                projection=index == 0,
                keep_prob=keep_prob,
                block_size=block_size,
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(depth)
        ]
        self.filters = self.blocks[0].filters

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[batch, time, mel, channels]`."""
        for block in self.blocks:
            block.build(input_shape)
            input_shape = (*input_shape[:-1], self.filters)

    def call(self, x: Tensor, training: bool = False, rng: Randomness | None = None) -> Tensor:
        """Runs the blocks one after another."""
        for block in self.blocks:
            x = block(x, training=training, rng=child(rng, block.name))
        return x


@keras.saving.register_keras_serializable("vatt")
class ResNet2D(Backbone):
    """The backbone, without classifier.

    Args:
      depths: blocks of each of the four groups.
      norm: options of batch normalisation.
      width: factor on all channels, may be a fraction.
      cifar_stem: begin with 3x3 at full resolution instead of 7x7 and pooling, both of stride 2.
      stop_gradient_point: gradients stop before the group of this index (4: after all); what
        they do not reach is frozen. -1 for none.
      keep_probs: DropBlock's keep probability in each group.
      block_size: side of DropBlock's squares, in positions.
      final_endpoint: which of `ENDPOINTS` is returned as `features`.
      frozen: neither trained nor differentiated through.
    """

    def __init__(
        self,
        depths: Sequence[int],
        norm: batch_norm.NormOptions,
        width: float = 1,
        cifar_stem: bool = False,
        stop_gradient_point: int = -1,
        keep_probs: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        block_size: int = 1,
        final_endpoint: str = "last_conv",
        frozen: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.stop_gradient_point, self.final_endpoint = stop_gradient_point, final_endpoint
        policy = self.dtype_policy
        kernel, strides = ((3, 3), (1, 1)) if cifar_stem else ((7, 7), (2, 2))
        self.stem = ConvNorm(
            int(FILTERS[0] * width), kernel, strides, norm, centred=True, name="stem", dtype=policy
        )
        self.pool = None
        if not cifar_stem:
            self.pool = keras.layers.MaxPooling2D(
                3, 2, padding="same", data_format="channels_last", name="pool", dtype=policy
            )
        self.groups = [
            BlockGroup(
                depth,
                FILTERS[index] * width,
                STRIDES[index],
                norm,
                keep_prob=keep_probs[index],
                block_size=block_size,
                name=f"group_{index}",
                dtype=policy,
            )
            for index, depth in enumerate(depths)
        ]
        self.features_dim = self.groups[-1].filters
        if stop_gradient_point >= 0:
            for layer in (self.stem, *self.groups[:stop_gradient_point]):
                layer.trainable = False
        if frozen:
            self.freeze()

    def build(self, input_shape: Shape) -> None:
        """Creates all variables; only the channels of `input_shape` matter."""
        shape = (None, None, None, input_shape[-1])
        for layer in (self.stem, *self.groups):
            layer.build(shape)
            shape = (*shape[:-1], layer.filters)

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes `x`, `[batch, time, mel, 1]`; random in training where DropBlock is on.

        Returns:
          `features_pooled` `[batch, d]`, the mean of the last endpoint over time and mel;
          `features`, `[batch, time, mel, channels]` of the final endpoint. As inner states
          `endpoints` by name.
        """
        x = self.stem(x, training=training)
        x = x if self.pool is None else self.pool(x)
        endpoints = {}
        for index, group in enumerate(self.groups):
            if index == self.stop_gradient_point:
                x = ops.stop_gradient(x)
            x = group(x, training=training, rng=child(rng, group.name))
            endpoints[f"unit_out_{index}"] = x
        endpoints["last_conv"] = x
        outputs = features_of(endpoints, self.final_endpoint)
        if self.stop_gradient_point == len(self.groups):
            outputs = {name: ops.stop_gradient(value) for name, value in outputs.items()}
        return outputs, {"endpoints": endpoints}


def resnet2d(
    config: configs.audio.Resnet2DBase, *, name: str = "audio", dtype: DType = "float32"
) -> ResNet2D:
    """Returns the backbone of a Resnet2D config, for spectrograms `[batch, time, mel, 1]`.

    Raises:
      UserError: unknown `backbone` or `final_endpoint`, a `data_format` other than
        channels_last, no channel left by `width_multiplier`, incomplete DropBlock fields.
    """
    check_config(config, ENDPOINTS)
    if config.backbone not in DEPTHS:
        raise UserError(
            f"{config.name}: backbone: {config.backbone!r} is not one of {list(DEPTHS)}."
            f"{nearest(config.backbone, DEPTHS)}"
        )
    if int(FILTERS[0] * config.width_multiplier) == 0:
        raise UserError(
            f"{config.name}: width_multiplier: {config.width_multiplier} leaves no channel, "
            f"expected at least 1/{FILTERS[0]}."
        )
    return ResNet2D(
        depths=DEPTHS[config.backbone],
        norm=batch_norm.options(config),
        width=config.width_multiplier,
        cifar_stem=config.cifar_stem,
        stop_gradient_point=config.stop_gradient_point,
        **_drop_block_arguments(config),
        final_endpoint=config.final_endpoint,
        frozen=config.freeze_backbone,
        name=name,
        dtype=dtype,
    )


class _DropBlock(TypedDict, total=False):
    keep_probs: Sequence[float]
    block_size: int


def _drop_block_arguments(config: configs.audio.Resnet2DBase) -> _DropBlock:
    probs = config.dropblock_keep_probs
    if probs is None:
        return {}
    if len(probs) != len(FILTERS):
        raise UserError(
            f"{config.name}: dropblock_keep_probs: {list(probs)} has {len(probs)} numbers, "
            f"expected {len(FILTERS)}, one for each group of blocks."
        )
    if config.dropblock_size is None:
        raise UserError(
            f"{config.name}: dropblock_size: None with dropblock_keep_probs {list(probs)}, "
            "expected the side of the dropped squares in positions."
        )
    return {"keep_probs": probs, "block_size": config.dropblock_size}
