"""The input pipeline as a whole: order, resume, mixing, masks, evaluation, errors."""

from __future__ import annotations

import corpus
import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import dataset
from vatt.data import cards, ordering, pipeline, sampling
from vatt.data import records as stored_records
from vatt.data.bad_records import Shard
from vatt.errors import DataError
from vatt.methods.vatt.config import PretrainInput
from vatt.methods.vatt.examples import VideoAudioText

CAPTIONS = ["A red circle!", "moves left"]
SMALL = {
    "num_frames": 4,
    "frame_size": 16,
    "min_resize": 18,
    "sample_rate": corpus.SAMPLE_RATE,
    "batch_size": 4,
    "scale_jitter": False,  # what these add is tested in test_vision*.py; here it costs time only
    "color_augment": False,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    spoken = [corpus.example(i, captions=CAPTIONS) for i in range(10)]
    corpus.write_set(folder, "spoken", spoken)
    heard = [corpus.example(100 + i, sound=i != 3) for i in range(7)]
    corpus.write_set(folder, "heard", heard, shards=2, text=False)
    corpus.write_set(folder, "silent", spoken[:4], audio=False, fps=25.0, shards=1)
    corpus.write_set(folder, "clear", spoken[:4], sample_rate=16000, shards=1)
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return corpus.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture
def pretrain(words):
    def make(name="spoken+heard", **changes):
        values = {**SMALL, "shuffle_buffer": 4, "vocabulary": words, "name": name, **changes}
        return PretrainInput(**values)

    return make


@pytest.fixture
def evaluation(words):
    def make(name="spoken", **changes):
        values = {**SMALL, "vocabulary": words, "name": (name,), "video_stride": 1, **changes}
        return dataset.Evaluation(**{"num_windows_test": 2, **values})

    return make


def take(cfg, data_dir, count, *, seed=3, start=0):
    examples = VideoAudioText(cfg)
    batches = pipeline.training_batches(examples, data_dir=data_dir, seed=seed, start_step=start)
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(count)]


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].tobytes() == right[key].tobytes(), key


@pytest.mark.slow
@pytest.mark.parametrize(("style", "starts"), [("VGG", (1, 9)), ("Inception", (5,))])
def test_any_start_step_gives_the_same_batches(pretrain, data_dir, style, starts):
    vgg = style == "VGG"
    cfg = pretrain(
        crop_resize_style=style, audio_mixup=True, scale_jitter=vgg, color_augment=not vgg
    )
    tf.random.set_seed(1)
    run = take(cfg, data_dir, 12)  # 48 elements of 17 records: several epochs
    tf.random.set_seed(2)  # the global seed must not matter
    for start in starts:
        for expected, found in zip(
            run[start:], take(cfg, data_dir, 12 - start, start=start), strict=True
        ):
            assert_same(expected, found)


@pytest.mark.slow
def test_order_does_not_depend_on_threads_and_depends_on_the_seed(pretrain, data_dir):
    one = take(pretrain(num_parallel_calls=1), data_dir, 4)
    four = take(pretrain(num_parallel_calls=4), data_dir, 4)
    other = take(pretrain(), data_dir, 4, seed=4)
    for expected, found in zip(one, four, strict=True):
        assert_same(expected, found)
    assert any(
        a["video"].tobytes() != b["video"].tobytes() for a, b in zip(one, other, strict=True)
    )


def shards_of(folder, counts):
    paths = sorted(str(path) for path in folder.glob("*.tfrecord"))
    return [Shard(path, count) for path, count in zip(paths, counts, strict=True)]


def test_epochs_hold_every_record_once_in_different_orders(data_dir):
    shards = shards_of(data_dir / "spoken", (4, 3, 3))
    stream = ordering.endless(shards, seed=sampling.root_seed(0), start=0, shuffle_buffer=4)
    elements = list(stream.take(30).as_numpy_iterator())
    assert [number for number, _ in elements] == list(range(30))
    origins = [tuple(origin) for _, (origin, _) in elements]
    epochs = [origins[i : i + 10] for i in (0, 10, 20)]
    for epoch in epochs:
        assert set(epoch) == {(s, i) for s, n in enumerate((4, 3, 3)) for i in range(n)}
    assert epochs[0] != epochs[1] != epochs[2]
    by_origin = dict(zip(origins[:10], (record for _, (_, record) in elements), strict=False))
    for _, (origin, record) in elements:
        assert by_origin[tuple(origin)] == record


