from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vatt.data import cards, framing, records
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


def test_example_records_are_read_too():
    def feature(**kinds) -> tf.train.Feature:
        ((kind, values),) = kinds.items()
        made = {
            "data": lambda: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)),
            "floats": lambda: tf.train.Feature(float_list=tf.train.FloatList(value=values)),
            "numbers": lambda: tf.train.Feature(int64_list=tf.train.Int64List(value=values)),
        }
        return made[kind]()

    fields = {
        "image/encoded": feature(data=[b"one", b"two"]),
        "waveform/floats": feature(floats=[0.5, -0.25]),
        "label/index": feature(numbers=[7]),
        "label/text": feature(data=["caf\xe9".encode("latin-1")]),
    }
    example = tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()
    clip = records.decode(example, record_type="Example")
    assert clip.frames == [b"one", b"two"]
    np.testing.assert_array_equal(clip.waveform, np.float32([0.5, -0.25]))
    assert clip.label_indices == [7]
    assert clip.labels == ["caf\ufffd"]  # not UTF-8: shown, not fatal
    assert (clip.source, clip.captions) == ("", [])


# Damaged shards ----------------------------------------------------------------------------------

SIZES = [0, 1, 7, 300, 511, 512, 513, 5000, 20, 64]  # bytes of the payloads


def write_shard(path: Path) -> tuple[list[bytes], list[int]]:
    """Writes a shard with TensorFlow; returns payloads and the bytes where records begin."""
    rng = np.random.default_rng(5)
    payloads = [rng.integers(0, 256, size, dtype=np.uint8).tobytes() for size in SIZES]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return payloads, np.cumsum([0, *(size + 16 for size in SIZES)]).tolist()


def read_pieces(path: Path, pieces: list[framing.Segment]) -> dict[int, bytes]:
    """What TensorFlow reads from the byte offsets of segments: {index: payload}."""

    def read(offset: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[str(path)],
            compression_type="",
            buffer_size=1 << 16,
            byte_offsets=offset[tf.newaxis],
        )
        spec = tf.TensorSpec((), tf.string)
        return tf.data.experimental.from_variant(variant, spec).take(count)

    offsets, counts = ([p[k] for p in pieces] for k in (1, 2))
    where = tf.data.Dataset.from_tensor_slices(
        (tf.constant(offsets, tf.int64), tf.constant(counts, tf.int64))
    )
    numbers = [p.first + k for p in pieces for k in range(p.records)]
    found = list(where.flat_map(read).as_numpy_iterator())
    return dict(zip(numbers, found, strict=True))


def test_an_intact_shard(tmp_path):
    payloads, starts = write_shard(tmp_path / "x.tfrecord")
    found = list(framing.walk(tmp_path / "x.tfrecord"))
    assert [r.data for r in found] == payloads
    assert [(r.index, r.offset, r.problem) for r in found] == [
        (k, starts[k], "") for k in range(len(SIZES))
    ]
    whole = framing.Segment(0, 0, len(SIZES))
    assert framing.segments(tmp_path / "x.tfrecord", len(SIZES)) == ([whole], [])


