"""One record to one clip: parse, choose frames and samples, decode only those, prepare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from vatt.data import audio, sampling, text, vision
from vatt.data.features import (
    AUDIO,
    AUDIO_MASK,
    LABEL,
    RECORD,
    TEXT,
    TEXT_MASK,
    VIDEO,
    RecordSchema,
)

if TYPE_CHECKING:
    from vatt import configs

THUMBNAILS = 3


class Record(NamedTuple):
    """A parsed record, nothing decoded; what a record lacks is empty."""

    frames: tf.Tensor  # string [frames], one JPEG each
    waveform: tf.Tensor  # float32 [samples]
    captions: tf.Tensor  # string [captions]
    caption_starts: tf.Tensor  # float32 [captions] or [0], s
    caption_ends: tf.Tensor  # float32 [captions] or [0], s
    label_index: tf.Tensor  # int64 [labels]
    label_text: tf.Tensor  # string [labels]
    source: tf.Tensor  # string, "" when unknown


@dataclass(frozen=True)
class ClipSpec:
    """Static facts of the clips of one data set: the configuration as it applies to its card."""

    name: str
    frames: int
    video_stride: int  # in frames of the record
    fps: float  # of the record
    samples: int
    audio_stride: int
    has_video: bool
    has_audio: bool
    has_text: bool
    classes: int  # 0 without labels
    schema: RecordSchema  # names of the features on disk


def parse(serialized: tf.Tensor, schema: RecordSchema = RECORD) -> Record:
    """Reads a serialized tf.train.SequenceExample."""
    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            schema.caption: tf.io.RaggedFeature(tf.string),
            schema.caption_start: tf.io.RaggedFeature(tf.float32),
            schema.caption_end: tf.io.RaggedFeature(tf.float32),
            schema.label_index: tf.io.RaggedFeature(tf.int64),
            schema.label_text: tf.io.RaggedFeature(tf.string),
            schema.source: tf.io.FixedLenFeature((), tf.string, ""),
        },
        sequence_features={
            schema.image: tf.io.FixedLenSequenceFeature((), tf.string, allow_missing=True),
            schema.waveform: tf.io.RaggedFeature(tf.float32),
        },
    )
    waveform = lists[schema.waveform]  # [steps, (samples)]; one step holds everything
    first_end = tf.concat([waveform.row_splits, waveform.row_splits[-1:]], 0)[1]
    return Record(
        frames=lists[schema.image],
        waveform=waveform.flat_values[:first_end],
        captions=context[schema.caption],
        caption_starts=context[schema.caption_start],
        caption_ends=context[schema.caption_end],
        label_index=context[schema.label_index],
        label_text=context[schema.label_text],
        source=context[schema.source],
    )


def _frame_count(record: Record, spec: ClipSpec) -> tf.Tensor:
    """Int32 number of frames; a record without frames stops the run and says which it is."""
    count = tf.shape(record.frames)[0]
    message = tf.strings.join(
        [f"A record of data set {spec.name} has no frames; its source: ", record.source]
    )
    check = tf.debugging.Assert(count > 0, [message])
    with tf.control_dependencies([check]):
        return tf.identity(count)


def _present(waveform: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The waveform, or one zero sample when there is none, and the mask 1.0 or 0.0."""
    present = tf.shape(waveform)[0] > 0
    return tf.cond(present, lambda: waveform, lambda: tf.zeros([1])), tf.cast(present, tf.float32)


def _spectrogram(waveform: tf.Tensor, cfg: configs.dataset.Dataset) -> tf.Tensor:
    """[..., samples] -> [..., time, mel, 1] in [0, 1]."""
    mel = audio.log_mel(waveform, cfg.sample_rate, cfg.mel_bins, cfg.stft_length, cfg.stft_step)
    return audio.minmax_normalise(mel)