def test_what_was_passed_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ordering, "INTERLEAVE_CYCLE", 3)
    paths = [tmp_path / f"{number:02d}.tfrecord" for number in range(10)]
    for number, path in enumerate(paths):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for place in range(4 + number % 3):
                writer.write(f"{number}-{place}".encode())
    shards = [Shard(str(path), 4 + number % 3) for number, path in enumerate(paths)]
    total = sum(shard.records for shard in shards)

    def read(start, count):
        seed = sampling.root_seed(2)
        stream = ordering.endless(shards, seed=seed, start=start, shuffle_buffer=5)
        return [(n, record) for n, (_, record) in stream.take(count).as_numpy_iterator()]

    whole = read(0, 2 * total + 5)
    for start in (1, total // 2, total - 1, total, total + 20):
        assert read(start, 30) == whole[start : start + 30]
    start = total + 3 * total // 4
    expected = whole[start : 2 * total]
    needed = {record.split(b"-")[0] for _, record in expected}
    for number, path in enumerate(paths):
        if str(number).encode() not in needed:
            path.unlink()
    assert sum(not path.exists() for path in paths) >= 6  # two groups of three, at least
    assert read(start, len(expected)) == expected


def test_mixing_counts_and_shares(monkeypatch):
    monkeypatch.setattr(ordering, "MIXING_BLOCK", 64)
    root, weights = sampling.root_seed(7), [1.0, 3.0]
    drawn = np.fromiter(ordering.choices(root, weights, 0).take(1000).as_numpy_iterator(), int)
    for start in (0, 1, 63, 64, 65, 500):
        counts = ordering.elements_taken(root, weights, start)
        assert counts == np.bincount(drawn[:start], minlength=2).tolist()
        later = ordering.choices(root, weights, start).take(20).as_numpy_iterator()
        assert list(later) == drawn[start : start + 20].tolist()
    assert abs(drawn.mean() - 0.75) < 0.05


def test_shapes_masks_and_zeros(pretrain, data_dir):
    batches = take(pretrain(batch_size=17), data_dir, 2)
    for batch in batches:
        assert batch["video"].shape == (17, 4, 16, 16, 3)
        assert batch["video"].dtype == np.float32
        assert np.abs(batch["video"]).max() <= 1.0
        assert batch["audio"].shape == (17, 640, 1)
        assert batch["text"].shape == (17, 5, 16)
        assert batch["text"].dtype == np.int32
        has_text, has_audio = batch["text_mask"] == 1, batch["audio_mask"] == 1
        assert has_text.any() and not has_text.all()
        assert (batch["text"][~has_text] == 0).all()
        assert (batch["text"][has_text] != 0).any(axis=(1, 2)).all()
        assert (batch["audio"][~has_audio] == 0).all()
        assert (np.abs(batch["audio"][has_audio]).max(axis=(1, 2)) > 0).all()
    assert any((batch["audio_mask"] == 0).any() for batch in batches)  # the record without sound


@pytest.mark.slow
def test_text_ids_are_those_of_the_captions(pretrain, data_dir):
    for selection in ("first", "nearest", "random"):
        (batch,) = take(pretrain("spoken", caption_selection=selection), data_dir, 1)
        rows = {tuple(row[row != 0]) for row in batch["text"].reshape(-1, 16)}
        assert rows == {(4, 5, 6), (7, 8), ()}
        if selection == "first":
            assert (batch["text"][:, 0, :3] == [4, 5, 6]).all()


def test_set_without_audio_at_another_rate(pretrain, data_dir):
    card = pipeline.load_card("silent", data_dir)
    assert pipeline.rate_stride(pretrain("silent"), card) == 2
    assert VideoAudioText(pretrain("silent")).stride(card) == 2
    (batch,) = take(pretrain("silent"), data_dir, 1)
    assert batch["video"].shape == (4, 4, 16, 16, 3)
    assert batch["audio"].shape == (4, 640, 1)
    assert not batch["audio"].any() and not batch["audio_mask"].any()


def test_a_set_with_neither_sound_nor_captions_is_refused(pretrain, tmp_path):
    corpus.write_set(tmp_path, "mute", [corpus.example(1)], audio=False, text=False, shards=1)
    with pytest.raises(DataError, match="'mute' has neither sound nor captions"):
        take(pretrain("mute"), tmp_path, 1)


def test_spectrogram_and_space_to_depth(pretrain, data_dir):
    changes = {"raw_audio": False, "space_to_depth": True, "sample_rate": 16000}
    cfg = pretrain("clear", **changes)
    (batch,) = take(cfg, data_dir, 1)
    shapes = VideoAudioText(cfg).shapes
    assert shapes.keys() == batch.keys()
    for name, shape in shapes.items():
        assert batch[name].shape[1:] == shape
    assert shapes["video"] == (2, 8, 8, 24)
    assert shapes["audio"] == (-(-6400 // 341), 80, 1)
    assert [card.name for card in pipeline.load_cards(cfg, data_dir)] == ["clear"]


@pytest.mark.parametrize(
    "records", [1, 65, *(pytest.param(n, marks=pytest.mark.slow) for n in (63, 64, 1000))]
)
def test_every_sample_is_evaluated_once(tmp_path, evaluation, records):
    examples = [corpus.example(i, frames=2, captions=CAPTIONS) for i in range(records)]
    corpus.write_set(tmp_path, "spoken", examples, split="test", shards=min(records, 3))
    cfg = evaluation(num_frames=2, frame_size=8, num_windows_test=1)
    batches = pipeline.evaluation_batches(cfg, "spoken", "test", data_dir=tmp_path, batch_size=64)
    sources, indices = [], []
    shards = cards.load("spoken", tmp_path).shards("test")
    stored = [stored_records.decode(r).source for p in shards for r in stored_records.read_shard(p)]
    for batch in batches:
        assert {len(value) for value in batch.values()} == {64}
        valid = batch["valid"].numpy() == 1
        sources += batch["source"].numpy()[valid].tolist()
        indices += batch["index"].numpy()[valid].tolist()
        for value in batch.values():
            assert not any(value.numpy()[~valid].ravel().tolist())  # zeros and empty strings
    assert sorted(sources) == sorted(f"video{i}.mp4".encode() for i in range(records))
    assert sorted(indices) == list(range(records))
    assert sources == [stored[index].encode() for index in indices]


def test_a_clip_is_asked_for_by_what_is_said_in_it(evaluation, tmp_path):
    examples = []
    for index, starts in enumerate([(-2.0, 0.5), (5.0, 6.0), (0.2, 0.5), (-2.0, 1.1)]):
        told = corpus.example(index, captions=["before", "behind"])  # of 1.2 s
        example = tf.train.SequenceExample.FromString(told)
        for name, times in {"caption/start": starts, "caption/end": np.add(starts, 0.6)}.items():
            example.context.feature[name].float_list.value[:] = times
        examples.append(example.SerializeToString())
    corpus.write_set(tmp_path, "around", examples, shards=1)
    cfg = evaluation("around")
    batch = next(iter(pipeline.evaluation_batches(cfg, "around", "train", data_dir=tmp_path)))
    assert batch["caption"].numpy().tolist() == [b"behind", b"", b"before", b""]
    assert batch["text_mask"].numpy().tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("multi_crop", [pytest.param(False, marks=pytest.mark.slow), True])
def test_evaluation_batch(data_dir, evaluation, multi_crop):
    cfg = evaluation(multi_crop=multi_crop, num_windows_test=3)
    batch = next(iter(pipeline.evaluation_batches(cfg, "spoken", "train", data_dir=data_dir)))
    windows = 9 if multi_crop else 3
    assert batch["video"].shape == (4, windows, 4, 16, 16, 3)
    assert batch["audio"].shape == (4, 3, 640, 1)
    assert batch["text"].numpy()[:, 0, :3].tolist() == [[4, 5, 6]] * 4
    assert batch["label_text"].numpy().tolist() == [b"shape=circle|colour=red"] * 4
    assert batch["caption"].numpy().tolist() == [CAPTIONS[0].encode()] * 4
    middle = batch["video"].numpy()[:, 4 if multi_crop else 1][:, [0, 2, 3]]
    shown = batch["thumbnail"].numpy() * (2 / 255) - 1
    np.testing.assert_allclose(shown, middle, atol=1e-6)
    assert batch["label"].shape == (4, 3)


def test_evaluation_of_missing_modalities(tmp_path, evaluation):
    sound_only = {"split": "test", "shards": 1, "video": False, "text": False}
    corpus.write_set(tmp_path, "spoken", [corpus.example(0, frames=0)], **sound_only)
    batch = next(
        iter(pipeline.evaluation_batches(evaluation(), "spoken", "test", data_dir=tmp_path))
    )
    assert batch["video"].shape == (4, 2, 4, 16, 16, 3)
    assert not batch["video"].numpy().any() and not batch["text"].numpy().any()
    assert batch["audio_mask"].numpy().tolist() == [1, 0, 0, 0]


def test_errors_name_the_field(pretrain, data_dir, tmp_path):
    def failure(cfg):
        with pytest.raises(DataError) as caught:
            pipeline.training_batches(VideoAudioText(cfg), data_dir=data_dir, seed=0)
        return str(caught.value)

    assert "sample_rate=8000" in failure(pretrain(sample_rate=8000))
    assert "min_resize=12" in failure(pretrain(min_resize=12))
    assert "mixing_weights has 1" in failure(pretrain(mixing_weights=(1.0,)))
    assert "too low for spectrograms" in failure(pretrain(raw_audio=False))
    assert "space_to_depth" in failure(pretrain(num_frames=3, space_to_depth=True))
    assert "python -m vatt.data.vocabulary" in failure(pretrain(vocabulary="nowhere"))
    assert "spokn" in failure(pretrain("spokn"))
    corpus.write_set(tmp_path, "sound", [corpus.example(0)], video=False, shards=1)
    with pytest.raises(DataError, match="no video"):
        examples = VideoAudioText(pretrain("sound"))
        pipeline.training_batches(examples, data_dir=tmp_path, seed=0)
