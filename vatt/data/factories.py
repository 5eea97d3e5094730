"""Data sets that come from code: factory objects in DMVR's style, used like a card.

    # my_pkg/my_datasets.py
    from vatt.data import factories
    factories.register("my_set", MyFactory, tasks=["pretrain"], records={"train": 1000})

    python -m vatt.main --import=my_pkg.my_datasets --params_override=train.input.name=my_set ...

`MyFactory(split)` gives an object with `configure(...)` and `make_dataset(...)`. `configure` gets,
of the parameters that it accepts, those that the published loaders pass: is_training, num_frames,
stride, crop_size, min_resize, zero_centering_image, crop_resize_style, min_area_ratio,
max_area_ratio, min_aspect_ratio, max_aspect_ratio, num_samples, audio_stride, num_test_clips,
multi_crop, max_num_words, max_context_sentences, output_audio. `make_dataset(shuffle, num_epochs,
batch_size, drop_remainder)` returns a tf.data.Dataset of dicts in the published layout: `vision`
(or `image`) [batch * windows, frames, height, width, 3] float32 already normalised, `audio`
[batch * windows, samples] (or with a last axis of 1), `text` (or `text_indices`) int32 [batch,
candidates, words], `label` [batch, classes]; `audio_mask` and `text_mask` [batch] where clips lack
sound or text. What it leaves out is zeros.

Order and augmentation are the factory's own: a resumed run sees other clips than an undisturbed
one.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vatt.data import cards
from vatt.data.bad_records import OK, ORIGIN
from vatt.data.features import AUDIO, AUDIO_MASK, LABEL, TEXT, TEXT_MASK, VIDEO
from vatt.errors import DataError, UserError

if TYPE_CHECKING:
    import tensorflow as tf

    from vatt import configs

# Names in a factory's output, the published one first.
NAMES = {
    VIDEO: ("vision", "image", "video"),
    AUDIO: ("audio", "audio_mel"),
    TEXT: ("text", "text_indices"),
    LABEL: ("label",),
    AUDIO_MASK: ("audio_mask",),
    TEXT_MASK: ("text_mask",),
}


class Registered(NamedTuple):
    """A factory and what a card would say of its set."""

    make: Callable[[str], Any]
    card: cards.Card


_REGISTERED: dict[str, Registered] = {}


def register(
    name: str,
    make: Callable[[str], Any],
    *,
    tasks: Sequence[str] = ("pretrain",),
    records: Mapping[str, int] | None = None,
    modalities: Sequence[str] = (VIDEO, AUDIO, TEXT),
    fps: float = 25.0,
    sample_rate: int = 48000,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
) -> None:
    """Makes a data set known under `name`; registering it again replaces it.

    Args:
      name: what `train.input.name` says.
      make: called with the split, gives the factory object.
      tasks: what the set is for, as in a card.
      records: number of records by split, where known.
      modalities: which of video, audio, text it delivers.
      fps: frames per second of its videos at stride 1.
      sample_rate: Hz.
      labels: class names.
      multi_label: whether a record can have several labels.
    """
    card = cards.Card(
        name=name,
        tasks=list(tasks),
        video=cards.VideoInfo(fps=fps) if VIDEO in modalities else None,
        audio=cards.AudioInfo(sample_rate=sample_rate) if AUDIO in modalities else None,
        text=cards.TextInfo() if TEXT in modalities else None,
        labels=list(labels) if labels else None,
        multi_label=multi_label,
        splits={
            split: cards.Split(pattern="", num_shards=0, records=count)
            for split, count in (records or {}).items()
        },
    )
    _REGISTERED[name] = Registered(make, card)


def find(name: str) -> Registered | None:
    """The factory registered under `name`, if any."""
    return _REGISTERED.get(name)


def import_modules(names: Sequence[str]) -> None:
    """Imports the modules of `--import`, from the working directory too.

    Raises:
      UserError: one cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"--import={name}: cannot be imported ({error}); it must be a module that Python "
                "finds from the working directory or among the installed packages"
            ) from error


