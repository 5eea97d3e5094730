"""ResNet-9 and ResNet-18 on spectrograms: basic blocks in four stages (He et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import keras

from vatt import configs
from vatt.modeling.backbones.basic_resnet import (
    FAN_IN,
    BasicBlock,
    BasicResNet,
    norm_options,
)
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import LayerOptions
from vatt.modeling.layers.conv import ConvNorm
from vatt.modeling.typing import DType


@keras.saving.register_keras_serializable("vatt")
class SpectrogramBlock(BasicBlock):
    """A block of two 3x3 convolutions."""

    rank, side = 2, 3


@keras.saving.register_keras_serializable("vatt")
class AudioResNet(BasicResNet):
    """The backbone, without classifier.

    Args:
      blocks: blocks of each stage.
      widths: channels of each stage.
      norm: options of batch normalisation.
      final_endpoint: which of `configs.residual.ENDPOINTS` is returned as `features`.
      frozen: neither trained nor differentiated through.
    """

    pools = True

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        norm: batch_norm.NormOptions,
        final_endpoint: str = "layer4",
        frozen: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        stem = ConvNorm(
            widths[0],
            (7, 7),
            (2, 2),
            norm,
            centred=True,
            kernel_initializer=FAN_IN,
            name="stem",
            dtype=self.dtype_policy,
        )
        self.assemble(stem, SpectrogramBlock, blocks, widths, norm, final_endpoint, frozen)


def resnet(
    config: configs.audio.ResNet9, *, name: str = "audio", dtype: DType = "float32"
) -> AudioResNet:
    """Returns the backbone of a ResNet config, for spectrograms `[batch, time, filters, 1]`."""
    return AudioResNet(
        blocks=config.blocks,
        widths=config.widths,
        norm=norm_options(config),
        final_endpoint=config.final_endpoint,
        frozen=config.freeze_backbone,
        name=name,
        dtype=dtype,
    )
