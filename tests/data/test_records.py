from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.data import records
from vatt.data.features import RECORD, RecordSchema
from vatt.errors import DataError
from vatt.files import sha256


def full_clip() -> records.ClipRecord:
    return records.ClipRecord(
        source="videos/ein film é.mp4",
        start=1.5,
        end=4.0,
        fps=10.0,
        sample_rate=16000,
        frames=[b"\xff\xd8one", b"\xff\xd8two"],
        waveform=np.linspace(-1, 1, 40000, dtype=np.float32),
        captions=[(-0.5, 1.25, "a red disc"), (2.0, 3.5, "größer")],
        labels=["shape=disc", "colour=red"],
        label_indices=[3, 0],
    )


def test_round_trip():
    clip = full_clip()
    back = records.decode(records.encode(clip))
    np.testing.assert_array_equal(back.waveform, clip.waveform)
    assert back.captions == list(clip.captions)
    for name in ("source", "start", "end", "fps", "sample_rate", "frames"):
        assert getattr(back, name) == getattr(clip, name)
    assert (back.labels, back.label_indices) == (clip.labels, clip.label_indices)


def test_layout_is_what_tensorflow_parses():
    serialised = records.encode(full_clip())
    context, lists = tf.io.parse_single_sequence_example(
        serialised,
        context_features={
            "caption/string": tf.io.VarLenFeature(tf.string),
            "caption/start": tf.io.VarLenFeature(tf.float32),
            "label/index": tf.io.VarLenFeature(tf.int64),
            "clip/fps": tf.io.FixedLenFeature([], tf.float32),
            "clip/sample_rate": tf.io.FixedLenFeature([], tf.int64),
        },
        sequence_features={
            "image/encoded": tf.io.FixedLenSequenceFeature([], tf.string),
            "waveform/floats": tf.io.VarLenFeature(tf.float32),
        },
    )
    assert lists["image/encoded"].shape == [2]
    assert tf.sparse.to_dense(lists["waveform/floats"]).shape == [1, 40000]
    assert context["caption/string"].values[1].numpy().decode() == "größer"
    np.testing.assert_array_equal(context["caption/start"].values, [-0.5, 2.0])
    np.testing.assert_array_equal(context["label/index"].values, [3, 0])
    assert (context["clip/fps"], context["clip/sample_rate"]) == (10.0, 16000)


def test_absent_modalities_are_absent_features():
    serialised = records.encode(records.ClipRecord(source="a.mp4"))
    example = tf.train.SequenceExample.FromString(serialised)
    assert not example.feature_lists.feature_list
    assert sorted(example.context.feature) == ["clip/end", "clip/source", "clip/start"]
    back = records.decode(serialised)
    assert back.frames is None
    assert back.waveform is None
    assert back.captions == []


def test_equal_clips_give_equal_bytes():
    assert records.encode(full_clip()) == records.encode(full_clip())


def test_a_shard_appears_only_when_complete(tmp_path):
    path = tmp_path / records.shard_name("train", 3, 16)
    assert path.name == "train-00003-of-00016.tfrecord"
    with pytest.raises(RuntimeError), records.ShardWriter(path) as shard:
        shard.write(b"one")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with records.ShardWriter(path) as shard:
        shard.write(b"one")
        assert not path.exists()
        shard.write(b"two")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert list(records.read_shard(path)) == [b"one", b"two"]
    assert len(sha256(path)) == 64


def test_schema_renames():
    schema = RECORD.renamed({"label_index": "clip/label/index"})
    assert schema == RecordSchema(label_index="clip/label/index")
    clip = records.decode(records.encode(full_clip(), schema), schema)
    assert clip.label_indices == [3, 0]
    with pytest.raises(DataError, match=r"'labelindex'.*Did you mean 'label_index'"):
        RECORD.renamed({"labelindex": "x"})
