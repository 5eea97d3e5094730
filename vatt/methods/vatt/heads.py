"""Projection heads: from pooled features to the common spaces where the losses compare them.

Embeddings are named by their modality and what they are compared with: `video.toaud`,
`video.totxt`, `audio.tovid`,
`text.tovid`. Heads work in float32 whatever the precision of the backbones: they are small, and
losses need it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from vatt.configs.problems import ConfigError
from vatt.methods.vatt import config as configuration
from vatt.methods.vatt.towers import MODALITIES
from vatt.modeling import flops
from vatt.modeling.layers import batch_norm
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.typing import Shape, Tensor

Embeddings = dict[str, dict[str, Tensor]]


@keras.saving.register_keras_serializable("vatt")
class ReluDenseNorm(ConfiguredLayer):
    """`[batch norm ->] relu -> dense without bias -> batch norm`."""

    def __init__(self, units: int, norm: dict[str, Any], pre_norm: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.pre_bn = batch_norm.make(norm, "pre_bn") if pre_norm else None
        self.relu = keras.layers.ReLU(name="relu", dtype="float32")
        self.dense = keras.layers.Dense(units, use_bias=False, name="dense", dtype="float32")
        self.bn = batch_norm.make(norm, "bn")

    def build(self, input_shape: Shape) -> None:
        """Creates the variables for inputs `[batch, features]`."""
        if self.pre_bn is not None:
            self.pre_bn.build(input_shape)
        self.dense.build(input_shape)
        self.bn.build((None, self.dense.units))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Maps `[batch, features]` to `[batch, units]`."""
        if self.pre_bn is not None:
            x = self.pre_bn(x, training=training)
        return self.bn(self.dense(self.relu(x)), training=training)


