"""I3D: Inception on video, with kernels and pooling over time (Carreira and Zisserman, 2017)."""

from __future__ import annotations

from typing import Unpack

import keras
from keras import ops

from vatt import configs
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.conv import ConvNorm, check_config, features_of
from vatt.modeling.random import Randomness
from vatt.modeling.typing import DType, Features, Outputs, Shape, Tensor

# Stage by name: convolutions (filters, kernel side, stride), pooling (size, strides), and Inception
# blocks (filters of branch 0; of branch 1, twice; of branch 2, twice; of branch 3).
CONVS = {
    "conv3d_1a_7x7": (64, 7, 2),
    "conv3d_2b_1x1": (64, 1, 1),
    "conv3d_2c_3x3": (192, 3, 1),
}
POOLS = {
    "maxpool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "maxpool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "maxpool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "maxpool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
MIXED = {
    "mixed_3b": (64, (96, 128), (16, 32), 32),
    "mixed_3c": (128, (128, 192), (32, 96), 64),
    "mixed_4b": (192, (96, 208), (16, 48), 64),
    "mixed_4c": (160, (112, 224), (24, 64), 64),
    "mixed_4d": (128, (128, 256), (24, 64), 64),
    "mixed_4e": (112, (144, 288), (32, 64), 64),
    "mixed_4f": (256, (160, 320), (32, 128), 128),
    "mixed_5b": (256, (160, 320), (32, 128), 128),
    "mixed_5c": (384, (192, 384), (48, 128), 128),
}
ENDPOINTS = (
    *("conv3d_1a_7x7", "maxpool3d_2a_3x3", "conv3d_2b_1x1", "conv3d_2c_3x3", "maxpool3d_3a_3x3"),
    *("mixed_3b", "mixed_3c", "maxpool3d_4a_3x3"),
    *("mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f", "maxpool3d_5a_2x2"),
    *("mixed_5b", "mixed_5c"),
)


@keras.saving.register_keras_serializable("vatt")
class Mixed(ConfiguredLayer):
    """An Inception block: four branches over the same positions, concatenated.

    1x1x1; 1x1x1 then 3x3x3, twice with different widths; maximum over 3x3x3 then 1x1x1.

    Args:
      filters: of each branch in order, a pair where it has two convolutions.
      norm: options of batch normalisation.
    """

    def __init__(
        self,
        filters: tuple[int, tuple[int, int], tuple[int, int], int],
        norm: batch_norm.NormOptions,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)

        def unit(filters: int, side: int, name: str) -> ConvNorm:
            return ConvNorm(
                filters, (side,) * 3, (1,) * 3, norm, name=name, dtype=self.dtype_policy
            )

        b0, (b1_0, b1_1), (b2_0, b2_1), b3 = filters
        self.b0_0 = unit(b0, 1, "b0_0")
        self.b1_0, self.b1_1 = unit(b1_0, 1, "b1_0"), unit(b1_1, 3, "b1_1")
        self.b2_0, self.b2_1 = unit(b2_0, 1, "b2_0"), unit(b2_1, 3, "b2_1")
        self.b3_0 = _pool((3, 3, 3), (1, 1, 1), "b3_0", self.dtype_policy)
        self.b3_1 = unit(b3, 1, "b3_1")
        self.filters = b0 + b1_1 + b2_1 + b3

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for `[batch, frames, height, width, channels]`."""
        build_each((self.b0_0, self.b1_0, self.b2_0, self.b3_1), input_shape)
        for first, second in ((self.b1_0, self.b1_1), (self.b2_0, self.b2_1)):
            second.build((*input_shape[:-1], first.filters))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Maps `[batch, frames, height, width, channels]` to as many positions of `filters`."""
        branches = [
            self.b0_0(x, training=training),
            self.b1_1(self.b1_0(x, training=training), training=training),
            self.b2_1(self.b2_0(x, training=training), training=training),
            self.b3_1(self.b3_0(x), training=training),
        ]
        return ops.concatenate(branches, axis=-1)


@keras.saving.register_keras_serializable("vatt")
class I3D(Backbone):
    """The backbone, without classifier.

    Args:
      norm: options of batch normalisation.
      final_endpoint: which of `ENDPOINTS` is returned as `features`.
      frozen: neither trained nor differentiated through.
    """

    def __init__(
        self,
        norm: batch_norm.NormOptions,
        final_endpoint: str = "mixed_5c",
        frozen: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.final_endpoint = final_endpoint
        policy = self.dtype_policy

        def stage(name: str) -> keras.layers.Layer:
            if name in POOLS:
                return _pool(*POOLS[name], name, policy)
            if name in MIXED:
                return Mixed(MIXED[name], norm, name=name, dtype=policy)
            filters, side, stride = CONVS[name]
            return ConvNorm(filters, (side,) * 3, (stride,) * 3, norm, name=name, dtype=policy)

        self.stages = [stage(name) for name in ENDPOINTS]
        self.features_dim = self.stages[-1].filters
        if frozen:
            self.freeze()

    def build(self, input_shape: Shape) -> None:
        """Creates all variables; only the channels of `input_shape` matter."""
        channels = input_shape[-1]
        for stage in self.stages:
            if stage.name not in POOLS:
                stage.build((None, None, None, None, channels))
                channels = stage.filters

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes `x`, `[batch, frames, height, width, channels]`; nothing here is random.

        Returns:
          `features_pooled` `[batch, 1024]`, the mean of the last endpoint over frames and
          positions; `features`, `[batch, frames, height, width, channels]` of the final
          endpoint. As inner states `endpoints` by name.
        """
        endpoints = {}
        for stage in self.stages:
            x = stage(x) if stage.name in POOLS else stage(x, training=training)
            endpoints[stage.name] = x
        return features_of(endpoints, self.final_endpoint), {"endpoints": endpoints}


def _pool(
    size: tuple[int, ...], strides: tuple[int, ...], name: str, dtype: DType
) -> keras.layers.MaxPooling3D:
    return keras.layers.MaxPooling3D(
        size, strides, padding="same", data_format="channels_last", name=name, dtype=dtype
    )


def i3d(config: configs.video.I3D, *, name: str = "video", dtype: DType = "float32") -> I3D:
    """Returns the backbone of an I3D config, for `[batch, frames, height, width, channels]`.

    `width_multiplier` and `conv_weight_decay` have no effect, as published.

    Raises:
      UserError: unknown `final_endpoint`, or a `data_format` other than channels_last.
    """
    check_config(config, ENDPOINTS)
    return I3D(
        norm=batch_norm.options(config),
        final_endpoint=config.final_endpoint,
        frozen=config.freeze_backbone,
        name=name,
        dtype=dtype,
    )
