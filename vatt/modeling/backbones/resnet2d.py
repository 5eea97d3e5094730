"""ResNet on spectrograms: bottleneck blocks in four groups (He et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt.errors import UserError, nearest
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.layers.conv import ConvNorm, backbone_outputs, check_config, drop_block
from vatt.modeling.random import Randomness

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
        norm: dict[str, Any],
        projection: bool,
        keep_prob: float = 1.0,
        block_size: int = 1,
        **kwargs: Any,
    ):
        config = {"filters": filters, "stride": stride, "norm": dict(norm)}
        config |= {"projection": projection, "keep_prob": keep_prob, "block_size": block_size}
        super().__init__(config=config, **kwargs)
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

    def build(self, input_shape: tuple) -> None:
        """Creates the variables for inputs `[batch, time, mel, channels]`."""
        if self.projection is not None:
            self.projection.build(input_shape)
        for conv in (self.conv_0, self.conv_1, self.conv_2):
            conv.build(input_shape)
            input_shape = (*input_shape[:-1], conv.filters)

    def call(self, x: Any, training: bool = False, rng: Randomness | None = None) -> Any:
        """Maps `[batch, time, mel, channels]` to `[batch, time / stride, mel / stride, 4 f]`."""

        def drop(values: Any, name: str) -> Any:
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

    def __init__(self, depth: int, filters: float, stride: int, **kwargs: Any):
        names = ("norm", "keep_prob", "block_size")
        block = {name: kwargs.pop(name) for name in names if name in kwargs}
        config = {"depth": depth, "filters": filters, "stride": stride, **block}
        super().__init__(config=config, **kwargs)
        self.blocks = [
            Bottleneck(
                filters,
                stride if index == 0 else 1,
                projection=index == 0,
                **block,
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(depth)
        ]
        self.filters = self.blocks[0].filters

    def build(self, input_shape: tuple) -> None:
        """Creates the variables for inputs `[batch, time, mel, channels]`."""
        for block in self.blocks:
            block.build(input_shape)
            input_shape = (*input_shape[:-1], self.filters)

    def call(self, x: Any, training: bool = False, rng: Randomness | None = None) -> Any:
        """Runs the blocks one after another."""
        for block in self.blocks:
            below = None if rng is None else rng.child(block.name)
            x = block(x, training=training, rng=below)
        return x


@keras.saving.register_keras_serializable("vatt")
class ResNet2D(ConfiguredLayer):
    """The backbone, without classifier.

    Args:
        depths: blocks of each of the four groups.
        norm: options of batch normalisation; see `batch_norm.make`.
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
        norm: dict[str, Any],
        width: float = 1,
        cifar_stem: bool = False,
        stop_gradient_point: int = -1,
        keep_probs: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        block_size: int = 1,
        final_endpoint: str = "last_conv",
        frozen: bool = False,
        **kwargs: Any,
    ):
        config = {"depths": tuple(depths), "norm": dict(norm), "width": width}
        config |= {"cifar_stem": cifar_stem, "stop_gradient_point": stop_gradient_point}
        config |= {"keep_probs": tuple(keep_probs), "block_size": block_size}
        super().__init__(
            config={**config, "final_endpoint": final_endpoint, "frozen": frozen}, **kwargs
        )
        self.stop_gradient_point = stop_gradient_point
        self.final_endpoint, self.frozen = final_endpoint, frozen
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
                norm=norm,
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
            self.trainable = False

    def build(self, input_shape: tuple) -> None:
        """Creates all variables; only the channels of `input_shape` matter."""
        shape = (None, None, None, input_shape[-1])
        for layer in (self.stem, *self.groups):
            layer.build(shape)
            shape = (*shape[:-1], layer.filters)

    def call(
        self,
        x: Any,
        training: bool = False,
        rng: Randomness | None = None,
        intermediates: bool = False,
    ) -> dict[str, Any]:
        """Encodes `x`, `[batch, time, mel, 1]`; random in training where DropBlock is on.

        Returns:
            `features_pooled` `[batch, d]`, the mean of the last endpoint over time and mel;
            `features`, `[batch, time, mel, channels]` of the final endpoint; with
            `intermediates` also `endpoints` by name.
        """
        training = training and not self.frozen
        x = self.stem(x, training=training)
        x = x if self.pool is None else self.pool(x)
        endpoints = {}
        for index, group in enumerate(self.groups):
            if index == self.stop_gradient_point:
                x = ops.stop_gradient(x)
            below = None if rng is None else rng.child(group.name)
            x = group(x, training=training, rng=below)
            endpoints[f"unit_out_{index}"] = x
        endpoints["last_conv"] = x
        return backbone_outputs(
            endpoints,
            self.final_endpoint,
            frozen=self.frozen or self.stop_gradient_point == len(self.groups),
            intermediates=intermediates,
        )


def resnet2d(config: Any, *, name: str = "audio", dtype: Any = "float32") -> ResNet2D:
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


def _drop_block_arguments(config: Any) -> dict[str, Any]:
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