@keras.saving.register_keras_serializable("vatt")
class FACHead(ConfiguredLayer):
    """Fine-and-coarse: video and audio meet in a fine space, video and text in a coarse one above.

    Args:
      d_video, d_audio: width of the video-audio space.
      d_text: width of the video-text space.
      norm: options of batch normalisation: momentum, epsilon, scale, synchronized.
    """

    def __init__(
        self, d_video: int, d_audio: int, d_text: int, norm: dict[str, Any], **kwargs: Any
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.vid_to_hid = keras.layers.Dense(
            d_video, use_bias=False, name="vid_to_hid", dtype="float32"
        )
        self.hid_to_va = ReluDenseNorm(d_video, norm, pre_norm=True, name="hid_to_va")
        self.va_to_vat = ReluDenseNorm(d_text, norm, name="va_to_vat")
        self.aud_to_va = keras.layers.Dense(d_audio, name="aud_to_va", dtype="float32")
        self.txt_to_vat = keras.layers.Dense(d_text, name="txt_to_vat", dtype="float32")
        self.d_video, self.d_audio = d_video, d_audio

    def build(self, widths: dict[str, int]) -> None:
        """Creates the variables for pooled features of the given width per modality."""
        self.vid_to_hid.build((None, widths["video"]))
        self.hid_to_va.build((None, self.d_video))
        self.va_to_vat.build((None, self.d_video))
        self.aud_to_va.build((None, widths["audio"]))
        self.txt_to_vat.build((None, widths["text"]))

    def call(self, pooled: dict[str, Tensor], training: bool = False) -> Embeddings:
        """Maps pooled features `[rows, d]` by modality to embeddings; modalities may be absent."""
        outputs: Embeddings = {}
        if "video" in pooled:
            to_audio = self.hid_to_va(self.vid_to_hid(pooled["video"]), training=training)
            outputs["video"] = {
                "toaud": to_audio,
                "totxt": self.va_to_vat(to_audio, training=training),
            }
        if "audio" in pooled:
            outputs["audio"] = {"tovid": self.aud_to_va(pooled["audio"])}
        if "text" in pooled:
            outputs["text"] = {"tovid": self.txt_to_vat(pooled["text"])}
        return outputs

    @property
    def maps_sound_to_text(self) -> bool:
        """Whether sounds can be mapped on to the space of text."""
        return self.d_audio == self.d_video

    def text_space(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """Returns embeddings in the space of text by modality, from those of `call`.

        Sounds are mapped on from the space of video and audio as videos are; nothing was trained
        for that pair. Without effect on batch normalisation.
        """
        found = {}
        if "video" in embeddings:
            found["video"] = embeddings["video"]["totxt"]
        if "audio" in embeddings and self.maps_sound_to_text:
            found["audio"] = self.va_to_vat(embeddings["audio"]["tovid"], training=False)
        if "text" in embeddings:
            found["text"] = embeddings["text"]["tovid"]
        return found


@keras.saving.register_keras_serializable("vatt")
class JointHead(ConfiguredLayer):
    """One space for all three modalities.

    Args:
      d_model: width of the space.
      norm: options of batch normalisation: momentum, epsilon, scale, synchronized.
    """

    def __init__(self, d_model: int, norm: dict[str, Any], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.vid_to_vat = ReluDenseNorm(d_model, norm, name="vid_to_vat")
        self.aud_to_vat = ReluDenseNorm(d_model, norm, name="aud_to_vat")
        self.txt_to_vat = ReluDenseNorm(d_model, norm, name="txt_to_vat")

    def build(self, widths: dict[str, int]) -> None:
        """Creates the variables for pooled features of the given width per modality."""
        for modality, layer in self._layers_by_modality():
            layer.build((None, widths[modality]))

    def call(self, pooled: dict[str, Tensor], training: bool = False) -> Embeddings:
        """Maps pooled features `[rows, d]` by modality to embeddings; modalities may be absent."""
        outputs: Embeddings = {}
        for modality, layer in self._layers_by_modality():
            if modality in pooled:
                embedding = layer(pooled[modality], training=training)
                targets = ("toaud", "totxt") if modality == "video" else ("tovid",)
                outputs[modality] = dict.fromkeys(targets, embedding)
        return outputs

    maps_sound_to_text = True

    def text_space(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """Returns embeddings in the space of text by modality: all of `call`'s."""
        return {modality: next(iter(found.values())) for modality, found in embeddings.items()}

    def _layers_by_modality(self) -> tuple[tuple[str, ReluDenseNorm], ...]:
        return (("video", self.vid_to_vat), ("audio", self.aud_to_vat), ("text", self.txt_to_vat))


@keras.saving.register_keras_serializable("vatt")
class HeadStack(ConfiguredLayer):
    """Several heads side by side, their embeddings merged (a later head wins where names meet)."""

    def __init__(self, bridges: Sequence[keras.layers.Layer], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.bridges = list(bridges)

    def build(self, widths: dict[str, int]) -> None:
        """Builds every head for pooled features of the given width per modality."""
        for bridge in self.bridges:
            bridge.build(widths)

    def call(self, features: dict[str, Any], training: bool = False) -> Embeddings:
        """Maps backbone outputs, `{modality: {"features_pooled": [rows, d]}}`, to embeddings."""
        pooled = {
            modality: value["features_pooled"] if isinstance(value, dict) else value
            for modality, value in features.items()
        }
        outputs: Embeddings = {}
        for bridge in self.bridges:
            for modality, embeddings in bridge(pooled, training=training).items():
                outputs.setdefault(modality, {}).update(embeddings)
        return outputs

    @property
    def maps_sound_to_text(self) -> bool:
        """Whether sounds can be mapped on to the space of text."""
        return self.bridges[-1].maps_sound_to_text

    def text_space(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """Returns embeddings in the space that holds text, `[rows, d]` by modality.

        Args:
          embeddings: what `call` returned, of any modalities.
        """
        return self.bridges[-1].text_space(embeddings)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal layer."""
        bridges = [keras.saving.serialize_keras_object(bridge) for bridge in self.bridges]
        return {**super().get_config(), "bridges": bridges}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HeadStack:
        """Rebuilds the layer from `get_config`."""
        bridges = [keras.saving.deserialize_keras_object(bridge) for bridge in config["bridges"]]
        return cls(**{**config, "bridges": bridges})


def _norm_options(config: configuration.Bridge) -> dict[str, Any]:
    bn = config.bn_config
    return {
        "momentum": bn.momentum,
        "epsilon": bn.epsilon,
        "scale": bn.scale,
        "synchronized": config.use_xreplica_bn,
    }


@functools.singledispatch
def build_bridge(config: configuration.BaseHeadConfig, *, name: str) -> keras.layers.Layer:
    """Returns the head of a configuration, by its class."""
    raise TypeError(f"nothing builds a head from {type(config).__name__}")


@build_bridge.register
def _(config: configuration.FACBridge, *, name: str) -> FACHead:
    d_video, d_audio, d_text = config.widths()
    return FACHead(d_video, d_audio, d_text, norm=_norm_options(config), name=name)


@build_bridge.register
def _(config: configuration.JointBridge, *, name: str) -> JointHead:
    return JointHead(d_model=config.widths()[0], norm=_norm_options(config), name=name)


def build(head_config: configuration.HeadStack, *, name: str = "head") -> HeadStack:
    """Returns the heads of a head stack configuration.

    Raises:
      ConfigError: widths that do not fit together.
    """
    bridges = head_config.bridge
    problems = [p for i, c in enumerate(bridges) for p in c.problems(f"head_config.bridge.{i}")]
    if problems:
        raise ConfigError(problems)
    built = [build_bridge(config, name=f"bridge_{i}") for i, config in enumerate(bridges)]
    return HeadStack(built, name=name)


def cost(layer: HeadStack, widths: Mapping[str, int], candidates: int) -> flops.Cost:
    """Returns the cost for one clip with that many text candidates.

    `widths` are those of the pooled features by modality.
    """
    total = flops.Cost()
    for bridge in layer.bridges:
        for modality, inputs, dense in _products(bridge, widths):
            rows = candidates if modality == "text" else 1
            kept = flops.Cost(float32=rows * (inputs + dense.units))
            total += flops.product(rows, inputs, dense.units) + kept
    return total


def _products(
    layer: FACHead | JointHead, widths: Mapping[str, int]
) -> list[tuple[str, int, keras.layers.Dense]]:
    """Returns the modality, width of the input and layer of each product."""
    if isinstance(layer, JointHead):
        units = {"video": layer.vid_to_vat, "audio": layer.aud_to_vat, "text": layer.txt_to_vat}
        return [(m, widths[m], units[m].dense) for m in MODALITIES]
    return [
        ("video", widths["video"], layer.vid_to_hid),
        ("video", layer.d_video, layer.hid_to_va.dense),
        ("video", layer.d_video, layer.va_to_vat.dense),
        ("audio", widths["audio"], layer.aud_to_va),
        ("text", widths["text"], layer.txt_to_vat),
    ]