def _accepted(function: Callable, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of `wanted` the function takes."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(wanted)
    return {name: value for name, value in wanted.items() if name in parameters}


def clips(
    name: str, cfg: configs.dataset.Dataset, shapes: Mapping[str, tuple], stride: int, batch: int
) -> tf.data.Dataset:
    """Endless training clips of a factory, complete as those of a card.

    Args:
      name: of the set.
      cfg: what to make.
      shapes: of a clip by name of its parts.
      stride: in frames of the set.
      batch: clips the factory makes at a time.

    Raises:
      DataError: the factory lacks a method, or delivers none of the modalities.
    """
    import tensorflow as tf

    dataset = _dataset(name, cfg.split or "train", cfg, stride, 1, True, batch).unbatch()

    def complete(clip: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        values = {key: _part(clip, key, shape) for key, shape in shapes.items()}
        return {**values, OK: tf.constant(1.0), ORIGIN: tf.constant([-1, -1, -1], tf.int64)}

    return dataset.map(complete)


def evaluation(
    name: str,
    split: str,
    cfg: configs.dataset.Dataset,
    shapes: Mapping[str, tuple],
    stride: int,
    windows: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Batches of a factory as of `pipeline.evaluation_batches`, the last one not yet filled up."""
    import tensorflow as tf

    dataset = _dataset(name, split, cfg, stride, windows, False, batch_size)

    def complete(number: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        per_row = {
            LABEL: 1,
            TEXT: 1,
            VIDEO: windows * (3 if cfg.multi_crop else 1),
            AUDIO: windows,
        }
        known = next(key for key in per_row if key in batch)
        rows = tf.shape(batch[known])[0] // per_row[known]
        values = {}
        for key, shape in shapes.items():
            inner = (per_row[key], *shape) if key in (VIDEO, AUDIO) else shape
            values[key] = _part(batch, key, inner, rows)
        for modality, mask in ((AUDIO, AUDIO_MASK), (TEXT, TEXT_MASK)):
            if modality in shapes:
                values[mask] = _part(batch, mask, (), rows)
        if TEXT in shapes:
            values["caption"] = tf.fill([rows], "")
        if VIDEO in shapes:
            values["thumbnail"] = _thumbnails(values[VIDEO], cfg.zero_centering_image)
        return {
            **values,
            "label_text": tf.fill([rows], ""),
            "source": tf.fill([rows], ""),
            "index": number * batch_size + tf.range(tf.cast(rows, tf.int64)),
            OK: tf.ones([rows]),
            ORIGIN: tf.fill([rows, 3], tf.constant(-1, tf.int64)),
        }

    return dataset.enumerate().map(complete)


def _dataset(
    name: str,
    split: str,
    cfg: configs.dataset.Dataset,
    stride: int,
    windows: int,
    training: bool,
    batch_size: int,
) -> tf.data.Dataset:
    """The factory's own batches, under this project's names."""
    for field in ("audio_level", "pixel_std"):
        if (value := getattr(cfg, field)) is not None:
            raise DataError(
                f"data set '{name}' comes from code, which makes its own clips: {field} is "
                f"{value:g}; accepted: null"
            )
    factory = _REGISTERED[name].make(split)
    missing = [method for method in ("configure", "make_dataset") if not hasattr(factory, method)]
    if missing:
        raise DataError(
            f"data set '{name}': {type(factory).__name__} has no {missing[0]}(); a factory needs "
            "configure(...) and make_dataset(...) (vatt.data.factories)"
        )
    factory.configure(**_accepted(factory.configure, _parameters(cfg, stride, windows, training)))
    options = {
        "shuffle": training,
        "num_epochs": -1 if training else 1,
        "batch_size": batch_size,
        "drop_remainder": training,
    }
    dataset = factory.make_dataset(**_accepted(factory.make_dataset, options))
    found = {
        ours: next((theirs for theirs in names if theirs in dataset.element_spec), None)
        for ours, names in NAMES.items()
    }
    if not any(found[modality] for modality in (VIDEO, AUDIO, TEXT)):
        raise DataError(
            f"data set '{name}': its factory delivers "
            f"{', '.join(dataset.element_spec) or 'nothing'}; accepted: "
            f"{', '.join(names[0] for names in NAMES.values())}"
        )
    present = {ours: theirs for ours, theirs in found.items() if theirs}
    return dataset.map(lambda batch: {ours: batch[name] for ours, name in present.items()})


def _part(
    values: Mapping[str, tf.Tensor], key: str, shape: Sequence[int], rows: tf.Tensor | None = None
) -> tf.Tensor:
    """One part of a clip, or of `rows` clips, in its shape; zeros where the factory has none."""
    import tensorflow as tf

    full = tuple(shape) if rows is None else (rows, *shape)
    dtype = tf.int32 if key == TEXT else tf.float32
    if key in values:
        return tf.reshape(tf.cast(values[key], dtype), full)
    modality = {AUDIO_MASK: AUDIO, TEXT_MASK: TEXT}.get(key)
    return tf.ones(full) if modality in values else tf.zeros(full, dtype)


def _thumbnails(video: tf.Tensor, zero_centred: bool) -> tf.Tensor:
    """Uint8 [batch, 3, height, width, 3]: first, middle and last frame of the middle window."""
    import tensorflow as tf

    windows, frames = video.shape[1:3]
    shown = tf.gather(video[:, windows // 2], [0, frames // 2, frames - 1], axis=1)
    unit = (shown + 1.0) / 2.0 if zero_centred else shown
    return tf.cast(tf.round(tf.clip_by_value(unit, 0.0, 1.0) * 255.0), tf.uint8)


def _parameters(
    cfg: configs.dataset.Dataset, stride: int, windows: int, training: bool
) -> dict[str, Any]:
    """What the published loaders pass to `configure`."""
    words = getattr(cfg, "max_num_words", None)
    text = {} if words is None else {
        "max_num_words": words,
        "max_context_sentences": getattr(cfg, "max_context_sentences", 0) + 1,
    }  # fmt: skip
    return {
        "is_training": training,
        "num_frames": cfg.num_frames,
        "stride": stride,
        "crop_size": cfg.frame_size,
        "min_resize": cfg.min_resize if training else cfg.frame_size,
        "zero_centering_image": cfg.zero_centering_image,
        "crop_resize_style": cfg.crop_resize_style,
        "min_area_ratio": cfg.min_area_ratio,
        "max_area_ratio": cfg.max_area_ratio,
        "min_aspect_ratio": cfg.min_aspect_ratio,
        "max_aspect_ratio": cfg.max_aspect_ratio,
        "num_samples": cfg.num_audio_samples,
        "audio_stride": cfg.audio_stride,
        "num_test_clips": windows,
        "multi_crop": getattr(cfg, "multi_crop", False) and not training,
        "output_audio": True,
        **text,
    }
