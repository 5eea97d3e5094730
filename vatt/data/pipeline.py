"""The input pipeline: batches for pretraining and for evaluation, from cards and configuration.

    batches = pipeline.pretrain_batches(cfg.train.input, data_dir=..., seed=0, start_step=100)
    for batch in batches: ...      # endless; a function of (seed, step), whatever the number of
    threads

    for batch in pipeline.evaluation_batches(cfg.eval.input, "toy_retrieval", "test", data_dir=...):
    ...

A pretraining batch: video float32 [batch, frames, size, size, 3], audio float32 [batch, samples, 1]
or [batch, time, mel, 1], text int32 [batch, candidates, words] with 0 = padding, audio_mask and
text_mask float32 [batch].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from vatt.data import audio, cards, clips, ordering, sampling, text, vision
from vatt.data.features import AUDIO, RECORD, VIDEO
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt import configs

PREFETCH_BATCHES = 4

Batch = dict[str, tf.Tensor]


def pretrain_batches(
    cfg: configs.dataset.Pretrain,
    *,
    data_dir: str | Path | None,
    seed: int,
    start_step: int = 0,
    batch_size: int | None = None,
) -> tf.data.Dataset:
    """Endless shuffled, augmented batches, beginning with the one of `start_step`.

    Args:
      cfg: data sets (`name`, joined by "+"), clips, augmentation.
      data_dir: folder that holds one folder per data set.
      seed: of the run; with the step it decides order and every random choice.
      start_step: batches passed over without decoding them.
      batch_size: replaces `cfg.batch_size`, which counts clips of all replicas together.

    Raises:
      DataError: a data set that is missing or does not fit the configuration.
    """
    batch_size = batch_size or cfg.batch_size
    sets = _load_cards(cfg.name.split("+"), data_dir)
    _check_frames(cfg)
    weights = _weights(cfg, sets)
    specs = [clip_spec(cfg, card, rate_stride(cfg, card)) for card in sets]
    for card, spec in zip(sets, specs, strict=True):
        if not spec.has_video:
            raise DataError(
                f"Data set '{card.name}' has no video: it cannot be used for pretraining."
            )
    root = sampling.root_seed(seed)
    records = _mixed_records(cfg, sets, weights, root, start_step * batch_size)
    make_clip = _clip_function(cfg, specs, root)
    calls = cfg.num_parallel_calls or tf.data.AUTOTUNE
    dataset = records.map(
        sampling.plain_graph(make_clip), num_parallel_calls=calls, deterministic=True
    )
    dataset = dataset.batch(batch_size, drop_remainder=True)
    if cfg.space_to_depth or cfg.audio_mixup:
        dataset = dataset.enumerate(start_step).map(
            sampling.plain_graph(lambda step, batch: _whole_batch(cfg, root, step, batch)),
            num_parallel_calls=calls,
            deterministic=True,
        )
    return _finish(dataset)


def evaluation_batches(
    cfg: configs.dataset.Evaluation,
    name: str,
    split: str,
    *,
    data_dir: str | Path | None,
    batch_size: int | None = None,
) -> tf.data.Dataset:
    """Every record of a split once, in a fixed order, as evenly spread windows.

    The last batch is filled up with zero rows that have `valid` 0.

    Returns:
      Finite dataset of batches: video float32 [batch, windows, frames, size, size, 3] (windows * 3,
      crop by crop, with `multi_crop`), audio float32 [batch, windows, samples, 1] (or [..., time,
      mel, 1]), text int32 [batch, 1, words], audio_mask and text_mask float32 [batch], valid
      float32 [batch], caption, label_text ("|"-joined) and source string [batch], index int64
      [batch], thumbnail uint8 [batch, 3, size, size, 3] and, for a set with labels, label float32
      [batch, classes]. A modality that the set lacks is zeros.
    """
    batch_size = batch_size or cfg.batch_size
    (card,) = _load_cards([name], data_dir)
    _check_frames(cfg, training=False)
    # The published evaluation counts its stride in frames of the record, not of the reference rate.
    spec = clip_spec(cfg, card, cfg.video_stride)
    tokenize = make_tokenizer(cfg) if spec.has_text else None
    dataset = ordering.one_pass(_shards(card, split), card.records(split)).enumerate()
    dataset = dataset.map(
        sampling.plain_graph(
            lambda index, record: clips.evaluation_clip(index, record, cfg, spec, tokenize)
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.batch(batch_size, drop_remainder=False)
    fill_up = sampling.plain_graph(lambda batch: _fill_up(cfg, batch, batch_size))
    return _finish(dataset.map(fill_up))


def describe(cfg: configs.dataset.Dataset, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Shapes per modality (without the batch axis) and the cards a configuration uses."""
    names = cfg.name.split("+") if isinstance(cfg.name, str) else list(cfg.name)
    sets = _load_cards(names, data_dir)
    return clip_shapes(cfg) | {"cards": {card.name: card for card in sets}}


