"""What every model for pretraining offers, whatever the method.

features = model.towers(inputs, training=True, rng=rng)     # may be compiled by XLA
outputs = model.train_outputs(features, rng)                # what the objective reads
embeddings = model.embed(model.towers(inputs))              # what evaluation compares
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras

from vatt.configs import sides
from vatt.modeling import flops
from vatt.modeling.random import Randomness
from vatt.modeling.typing import Tensor

Features = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Pair:
    """Two embeddings in one space, each of which can be looked for with the other.

    Attributes:
      query: what the left embedding is of: "text", "audio", "text&video", "text+video", ...
        (`vatt.configs.sides`).
      target: what the right one is of.
      left: its key in what `embed` returns.
      right: its key in what `embed` returns.
    """

    query: str
    target: str
    left: str
    right: str

    @property
    def modalities(self) -> frozenset[str]:
        """The inputs that both embeddings need."""
        return frozenset(sides.modalities(self.query) + sides.modalities(self.target))


class PretrainingModel(keras.Model):
    """The base of models for pretraining: a backbone for each modality, as attribute of its name.

    Attributes:
      modalities: the inputs it takes, by their names in a batch.
      read_in_training: names of the features that `train_outputs` reads; nothing else is kept of
        towers that take a batch in parts.
      reconstruction_notes: sentences on what `reconstructions` shows, for whoever looks at it.
      published_tokens: names of each modality's tokens in what published SavedModels return; empty
        where none were published.
    """

    modalities: tuple[str, ...] = ()
    read_in_training: tuple[str, ...] = ("features_pooled",)
    reconstruction_notes: tuple[str, ...] = ()
    published_tokens: Mapping[str, str] = MappingProxyType({})

    def build(self, shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Creates every variable; `shapes` are those of an example, by modality."""
        for modality in self.modalities:
            self.backbone(modality).build((None, *shapes[modality]))
        self.built = True

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of what `towers` takes of a batch: modalities, with masks and the like of some."""
        return self.modalities

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Pairs of embeddings that lie in one space."""
        return ()

    @property
    def spaces(self) -> tuple[Mapping[str, str], ...]:
        """Of each space the keys of the embeddings in it, by modality, or by several of a clip.

        Here those of the pairs, joined where they share a key. Where modalities have several spaces
        in common, the first one counts.
        """
        found: list[dict[str, str]] = []
        for pair in self.pairs:
            both = {pair.query: pair.left, pair.target: pair.right}
            joined = next((space for space in found if both.items() & space.items()), None)
            if joined is None:
                found.append(both)
            else:
                joined.update(both)
        return tuple(found)

    def backbone(self, modality: str) -> keras.layers.Layer:
        """Returns the tower of a modality: what a classifier can be put on."""
        return getattr(self, modality)

    def tower_paths(self) -> dict[str, dict[str, str]]:
        """Returns, by modality, where the variables of its backbone stand.

        {start of a path below the backbone: path it stands for}; the longest start that fits
        counts. A backbone of its own is {"": its path}; one that shares layers has more entries.
        """
        return {m: {"": f"{self.backbone(m).path}/"} for m in self.modalities}

    def rows_of(
        self, modality: str, shape: tuple[int | None, ...]
    ) -> tuple[int, tuple[int | None, ...]]:
        """Returns how many rows the tower sees of an example of `shape`, and the shape of one.

        Text is `(candidates, words)`.
        """
        return (shape[0], shape[1:]) if modality == "text" else (1, tuple(shape))

    def joint_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what layers between towers and heads cost for one example, such as a decoder."""
        return flops.Cost()

    def head_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what follows the towers costs for one example; `shapes` by modality."""
        return flops.Cost()

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Returns the features of each modality in `inputs`, by modality.

        Each has `features_pooled` `[rows, d]`. Nothing here may wait for other replicas, so that
        the function can be compiled.
        """
        return {
            modality: self.backbone(modality)(
                inputs[modality],
                training=training,
                rng=None if rng is None else rng.child(modality),
            )
            for modality in self.modalities
            if modality in inputs
        }

    def train_outputs(self, features: Features, rng: Randomness | None = None) -> Mapping[str, Any]:
        """Returns what the objective reads, from the towers' features in training.

        `rng` is the source of what is drawn here, for these rows.
        """
        return features

    def reconstructions(
        self, inputs: Mapping[str, Tensor], rng: Randomness
    ) -> dict[str, dict[str, Tensor]]:
        """Returns, by modality, what is predicted of clips of which parts are masked.

        Empty for models that predict nothing of what they are given. Else, of each modality:

        - `given` and `predicted` `[rows, *axes, channels]`: what is to be predicted and what is, in
          the range of the inputs; of frames some, of every axis what patches cover;
        - `seen` and `masked` `[rows, *axes, 1]`, 1 or 0: what the encoder sees, and where the
          prediction counts.

        `rng` is the source of the masks; nothing else is drawn.
        """
        return {}

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Returns embeddings `[rows, d]` by key, from the towers' features outside training.

        Only those that the modalities in `features` allow.
        """
        return {}