def _training_video(
    record: Record,
    offset: tf.Tensor,
    seeds: tf.Tensor,
    cfg: configs.dataset.Pretrain,
    spec: ClipSpec,
) -> tf.Tensor:
    """Float32 [frames, size, size, 3], augmented.

    Crops are cut before frames become floats, and flips come last: the same numbers up to rounding
    as the published order, without float work on pixels that are thrown away.
    """
    count = tf.shape(record.frames)[0]
    chosen = tf.gather(
        record.frames, sampling.indices(offset, count, spec.frames, spec.video_stride)
    )
    frames = vision.decode_jpegs(chosen, spec.frames)  # uint8 [frames, height, width, 3]
    crop_seed = seeds[sampling.CROP]
    if cfg.crop_resize_style == "Inception":
        frames = vision.inception_crop(
            frames,
            cfg.frame_size,
            crop_seed,
            area=(cfg.min_area_ratio, cfg.max_area_ratio),
            aspect=(cfg.min_aspect_ratio, cfg.max_aspect_ratio),
        )
    else:
        if cfg.scale_jitter:
            frames = vision.scale_jitter(frames, seeds[sampling.JITTER])
        frames = vision.resize_smallest(frames, cfg.min_resize)
        frames = vision.random_crop(frames, cfg.frame_size, crop_seed)
    frames = vision.random_flip(frames, seeds[sampling.FLIP])
    video = vision.normalise(frames, cfg.zero_centering_image)
    if cfg.color_augment:
        video = vision.colour_jitter(video, seeds[sampling.COLOUR], cfg.zero_centering_image)
    shape = (spec.frames, cfg.frame_size, cfg.frame_size, 3)
    return tf.ensure_shape(video, shape)


