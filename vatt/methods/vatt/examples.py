"""What VATT is trained on: a clip's frames, its sound, and several captions around it.

An example: video float32 [frames, size, size, 3], audio float32 [samples, 1] or [time, mel, 1],
text int32 [candidates, words] with 0 = padding, audio_mask and text_mask float32 scalars. What a
set lacks is zeros, and its mask 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from vatt.data import (
    cards,
    clips,
    embeddings,
    lengths,
    mixing,
    pipeline,
    representation,
    sampling,
    text,
    views,
    vision,
    vocabulary,
)
from vatt.data.cards import Card
from vatt.data.examples import Batch, Examples, Maker
from vatt.data.features import AUDIO, AUDIO_MASK, TEXT, TEXT_MASK, VIDEO
from vatt.errors import DataError
from vatt.methods.vatt.config import ModelConfig, Pretrain, PretrainInput
from vatt.methods.vatt.model import MultimodalModel


class VideoAudioText(Examples):
    """Clips of a configuration."""

    cfg: PretrainInput

    def __init__(self, cfg: PretrainInput, words: text.Vocabulary | None = None) -> None:
        """Takes the configuration of the input, and its vocabulary if there are captions."""
        super().__init__(cfg)
        self._words = words

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name, without the batch axis."""
        return pipeline.clip_shapes(self.cfg) | {AUDIO_MASK: (), TEXT_MASK: ()}

    @property
    def record_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """`shapes` before space-to-depth."""
        return self.shapes | {VIDEO: pipeline.raw_shapes(self.cfg)[VIDEO]}

    @property
    def vocabulary(self) -> text.Vocabulary | None:
        """The words whose numbers are the text of an example; None where no set has captions."""
        return self._words

    def stride(self, card: Card) -> int:
        """As `pipeline.clip_spec` takes it; without `fps` as published for pretraining."""
        return pipeline.rate_stride(self.cfg, card)

    def maker(self, card: Card) -> Maker:
        """Returns what makes a clip from a record.

        Raises:
          DataError: a set without video, or one that does not fit the configuration.
        """
        spec = pipeline.clip_spec(self.cfg, card, self.stride(card))
        cards.check_modality(card, VIDEO)
        if not (spec.has_audio or spec.has_text):
            raise DataError(
                f"Data set '{card.name}' has neither sound nor captions: nothing could be learned "
                "from it, since pictures are compared with one or the other. Accepted are sets "
                "with sound, captions, or both."
            )
        lengths.check(self.cfg, card, spec, (VIDEO, AUDIO))
        tokenize = pipeline.make_tokenizer(self.cfg) if spec.has_text else None
        return lambda seed, record: pretraining_clip(record, seed, self.cfg, spec, tokenize)

    def whole_batch(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """Space-to-depth and mixup of sounds, where they are asked for."""
        cfg = self.cfg
        if cfg.space_to_depth:
            batch[VIDEO] = vision.space_to_depth(batch[VIDEO])
        if cfg.audio_mixup:
            how = mixing.by_rows(seed, tf.shape(batch[AUDIO])[0], cfg.mixup_alpha, cfg.mixup_beta)
            batch[AUDIO] = mixing.mixed(batch[AUDIO], *how)
        return batch


def build(cfg: Pretrain) -> VideoAudioText:
    """Returns the examples of a run.

    Where no set has captions, the vocabulary is not needed.

    Raises:
      UserError: a vocabulary that is not there, larger than the model's word embedding, or without
        any word of the captions.
    """
    data, stack, words = cfg.train.input, cfg.model.backbone_config, None
    captioned = [card for card in pipeline.load_cards(data, cfg.data_dir) if card.text]
    if captioned:
        words = text.load_vocabulary(data)
        words.check_fits(stack.vocab_size, stack.word_embeddings)
        for card in captioned:
            vocabulary.check_words(card, data.split, words, "train.input.vocabulary")
    return VideoAudioText(data, words)


def initialise_words(model: MultimodalModel, cfg: ModelConfig) -> None:
    """Gives a new model the word embeddings of its table, if one is named.

    Raises:
      UserError: no such table, or one of another size.
    """
    embeddings.initialise(model.text.embedding, cfg.backbone_config.word_embeddings)


def pretraining_clip(
    serialized: tf.Tensor,
    seed: tf.Tensor,
    cfg: PretrainInput,
    spec: clips.ClipSpec,
    tokenize: text.Tokenizer | None,
) -> dict[str, tf.Tensor]:
    """One augmented clip: video, audio, text and the two masks; absent audio and text are zeros.

    Sound and pictures begin at the same relative time.

    Args:
      serialized: string.
      seed: int64 [2] of this element.
      cfg: what to make.
      spec: facts of the data set.
      tokenize: from `text.tokenizer`; may be None when the set has no text.
    """
    seeds = sampling.seeds_per_use(seed)
    view = views.of_config(cfg, cfg.crop_resize_style)
    record = clips.record_of(serialized, spec)
    count = clips.frame_count(record, spec)
    offset = spec.random_start(seeds[sampling.OFFSET], count)
    if spec.has_audio:
        waveform, audio_mask = clips.present(clips.sound_of(record, spec))
        start = sampling.synchronised_offset(
            offset, count, tf.shape(waveform)[0], spec.samples, spec.audio_stride
        )
        sound = clips.training_audio(waveform, start, cfg.audio_noise, seeds, cfg, spec)
    else:
        sound = representation.of(clips.absent(AUDIO, [spec.samples]), cfg)
        audio_mask = tf.constant(0.0)
    if spec.has_text:
        ids, text_mask = _captions(record, offset, seeds, cfg, spec, tokenize)
    else:
        ids = clips.absent(TEXT, [cfg.max_context_sentences + 1, cfg.max_num_words])
        text_mask = tf.constant(0.0)
    return {
        VIDEO: clips.training_video(record, offset, seeds, view, cfg, spec),
        AUDIO: sound,
        TEXT: ids,
        AUDIO_MASK: audio_mask,
        TEXT_MASK: text_mask,
    }


def _captions(
    record: clips.Record,
    offset: tf.Tensor,
    seeds: tf.Tensor,
    cfg: PretrainInput,
    spec: clips.ClipSpec,
    tokenize: text.Tokenizer,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids int32 [candidates, words] and the mask: 1 when there is a word in any of them."""
    centre = (tf.cast(offset, tf.float32) + spec.frames * spec.frame_stride / 2.0) / spec.rate
    captions = text.select_captions(
        record.captions,
        cfg.max_context_sentences + 1,
        cfg.caption_selection,
        seed=seeds[sampling.CAPTIONS],
        starts=record.caption_starts,
        ends=record.caption_ends,
        centre=centre,
    )
    ids = tokenize(captions, cfg.max_num_words)
    return ids, text.has_words(ids, cfg)
