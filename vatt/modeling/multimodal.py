"""The pre-training model: a backbone per modality and heads that bring them into common spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from vatt.modeling.random import Randomness

MODALITIES = ("video", "audio", "text")


@keras.saving.register_keras_serializable("vatt")
class MultimodalModel(keras.Model):
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
        dtype: Any = "float32",
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

    def towers(
        self, inputs: Mapping[str, Any], training: bool = False, rng: Randomness | None = None
    ) -> dict[str, dict[str, Any]]:
        """Runs the backbone of each modality in `inputs` and returns its features by modality.

        Text may hold several rows per clip, clip-major; they draw from their own global rows.
        """
        features = {}
        for modality in MODALITIES:
            if modality in inputs:
                below = None if rng is None else rng.child(modality)
                if below is not None and modality == "text":
                    below = below.rows(_rows_per_clip(inputs))
                tower = getattr(self, modality)
                features[modality] = tower(inputs[modality], training=training, rng=below)
        return features

    def call(
        self, inputs: Mapping[str, Any], training: bool = False, rng: Randomness | None = None
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


def _rows_per_clip(inputs: Mapping[str, Any]) -> int:
    """Returns how many text rows belong to a clip, from static batch sizes; 1 for text alone."""
    clips = next((inputs[m].shape[0] for m in ("video", "audio") if m in inputs), None)
    rows = inputs["text"].shape[0]
    if clips is None:
        return 1
    if rows is None or rows % clips:
        raise ValueError(
            f"text has {rows} rows for {clips} clips: not the same number for every clip"
        )
    return rows // clips
