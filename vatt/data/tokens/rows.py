"""A record becomes rows of a batch: tokens of what is seen, heard and said in it.

    source = Source.of(tokens, card)                      # refuses a set that does not fit
    record = source.parse(serialized)
    row = source.whole(record, "first", seed)             # {"video": [tokens, width], ...}
    rows = source.narrated(record, shares)                # the same, [clips, ...]

What a model gets of a row, `vatt.configs.tokens.Tokens.shapes` says. A record may lack any
modality: its tokens are zeros then, and its mask too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from vatt.configs.tokens import CLIP, Tokens
from vatt.data import parsing, sampling
from vatt.data.cards import Card
from vatt.data.features import RECORD, RecordSchema
from vatt.data.parsing import Record
from vatt.data.tokens import bpe, cuts, narrated, sound, video, words
from vatt.errors import DataError, nearest

Row = dict[str, tf.Tensor]
# string [words] -> what text is, and its mask
Reader = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclass(frozen=True)
class Source:
    """The records of a set, as they become tokens.

    Attributes:
      tokens: what is wanted.
      rates: vectors per second of each stream.
      widths: values per vector, by feature.
      read: makes text of words.
      schema: names on disk.
    """

    tokens: Tokens
    rates: Sequence[float]
    widths: Mapping[str, int]
    read: Reader
    schema: RecordSchema = RECORD

    @classmethod
    def of(cls, tokens: Tokens, card: Card) -> Source:
        """Returns that of a set.

        Raises:
          DataError: the set lacks a modality, or has vectors of another width or rate.
        """
        check(tokens, card)
        named = [*tokens.streams, *([tokens.spectrogram] if tokens.spectrogram else [])]
        widths = {name: card.features[name].width for name in named}
        rates = [card.features[name].rate for name in tokens.streams]
        return cls(tokens, rates, widths, reader(tokens), RECORD.renamed(card.fields))

    def parse(self, serialized: tf.Tensor) -> Record:
        """Returns a record with its features; values that are not finite fail."""
        return parsing.parse(serialized, self.schema, features=self.widths)

    def whole(self, record: Record, selection: str, seed: tf.Tensor | None = None) -> Row:
        """A row of a whole record with one of its captions, the "first" or a "random" one."""
        total = tf.size(record.captions)
        if selection == "random":
            place = sampling.scaled_below(sampling.uniform(seed), total)
        else:
            place = tf.constant(0)
        said = record.captions[place:][:1]  # [1], or [0] without any
        streams = [record.features[name] for name in self.tokens.streams]
        return self._row(streams, self._spectrogram(record), words.split(said))

    def narrated(self, record: Record, shares: tf.Tensor) -> Row:
        """Rows of clips of a whole video, cut where something is said: [clips, ...].

        Args:
          record: with captions and times.
          shares: float [clips], draws in [0, 1): where each clip begins.
        """
        order = tf.argsort(record.caption_starts, stable=True)
        starts, ends = (
            narrated.exact(tf.gather(times, order))
            for times in (record.caption_starts, record.caption_ends)
        )
        captions, spectrogram = tf.gather(record.captions, order), self._spectrogram(record)
        seconds = self._seconds(record, spectrogram)

        def row(share: tf.Tensor) -> Row:
            found = self.place(starts, ends, seconds, share)
            return self.clip(record, spectrogram, captions, found)

        specs = {
            name: tf.TensorSpec(shape, dtype_of(name, self.tokens))
            for name, shape in self.tokens.shapes.items()
        }
        return tf.map_fn(row, shares, fn_output_signature=specs)

    def place(
        self, starts: tf.Tensor, ends: tf.Tensor, seconds: tf.Tensor, share: tf.Tensor
    ) -> narrated.Clip:
        """Where a clip of a video is; arguments as of `narrated.clip`."""
        least, misaligned = self.tokens.min_time, self.tokens.flag_text_audio_misaligned
        return narrated.clip(starts, ends, seconds, share, least, misaligned)

    def clip(
        self,
        record: Record,
        spectrogram: tf.Tensor,
        captions: tf.Tensor,
        found: narrated.Clip,
    ) -> Row:
        """A row of the clip of a video; captions are string [captions], as `found` counts them."""
        streams = []
        for name, rate in zip(self.tokens.streams, self.rates, strict=True):
            first, last = video.span(found.start, found.end, rate)
            streams.append(record.features[name][first:last])
        heard = sound.between(spectrogram, found.sound_start, found.sound_end)
        said = words.split(tf.gather(captions, found.captions))
        row = self._row(streams, heard, said)
        if "audio" in row:
            row["audio_STFT_nframes"] = tf.constant(-1)
        return row

    def cut(self, record: Record) -> Row:
        """A row for each of `n_clips` parts of a record with its first caption, and `ids`.

        `ids` are string [clips]: the source of the record, `cuts.DROPPED` for parts that do not
        count. Without `cut_clips` there is one part.
        """
        count = self.tokens.n_clips if self.tokens.cut_clips else 1
        row = dataclasses.replace(self, tokens=together(self.tokens)).whole(record, "first")
        return cuts.clips(row, record.source, count)

    def _seconds(self, record: Record, spectrogram: tf.Tensor) -> tf.Tensor:
        """Whole seconds of a video: by its sound, without any by what is seen."""
        windows, seen = tf.shape(spectrogram)[0], record.features[self.tokens.streams[-1]]
        by_sight = tf.cast(tf.cast(tf.shape(seen)[0], tf.float64) / self.rates[-1], tf.int32)
        return tf.where(windows > 0, sound.whole_seconds(windows), by_sight)

    def _spectrogram(self, record: Record) -> tf.Tensor:
        """Float32 [windows, bands], without any where no sound is wanted."""
        if self.tokens.spectrogram is None:
            return tf.zeros([0, self.tokens.mel_bins])
        return record.features[self.tokens.spectrogram]

    def _row(self, streams: Sequence[tf.Tensor], heard: tf.Tensor, said: tf.Tensor) -> Row:
        wanted, row = self.tokens, {}
        row["video"], row["video_mask"] = video.tokens(
            streams, wanted.n_video_tokens, wanted.video_sampling_strategy
        )
        row["text"], row["text_mask"] = self.read(said)
        if wanted.spectrogram is not None:
            row["audio"], row["audio_mask"], row["audio_STFT_nframes"] = sound.fitted(
                heard, wanted.num_audio_stft_frames
            )
        return {name: tf.ensure_shape(row[name], shape) for name, shape in wanted.shapes.items()}


def together(tokens: Tokens) -> Tokens:
    """Returns what the clips of a record are together."""
    if not tokens.cut_clips:
        return tokens
    longer = ("n_video_tokens", "num_audio_stft_frames")
    return tokens.model_copy(
        update={name: getattr(tokens, name) * tokens.n_clips for name in longer}
    )


def dtype_of(name: str, tokens: Tokens) -> tf.DType:
    """Returns the type of a part of a row."""
    ids = name == "text" and tokens.text == CLIP
    return tf.int32 if ids or name == "audio_STFT_nframes" else tf.float32


def reader(tokens: Tokens) -> Reader:
    """Returns what makes text of words.

    Raises:
      DataError: a file of word vectors or merges that cannot be used.
    """
    if tokens.text == CLIP:
        tokenizer = bpe.load(tokens.merges)
        return lambda said: bpe.encoded(said, tokenizer, tokens.max_words)
    vectors = words.load(tokens.word_vectors, tokens.text_embed_dim)
    return lambda said: words.embedded(said, vectors, tokens.max_words)


# What fits ---------------------------------------------------------------------------------------


def check(tokens: Tokens, card: Card) -> None:
    """Refuses a set whose records cannot become such tokens.

    Raises:
      DataError: a modality that the whole set lacks, vectors of another width or rate.
    """
    about = f"Data set '{card.name}'"
    for field in ("features_2d", "features_3d", "spectrogram"):
        name = getattr(tokens, field)
        if name is not None and name not in card.features:
            known = ", ".join(card.features) or "none"
            raise DataError(
                f"{about} has no feature '{name}' (tokens.{field}); its card lists: {known}."
                f"{nearest(name, card.features)} Set it to one of them, or to null to do without, "
                f"or extract it with 'vatt extract'."
            )
    widths = {name: card.features[name].width for name in tokens.streams}
    if sum(widths.values()) != tokens.video_embed_dim:
        told = " and ".join(f"{name} has {width}" for name, width in widths.items())
        raise DataError(
            f"{about}: {told} values per vector, but tokens.video_embed_dim is "
            f"{tokens.video_embed_dim}: set it, and that of the model, to {sum(widths.values())}."
        )
    if tokens.spectrogram is not None:
        _check_spectrogram(tokens, card, about)
    if card.text is None and tokens.narrated:
        raise DataError(f"{about} has no captions, but tokens.narrated cuts clips by them.")


def _check_spectrogram(tokens: Tokens, card: Card, about: str) -> None:
    heard = card.features[tokens.spectrogram]
    if heard.width != tokens.mel_bins:
        raise DataError(
            f"{about}: {tokens.spectrogram} has {heard.width} values per vector, but "
            f"tokens.mel_bins is {tokens.mel_bins}: set it to {heard.width}."
        )
    if not math.isclose(heard.rate, sound.RATE, rel_tol=1e-3):
        raise DataError(
            f"{about}: {tokens.spectrogram} has {heard.rate:g} vectors per second; expected "
            f"{sound.RATE:g}, as 'vatt extract --spectrogram' makes them."
        )
