"""Writes small record sets of extracted features, spectrograms and captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import corpus
import numpy as np
import tensorflow as tf

WIDTH, RATE = 6, 2.0  # of `vatt`
BANDS, WINDOWS = 40, 100.0
WORDS = ("red", "circle", "moves", "left", "blue", "square")


def example(index: int, seconds: float = 2.0, caption: str | None = None) -> bytes:
    """One serialized record: what is seen and heard of it is drawn by its number."""
    random = np.random.default_rng(index)
    sizes = {"vatt": (int(seconds * RATE), WIDTH), "logmel": (int(seconds * WINDOWS), BANDS)}
    lists = {
        f"feature/{name}": tf.train.FeatureList(
            feature=[corpus._feature(row.astype("float32")) for row in random.normal(size=size)]
        )
        for name, size in sizes.items()
    }
    said = caption or " ".join(random.choice(WORDS, 3))
    context = {
        "clip/source": corpus._feature(f"video{index}.mp4".encode()),
        "caption/string": corpus._feature([said]),
        "caption/start": corpus._feature(np.zeros(1, np.float32)),
        "caption/end": corpus._feature(np.full(1, seconds, np.float32)),
    }
    return tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    ).SerializeToString()


def write_set(
    folder: Path,
    name: str,
    records: Sequence[bytes],
    split: str = "train",
    tasks: Sequence[str] = ("pretrain",),
) -> None:
    """Writes a shard and the card of a set with one split."""
    features = {
        "vatt": {"width": WIDTH, "rate": RATE},
        "logmel": {"width": BANDS, "rate": WINDOWS},
    }
    fields = {"tasks": list(tasks), "text": {"captions": True}, "features": features}
    corpus.write_records(folder / name, records, split, shards=1, **fields)
