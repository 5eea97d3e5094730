"""What a training example is: from a record to the arrays that a model is trained on.

A method describes its examples by a subclass of `Examples`, or takes `Clips`;
`pipeline.training_batches` reads, mixes, shuffles and batches them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.data import cards, clips, lengths, mixing, pipeline, sampling, views, vision
from vatt.data.cards import Card
from vatt.data.features import LABEL, VIDEO
from vatt.data.text import Vocabulary

if TYPE_CHECKING:
    from vatt import configs

Batch = pipeline.Batch
# (seed int64 [2] of the element, serialized record) -> example
Maker = Callable[[tf.Tensor, tf.Tensor], Batch]


class Examples:
    """The examples of one configuration of the input.

    An example may hold several clips of a record and several views of a clip: axes of its arrays.
    """

    def __init__(self, cfg: configs.dataset.Dataset) -> None:
        """Takes the configuration of the input."""
        self.cfg = cfg

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name of what a model gets of one example, without the batch axis."""
        raise NotImplementedError

    @property
    def record_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name of what `maker` makes; they differ where `whole_batch` changes them."""
        return self.shapes

    @property
    def rows(self) -> int:
        """Rows of a batch that a record becomes, in `whole_batch`."""
        return 1

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words whose numbers are the text of an example; None without such text."""
        return None

    def stride(self, card: Card) -> int:
        """The stride of `pipeline.clip_spec`: in frames at `cfg.fps`, else in those of `card`."""
        return self.cfg.video_stride

    def maker(self, card: Card) -> Maker:
        """Returns what makes an example from a record of `card`.

        Raises:
          DataError: the set does not fit the configuration.
        """
        raise NotImplementedError

    def whole_batch(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """Does what needs all examples of a batch, or is cheaper so; `seed` is that of the step."""
        return batch


class Clips(Examples):
    """Frames, sound or both of a clip; then the sound begins where the frames do."""

    def __init__(self, cfg: configs.dataset.Dataset, modalities: Sequence[str]) -> None:
        """Takes the configuration, and which of VIDEO and AUDIO a model gets."""
        super().__init__(cfg)
        self._modalities = tuple(modalities)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by modality, without the batch axis."""
        shapes = pipeline.clip_shapes(self.cfg)
        return {modality: shapes[modality] for modality in self._modalities}

    @property
    def record_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """`shapes` before space-to-depth."""
        shapes = pipeline.raw_shapes(self.cfg)
        return {modality: shapes[modality] for modality in self._modalities}

    def maker(self, card: Card) -> Maker:
        """Returns what makes a clip from a record, its frames in the style of the configuration.

        Raises:
          DataError: a set without one of the modalities, or one that does not fit.
        """
        spec = pipeline.clip_spec(self.cfg, card, self.stride(card))
        for modality in self._modalities:
            cards.check_modality(card, modality)
        lengths.check(self.cfg, card, spec, self._modalities)
        view = views.of_config(self.cfg, self.cfg.crop_resize_style)
        noise = getattr(self.cfg, "audio_noise", 0.0)

        def make(seed: tf.Tensor, serialized: tf.Tensor) -> Batch:
            record = clips.record_of(serialized, spec)
            seeds = sampling.seeds_per_use(seed)
            return clips.synchronised_clip(
                record, seeds, view, noise, self.cfg, spec, self._modalities
            )

        return make

    def whole_batch(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """Space-to-depth, where it is asked for."""
        if VIDEO in batch and self.cfg.space_to_depth:
            batch[VIDEO] = vision.space_to_depth(batch[VIDEO])
        return batch


class LabelledClips(Clips):
    """Clips with their labels, for fine-tuning.

    Labels of sets with one label per clip are smoothed by `label_smoothing` (published: those of
    videos, which have one), others with `smooth_multi_label`; with `mixup` clips and labels are
    mixed with those of another row (`vatt.data.mixing`). Where the modalities are mixed apart, each
    has labels of its own, `label_of(modality)` instead of LABEL.
    """

    cfg: configs.dataset.Finetune

    def __init__(
        self, cfg: configs.dataset.Finetune, card: Card, modalities: Sequence[str]
    ) -> None:
        """Takes the configuration, the only set, and what the model takes of it."""
        super().__init__(cfg, modalities)
        self._card = card

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the modalities and of the labels, without the batch axis."""
        own = [label_of(m) for m in self._modalities] if self._apart else [LABEL]
        return {**super().shapes, **dict.fromkeys(own, (self._card.classes,))}

    @property
    def _apart(self) -> bool:
        return self.cfg.mixup and self.cfg.mixup_apart and len(self._modalities) > 1

    @property
    def record_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """`shapes` before space-to-depth."""
        return {**super().record_shapes, LABEL: (self._card.classes,)}

    def maker(self, card: Card) -> Maker:
        """Returns what makes a labelled clip from a record.

        Raises:
          DataError: a set without labels or one of the modalities, or one that does not fit.
        """
        spec = pipeline.clip_spec(self.cfg, card, self.stride(card))
        for modality in self._modalities:
            pipeline.check_labelled(card, modality)
        lengths.check(self.cfg, card, spec, self._modalities)
        return lambda seed, record: clips.labelled_clip(
            record, seed, self.cfg, spec, self._modalities
        )

    def whole_batch(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """Smoothing of labels, mixup and space-to-depth, where they are asked for."""
        cfg = self.cfg
        if cfg.label_smoothing and (cfg.smooth_multi_label or not self._card.multi_label):
            batch[LABEL] = pipeline.smooth_labels(batch[LABEL], cfg.label_smoothing)
        if self._apart:
            labels = batch.pop(LABEL)
            for place, modality in enumerate(self._modalities):
                how = self._mixing(sampling.fold(seed, place), tf.shape(labels)[0])
                batch[modality] = mixing.mixed(batch[modality], *how)
                batch[label_of(modality)] = mixing.mixed(labels, *how)
        elif cfg.mixup:
            how = self._mixing(seed, tf.shape(batch[LABEL])[0])
            for name in (*self._modalities, LABEL):
                batch[name] = mixing.mixed(batch[name], *how)
        return super().whole_batch(batch, seed)

    def _mixing(self, seed: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        alpha = self.cfg.mixup_alpha
        if self.cfg.mixup_style == "batch":
            return mixing.by_batch(seed, rows, alpha)
        return mixing.by_rows(seed, rows, alpha, alpha)


def label_of(modality: str) -> str:
    """The name of the labels of one modality, where each has its own."""
    return f"{LABEL}_{modality}"
