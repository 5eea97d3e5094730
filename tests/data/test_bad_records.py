"""Records that cannot be used: passed over, counted, listed; resume and evaluation with them."""

from __future__ import annotations

import csv
import itertools
import json

import corpus
import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import dataset
from vatt.data import framing, pipeline
from vatt.data.bad_records import COLUMNS, MOST_IN_A_ROW, BadRecords
from vatt.errors import DataError
from vatt.methods.vatt.config import PretrainInput
from vatt.methods.vatt.examples import VideoAudioText

SIZES = {
    "num_frames": 2,
    "frame_size": 8,
    "min_resize": 8,
    "sample_rate": corpus.SAMPLE_RATE,
    "batch_size": 5,
    "scale_jitter": False,
    "color_augment": False,
}
COUNT = 30


def config(kind, tmp_path, **changes):
    vocabulary = corpus.write_vocabulary(tmp_path)
    return kind(**{**SIZES, "name": "spoken", "vocabulary": vocabulary, **changes})


def spoil_frame(record: bytes) -> bytes:
    """The record with its JPEGs cut off: the framing stays whole."""
    example = tf.train.SequenceExample.FromString(record)
    for step in example.feature_lists.feature_list["image/encoded"].feature:
        frame = step.bytes_list.value[0]
        step.bytes_list.value[0] = frame[: len(frame) // 3]
    return example.SerializeToString()


def spoil_sound(record: bytes) -> bytes:
    """The record with a sample that is no number."""
    example = tf.train.SequenceExample.FromString(record)
    example.feature_lists.feature_list["waveform/floats"].feature[0].float_list.value[7] = np.nan
    return example.SerializeToString()


def write(folder, *, spoilt=(), shards=3, split="train", spoil=spoil_frame):
    examples = [corpus.example(i, frames=3, captions=["a red circle"]) for i in range(COUNT)]
    for index in spoilt:
        examples[index] = spoil(examples[index])
    corpus.write_set(folder, "spoken", examples, shards=shards, split=split)
    paths = sorted((folder / "spoken").glob("*.tfrecord"))
    listed = [{"file": p.name, "records": len(examples[i::shards])} for i, p in enumerate(paths)]
    (folder / "spoken/manifest.json").write_text(json.dumps({"shards": listed}))
    return paths


def flip(path, record, *, where):
    """Flips a bit of a record's "payload" or "length"."""
    found = list(framing.walk(path))[record]
    content = bytearray(path.read_bytes())
    content[found.offset + (12 + len(found.data) // 2 if where == "payload" else 2)] ^= 4
    path.write_bytes(content)


def train(cfg, folder, bad_records, count, start=0):
    batches = pipeline.training_batches(
        VideoAudioText(cfg), data_dir=folder, seed=1, start_step=start, bad_records=bad_records
    )
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(count)]


def listed(bad_records):
    with bad_records.path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    return {(row[2], int(row[3])): row for row in rows[1:]}


@pytest.mark.slow
def test_spoilt_records_are_replaced_counted_and_listed(tmp_path):
    paths = write(tmp_path, spoilt=(4, 17))  # in shards 1 and 2, there number 1 and 5
    flip(paths[0], 7, where="payload")
    cfg = config(PretrainInput, tmp_path)
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    run = train(cfg, tmp_path, bad_records, 13)  # two epochs and a step
    examples = VideoAudioText(cfg)
    spec = pipeline.training_batches(examples, data_dir=tmp_path, seed=1).element_spec
    assert all(part.shape.is_fully_defined() and part.shape[0] == 5 for part in spec.values())
    rows = listed(bad_records)
    expected = {(paths[1].name, 1), (paths[2].name, 5), (paths[0].name, 7)}
    assert set(rows) == expected and len(bad_records.rows()) == 3
    for (name, number), row in rows.items():
        path = next(path for path in paths if path.name == name)
        assert int(row[4]) == list(framing.walk(path))[number].offset
    assert "frame 0" in rows[(paths[1].name, 1)][5]
    for batch in run:
        assert (np.abs(batch["video"]).max(axis=(1, 2, 3, 4)) > 0).all()
        assert (batch["text_mask"] == 1).all()
    again = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    later = train(cfg, tmp_path, again, 6, start=7)
    for expected, found in zip(run[7:], later, strict=True):
        for key in expected:
            assert expected[key].tobytes() == found[key].tobytes(), key
    assert len(listed(again)) == 3  # nothing twice


def test_a_batch_of_nothing_but_bad_records_is_replaced_by_the_next_one(tmp_path):
    """As batches of one clip, or a worker's share of a batch, easily are; wherever a run begins."""
    write(tmp_path, spoilt=(4, 5, 17))
    cfg = config(PretrainInput, tmp_path, batch_size=1)
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    run = train(cfg, tmp_path, bad_records, COUNT)  # an epoch
    assert len(listed(bad_records)) == 3
    again = [before["video"].tobytes() == after["video"].tobytes()
             for before, after in itertools.pairwise(run)]  # fmt: skip
    assert sum(again) == 3 and all(np.abs(batch["video"]).max() > 0 for batch in run)
    for start in (again.index(True), again.index(True) + 1):  # in the midst of it, and behind it
        later = train(cfg, tmp_path, BadRecords(max_fraction=0.1), COUNT - start, start=start)
        for expected, found in zip(run[start:], later, strict=True):
            for key in expected:
                assert expected[key].tobytes() == found[key].tobytes(), key


@pytest.mark.slow
def test_workers_list_what_each_of_them_could_not_read(tmp_path):
    paths = write(tmp_path, spoilt=(4, 17))  # in shards 1 and 2, there number 1 and 5
    cfg = config(PretrainInput, tmp_path, batch_size=6, max_bad_fraction=0.1)
    found = {}
    for worker in (0, 1):
        bad_records = BadRecords.of_run(tmp_path / "run", cfg, worker)
        batches = pipeline.training_batches(
            VideoAudioText(cfg),
            data_dir=tmp_path,
            seed=1,
            worker=(worker, 2),
            bad_records=bad_records,
        )
        for _ in batches.take(COUNT):  # six epochs
            pass
        found[bad_records.path.name] = set(listed(bad_records))
    assert list(found) == ["bad_records.csv", "bad_records-1.csv"]
    assert set.union(*found.values()) == {(paths[1].name, 1), (paths[2].name, 5)}


def test_a_damaged_list_is_told_and_its_whole_lines_stay(tmp_path, caplog):
    path = tmp_path / "bad_records.csv"
    whole = "spoken,train,a,7,99,frame 0"
    lines = [",".join(COLUMNS), "spoken,train," + "x" * 200_000, whole, "spoken,train,a,x,99,b"]
    lines += ["", "spoken,train,a," + "9" * 5000]
    path.write_bytes("\n".join([*lines, "spoken,tr"]).encode() + b"\xff")
    with caplog.at_level("WARNING", "absl"):
        assert BadRecords(path).rows() == [whole.split(",")]
    assert "bad_records.csv: 4 lines cannot be read" in caplog.text


@pytest.mark.parametrize("where", ["payload", "length"])
def test_a_flipped_bit_costs_one_record(tmp_path, where):
    paths = write(tmp_path, shards=1)
    flip(paths[0], 11, where=where)
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.05)
    cfg = config(dataset.Evaluation, tmp_path, name=("spoken",), num_windows_test=1, batch_size=8)
    batches = list(
        pipeline.evaluation_batches(
            cfg, "spoken", "train", data_dir=tmp_path, bad_records=bad_records
        )
    )
    valid = np.concatenate([batch["valid"] for batch in batches]) == 1
    sources = np.concatenate([batch["source"] for batch in batches])
    found = {int(source.decode()[5:-4]) for source in sources[valid]}
    assert found == set(range(COUNT)) - {11}
    assert list(listed(bad_records)) == [(paths[0].name, 11)]


def test_sound_that_is_no_number_costs_one_record(tmp_path):
    paths = write(tmp_path, spoilt=(11,), shards=1, spoil=spoil_sound)
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.05)
    for batch in train(config(PretrainInput, tmp_path), tmp_path, bad_records, 13):
        assert np.isfinite(batch["audio"]).all() and (batch["text_mask"] == 1).all()
    (row,) = listed(bad_records).values()
    assert (row[2], row[3]) == (paths[0].name, "11")
    assert row[5] == "a sample of the waveform is not finite"
    cfg = config(dataset.Evaluation, tmp_path, name=("spoken",), num_windows_test=1, batch_size=30)
    (batch,) = pipeline.evaluation_batches(
        cfg, "spoken", "train", data_dir=tmp_path, bad_records=bad_records
    )
    assert np.flatnonzero(batch["valid"].numpy() == 0).tolist() == [11]


