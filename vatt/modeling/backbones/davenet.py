"""DAVEnet on log-mel spectrograms: residual stages along time, each of which halves it.

Source: Harwath et al., 2018, with residual blocks as in AVLnet and Everything at Once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import keras

from vatt.modeling.backbones.basic_resnet import BasicBlock, BasicResNet
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import LayerOptions
from vatt.modeling.layers.conv import ConvNorm
from vatt.modeling.typing import Shape


@keras.saving.register_keras_serializable("vatt")
class TimeBlock(BasicBlock):
    """A block of two convolutions over nine times."""

    rank, side = 1, 9


@keras.saving.register_keras_serializable("vatt")
class DAVEnet(BasicResNet):
    """The backbone, for spectrograms `[rows, times, bands]`, to `[rows, tokens, widths[-1]]`.

    There are `ceil(times / 2)` tokens after one stage, half as many after the next, and so on.
    Times that are padding are not masked.

    Args:
      widths: channels of the stem, then of each stage.
      blocks: blocks of each stage.
      norm: options of batch normalisation.
      bands: of the spectrogram.
      frozen: neither trained nor differentiated through.

    Attributes:
      reduction: times that a token stands for.
      input_norm: batch normalisation of the input, which published checkpoints hold and nothing
        applies.
    """

    first_stride = 2

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        norm: batch_norm.NormOptions,
        bands: int = 40,
        frozen: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        stem_width, *stages = widths
        self.reduction = 2 ** len(blocks)
        stem = ConvNorm(
            stem_width,
            (1,),
            (1,),
            norm,
            kernel_initializer=_stem_initializer(bands),
            name="stem",
            dtype=self.dtype_policy,
        )
        self.input_norm = batch_norm.make(norm, "input_norm")
        self.input_norm.trainable = False
        self.assemble(stem, TimeBlock, blocks, stages, norm, f"layer{len(blocks)}", frozen)

    def build(self, input_shape: Shape) -> None:
        """Creates all variables for inputs `[rows, times, bands]`."""
        super().build(input_shape)
        self.input_norm.build((None, 1))


def _stem_initializer(bands: int) -> dict[str, Any]:
    """Returns the published first values: the kernel counts its bands as places, not channels."""
    config = {"scale": 2.0 / bands, "mode": "fan_out", "distribution": "untruncated_normal"}
    return {"class_name": "VarianceScaling", "config": config}