def test_every_flipped_byte_costs_at_most_one_record(tmp_path):
    path = tmp_path / "x.tfrecord"
    _, starts = write_shard(path)
    whole = path.read_bytes()
    places = [p for start, size in zip(starts, SIZES, strict=False) for p in (
        start, start + 1, start + 7,  # length
        start + 8, start + 11,  # its checksum
        *((start + 12, start + 12 + size // 2, start + 11 + size) if size else ()),  # payload
        start + 12 + size, start + 15 + size,  # its checksum
    )]  # fmt: skip
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        hit = int(np.searchsorted(starts, place, side="right")) - 1
        pieces, lost = framing.segments(path, len(SIZES))
        assert [(d.index, d.offset, d.records) for d in lost] == [(hit, starts[hit], 1)], place
        before, after = (0, 0, hit), (hit + 1, starts[hit + 1], len(SIZES) - hit - 1)
        assert pieces == [piece for piece in (before, after) if piece[2]]
        within = place - starts[hit]
        assert ("header" if within < 12 else "checksum of the payload") in lost[0].reason
        if within < 12:
            assert f"{SIZES[hit] + 16} bytes passed over" in lost[0].reason


def test_two_damaged_records_in_a_row(tmp_path):
    path = tmp_path / "x.tfrecord"
    _, starts = write_shard(path)
    damaged = bytearray(path.read_bytes())
    damaged[starts[4] + 20] ^= 1  # payload of 4
    damaged[starts[5] + 9] ^= 1  # header of 5
    path.write_bytes(damaged)
    pieces, lost = framing.segments(path)  # the number of records is not even needed
    assert [(d.index, d.records) for d in lost] == [(4, 1), (5, 1)]
    assert [tuple(p) for p in pieces] == [(0, 0, 4), (6, starts[6], 4)]


@pytest.mark.parametrize("cut", [1, 5, 17, 80, 81, 100, 5150, 6000])
def test_a_cut_off_tail(tmp_path, cut):
    path = tmp_path / "x.tfrecord"
    payloads, starts = write_shard(path)
    path.write_bytes(path.read_bytes()[:-cut])
    size = starts[-1] - cut
    whole = sum(start <= size for start in starts[1:])
    pieces, lost = framing.segments(path, len(SIZES))
    assert read_pieces(path, pieces) == dict(enumerate(payloads[:whole]))
    assert sum(d.records for d in lost) == len(SIZES) - whole
    assert lost[0].index == whole
    at_boundary = size in starts
    expected = "fewer than expected" if at_boundary else "cut off|header"
    assert re.search(expected, lost[0].reason)
    # Without the number expected a cut between records cannot be seen, any other counts once.
    assert len(framing.segments(path)[1]) == (0 if at_boundary else 1)


@pytest.mark.parametrize("length", [1, 8, 500])
@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_bytes_between_records_cost_none(tmp_path, length, kind):
    path = tmp_path / "x.tfrecord"
    payloads, starts = write_shard(path)
    whole = path.read_bytes()
    garbage = bytes(length) if kind == "zeros" else np.random.default_rng(1).bytes(length)
    path.write_bytes(whole[: starts[6]] + garbage + whole[starts[6] :])
    pieces, lost = framing.segments(path, len(SIZES))
    assert read_pieces(path, pieces) == dict(enumerate(payloads))
    assert [(d.offset, d.records) for d in lost] == [(starts[6], 0)]
    assert f"{length} bytes passed over" in lost[0].reason


def test_bytes_missing_in_the_middle(tmp_path):
    path = tmp_path / "x.tfrecord"
    payloads, starts = write_shard(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: starts[4] + 30] + whole[starts[4] + 40 :])  # in the payload of 4
    pieces, lost = framing.segments(path, len(SIZES))
    assert [(d.index, d.records) for d in lost] == [(4, 1)]
    assert set(read_pieces(path, pieces)) == set(range(len(SIZES))) - {4}
    path.write_bytes(whole[: starts[3] + 30] + whole[starts[6] + 40 :])  # from 3 to 6
    pieces, lost = framing.segments(path, len(SIZES))
    assert (lost[0].index, sum(d.records for d in lost)) == (3, 4)
    assert read_pieces(path, pieces) == {
        k: payload for k, payload in enumerate(payloads) if k not in (3, 4, 5, 6)
    }


def test_no_tfrecord_file_at_all(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.write_bytes(np.random.default_rng(2).bytes(3 << 20))  # several blocks
    assert [(r.data, r.passed_over) for r in framing.walk(path)] == [(None, 3 << 20)]
    path.write_bytes(b"")
    assert list(framing.walk(path)) == []
    assert framing.segments(path, 3)[1][0].records == 3


def test_more_records_than_expected_are_said(tmp_path):
    path = tmp_path / "x.tfrecord"
    write_shard(path)
    (damage,) = framing.segments(path, len(SIZES) - 2)[1]
    assert (damage.records, damage.reason) == (-2, "2 records more than expected")


def test_the_next_record_is_found_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(framing, "_BLOCK", 64)
    test_every_flipped_byte_costs_at_most_one_record(tmp_path)


# Faults of payloads ------------------------------------------------------------------------------


def jpeg(seed: int = 0, size: tuple[int, int] = (48, 64)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


def card(**facts) -> cards.Card:
    facts = {"video": {"fps": 10.0}, "labels": ["zero", "one"]} | facts
    return cards.Card.model_validate({"name": "x"} | facts)


def fault(*, of: cards.Card | None = None, **facts) -> str:
    clip = {"source": "a.mp4", "frames": [jpeg(0), jpeg(1)]} | facts
    return records.diagnose(records.encode(records.ClipRecord(**clip)), of or card())


def test_good_records_have_no_fault():
    png = tf.io.encode_png(np.zeros((48, 64, 3), np.uint8)).numpy()
    sound = np.zeros(10, np.float32)
    assert fault() == ""
    assert fault(frames=[png, jpeg()], waveform=sound, label_indices=[1], labels=["one"]) == ""
    assert fault(frames=None, waveform=sound, of=card(video=None)) == ""
    assert fault(label_indices=[5], labels=["five"], of=card(labels=None)) == ""


def test_every_fault_is_named():
    text = b"<html>404</html>"
    assert records.diagnose(b"\xff\xffno record", card()) == "not a tf.train.SequenceExample"
    assert fault(frames=None) == "no frames: 'image/encoded' is not there, but clip/end, " + (
        "clip/source, clip/start"
    )
    assert fault(frames=[jpeg(), text]) == "frame 1 is not a JPEG or PNG"
    assert fault(frames=[jpeg(), b""]) == "frame 1 is not a JPEG or PNG"
    assert fault(frames=[jpeg()[:-200]]).startswith(
        "frame 0 cannot be decoded: image file is trunc"
    )
    assert (
        fault(frames=[jpeg(), jpeg(size=(40, 64))]) == "frame 1 is 64x40 pixels, frame 0 is 64x48"
    )
    broken = np.array([0, np.nan], np.float32)
    assert fault(waveform=broken) == "a sample of the waveform is not finite"
    assert fault(label_indices=[2], labels=["two"]) == "label index 2, but the card has 2 classes"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_frame_that_claims_to_be_huge_is_told_and_not_decoded(side):
    whole = jpeg()
    sizes = whole.index(b"\xff\xc0") + 5  # behind the marker, the length and the bits of a sample
    claimed = whole[:sizes] + 2 * side.to_bytes(2, "big") + whole[sizes + 4 :]
    said = rf"frame 0 cannot be decoded: Image size \({side**2} pixels\) exceeds limit"
    assert re.match(said, fault(frames=[claimed]))


def test_the_other_kind_of_record_is_recognised():
    frames = tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg()]))
    fields = tf.train.Features(feature={"image/encoded": frames})
    example = tf.train.Example(features=fields).SerializeToString()
    assert records.diagnose(example, card(record_type="Example")) == ""
    assert records.diagnose(example, card()) == (
        "no frames: 'image/encoded' is no feature list; a tf.train.Example?"
    )