def test_half_a_line_of_a_killed_run_is_passed_over(tmp_path):
    write(tmp_path, spoilt=(11,), shards=1)
    file = tmp_path / "bad_records.csv"
    file.write_text(f"{','.join(COLUMNS)}\nspoken,train,train-0000")
    bad_records = BadRecords(file, max_fraction=0.05)
    assert bad_records.rows() == []
    train(config(PretrainInput, tmp_path), tmp_path, bad_records, 13)
    assert [row[3] for row in BadRecords(file, max_fraction=0.05).rows()] == ["11"]


def test_the_end_of_a_set_can_be_bad(tmp_path):
    (path,) = write(tmp_path, spoilt=(28, 29), shards=1)
    cut = list(framing.walk(path))[27].offset + 20
    path.write_bytes(path.read_bytes()[:cut])  # 27 is cut off, 28 and 29 are gone
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.2)
    cfg = config(dataset.Evaluation, tmp_path, name=("spoken",), num_windows_test=1, batch_size=8)
    batches = list(
        pipeline.evaluation_batches(
            cfg, "spoken", "train", data_dir=tmp_path, bad_records=bad_records
        )
    )
    assert len(batches) == 4
    valid = np.concatenate([batch["valid"] for batch in batches])
    np.testing.assert_array_equal(valid, [1] * 27 + [0] * 5)
    assert set(listed(bad_records)) == {(path.name, number) for number in (27, 28, 29)}


