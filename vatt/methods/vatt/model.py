"""VATT's model: a backbone per modality and heads that bring them into common spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from vatt.methods.vatt import config as configuration
from vatt.methods.vatt import heads
from vatt.methods.vatt.towers import MODALITIES, UnifiedBackboneConfig
from vatt.modeling import factory, flops
from vatt.modeling.pretraining import Features, Pair, PretrainingModel
from vatt.modeling.random import Randomness
from vatt.modeling.typing import DType, Tensor

# What can be compared, by keys of `MultimodalModel.embed`. Nothing trains sound and text together.
PAIRS = (
    Pair("text", "video", "text_tovid", "video_totxt"),
    Pair("audio", "video", "audio_tovid", "video_toaud"),
    Pair("text", "audio", "text_toaud", "audio_totxt"),
)


@keras.saving.register_keras_serializable("vatt")
class MultimodalModel(PretrainingModel):
    """Video, audio and text towers and their heads.

    `towers` and `head` can be called by themselves: a training step may compile the towers and
    gather between them.

    Args:
      head: layer from the towers' outputs to embeddings.
      video: layer from `[batch, frames, height, width, channels]`.
      audio: layer from `[batch, samples, 1]` or `[batch, time, mel, 1]`.
      text: layer from word ids, int32 `[batch * candidates, words]`.
      unified: a layer that holds all three towers (and what they share), instead of them.
      name: prefix of every variable path.
    """

    def __init__(
        self,
        head: keras.layers.Layer,
        *,
        video: keras.layers.Layer | None = None,
        audio: keras.layers.Layer | None = None,
        text: keras.layers.Layer | None = None,
        unified: keras.layers.Layer | None = None,
        name: str,
        dtype: DType = "float32",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.unified = unified
        if unified is not None:
            video, audio, text = unified.video, unified.audio, unified.text
        self.video, self.audio, self.text = video, audio, text
        self.head = head

    def build(self, batch_shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Creates every variable, without running the model.

        Args:
          batch_shapes: shape of each modality's input; only the channels matter.
        """
        if self.unified is not None:
            self.unified.build({m: tuple(batch_shapes[m]) for m in MODALITIES})
        else:
            for modality in MODALITIES:
                getattr(self, modality).build(tuple(batch_shapes[modality]))
        self.head.build({modality: getattr(self, modality).features_dim for modality in MODALITIES})
        self.built = True

    def build_from(self, batch_shapes: Mapping[str, Sequence[int | None]]) -> MultimodalModel:
        """Builds and returns the model; see `build`."""
        self.build({modality: tuple(batch_shapes[modality]) for modality in MODALITIES})
        return self

    modalities = MODALITIES

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Pairs of embeddings in one space; text and sound meet where the head maps sound on."""
        return PAIRS if self.head.maps_sound_to_text else PAIRS[:2]

    @property
    def spaces(self) -> tuple[Mapping[str, str], ...]:
        """The space of sound and that of text, where `text_toaud` is `text_tovid`."""
        sound = {"audio": "audio_tovid", "video": "video_toaud"}
        text = {"text": "text_tovid", "video": "video_totxt"}
        return (sound, text | ({"audio": "audio_totxt"} if self.head.maps_sound_to_text else {}))

    def tower_paths(self) -> dict[str, dict[str, str]]:
        """Returns where the variables of each backbone stand; of a unified one the encoder too."""
        paths = super().tower_paths()
        if self.unified is not None:
            for places in paths.values():
                places["encoder/"] = f"{self.unified.encoder.path}/"
        return paths

    def head_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what the head costs for one clip with its text candidates."""
        widths = {modality: getattr(self, modality).features_dim for modality in MODALITIES}
        return heads.cost(self.head, widths, shapes["text"][0])

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Runs the backbone of each modality in `inputs` and returns its features by modality.

        Text may hold several rows per clip, `[clips, candidates, words]` or clip-major `[rows,
        words]`; they draw from their own global rows.
        """
        features = {}
        for modality in MODALITIES:
            if modality in inputs:
                values, below = inputs[modality], None if rng is None else rng.child(modality)
                if modality == "text":
                    if below is not None:
                        below = below.rows(_rows_per_clip(inputs))
                    if len(values.shape) == 3:
                        values = ops.reshape(values, (-1, values.shape[-1]))
                tower = getattr(self, modality)
                features[modality] = tower(values, training=training, rng=below)
        return features

    def train_outputs(self, features: Features, rng: Randomness | None = None) -> heads.Embeddings:
        """Returns the head's embeddings; its batch norm sees the batch of all replicas."""
        return self.head(features, training=True)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Returns `video_totxt`, `video_toaud`, `audio_tovid`, `text_tovid`, `[rows, d]` each.

        Where the head has a space for text and sound also `audio_totxt` and `text_toaud`.
        """
        head = self.head(features, training=False)
        found = {f"{m}_{target}": x for m, values in head.items() for target, x in values.items()}
        if self.head.maps_sound_to_text:
            in_text_space = self.head.text_space(head)
            for modality, key in (("audio", "audio_totxt"), ("text", "text_toaud")):
                if modality in in_text_space:
                    found[key] = in_text_space[modality]
        return {key: ops.cast(value, "float32") for key, value in found.items()}

    def call(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> dict[str, Any]:
        """Returns the features of each modality given and, under 'head', their embeddings."""
        features = self.towers(inputs, training=training, rng=rng)
        return {**features, "head": self.head(features, training=training)}

    @property
    def _parts(self) -> tuple[str, ...]:
        return ("head", "unified") if self.unified is not None else ("head", *MODALITIES)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal model."""
        parts = {p: keras.saving.serialize_keras_object(getattr(self, p)) for p in self._parts}
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        return {"name": self.name, "dtype": policy, **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> MultimodalModel:
        """Rebuilds the model from `get_config`."""
        parts = {
            part: keras.saving.deserialize_keras_object(config[part], custom_objects)
            for part in ("head", "unified", *MODALITIES)
            if part in config
        }
        return cls(**{**config, **parts})


def _rows_per_clip(inputs: Mapping[str, Tensor]) -> int:
    """Returns how many text rows belong to a clip, from static batch sizes; 1 for text alone."""
    if len(inputs["text"].shape) == 3:
        return inputs["text"].shape[1]
    clips = next((inputs[m].shape[0] for m in ("video", "audio") if m in inputs), None)
    rows = inputs["text"].shape[0]
    if clips is None:
        return 1
    if rows is None or rows % clips:
        raise ValueError(
            f"text has {rows} rows for {clips} clips: not the same number for every clip"
        )
    return rows // clips


def input_shapes(
    shapes: Mapping[str, tuple[int | None, ...]],
) -> dict[str, tuple[int | None, ...]]:
    """Returns the shapes of a batch from those of a clip, text as `(candidates, words)`."""
    return {m: (None, *(shapes[m][-1:] if m == "text" else shapes[m])) for m in MODALITIES}


def build(
    config: configuration.ModelConfig,
    *,
    dtype: DType = "float32",
    name: str | None = None,
) -> MultimodalModel:
    """Returns the (unbuilt) model of a configuration; see `MultimodalModel.build_from`.

    Args:
      config: backbones and heads.
      dtype: 'float32' or 'mixed_bfloat16'.
      name: model name and prefix of every variable path, by default `config.model_name`.
    """
    policy, stack = keras.dtype_policies.get(dtype), config.backbone_config
    if isinstance(stack, UnifiedBackboneConfig):
        towers = {"unified": factory.build_backbone(stack.resolve(), dtype=policy)}
    else:
        towers = {m: factory.build_backbone(stack.resolve(m), dtype=policy) for m in MODALITIES}
    head = heads.build(config.head_config)
    return MultimodalModel(head, **towers, name=name or config.model_name, dtype=policy)
