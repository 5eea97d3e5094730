"""Writes small record sets for the tests of the input pipeline, from the record layout alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "circle", "moves", "left", "zero", "one"]
FPS = 10.0
SAMPLE_RATE = 1600


def _feature(value) -> tf.train.Feature:
    values = np.atleast_1d(value)
    if values.dtype.kind in "SUO":
        encoded = [v if isinstance(v, bytes) else str(v).encode() for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if values.dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(
    index: int, *, frames: int = 12, sound: bool = True, captions: Sequence[str] | None = None
) -> bytes:
    """One serialized record; frame t of record i is filled with a grey value made of both."""
    rng = np.random.default_rng(index)
    lists = {}
    if frames:
        pixels = rng.integers(0, 256, (frames, 20, 24, 3), dtype=np.uint8)
        jpegs = [_feature(tf.io.encode_jpeg(frame, quality=90).numpy()) for frame in pixels]
        lists["image/encoded"] = tf.train.FeatureList(feature=jpegs)
    if sound:
        samples = max(frames, 1) * int(SAMPLE_RATE / FPS)
        waveform = rng.uniform(-0.5, 0.5, samples).astype(np.float32)
        lists["waveform/floats"] = tf.train.FeatureList(feature=[_feature(waveform)])
    context = {
        "clip/source": _feature(f"video{index}.mp4".encode()),
        "label/index": _feature(np.array([index % 3])),
        "label/text": _feature([b"shape=circle", b"colour=red"]),
    }
    if captions:
        context["caption/string"] = _feature(list(captions))
        context["caption/start"] = _feature(np.arange(len(captions), dtype=np.float32) * 0.4)
        context["caption/end"] = _feature(np.arange(len(captions), dtype=np.float32) * 0.4 + 0.3)
    return tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    ).SerializeToString(deterministic=True)


def write_set(
    folder: Path,
    name: str,
    records: Sequence[bytes],
    *,
    split: str = "train",
    shards: int = 3,
    fps: float = FPS,
    text: bool = True,
    audio: bool = True,
    video: bool = True,
    sample_rate: int = SAMPLE_RATE,
) -> None:
    """Writes shards and card of one data set with one split."""
    fields = {
        "video": {"fps": fps, "height": 20, "width": 24} if video else None,
        "audio": {"sample_rate": sample_rate} if audio else None,
        "text": {"captions": True} if text else None,
        "labels": ["zero", "one", "two"],
        "multi_label": False,
        "fields": {},
    }
    write_records(folder / name, records, split, shards, tasks=["pretrain"], **fields)


def write_records(
    target: Path, records: Sequence[bytes], split: str, shards: int, **fields: Any
) -> None:
    """Writes shards, and a card with `fields`, of a data set with one split."""
    target.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        path = target / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records[shard::shards]:
                writer.write(record)
    card = {
        "name": target.name,
        "description": "test",
        "source": "made by the tests",
        "licence": "CC0-1.0",
        "splits": {
            split: {
                "pattern": f"{split}-*-of-*.tfrecord",
                "num_shards": shards,
                "records": len(records),
            }
        },
        **fields,
    }
    (target / "card.yaml").write_text(yaml.safe_dump(card))


def write_vocabulary(folder: Path, words: Sequence[str] = WORDS) -> str:
    """Writes a vocabulary file and returns its path."""
    path = folder / "words.txt"
    path.write_text("\n".join(words) + "\n")
    return str(path)