def test_too_many_bad_records_stop_the_run(tmp_path):
    write(tmp_path, spoilt=range(0, COUNT, 5))
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    with pytest.raises(tf.errors.OpError):
        train(config(PretrainInput, tmp_path), tmp_path, bad_records, 12)
    with pytest.raises(DataError, match=r"4 of 30 records.*max_bad_fraction=0\.1.*records\.csv"):
        bad_records.check()
    assert len(listed(bad_records)) == 4


@pytest.mark.slow
def test_a_run_that_was_stopped_is_stopped_again(tmp_path):
    """What was listed before the restart counts, too."""
    write(tmp_path, spoilt=range(0, COUNT, 5))
    cfg = config(PretrainInput, tmp_path)
    train(cfg, tmp_path, BadRecords(tmp_path / "bad_records.csv", max_fraction=1.0), 12)
    again = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    assert len(listed(again)) == 6
    with pytest.raises(tf.errors.OpError):
        train(cfg, tmp_path, again, 12)
    with pytest.raises(DataError, match="6 of 30 records"):
        again.check()


@pytest.mark.slow
def test_a_set_without_any_good_record_stops_the_run(tmp_path):
    write(tmp_path, spoilt=range(COUNT))
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    with pytest.raises(tf.errors.OpError):
        train(config(PretrainInput, tmp_path), tmp_path, bad_records, 1)
    with pytest.raises(DataError, match="of 30 records"):
        bad_records.check()


def test_a_set_without_any_good_record_ends_the_run_whatever_is_allowed(tmp_path):
    write(tmp_path, spoilt=range(COUNT))
    bad_records = BadRecords(max_fraction=1.0)
    with pytest.raises(tf.errors.OpError):
        train(config(PretrainInput, tmp_path, batch_size=1), tmp_path, bad_records, 1)
    with pytest.raises(DataError, match=r"256 batches in a row .* the last: frame 0"):
        bad_records.check()


@pytest.mark.slow
def test_a_share_of_exactly_the_limit_is_allowed(tmp_path):
    write(tmp_path, spoilt=(3, 8, 21))
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    train(config(PretrainInput, tmp_path), tmp_path, bad_records, 12)
    bad_records.check()
    assert len(listed(bad_records)) == 3


@pytest.mark.parametrize(
    "bad", [MOST_IN_A_ROW + 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (255, 256, 600))]
)
def test_any_number_of_neighbours_can_be_bad(tmp_path, bad):
    """As where a disk has lost a part of a shard, which an evaluation reads from end to end."""
    examples = [corpus.example(i, frames=1, captions=["a red circle"]) for i in range(bad + 30)]
    for i in range(20, 20 + bad):
        examples[i] = spoil_frame(examples[i])
    corpus.write_set(tmp_path, "spoken", examples, shards=1, split="train")
    bad_records = BadRecords(max_fraction=1.0)
    cfg = config(dataset.Evaluation, tmp_path, name=("spoken",), num_windows_test=1)
    batches = pipeline.evaluation_batches(
        cfg, "spoken", "train", data_dir=tmp_path, bad_records=bad_records
    )
    valid = np.concatenate([batch["valid"] for batch in batches.as_numpy_iterator()])
    expected = np.repeat([1, 0, 1], [20, bad, 10])
    np.testing.assert_array_equal(valid[: bad + 30], expected)
    assert not valid[bad + 30 :].any() and len(bad_records.rows()) == bad


def test_record_without_frames_is_bad(tmp_path):
    examples = [corpus.example(i, frames=0 if i == 2 else 3) for i in range(10)]
    corpus.write_set(tmp_path, "spoken", examples, shards=1, text=False)
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=0.1)
    train(config(PretrainInput, tmp_path), tmp_path, bad_records, 2)
    assert "no frames" in bad_records.rows()[0][5]


@pytest.mark.parametrize("training", [True, False])
def test_a_shard_that_vanishes_is_named(tmp_path, training):
    paths = write(tmp_path)
    bad_records = BadRecords(tmp_path / "bad_records.csv", max_fraction=1.0)
    if training:
        cfg = config(PretrainInput, tmp_path)
        batches = pipeline.training_batches(
            VideoAudioText(cfg), data_dir=tmp_path, seed=1, bad_records=bad_records
        )
    else:
        cfg = config(dataset.Evaluation, tmp_path, name=("spoken",), num_windows_test=1)
        batches = pipeline.evaluation_batches(
            cfg, "spoken", "train", data_dir=tmp_path, bad_records=bad_records
        )
    paths[1].unlink()
    with pytest.raises(tf.errors.OpError):
        list(batches.take(12))
    with pytest.raises(DataError, match=rf"'spoken', split 'train': {paths[1]} can no longer be"):
        bad_records.check()
    assert bad_records.rows() == []
