"""One record to one clip: parse, choose frames and samples, decode only those, prepare them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.data import audio, representation, sampling, text, views, vision
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
from vatt.data.parsing import Record, parse
from vatt.data.stored_sound import StoredSound
from vatt.data.views import EvaluationView, View

if TYPE_CHECKING:
    from vatt import configs

THUMBNAILS = 3


@dataclass(frozen=True)
class ClipSpec:
    """Static facts of the clips of one data set: the configuration as it applies to its card."""

    name: str
    frames: int
    video_stride: int  # in frames at `fps`
    fps: float  # that clips are counted in
    samples: int
    audio_stride: int
    has_video: bool
    has_audio: bool
    has_text: bool
    classes: int  # 0 without labels
    schema: RecordSchema = RECORD  # names of the features on disk
    record_type: str = "SequenceExample"  # or "Example"
    record_fps: float | None = None  # of the records, where it is another one than `fps`
    windows: bool = False  # frames evenly in a window of time, instead of a stride apart
    stored: StoredSound | None = None  # a spectrogram is read; then `samples` are its times

    @property
    def rate(self) -> float:
        """Frames of the records per second."""
        return self.record_fps or self.fps

    @property
    def frame_stride(self) -> int | float:
        """Frames of a record from one frame of a clip to the next; need not be a whole number."""
        stride = self.video_stride * self.rate / self.fps
        return round(stride) if math.isclose(stride, round(stride)) else stride

    @property
    def seconds(self) -> float:
        """How long the pictures of a clip last."""
        return self.frames * self.video_stride / self.fps

    @property
    def size(self) -> float:
        """Frames of a record in the time of a clip; need not be a whole number."""
        return self.frames * self.frame_stride

    def random_start(self, seed: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The first frame of a clip of a record of `count` frames: int32, of windows float32."""
        if self.windows:
            return sampling.random_window(seed, count, self.size)
        return sampling.random_offset(seed, count, self.frames, self.frame_stride)

    def starts(self, count: tf.Tensor, windows: int) -> tf.Tensor:
        """Int32 [windows]: the first frames of clips spread over a record of `count` frames."""
        if self.windows:
            return sampling.window_starts(count, self.size, windows)
        return sampling.window_offsets(count, windows, self.frames, self.frame_stride)

    def positions(self, starts: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Int32 [..., frames]: the frames of the clips at `starts` of a record of `count`."""
        if self.windows:
            return sampling.window_positions(starts, count, self.frames, self.size)
        return sampling.indices(starts, count, self.frames, self.frame_stride)

    def sound_starts(self, length: tf.Tensor, windows: int) -> tf.Tensor:
        """Int32 [windows]: the first samples of clips spread over a waveform of `length`."""
        if self.windows:
            return sampling.window_starts(length, self.samples * self.audio_stride, windows)
        return sampling.window_offsets(length, windows, self.samples, self.audio_stride)


def record_of(serialized: tf.Tensor, spec: ClipSpec) -> Record:
    """Parses a record of a set, with the feature that is its sound where there is one."""
    features = {spec.stored.name: spec.stored.width} if spec.stored else None
    return parse(serialized, spec.schema, spec.record_type, features)


def sound_of(record: Record, spec: ClipSpec) -> tf.Tensor:
    """The whole sound of a record: float32 [samples], of stored spectrograms [times, bands]."""
    return spec.stored.times(record) if spec.stored else record.waveform


def frame_count(record: Record, spec: ClipSpec) -> tf.Tensor:
    """Int32 number of frames; a record without frames fails."""
    count = tf.shape(record.frames)[0]
    check = tf.debugging.Assert(count > 0, [f"a record of data set {spec.name} has no frames"])
    with tf.control_dependencies([check]):
        return tf.identity(count)


def present(waveform: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The sound, or one zero sample or time when there is none, and the mask 1.0 or 0.0."""
    present, silence = tf.shape(waveform)[0] > 0, tf.zeros([1, *waveform.shape[1:]])
    return tf.cond(present, lambda: waveform, lambda: silence), tf.cast(present, tf.float32)


def absent(modality: str, shape: Sequence[int]) -> tf.Tensor:
    """What a clip without sound or text holds in its place: zeros."""
    return tf.zeros(shape, tf.int32 if modality == TEXT else tf.float32)


def training_video(
    record: Record,
    offset: tf.Tensor,
    seeds: tf.Tensor,
    view: View,
    cfg: configs.dataset.Dataset,
    spec: ClipSpec,
) -> tf.Tensor:
    """Float32 [frames, size, size, 3], augmented as `view` says."""
    count = tf.shape(record.frames)[0]
    return vision.training_frames(
        tf.gather(record.frames, spec.positions(offset, count)),
        spec.frames,
        seeds,
        view,
        published=cfg.published_resampling,
        scaled_decoding=cfg.scaled_decoding,
    )


def training_views(
    record: Record,
    seeds: tf.Tensor,
    several: Sequence[View],
    cfg: configs.dataset.Dataset,
    spec: ClipSpec,
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Several clips of one record, each in several views.

    Args:
      record: with frames, else the graph fails when it runs.
      seeds: int64 [clips, len(several), ROWS, 2] from `sampling.view_seeds`.
      several: what the clips look like, the views.
      cfg: how frames are decoded and resampled.
      spec: facts of the data set.

    Returns:
      For each view float32 [clips, frames, size, size, 3], and `ClipSpec.random_start` [clips]: the
      first frame of each clip in the record (`sampling.synchronised_offset` finds the sound there).
    """
    if seeds.shape[1] != len(several):
        raise ValueError(f"seeds are for {seeds.shape[1]} views, but there are {len(several)}")
    count = frame_count(record, spec)
    offsets, videos = [], [[] for _ in several]
    for own in tf.unstack(seeds):  # of a clip: [views, ROWS, 2]
        draw = own[0, sampling.OFFSET]
        offsets.append(spec.random_start(draw, count))
        for video, view, rows in zip(videos, several, tf.unstack(own), strict=True):
            video.append(training_video(record, offsets[-1], rows, view, cfg, spec))
    return [tf.stack(video) for video in videos], tf.stack(offsets)


def training_audio(
    waveform: tf.Tensor,
    start: tf.Tensor,
    noise: float,
    seeds: tf.Tensor,
    cfg: configs.dataset.Dataset,
    spec: ClipSpec,
) -> tf.Tensor:
    """Waveform [samples, 1] or spectrogram [time, mel, 1] from sample `start` on, augmented.

    Of a stored spectrogram, `waveform` [times, bands], only rolling and masks change anything.
    """
    start = _shifted(start, tf.shape(waveform)[0], seeds, cfg, spec)
    positions = sampling.indices(start, tf.shape(waveform)[0], spec.samples, spec.audio_stride)
    if spec.stored:
        stored = tf.gather(waveform, positions)[..., tf.newaxis]
        return _masked(representation.normalised(stored, cfg), seeds, cfg)
    samples = _levelled(tf.gather(waveform, positions), waveform, cfg)
    # Evaluation sets have none of the following.
    if gain := getattr(cfg, "audio_gain", 0.0):
        draw = sampling.uniform(seeds[sampling.GAIN], (), -gain, gain)
        samples *= audio.factor(draw)
    if jitter := getattr(cfg, "volume_jitter", 0.0):
        samples *= sampling.uniform(seeds[sampling.VOLUME], (), 1.0 - jitter, 1.0 + jitter)
    if noise:
        samples = audio.add_noise(samples, seeds[sampling.NOISE], noise)
    return _masked(representation.of(samples, cfg), seeds, cfg)


def _masked(heard: tf.Tensor, seeds: tf.Tensor, cfg: configs.dataset.Dataset) -> tf.Tensor:
    """A spectrogram [time, mel, 1], rolled and masked as the configuration says."""
    if getattr(cfg, "audio_roll", False):
        heard = audio.rolled(heard, seeds[sampling.ROLL])
    masks = audio.masks_of(cfg)
    if not masks.count:
        return heard
    return audio.masked(heard, audio.draw_masks(seeds[sampling.MASKS], *heard.shape[:2], masks))


def _shifted(
    start: tf.Tensor,
    length: tf.Tensor,
    seeds: tf.Tensor,
    cfg: configs.dataset.Dataset,
    spec: ClipSpec,
) -> tf.Tensor:
    """Int32 first sample of a sound that begins earlier or later by chance, within the record."""
    seconds = getattr(cfg, "audio_shift", 0.0)
    if not seconds:
        return start
    rate = 1.0 / cfg.stft_step if spec.stored else cfg.sample_rate
    moved = sampling.uniform(seeds[sampling.SHIFT], (), -seconds, seconds) * rate
    last = length - (spec.samples - 1) * spec.audio_stride - 1
    moved = start + tf.cast(tf.round(moved), tf.int32)
    return tf.clip_by_value(moved, 0, tf.maximum(last, 0))


def training_sound(
    record: Record,
    first: tf.Tensor | None,
    noise: float,
    seeds: tf.Tensor,
    cfg: configs.dataset.Dataset,
    spec: ClipSpec,
) -> tf.Tensor:
    """`training_audio` from where frame `first` is seen, for None from any place.

    A record without sound fails.
    """
    sound = sound_of(record, spec)
    length, steps, stride = tf.shape(sound)[0], spec.samples, spec.audio_stride
    check = tf.debugging.Assert(length > 0, [f"a record of data set {spec.name} has no sound"])
    with tf.control_dependencies([check]):
        if first is None:
            start = sampling.random_offset(seeds[sampling.OFFSET], length, steps, stride)
        else:
            count = tf.shape(record.frames)[0]
            loops = cfg.sound_loops
            start = sampling.synchronised_offset(first, count, length, steps, stride, loops)
    return training_audio(sound, start, noise, seeds, cfg, spec)


def _levelled(samples: tf.Tensor, waveform: tf.Tensor, cfg: configs.dataset.Dataset) -> tf.Tensor:
    """Samples of a waveform at the level of the configuration."""
    if cfg.audio_level is None:
        return samples
    return samples * audio.to_level(waveform, cfg.audio_level)


def synchronised_clip(
    record: Record,
    seeds: tf.Tensor,
    view: View,
    noise: float,
    cfg: configs.dataset.Dataset,
    spec: ClipSpec,
    modalities: Sequence[str],
) -> dict[str, tf.Tensor]:
    """One augmented clip of VIDEO, AUDIO or both; then the sound begins where the frames do.

    A record without sound fails where sound is asked for.
    """
    first, clip = None, {}
    if VIDEO in modalities:
        first = spec.random_start(seeds[sampling.OFFSET], frame_count(record, spec))
        clip[VIDEO] = training_video(record, first, seeds, view, cfg, spec)
    if AUDIO in modalities:
        clip[AUDIO] = training_sound(record, first, noise, seeds, cfg, spec)
    return clip


def labelled_clip(
    serialized: tf.Tensor,
    seed: tf.Tensor,
    cfg: configs.dataset.Finetune | configs.dataset.Evaluation,
    spec: ClipSpec,
    modalities: Sequence[str],
) -> dict[str, tf.Tensor]:
    """One augmented clip of `modalities` (VIDEO, AUDIO or both) and its label [classes].

    Frames are cut as `views.for_classifier` says. A record without sound fails where sound is asked
    for: it says nothing about its label.
    """
    seeds = sampling.seeds_per_use(seed)
    record = record_of(serialized, spec)
    view = views.for_classifier(cfg)
    noise = getattr(cfg, "audio_noise", 0.0)  # evaluation sets have none (published)
    clip = synchronised_clip(record, seeds, view, noise, cfg, spec, modalities)
    return clip | {LABEL: label_of(record, spec.classes)}


def label_of(record: Record, classes: int) -> tf.Tensor:
    """Float32 [classes]: the sum of the one-hot vectors of all labels; one out of range fails."""
    index = record.label_index
    known = tf.reduce_all((index >= 0) & (index < classes))
    check = tf.debugging.Assert(known, ["a label index is outside of the label list", index])
    with tf.control_dependencies([check]):
        return tf.reduce_sum(tf.one_hot(index, classes), axis=0)


def evaluation_video(
    record: Record, spec: ClipSpec, windows: int, view: EvaluationView
) -> tuple[tf.Tensor, tf.Tensor]:
    """Windows float32 [windows (* 3 crops), frames, size, size, 3] and thumbnails uint8 [3, size,
    size, 3].

    With three crops all windows of the first crop come first (published order).
    """
    count, size = frame_count(record, spec), view.size
    positions = spec.positions(spec.starts(count, windows), count)
    chosen = tf.gather(record.frames, tf.reshape(positions, [-1]))  # [windows * frames]
    cut = vision.evaluation_frames(vision.decode_jpegs(chosen, windows * spec.frames), view)
    cut = tf.reshape(cut, [view.crops * windows, spec.frames, size, size, 3])
    middle = cut[(view.crops // 2) * windows + windows // 2]  # [frames, size, size, 3]
    shown = tf.gather(middle, [0, spec.frames // 2, spec.frames - 1])
    thumbnails = tf.cast(tf.round(shown) if view.decimals else shown, tf.uint8)
    return view.values(vision.normalise(cut, view.zero_centred)), thumbnails


def evaluation_audio(
    waveform: tf.Tensor, spec: ClipSpec, windows: int, cfg: configs.dataset.Dataset
) -> tf.Tensor:
    """Windows [windows, samples, 1] or, each transformed on its own, [windows, time, mel, 1]."""
    length = tf.shape(waveform)[0]
    offsets = spec.sound_starts(length, windows)
    positions = sampling.indices(offsets, length, spec.samples, spec.audio_stride)
    taken = tf.gather(waveform, positions)  # [windows, samples] or, stored, [windows, times, bands]
    if spec.stored:
        return representation.normalised(taken[..., tf.newaxis], cfg)
    return representation.of(_levelled(taken, waveform, cfg), cfg)


def evaluation_clip(
    serialized: tf.Tensor,
    cfg: configs.dataset.Evaluation | configs.dataset.Finetune,
    spec: ClipSpec,
    modalities: Sequence[str],
    windows: int,
    tokenize: text.Tokenizer | None,
) -> dict[str, tf.Tensor]:
    """All windows of one record, without any random choice, and what a report shows of it.

    Of `modalities` (VIDEO, AUDIO, TEXT) each is delivered; one that the set lacks is zeros.
    """
    record = record_of(serialized, spec)
    clip = {
        "label_text": tf.strings.reduce_join(record.label_text, separator="|"),
        "source": record.source,
    }
    if spec.classes:
        clip[LABEL] = label_of(record, spec.classes)
    if VIDEO in modalities:
        size, multi_crop = cfg.frame_size, cfg.multi_crop
        if spec.has_video:
            view = views.for_evaluation(cfg)
            clip[VIDEO], clip["thumbnail"] = evaluation_video(record, spec, windows, view)
        else:
            number = windows * (3 if multi_crop else 1)
            clip[VIDEO] = tf.zeros([number, spec.frames, size, size, 3])
            clip["thumbnail"] = tf.zeros([THUMBNAILS, size, size, 3], tf.uint8)
    if AUDIO in modalities:
        waveform, mask = present(sound_of(record, spec) if spec.has_audio else tf.zeros([0]))
        clip[AUDIO], clip[AUDIO_MASK] = evaluation_audio(waveform, spec, windows, cfg), mask
    if TEXT in modalities:
        seconds = tf.cast(tf.shape(record.frames)[0], tf.float32) / (spec.fps or 1.0)
        said = text.said_inside(
            record.captions, record.caption_starts, record.caption_ends, seconds
        )
        caption = text.select_captions(said, 1, "first")  # [1]
        words = cfg.max_num_words
        clip[TEXT] = tokenize(caption, words) if spec.has_text else absent(TEXT, [1, words])
        clip[TEXT_MASK] = text.has_words(clip[TEXT], cfg)
        clip["caption"] = caption[0]
    return clip