def _training_audio(
    record: Record,
    offset: tf.Tensor,
    seeds: tf.Tensor,
    cfg: configs.dataset.Pretrain,
    spec: ClipSpec,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Waveform [samples, 1] or spectrogram [time, mel, 1] at the video's time, and its mask."""
    waveform, mask = _present(record.waveform)
    length = tf.shape(waveform)[0]
    start = sampling.synchronised_offset(
        offset, tf.shape(record.frames)[0], length, spec.samples, spec.audio_stride
    )
    samples = tf.gather(waveform, sampling.indices(start, length, spec.samples, spec.audio_stride))
    if cfg.audio_noise:
        noise_seed = seeds[sampling.NOISE]
        samples = audio.add_noise(samples, noise_seed, cfg.audio_noise)
    sound = samples[:, tf.newaxis] if cfg.raw_audio else _spectrogram(samples, cfg)
    return sound, mask


def _training_text(
    record: Record,
    offset: tf.Tensor,
    seeds: tf.Tensor,
    cfg: configs.dataset.Pretrain,
    spec: ClipSpec,
    tokenize: text.Tokenizer,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids int32 [candidates, words] and the mask: 1 when there is a word in any of them."""
    centre = (tf.cast(offset, tf.float32) + spec.frames * spec.video_stride / 2.0) / spec.fps
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
    return ids, tf.cast(tf.reduce_any(ids != 0), tf.float32)


def training_clip(
    serialized: tf.Tensor,
    seed: tf.Tensor,
    cfg: configs.dataset.Pretrain,
    spec: ClipSpec,
    tokenize: text.Tokenizer | None,
) -> dict[str, tf.Tensor]:
    """One augmented clip: video, audio, text and the two masks; absent audio and text are zeros.

    Args:
      serialized: string.
      seed: int64 [2] of this element.
      cfg: what to make.
      spec: facts of the data set.
      tokenize: from `text.tokenizer`; may be None when the set has no text.
    """
    seeds = sampling.seeds_per_use(seed)
    record = parse(serialized, spec.schema)
    count = _frame_count(record, spec)
    offset = sampling.random_offset(seeds[sampling.OFFSET], count, spec.frames, spec.video_stride)
    if spec.has_audio:
        sound, audio_mask = _training_audio(record, offset, seeds, cfg, spec)
    else:
        sound = tf.zeros([spec.samples])
        sound = sound[:, tf.newaxis] if cfg.raw_audio else _spectrogram(sound, cfg)
        audio_mask = tf.constant(0.0)
    if spec.has_text:
        ids, text_mask = _training_text(record, offset, seeds, cfg, spec, tokenize)
    else:
        ids = tf.zeros([cfg.max_context_sentences + 1, cfg.max_num_words], tf.int32)
        text_mask = tf.constant(0.0)
    return {
        VIDEO: _training_video(record, offset, seeds, cfg, spec),
        AUDIO: sound,
        TEXT: ids,
        AUDIO_MASK: audio_mask,
        TEXT_MASK: text_mask,
    }


def _evaluation_video(
    record: Record, cfg: configs.dataset.Evaluation, spec: ClipSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Windows float32 [windows (* 3 crops), frames, size, size, 3] and thumbnails uint8 [3, size,
    size, 3].

    With three crops all windows of the first crop come first (published order).
    """
    size, windows = cfg.frame_size, cfg.num_windows_test
    crops = 3 if cfg.multi_crop else 1
    if not spec.has_video:
        return (
            tf.zeros([windows * crops, spec.frames, size, size, 3]),
            tf.zeros([THUMBNAILS, size, size, 3], tf.uint8),
        )
    count = _frame_count(record, spec)
    offsets = sampling.window_offsets(count, windows, spec.frames, spec.video_stride)
    positions = sampling.indices(offsets, count, spec.frames, spec.video_stride)
    chosen = tf.gather(record.frames, tf.reshape(positions, [-1]))  # [windows * frames]
    frames = vision.decode_jpegs(chosen, windows * spec.frames)
    frames = vision.resize_smallest(frames, size)
    crop = vision.three_crop if cfg.multi_crop else vision.central_crop
    cut = crop(frames, size)
    cut = tf.reshape(cut, [crops * windows, spec.frames, size, size, 3])
    middle = cut[(crops // 2) * windows + windows // 2]  # [frames, size, size, 3]
    thumbnails = tf.gather(middle, [0, spec.frames // 2, spec.frames - 1])
    return vision.normalise(cut, cfg.zero_centering_image), thumbnails


def _evaluation_audio(
    record: Record, cfg: configs.dataset.Evaluation, spec: ClipSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Windows [windows, samples, 1] or [windows, time, mel, 1], and the mask."""
    stored = record.waveform if spec.has_audio else tf.zeros([0])
    waveform, mask = _present(stored)
    length = tf.shape(waveform)[0]
    offsets = sampling.window_offsets(length, cfg.num_windows_test, spec.samples, spec.audio_stride)
    positions = sampling.indices(offsets, length, spec.samples, spec.audio_stride)
    windows = tf.gather(waveform, positions)  # [windows, samples]
    return (windows[..., tf.newaxis] if cfg.raw_audio else _spectrogram(windows, cfg)), mask


def evaluation_clip(
    index: tf.Tensor,
    serialized: tf.Tensor,
    cfg: configs.dataset.Evaluation,
    spec: ClipSpec,
    tokenize: text.Tokenizer | None,
) -> dict[str, tf.Tensor]:
    """All windows of one record, without any random choice, and what a report shows of it."""
    record = parse(serialized, spec.schema)
    video, thumbnails = _evaluation_video(record, cfg, spec)
    sound, audio_mask = _evaluation_audio(record, cfg, spec)
    caption = text.select_captions(record.captions, 1, "first")  # [1]
    if spec.has_text:
        ids = tokenize(caption, cfg.max_num_words)  # [1, words]
    else:
        ids = tf.zeros([1, cfg.max_num_words], tf.int32)
    clip = {
        VIDEO: video,
        AUDIO: sound,
        TEXT: ids,
        AUDIO_MASK: audio_mask,
        TEXT_MASK: tf.cast(tf.reduce_any(ids != 0), tf.float32),
        "caption": caption[0],
        "label_text": tf.strings.reduce_join(record.label_text, separator="|"),
        "source": record.source,
        "index": index,
        "thumbnail": thumbnails,
    }
    if spec.classes:
        one_hot = tf.one_hot(record.label_index, spec.classes)  # [labels, classes]
        clip[LABEL] = tf.reduce_sum(one_hot, axis=0)
    return clip
