"""A training begins in the middle of a large set without reading what lies before (R19)."""

from __future__ import annotations

import os
import time

import corpus
import numpy as np
import pytest
import yaml

from vatt.data import pipeline
from vatt.methods.vatt.config import PretrainInput
from vatt.methods.vatt.examples import VideoAudioText

SHARDS, EACH, STEP, BATCH = 100, 1000, 10_000, 8


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A set of 100,000 records; its shards are one file under a hundred names."""
    folder = tmp_path_factory.mktemp("records")
    records = [corpus.example(i, frames=4, captions=["a red circle"]) for i in range(50)]
    corpus.write_set(folder, "large", records * (EACH // 50), shards=1)
    target = folder / "large"
    first = target / "train-00000-of-00001.tfrecord"
    for shard in range(SHARDS):
        os.link(first, target / f"train-{shard:05d}-of-{SHARDS:05d}.tfrecord")
    first.unlink()
    card = yaml.safe_load((target / "card.yaml").read_text())
    card["splits"]["train"] |= {"num_shards": SHARDS, "records": SHARDS * EACH}
    (target / "card.yaml").write_text(yaml.safe_dump(card))
    return folder


@pytest.mark.slow
def test_step_10000_is_reached_within_seconds(data_dir, tmp_path):
    """80,000 of 100,000 records are passed over: two groups of 32 shards, and half of a third.

    Time of the processor, of all threads together, beyond what any start takes: other programs on
    the machine have no part in it.
    """
    cfg = PretrainInput(
        num_frames=4, frame_size=16, min_resize=18, sample_rate=corpus.SAMPLE_RATE,
        batch_size=BATCH, scale_jitter=False, color_augment=False, name="large",
        shuffle_buffer=64, vocabulary=corpus.write_vocabulary(tmp_path),
    )  # fmt: skip

    def first_batch(start):
        began = time.process_time()
        batches = pipeline.training_batches(
            VideoAudioText(cfg), data_dir=data_dir, seed=1, start_step=start
        )
        batch = next(iter(batches.take(1)))
        return time.process_time() - began, batch["video"].numpy()

    first_batch(0)  # counts the records, imports what is imported late
    (usual, _), (late, video) = first_batch(0), first_batch(STEP)
    print(f"first batch: {usual:.2f} s at step 0, {late:.2f} s at step {STEP}")
    assert late - usual <= 5
    assert np.isfinite(video).all() and len(video) == BATCH
