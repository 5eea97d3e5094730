"""The baseline of Everything at Once: AVLnet's text, video and sound, without a transformer.

Padding counts as published: a word that is not there contributes the largest of its values to a
sentence like any other, and a place without video its zeros. As published, too, a clip is taken to
have sound where it has video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from keras import ops

from vatt.errors import UserError
from vatt.methods.eao import frames
from vatt.methods.eao.config import AUDIO, TEXT, VIDEO, ModelConfig
from vatt.methods.eao.model import (
    EMBEDDING,
    FRAMES,
    NONEMPTY,
    POOLED,
    ComparedModalities,
    gated_cost,
)
from vatt.modeling import flops
from vatt.modeling.backbones.davenet import DAVEnet
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.dense import FanInDense
from vatt.modeling.layers.gated import GATED, MINIMAL, GatedUnit
from vatt.modeling.layers.projection import unit_length
from vatt.modeling.pretraining import Features
from vatt.modeling.random import Randomness
from vatt.modeling.typing import DType, Shape, Tensor


class LargestWord(ConfiguredLayer):
    """The largest value of each feature over all words, `relu(dense(word))` each."""

    def __init__(self, units: int, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.features_dim = units
        self.fc = FanInDense(units, name="fc", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        """Creates the layer for words `[rows, words, features]`."""
        self.fc.build(input_shape)

    def call(self, x: Tensor) -> Tensor:
        """Maps words `[rows, words, features]` to `[rows, units]`."""
        return ops.max(ops.relu(self.fc(x)), axis=1)


class LargestToken(ConfiguredLayer):
    """The largest value of each feature over all tokens, brought to length 1."""

    def __init__(self, width: int, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.features_dim = width

    def build(self, input_shape: Shape) -> None:
        """Creates nothing."""

    def call(self, x: Tensor) -> Tensor:
        """Maps tokens `[rows, tokens, width]` to `[rows, width]`; vectors stay as they are."""
        if x.shape[-1] != self.features_dim:
            raise UserError(
                f"{self.name}: features are {x.shape[-1]} wide, but model_config says "
                f"{self.features_dim} ({self.name}_embed_dim)"
            )
        return unit_length(ops.max(x, axis=1)) if len(x.shape) == 3 else x


class AVLnetBaseline(ComparedModalities):
    """Video, text and sound in one space, each by itself.

    Args:
      config: of the model.
      dtype: 'float32' or 'mixed_bfloat16'.
    """

    def __init__(self, config: ModelConfig, dtype: DType = "float32"):
        super().__init__(config, dtype)
        policy, width = self.dtype_policy, config.projection_dim
        self.text = LargestWord(width, name=TEXT, dtype=policy)
        self.video = LargestToken(config.video_embed_dim, name=VIDEO, dtype=policy)
        self.audio = DAVEnet(*config.davenet, self.norm, frames.BANDS, name=AUDIO, dtype=policy)
        self.text_unit = GatedUnit(width, name="text_unit", dtype=policy)
        self.video_unit = GatedUnit(width, name="video_unit", dtype=policy)
        self.audio_unit = GatedUnit(self.audio.features_dim, name="audio_unit", dtype=policy)
        self.audio_projection = FanInDense(width, name="audio_projection", dtype=policy)

    def build(self, shapes: Mapping[str, Sequence[int | None]] | None = None) -> None:
        """Creates every variable; the configuration says all widths."""
        config, sound = self.config, (None, self.audio.features_dim)
        self.text.build((None, None, config.text_embed_dim))
        self.video.build((None, None, config.video_embed_dim))
        self.audio.build((None, None, frames.BANDS))
        self.text_unit.build((None, config.projection_dim))
        self.video_unit.build((None, config.video_embed_dim))
        self.audio_unit.build(sound)
        self.audio_projection.build(sound)
        self.built = True

    def rows_of(
        self, modality: str, shape: tuple[int | None, ...]
    ) -> tuple[int, tuple[int | None, ...]]:
        """Returns how many rows the tower sees of an example of `shape`, and the shape of one."""
        rows, shape = super().rows_of(modality, shape)
        return rows, shape[::-1] if modality == AUDIO else shape  # time first

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Returns features by modality: `features_pooled`, `embedding` and `nonempty`."""
        found: Features = {}
        for modality in (m for m in self.modalities if m in inputs):
            x, mask = self._given(inputs, modality)
            if modality == AUDIO:
                pooled = self._heard(x, inputs.get(FRAMES), training)
                embedding = self.audio_projection(self.audio_unit(pooled))
                mask = inputs.get(f"{VIDEO}_mask", mask)
            else:
                pooled = self.backbone(modality)(x)
                embedding = (self.text_unit if modality == TEXT else self.video_unit)(pooled)
            nonempty = ops.cast(ops.any(mask > 0, axis=1), "float32")
            embedding = ops.cast(embedding, "float32")
            found[modality] = {POOLED: pooled, EMBEDDING: embedding, NONEMPTY: nonempty}
        return found

    def _heard(self, x: Tensor, lengths: Tensor | None, training: bool) -> Tensor:
        """Returns the mean over the tokens of the sound, of all where the first length is -1."""
        states = self.audio(ops.transpose(x, (0, 2, 1)), training=training)["features"]
        if lengths is None:
            return ops.mean(states, axis=1)
        tokens = states.shape[1]
        ratio = round(x.shape[-1] / tokens)
        count = ops.clip(ops.cast(lengths, "int32") // ratio, 1, tokens)
        count = ops.where(lengths[0] == -1, tokens, count)
        there = ops.cast(ops.arange(tokens, dtype="int32")[None] < count[:, None], "float32")
        summed = ops.sum(ops.cast(states, "float32") * there[..., None], axis=1)
        return ops.cast(summed / ops.cast(count, "float32")[:, None], states.dtype)

    def head_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what the gated units cost for one example."""
        config, sound = self.config, self.audio.features_dim
        cost = gated_cost(GATED, 1, config.projection_dim, config.projection_dim)
        cost += gated_cost(GATED, 1, config.video_embed_dim, config.projection_dim)
        cost += gated_cost(GATED, 1, sound, sound)
        return cost + gated_cost(MINIMAL, 1, sound, config.projection_dim)


@flops.count.register
def _(layer: LargestWord, shape: tuple[int, ...], training: bool = False) -> flops.Tower:
    words, width = shape
    return flops.Tower((words,), None, gated_cost(MINIMAL, words, width, layer.features_dim))


@flops.count.register
def _(layer: LargestToken, shape: tuple[int, ...], training: bool = False) -> flops.Tower:
    return flops.Tower(tuple(shape[:-1]), None, flops.Cost())
