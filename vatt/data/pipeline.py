"""The input pipeline: from cards (or registered factories) and configuration to batches.

| function | published loader | order, epochs |
|---|---|---|
| `training_batches` | pretraining; vision and audio fine-tuning, train | shuffled, endless |
| `evaluation_batches` | pretraining evaluation and fine-tuning, test | fixed, each record once |
| `probe_batches` | pretraining evaluation, train | fixed, each record `num_augmentation` times |

    batches = pipeline.training_batches(examples, data_dir=..., seed=0, start_step=100)
    for batch in batches: ...      # a function of (seed, step), whatever the number of threads

What a training batch holds, its `Examples` say: those of a pretraining method, or `LabelledClips`
for fine-tuning (video or audio or both, and label float32 [batch, classes]).

Records that cannot be used are passed over and go to `bad_records` (vatt.data.bad_records).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from vatt.configs import tokens
from vatt.configs.dataset import PUBLISHED_FPS
from vatt.data import (
    cards,
    clips,
    factories,
    lengths,
    mixing,
    representation,
    sampling,
    stored_sound,
    streams,
    text,
)
from vatt.data.bad_records import BadRecords
from vatt.data.features import AUDIO, JOINED, LABEL, RECORD, TEXT, VIDEO
from vatt.data.tokens import batches as token_batches
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt import configs
    from vatt.data.examples import Examples

EVERYTHING = (VIDEO, AUDIO, TEXT)

Batch = dict[str, tf.Tensor]


def training_batches(
    examples: Examples,
    *,
    data_dir: str | Path | None,
    seed: int,
    start_step: int = 0,
    batch_size: int | None = None,
    worker: tuple[int, int] = (0, 1),
    bad_records: BadRecords | None = None,
) -> tf.data.Dataset:
    """Endless shuffled, augmented batches, beginning with the one of `start_step`.

    Args:
      examples: what is made of a record; of its configuration also the data sets (`name`, joined by
        "+").
      data_dir: folder that holds one folder per data set.
      seed: of the run; with the step it decides order and every random choice.
      start_step: batches passed over without decoding them.
      batch_size: replaces `cfg.batch_size`, which counts examples of all replicas together.
      worker: (index, number of workers): which rows of every batch to make. Each worker gets a
        number of neighbouring rows; together they are the batch that one worker would make.
      bad_records: where bad records are listed; None keeps the list in memory.

    Raises:
      DataError: a data set that is missing or does not fit the configuration.
    """
    cfg = examples.cfg
    sets = load_cards(cfg, data_dir)
    _check_frames(cfg)
    sources = [
        streams.Source(card, _frame_stride(examples, card), weight, examples.maker(card))
        for card, weight in zip(sets, _weights(cfg, sets), strict=True)
    ]
    return streams.training_batches(
        cfg,
        sources,
        examples.record_shapes,
        examples.whole_batch,
        seed=seed,
        start_step=start_step,
        batch_size=(batch_size or cfg.batch_size) // examples.rows,
        worker=worker,
        bad_records=bad_records,
    )


def evaluation_batches(
    cfg: configs.dataset.Evaluation | configs.dataset.Finetune,
    name: str,
    split: str,
    *,
    data_dir: str | Path | None,
    modalities: Sequence[str] = EVERYTHING,
    batch_size: int | None = None,
    bad_records: BadRecords | None = None,
) -> tf.data.Dataset:
    """Every record of a split once, in a fixed order, as evenly spread windows.

    Splits joined by "+" are read in one pass; shards they share, once. The last batch is filled up
    with zero rows that have `valid` 0, as has a record that cannot be used.

    Returns:
      Finite dataset of batches, of `modalities` only: video float32 [batch, windows, frames, size,
      size, 3] (windows * 3, crop by crop, with `multi_crop`) and thumbnail uint8 [batch, 3, size,
      size, 3]; audio float32 [batch, windows, samples, 1] (or [..., time, mel, 1]) and audio_mask;
      text int32 [batch, 1, words], text_mask and caption. Always: valid float32 [batch], label_text
      ("|"-joined) and source string [batch], index int64 [batch] and, for a set with labels, label
      float32 [batch, classes]. A modality that the set lacks is zeros. Of tokens, what
      `tokens.batches.evaluation` says.
    """
    batch_size = batch_size or cfg.batch_size
    card = load_card(name, data_dir)
    if tokens.of(cfg) is not None:
        return token_batches.evaluation(cfg, card, split, batch_size, bad_records)
    _check_frames(cfg, training=False)
    spec = clip_spec(cfg, card, cfg.video_stride)
    lengths.check(cfg, card, spec, modalities)
    tokenize = make_tokenizer(cfg) if spec.has_text and TEXT in modalities else None
    windows = cfg.num_windows_test
    if factories.find(name):
        shapes = {key: shape for key, shape in raw_shapes(cfg).items() if key in modalities}
        if spec.classes:
            shapes[LABEL] = (spec.classes,)
        batches = factories.evaluation(
            name, split, cfg, shapes, _of_factory(spec), windows, batch_size
        )
        return streams.filled_up(batches, cfg, batch_size)

    def make_clip(index: tf.Tensor, record: tf.Tensor) -> Batch:
        clip = clips.evaluation_clip(record, cfg, spec, modalities, windows, tokenize)
        return {**clip, "index": index}

    return streams.finite_batches(
        cfg, card, split, make_clip, batch_size=batch_size, bad_records=bad_records
    )


def probe_batches(
    cfg: configs.dataset.Evaluation,
    name: str,
    split: str,
    modality: str,
    *,
    data_dir: str | Path | None,
    seed: int = 0,
    batch_size: int | None = None,
    bad_records: BadRecords | None = None,
) -> tf.data.Dataset:
    """The labelled training split of a probe: one clip per record and augmentation.

    Splits joined by "+" are read in one pass; shards they share, once.

    With `num_augmentation` 1 the clip is the middle window, prepared as in evaluation; with more,
    each record gives that many random, augmented clips. The order is that of the shards.

    Returns:
      Finite dataset of batches as of `evaluation_batches`, with one window.
    """
    card = load_card(name, data_dir)
    _check_frames(cfg, training=False)
    spec = clip_spec(cfg, card, cfg.video_stride)
    check_labelled(card, modality)
    lengths.check(cfg, card, spec, (modality,))
    root = sampling.root_seed(seed)

    def make_clip(index: tf.Tensor, record: tf.Tensor) -> Batch:
        if cfg.num_augmentation == 1:
            clip = clips.evaluation_clip(record, cfg, spec, (modality,), 1, None)
            if modality == VIDEO and cfg.multi_crop:
                clip[VIDEO] = clip[VIDEO][1:2]  # one window: the central of the three crops
        else:
            own = sampling.fold(root, sampling.USE_CLIP, index)
            clip = clips.labelled_clip(record, own, cfg, spec, (modality,))
            clip[modality] = clip[modality][tf.newaxis]
        return {**clip, "index": index}

    batches = streams.finite_batches(
        cfg,
        card,
        split,
        make_clip,
        batch_size=batch_size or cfg.batch_size,
        bad_records=bad_records,
        repeats=cfg.num_augmentation,
    )
    if not (cfg.audio_mixup and modality == AUDIO and cfg.num_augmentation > 1):
        return batches

    def mix(number: tf.Tensor, batch: Batch) -> Batch:
        own = sampling.fold(root, sampling.USE_MIXUP, number)
        rows = tf.shape(batch[AUDIO])[0]
        how = mixing.by_rows(own, rows, cfg.mixup_alpha, cfg.mixup_beta)
        return {**batch, AUDIO: mixing.mixed(batch[AUDIO], *how)}

    return batches.enumerate().map(sampling.plain_graph(mix))


def load_cards(
    cfg: configs.dataset.Dataset, data_dir: str | Path | None = None
) -> list[cards.Card]:
    """The cards of the sets that a configuration names.

    Raises:
      DataError: one that is not there, or damaged.
    """
    names = cfg.name.split("+") if isinstance(cfg.name, str) else cfg.name
    return [load_card(name.strip(), data_dir) for name in names]


def clip_shapes(cfg: configs.dataset.Dataset) -> dict[str, tuple[int, ...]]:
    """Shapes of a clip by modality, without the batch axis; text is `(candidates, words)`.

    Of tokens, of everything that a model gets of a row, by name.
    """
    if (wanted := tokens.of(cfg)) is not None:
        return wanted.shapes
    size, frames = cfg.frame_size, cfg.num_frames
    video = (frames, size, size, 3)
    if cfg.space_to_depth:
        video = (frames // 2, size // 2, size // 2, 24)
    candidates = getattr(cfg, "max_context_sentences", 0) + 1  # evaluation: one caption per clip
    words = (candidates, getattr(cfg, "max_num_words", 0))
    return {"video": video, "audio": representation.shape(cfg), "text": words}


def raw_shapes(cfg: configs.dataset.Dataset) -> dict[str, tuple[int, ...]]:
    """`clip_shapes` before space-to-depth."""
    size = cfg.frame_size
    return clip_shapes(cfg) | {"video": (cfg.num_frames, size, size, 3)}


def rate_stride(cfg: configs.dataset.Dataset, card: cards.Card) -> int:
    """The stride of `clip_spec`: in frames at `cfg.fps`, without it in those of the record."""
    if cfg.fps or not card.video:
        return cfg.video_stride
    return cfg.published_stride(card.video.fps)


def clip_spec(cfg: configs.dataset.Dataset, card: cards.Card, video_stride: int) -> clips.ClipSpec:
    """Applies a configuration to a card; raises DataError when the two do not fit."""
    if card.audio and card.audio.sample_rate != cfg.sample_rate:
        raise DataError(
            f"Data set '{card.name}' holds audio at {card.audio.sample_rate} Hz, but the "
            f"configuration says sample_rate={cfg.sample_rate}: set sample_rate to "
            f"{card.audio.sample_rate}, or ingest the set again with "
            f"--sample_rate={cfg.sample_rate}."
        )
    rate = card.video.fps if card.video else cfg.fps or PUBLISHED_FPS
    stored = stored_sound.of(cfg, card)
    return clips.ClipSpec(
        name=card.name,
        frames=cfg.num_frames,
        video_stride=video_stride,
        fps=float(cfg.fps or rate),
        record_fps=float(rate),
        samples=cfg.num_spectrogram_times if stored else cfg.num_audio_samples,
        audio_stride=1 if stored else cfg.audio_stride,
        has_video=card.video is not None,
        has_audio=card.audio is not None,
        has_text=card.text is not None,
        classes=card.classes,
        schema=RECORD.renamed(card.fields),
        record_type=card.record_type,
        windows=cfg.clip_sampling == "windows",
        stored=stored,
    )


def make_tokenizer(cfg: configs.dataset.Dataset) -> text.Tokenizer:
    """The tokenizer that a configuration names, with its vocabulary loaded."""
    return text.tokenizer(text.load_vocabulary(cfg), cfg.use_bos, cfg.use_eos)


def smooth_labels(labels: tf.Tensor, share: float) -> tf.Tensor:
    """(1 - share) * labels + share / classes, for float32 [batch, classes]."""
    return (1.0 - share) * labels + share / labels.shape[-1]


def check_labelled(card: cards.Card, modality: str) -> None:
    """Raises DataError when a set cannot teach a classifier of `modality`."""
    if not card.classes:
        raise DataError(f"Data set '{card.name}' has no labels: its card lists none.")
    cards.check_modality(card, modality, "classifies")


def load_card(name: str, data_dir: str | Path | None) -> cards.Card:
    """The card of a data set: of a registered factory, else of the folder `data_dir`."""
    factory = factories.find(name)
    return factory.card if factory else cards.load(name, data_dir)


def split_rows(card: cards.Card, splits: Sequence[str]) -> list[np.ndarray]:
    """Of splits read in one pass, which of the records read (from 0) are those of each split."""
    start, places = 0, {}
    for shard in streams.shards_of(card, JOINED.join(splits)):
        places[shard.path] = np.arange(start, start := start + shard.records)
    parts = [[places[shard.path] for shard in streams.shards_of(card, split)] for split in splits]
    return [np.concatenate(part) for part in parts]


def check_split(card: cards.Card, split: str) -> None:
    """Raises DataError when a split or its files are not there."""
    if not factories.find(card.name):
        card.shards(split)


def _check_frames(cfg: configs.dataset.Dataset, training: bool = True) -> None:
    """Refuses sizes that no record could satisfy."""
    cut = cfg.crop_resize_style in ("VGG", "ShortSide", "Stretched")
    if training and cut and cfg.min_resize < cfg.frame_size:
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
    representation.check(cfg)


def _frame_stride(examples: Examples, card: cards.Card) -> int:
    """What a factory is asked for; the clips of records have it from their maker."""
    if not factories.find(card.name):
        return 1
    return _of_factory(clip_spec(examples.cfg, card, examples.stride(card)))


def _of_factory(spec: clips.ClipSpec) -> int:
    if isinstance(spec.frame_stride, int) and spec.frame_stride:
        return spec.frame_stride
    raise DataError(
        f"Data set '{spec.name}' comes from code at {spec.rate:g} pictures per second and makes "
        f"its clips of whole strides; fps={spec.fps:g} and video_stride={spec.video_stride} are a "
        f"stride of {spec.frame_stride:g}. Set fps to {spec.rate:g}, or to a part of it."
    )


def _weights(cfg: configs.dataset.Dataset, sets: Sequence[cards.Card]) -> Sequence[float]:
    if getattr(cfg, "mixing_weights", None) is None:
        return [1.0] * len(sets)
    if len(cfg.mixing_weights) != len(sets):
        raise DataError(
            f"mixing_weights has {len(cfg.mixing_weights)} values, but name='{cfg.name}' joins "
            f"{len(sets)} data sets: give one value for each."
        )
    return cfg.mixing_weights
