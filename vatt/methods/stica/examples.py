"""What STiCA is trained on: a clip in two views, and its sound.

An example: video float32 [2, frames, size, size, 3], the same frames augmented independently, and
audio float32 [time, bands, 1] (or [samples, 1]), which begins where the frames do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from vatt import configs
from vatt.data import cards, clips, lengths, pipeline, sampling, views
from vatt.data.cards import Card
from vatt.data.examples import Batch, Examples, Maker
from vatt.data.features import AUDIO, VIDEO

VIEWS = 2


class TwoViews(Examples):
    """Clips in two views, with their sound where the model compares it."""

    def __init__(self, cfg: configs.dataset.Pretrain, modalities: Sequence[str]) -> None:
        """Takes the configuration of the input, and what the model gets."""
        super().__init__(cfg)
        self._modalities = tuple(modalities)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by modality, without the batch axis."""
        shapes = pipeline.raw_shapes(self.cfg)
        several = shapes | {VIDEO: (VIEWS, *shapes[VIDEO])}
        return {modality: several[modality] for modality in self._modalities}

    def stride(self, card: Card) -> int:
        """As `pipeline.clip_spec` takes it; without `fps` that of the records decides."""
        return pipeline.rate_stride(self.cfg, card)

    def maker(self, card: Card) -> Maker:
        """Returns what makes an example from a record.

        Raises:
          DataError: a set without pictures or sound, or one that does not fit the configuration.
        """
        spec = pipeline.clip_spec(self.cfg, card, self.stride(card))
        for modality in self._modalities:
            cards.check_modality(card, modality)
        lengths.check(self.cfg, card, spec, self._modalities)
        several = [views.of_config(self.cfg, self.cfg.crop_resize_style)] * VIEWS

        def make(seed: tf.Tensor, serialized: tf.Tensor) -> Batch:
            record = clips.record_of(serialized, spec)
            seeds = sampling.view_seeds(seed, 1, VIEWS)
            videos, firsts = clips.training_views(record, seeds, several, self.cfg, spec)
            example = {VIDEO: tf.concat(videos, axis=0)}
            if AUDIO in self._modalities:
                example[AUDIO] = clips.training_sound(
                    record, firsts[0], 0.0, seeds[0, 0], self.cfg, spec
                )
            return example

        return make
