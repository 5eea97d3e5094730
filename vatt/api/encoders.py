"""What a model gives for clips and sentences, whichever task and method it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import tensorflow as tf

from vatt.api.encoding import in_batches
from vatt.api.results import LOGITS
from vatt.data.features import TEXT
from vatt.evaluators.subject import POOLED, Arrays
from vatt.experiments import labelled
from vatt.experiments.pretrain_eval import Functions
from vatt.modeling.backbones.bottleneck import BottleneckTransformer
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.pretraining import Pair, PretrainingModel


class Encoder(Protocol):
    """A model as this package sees it.

    Attributes:
      modalities: the inputs that it takes.
      together: whether it takes them together only.
      pairs: which of its embeddings are compared.
      spaces: of each space the keys of the embeddings in it, by modality.
      parameters: how many numbers its weights are.
      published: whether SavedModels of such models were published, called on all modalities.
    """

    modalities: Sequence[str]
    together: bool
    pairs: Sequence[Pair]
    spaces: Sequence[Mapping[str, str]]
    parameters: int
    published: bool

    def __call__(self, clips: Mapping[str, object]) -> Arrays:
        """Returns what is known of clips [rows, ...] by modality, float32 [rows, d] by key."""

    def of_rows(self, clips: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the same in a graph, of any number of rows."""

    def as_published(self, clips: Mapping[str, tf.Tensor]) -> tf.Tensor | dict[str, tf.Tensor]:
        """Returns what published SavedModels do of clips [rows, ...] of all modalities."""


class PretrainedEncoder:
    """A pretrained model: embeddings in all its spaces, and the features below them."""

    together = False

    def __init__(self, model: PretrainingModel) -> None:
        """Compiles nothing yet."""
        self._functions = Functions(model, in_batches, tf.distribute.get_strategy())
        self._model, self.published = model, bool(model.published_tokens)
        self.modalities, self.pairs, self.spaces = model.modalities, model.pairs, model.spaces
        self.parameters = model.count_params()

    def __call__(self, clips: Arrays) -> Arrays:
        """Returns embeddings and pooled features of clips of one modality; those that count first.

        Words are [rows, words].
        """
        ((modality, rows),) = clips.items()
        found = self._functions.encode(modality, rows[:, None])  # one window each
        return {key: found[key][:, 0] for key in self._ordered(modality, found)}

    def of_rows(self, clips: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the same in a graph, of any number of rows."""
        ((modality, _),) = clips.items()
        found = self._functions.of_rows(clips)
        return {key: found[key] for key in self._ordered(modality, found)}

    def as_published(self, clips: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the tokens of each modality after the last layer, [rows, tokens, d] by name."""
        towers = self._model.towers(clips)
        names = self._model.published_tokens
        return {names[m]: tf.cast(towers[m]["features"], tf.float32) for m in towers}

    def _ordered(self, modality: str, found: Mapping[str, object]) -> list[str]:
        """Keys of a modality, in the order in which pairs name them."""
        keys = [space_of(pair, modality) for pair in self.pairs]
        return [key for key in dict.fromkeys([*keys, *sorted(found), POOLED]) if key in found]


class ClassifierEncoder:
    """A fine-tuned model: logits, and the features below them."""

    pairs: Sequence[Pair] = ()
    spaces: Sequence[Mapping[str, str]] = ()

    def __init__(self, model: ClassificationModel) -> None:
        """Compiles nothing yet."""
        self._model, self.modalities = model, model.modalities
        self.published = isinstance(model.backbone, BottleneckTransformer)
        self.together = len(model.modalities) > 1
        self.parameters = model.count_params()

    def __call__(self, clips: Arrays) -> Arrays:
        """Returns pooled features and logits of clips of all the modalities."""
        return in_batches(self._run, clips)

    @tf.function(autograph=False)
    def _run(self, clips: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.of_rows(clips)

    def of_rows(self, clips: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the same in a graph, of any number of rows."""
        outputs = self._model(labelled.as_inputs(clips), training=False)
        return {key: tf.cast(outputs[key], tf.float32) for key in (POOLED, LOGITS)}

    def as_published(self, clips: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns logits, [rows, classes]."""
        return self.of_rows(clips)[LOGITS]


def space_of(pair: Pair, modality: str) -> str | None:
    """Returns the key of a modality in a pair, None where it is no side of it."""
    return {pair.target: pair.right, pair.query: pair.left}.get(modality)


def widths(
    encoder: Encoder, shapes: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, int | None]]:
    """Returns how wide embeddings are, by modality and key, without running the model.

    Args:
      encoder: takes its modalities one by one.
      shapes: of a clip by modality, as `pipeline.clip_shapes` gives them.
    """
    found = {}
    for modality in encoder.modalities:
        words = modality == TEXT
        shape = shapes[modality][-1:] if words else shapes[modality]  # a row is one sentence
        clip = tf.TensorSpec((None, *shape), tf.int32 if words else tf.float32)
        graph = tf.function(encoder.of_rows, autograph=False).get_concrete_function(
            {modality: clip}
        )
        outputs = graph.structured_outputs
        found[modality] = {key: x.shape[-1] for key, x in outputs.items() if key != LOGITS}
    return found
