"""What GDT is trained on: clips at one or two places of a video, forward and reversed.

An example holds the sets of clips that the hypothesis compares, along the first axis of each array:
video float32 [sets, frames, size, size, 3], and audio [sets, time, bands, 1] (or [sets, samples,
1]) or text int32 [sets, words]. Sound begins where the frames do, and a reversed clip has the same
sound reversed. Each clip is augmented by itself, its sound once for both directions.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from vatt import configs
from vatt.data import cards, clips, lengths, pipeline, said, sampling, text, views, vocabulary
from vatt.data.cards import Card
from vatt.data.clips import ClipSpec
from vatt.data.examples import Batch, Examples, Maker
from vatt.data.features import AUDIO, TEXT, VIDEO
from vatt.data.parsing import Record
from vatt.methods.gdt.config import CaptionInput, CaptionModel, Pretrain
from vatt.methods.gdt.hypotheses import Hypothesis


class SetsOfClips(Examples):
    """Clips of a hypothesis, with their sound; the base of those with captions."""

    cfg: configs.dataset.Pretrain
    other = AUDIO

    def __init__(self, cfg: configs.dataset.Pretrain, hypothesis: Hypothesis) -> None:
        """Takes the configuration of the input, and what is compared."""
        super().__init__(cfg)
        self._sets = len(hypothesis.sets)
        self._shifts = 1 + (hypothesis.shift is not None)
        self._directions = 1 + (hypothesis.reversal is not None)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by modality, without the batch axis."""
        shapes = pipeline.raw_shapes(self.cfg)
        return {m: (self._sets, *shapes[m]) for m in (VIDEO, self.other)}

    def stride(self, card: Card) -> int:
        """As `pipeline.clip_spec` takes it; without `fps` that of the records decides."""
        return pipeline.rate_stride(self.cfg, card)

    def maker(self, card: Card) -> Maker:
        """Returns what makes an example from a record.

        Raises:
          DataError: a set without pictures, or without what they are compared with, or one that
            does not fit the configuration.
        """
        spec = pipeline.clip_spec(self.cfg, card, self.stride(card))
        for modality in (VIDEO, self.other):
            cards.check_modality(card, modality)
        lengths.check(self.cfg, card, spec, (VIDEO, self.other))

        def make(seed: tf.Tensor, serialized: tf.Tensor) -> Batch:
            record = clips.record_of(serialized, spec)
            seeds = sampling.view_seeds(seed, self._shifts, self._directions)
            return self._example(record, seeds, spec)

        return make

    def _example(self, record: Record, seeds: tf.Tensor, spec: ClipSpec) -> Batch:
        """One example; `seeds` are int64 [shifts, directions, ROWS, 2]."""
        several = [views.of_config(self.cfg, self.cfg.crop_resize_style)] * self._directions
        videos, offsets = clips.training_views(record, seeds, several, self.cfg, spec)
        sounds = [
            clips.training_sound(record, first, 0.0, own, self.cfg, spec)
            for first, own in zip(tf.unstack(offsets), tf.unstack(seeds[:, 0]), strict=True)
        ]
        heard = [tf.stack(sounds)] * self._directions  # for each direction [shifts, ...]
        return {VIDEO: _in_order(videos), AUDIO: _in_order(heard)}


def _in_order(directions: list[tf.Tensor]) -> tf.Tensor:
    """Clips of each direction, [shifts, time, ...], in the order of `hypotheses.SETS`.

    Those of a second direction run backwards.
    """
    forward, *rest = directions
    backward = [tf.reverse(clips, [1]) for clips in rest]
    stacked = tf.stack([forward, *backward], axis=1)  # [shifts, directions, time, ...]
    return tf.reshape(stacked, [-1, *forward.shape[1:]])


# Captions --------------------------------------------------------------------------------------


class SetsWithCaptions(SetsOfClips):
    """Clips of a hypothesis, each while a caption is said, with the ids of its words."""

    cfg: CaptionInput
    other = TEXT

    def __init__(self, cfg: CaptionInput, hypothesis: Hypothesis, words: text.Vocabulary) -> None:
        """Takes the configuration of the input, what is compared, and the words of captions."""
        super().__init__(cfg, hypothesis)
        self._words = words
        self._tokenize = text.tokenizer(words, cfg.use_bos, cfg.use_eos)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by modality, without the batch axis."""
        return {**super().shapes, TEXT: (self._sets, self.cfg.max_num_words)}

    @property
    def vocabulary(self) -> text.Vocabulary:
        """The words whose numbers are the text of an example."""
        return self._words

    def _example(self, record: Record, seeds: tf.Tensor, spec: ClipSpec) -> Batch:
        view = views.of_config(self.cfg, self.cfg.crop_resize_style)
        videos, ids = [[] for _ in range(self._directions)], []
        count, least = clips.frame_count(record, spec), self.cfg.caption_seconds
        for own in tf.unstack(seeds):  # of a shift: [directions, ROWS, 2]
            caption, first = said.random_start(record, count, own[0], spec, least)
            check = tf.debugging.Assert(
                caption != "", [f"a record of data set {spec.name} has no captions"]
            )
            with tf.control_dependencies([check]):
                first = tf.identity(first)
            for clip, rows in zip(videos, tf.unstack(own), strict=True):
                clip.append(clips.training_video(record, first, rows, view, self.cfg, spec))
            ids.append(self._tokenize(caption[tf.newaxis], self.cfg.max_num_words)[0])
        spoken = [tf.stack(ids)] * self._directions
        return {VIDEO: _in_order([tf.stack(video) for video in videos]), TEXT: _in_order(spoken)}


def build(cfg: Pretrain) -> SetsOfClips:
    """Returns the examples of a run.

    Raises:
      UserError: for captions, a vocabulary that is not there, larger than the model's word
        embedding, or without any word of the captions.
    """
    data, model = cfg.train.input, cfg.model
    if not isinstance(model, CaptionModel):
        return SetsOfClips(data, model.terms())
    captioned = pipeline.load_cards(data, cfg.data_dir)
    for card in captioned:
        cards.check_modality(card, TEXT)  # before a vocabulary is asked for
    words = text.load_vocabulary(data)
    words.check_fits(model.vocab_size, model.word_embeddings)
    for card in captioned:
        vocabulary.check_words(card, data.split, words, "train.input.vocabulary")
    return SetsWithCaptions(data, model.terms(), words)