def test_pillow_and_tensorflow_agree_on_damaged_jpegs():
    """`diagnose` must find what training cannot decode, and nothing else."""
    rng = np.random.default_rng(3)
    whole = jpeg(3)
    verdicts = []
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 2:
            del damaged[int(rng.integers(4, len(whole))) :]
        else:
            damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        try:
            tf.io.decode_jpeg(bytes(damaged), channels=3)
            decodes = True
        except tf.errors.InvalidArgumentError:
            decodes = False
        assert (fault(frames=[bytes(damaged)]) == "") == decodes, trial
        verdicts.append(decodes)
    assert 10 < sum(verdicts) < 50


def test_checksum_of_known_bytes():
    # RFC 3720, B.4, and the usual check value; masked as in the TFRecord format.
    known = {
        b"123456789": 0xE3069283,
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
    }
    for data, crc in known.items():
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert framing.masked_checksum(data) == masked


def test_checksum_of_any_length():
    def bit_by_bit(data: bytes) -> int:
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        crc ^= 0xFFFFFFFF
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    data = np.random.default_rng(0).bytes(5000)
    lengths = (0, 1, 7, 8, 9, 511, 512, 513, 1024, 1025, 1537, 5000)
    truth = {length: bit_by_bit(data[:length]) for length in lengths}
    assert {n: framing.masked_checksum(data[:n]) for n in lengths} == truth
    assert framing.checksums_of_lengths(np.frombuffer(data[:8], "<u8"))[0] == truth[8]


def test_checksums_of_many_lengths_are_those_of_their_bytes():
    rng = np.random.default_rng(1)
    edges = [0, 1, 255, 256, 65535, 65536, 2**24, 2**32 - 1, 2**32, 2**40, 2**63, 2**64 - 1]
    drawn = rng.integers(0, 2**64, 2000, np.uint64, endpoint=False)
    for lengths in (np.array(edges, np.uint64), drawn, drawn >> np.uint64(40), drawn[:0]):
        expected = [framing.masked_checksum(int(n).to_bytes(8, "little")) for n in lengths]
        assert framing.checksums_of_lengths(lengths).tolist() == expected


@pytest.mark.parametrize("samples", [1, 31, 32, 4095, 4096, 600_000])
def test_the_waveform_is_written_as_protobuf_writes_it(samples):
    waveform = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    found = records.encode(records.ClipRecord("a.wav", waveform=waveform, sample_rate=8000))
    example = tf.train.SequenceExample.FromString(found)
    step = example.feature_lists.feature_list["waveform/floats"].feature[0]
    np.testing.assert_array_equal(step.float_list.value, waveform)
    del step.float_list.value[:]
    step.float_list.value.extend(waveform.tolist())
    assert example.SerializeToString(deterministic=True) == found