def clip_shapes(cfg: configs.dataset.Dataset) -> dict[str, tuple[int, ...]]:
    """Shapes of a clip by modality, without the batch axis; text is `(candidates, words)`."""
    size, frames, samples = cfg.frame_size, cfg.num_frames, cfg.num_audio_samples
    video = (frames, size, size, 3)
    if cfg.space_to_depth:
        video = (frames // 2, size // 2, size // 2, 24)
    mel_frames = audio.mel_frames(samples, cfg.sample_rate, cfg.stft_step)
    sound = (samples, 1) if cfg.raw_audio else (mel_frames, cfg.mel_bins, 1)
    candidates = getattr(cfg, "max_context_sentences", 0) + 1  # evaluation: one caption per clip
    return {"video": video, "audio": sound, "text": (candidates, getattr(cfg, "max_num_words", 0))}


def rate_stride(cfg: configs.dataset.Dataset, card: cards.Card) -> int:
    """Frames of a record per frame of a training clip: (rate // cfg.fps) * video_stride."""
    fps = card.video.fps if card.video else cfg.fps
    return max(1, int(fps // cfg.fps)) * cfg.video_stride


def clip_spec(cfg: configs.dataset.Dataset, card: cards.Card, video_stride: int) -> clips.ClipSpec:
    """Applies a configuration to a card; raises DataError when the two do not fit."""
    if card.audio and card.audio.sample_rate != cfg.sample_rate:
        raise DataError(
            f"Data set '{card.name}' holds audio at {card.audio.sample_rate} Hz, but the "
            f"configuration says sample_rate={cfg.sample_rate}: set sample_rate to "
            f"{card.audio.sample_rate}, or ingest the set again with "
            f"--sample_rate={cfg.sample_rate}."
        )
    return clips.ClipSpec(
        name=card.name,
        frames=cfg.num_frames,
        video_stride=video_stride,
        fps=float(card.video.fps) if card.video else float(cfg.fps),
        samples=cfg.num_audio_samples,
        audio_stride=cfg.audio_stride,
        has_video=card.video is not None,
        has_audio=card.audio is not None,
        has_text=card.text is not None,
        classes=len(card.labels or ()),
        schema=RECORD.renamed(card.fields),
    )


def make_tokenizer(cfg: configs.dataset.Dataset) -> text.Tokenizer:
    """The tokenizer that a configuration names, with its vocabulary loaded."""
    return text.tokenizer(text.load_vocabulary(cfg), cfg.use_bos, cfg.use_eos)


def _load_cards(names: Sequence[str], data_dir: str | Path | None) -> list[cards.Card]:
    return [cards.load(name.strip(), data_dir) for name in names]


def _shards(card: cards.Card, split: str) -> list[str]:
    return [str(path) for path in card.shards(split)]


def _check_frames(cfg: configs.dataset.Dataset, training: bool = True) -> None:
    """Refuses sizes that no record could satisfy."""
    if training and cfg.crop_resize_style == "VGG" and cfg.min_resize < cfg.frame_size:
        raise DataError(
            f"min_resize={cfg.min_resize} is smaller than frame_size={cfg.frame_size}: a crop "
            f"cannot be larger than the frame it is cut from. Raise min_resize to at least "
            f"{cfg.frame_size}."
        )
    if cfg.space_to_depth and (cfg.num_frames % 2 or cfg.frame_size % 2):
        raise DataError(
            f"space_to_depth needs even sizes, but num_frames={cfg.num_frames} and "
            f"frame_size={cfg.frame_size}."
        )
    if cfg.num_audio_samples < 1:
        raise DataError(
            f"sample_rate={cfg.sample_rate}, num_frames={cfg.num_frames} and fps={cfg.fps} give a "
            f"clip of {cfg.num_audio_samples} audio samples."
        )
    if not cfg.raw_audio and cfg.sample_rate < 2 * audio.MEL_HIGHEST_HZ:
        raise DataError(
            f"sample_rate={cfg.sample_rate} is too low for spectrograms, whose bins reach "
            f"{audio.MEL_HIGHEST_HZ:.0f} Hz: it must be at least {2 * audio.MEL_HIGHEST_HZ:.0f}, "
            f"or raw_audio must be true."
        )
    if not cfg.raw_audio and int(cfg.sample_rate * min(cfg.stft_step, cfg.stft_length)) < 1:
        raise DataError(
            f"stft_length={cfg.stft_length} and stft_step={cfg.stft_step} (s) must each cover at "
            f"least one sample at sample_rate={cfg.sample_rate}."
        )


def _weights(cfg: configs.dataset.Pretrain, sets: Sequence[cards.Card]) -> Sequence[float]:
    if cfg.mixing_weights is None:
        return [1.0] * len(sets)
    if len(cfg.mixing_weights) != len(sets):
        raise DataError(
            f"mixing_weights has {len(cfg.mixing_weights)} values, but name='{cfg.name}' joins "
            f"{len(sets)} data sets: give one value for each."
        )
    return cfg.mixing_weights


def _mixed_records(
    cfg: configs.dataset.Pretrain,
    sets: Sequence[cards.Card],
    weights: Sequence[float],
    root: tf.Tensor,
    start: int,
) -> tf.data.Dataset:
    """Dataset of (data set number int32, its element number int64, serialized) from `start` on."""
    taken = ordering.elements_taken(root, weights, start)
    streams = []
    for index, card in enumerate(sets):
        stream = ordering.endless(
            _shards(card, cfg.split),
            card.records(cfg.split),
            seed=sampling.fold(root, sampling.USE_EPOCH_ORDER, index),
            start=taken[index],
            shuffle_buffer=cfg.shuffle_buffer,
        )
        number = tf.constant(index, tf.int32)
        streams.append(stream.map(lambda element, record, n=number: (n, element, record)))
    if len(streams) == 1:
        return streams[0]
    return tf.data.Dataset.choose_from_datasets(
        streams, ordering.choices(root, weights, start), stop_on_empty_dataset=True
    )


def _clip_function(cfg: configs.dataset.Pretrain, specs: Sequence[clips.ClipSpec], root: tf.Tensor):
    """f(data set number, element number, serialized) -> clip: one branch per data set."""
    tokenize = make_tokenizer(cfg) if any(spec.has_text for spec in specs) else None
    seeds = [sampling.fold(root, sampling.USE_CLIP, index) for index in range(len(specs))]

    def make_clip(number: tf.Tensor, element: tf.Tensor, record: tf.Tensor) -> Batch:
        def branch(index: int) -> Batch:
            seed = sampling.fold(seeds[index], element)
            return clips.training_clip(record, seed, cfg, specs[index], tokenize)

        if len(specs) == 1:
            return branch(0)
        branches = [lambda index=index: branch(index) for index in range(len(specs))]
        return tf.switch_case(number, branches)

    return make_clip


def _whole_batch(
    cfg: configs.dataset.Pretrain, root: tf.Tensor, step: tf.Tensor, batch: Batch
) -> Batch:
    """What needs all clips of a batch, or is cheaper so."""
    batch = dict(batch)
    if cfg.space_to_depth:
        batch[VIDEO] = vision.space_to_depth(batch[VIDEO])
    if cfg.audio_mixup:
        seed = sampling.fold(root, sampling.USE_MIXUP, step)
        batch[AUDIO] = audio.mixup(batch[AUDIO], seed, cfg.mixup_alpha, cfg.mixup_beta)
    return batch


def _fill_up(cfg: configs.dataset.Evaluation, batch: Batch, batch_size: int) -> Batch:
    """Adds `valid` and, to a short last batch, rows of zeros."""
    batch = dict(batch)
    rows = tf.shape(batch["index"])[0]
    batch["valid"] = tf.ones([rows])
    if cfg.space_to_depth:
        batch[VIDEO] = vision.space_to_depth(batch[VIDEO])

    def fill(value: tf.Tensor) -> tf.Tensor:
        missing = [[0, batch_size - rows]] + [[0, 0]] * (value.shape.rank - 1)
        empty = "" if value.dtype == tf.string else tf.zeros((), value.dtype)
        filled = tf.pad(value, missing, constant_values=empty)
        return tf.ensure_shape(filled, (batch_size, *value.shape[1:]))

    return {name: fill(value) for name, value in batch.items()}


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(PREFETCH_BATCHES).with_options(options)
