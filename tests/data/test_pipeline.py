"""The input pipeline as a whole: order, resume, mixing, masks, evaluation, errors."""

from __future__ import annotations

import json
import shutil

import corpus
import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import dataset
from vatt.data import ordering, pipeline, sampling
from vatt.errors import DataError

CAPTIONS = ["A red circle!", "moves left"]
SMALL = {
    "num_frames": 4,
    "frame_size": 16,
    "min_resize": 18,
    "sample_rate": corpus.SAMPLE_RATE,
    "batch_size": 4,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    spoken = [corpus.example(i, captions=CAPTIONS) for i in range(10)]
    corpus.write_set(folder, "spoken", spoken)
    heard = [corpus.example(100 + i, sound=i != 3) for i in range(7)]
    corpus.write_set(folder, "heard", heard, shards=2, text=False)
    corpus.write_set(folder, "silent", spoken[:4], audio=False, shards=1)
    corpus.write_set(folder, "fast", spoken[:4], fps=25.0, shards=1)
    corpus.write_set(folder, "clear", spoken[:4], sample_rate=16000, shards=1)
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return corpus.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture
def pretrain(words):
    def make(name="spoken+heard", **changes):
        values = {**SMALL, "shuffle_buffer": 4, "vocabulary": words, "name": name, **changes}
        return dataset.Pretrain(**values)

    return make


@pytest.fixture
def evaluation(words):
    def make(name="spoken", **changes):
        values = {**SMALL, "vocabulary": words, "name": (name,), "video_stride": 1, **changes}
        return dataset.Evaluation(**{"num_windows_test": 2, **values})

    return make


def take(cfg, data_dir, count, *, seed=3, start=0):
    batches = pipeline.pretrain_batches(cfg, data_dir=data_dir, seed=seed, start_step=start)
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(count)]


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].tobytes() == right[key].tobytes(), key


@pytest.mark.parametrize(("style", "starts"), [("VGG", (1, 9)), ("Inception", (5,))])
def test_any_start_step_gives_the_same_batches(pretrain, data_dir, style, starts):
    cfg = pretrain(crop_resize_style=style, audio_mixup=True)
    tf.random.set_seed(1)
    run = take(cfg, data_dir, 12)  # 48 elements of 17 records: several epochs
    tf.random.set_seed(2)  # the global seed must not matter
    for start in starts:
        for expected, found in zip(
            run[start:], take(cfg, data_dir, 12 - start, start=start), strict=True
        ):
            assert_same(expected, found)


def test_order_does_not_depend_on_threads_and_depends_on_the_seed(pretrain, data_dir):
    one = take(pretrain(num_parallel_calls=1), data_dir, 4)
    four = take(pretrain(num_parallel_calls=4), data_dir, 4)
    other = take(pretrain(), data_dir, 4, seed=4)
    for expected, found in zip(one, four, strict=True):
        assert_same(expected, found)
    assert any(
        a["video"].tobytes() != b["video"].tobytes() for a, b in zip(one, other, strict=True)
    )


def test_epochs_hold_every_record_once_in_different_orders(data_dir):
    shards = sorted(str(path) for path in (data_dir / "spoken").glob("*.tfrecord"))
    stream = ordering.endless(shards, 10, seed=sampling.root_seed(0), start=0, shuffle_buffer=4)
    elements = list(stream.take(30).as_numpy_iterator())
    assert [number for number, _ in elements] == list(range(30))
    epochs = [[record for _, record in elements[i : i + 10]] for i in (0, 10, 20)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_wrong_record_count_in_the_card_is_noticed(data_dir):
    shards = sorted(str(path) for path in (data_dir / "spoken").glob("*.tfrecord"))
    for records in (9, 11):
        stream = ordering.endless(
            shards, records, seed=sampling.root_seed(0), start=0, shuffle_buffer=4
        )
        with pytest.raises(tf.errors.FailedPreconditionError, match="contain"):
            list(stream.take(12))


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
    batches = take(pretrain(batch_size=17, color_augment=False), data_dir, 2)
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


def test_text_ids_are_those_of_the_captions(pretrain, data_dir):
    for selection in ("first", "nearest", "random"):
        (batch,) = take(pretrain("spoken", caption_selection=selection), data_dir, 1)
        rows = {tuple(row[row != 0]) for row in batch["text"].reshape(-1, 16)}
        assert rows == {(4, 5, 6), (7, 8), ()}
        if selection == "first":
            assert (batch["text"][:, 0, :3] == [4, 5, 6]).all()


def test_set_without_audio(pretrain, data_dir):
    (batch,) = take(pretrain("silent"), data_dir, 1)
    assert batch["audio"].shape == (4, 640, 1)
    assert not batch["audio"].any() and not batch["audio_mask"].any()


def test_spectrogram_and_space_to_depth(pretrain, data_dir):
    changes = {"raw_audio": False, "space_to_depth": True, "sample_rate": 16000}
    cfg = pretrain("clear", **changes)
    (batch,) = take(cfg, data_dir, 1)
    facts = pipeline.describe(cfg, data_dir)
    for name in ("video", "audio", "text"):
        assert batch[name].shape[1:] == facts[name]
    assert facts["video"] == (2, 8, 8, 24)
    assert facts["audio"] == (-(-6400 // 341), 80, 1)
    assert list(facts["cards"]) == ["clear"]


def test_stride_follows_the_rate_of_the_card(pretrain, data_dir):
    facts = pipeline.describe(pretrain("fast"), data_dir)
    assert pipeline.rate_stride(pretrain("fast"), facts["cards"]["fast"]) == 2
    assert take(pretrain("fast"), data_dir, 1)[0]["video"].shape == (4, 4, 16, 16, 3)


@pytest.mark.parametrize("records", [1, 63, 64, 65])
def test_every_sample_is_evaluated_once(tmp_path, evaluation, records):
    examples = [corpus.example(i, frames=2, captions=CAPTIONS) for i in range(records)]
    corpus.write_set(tmp_path, "spoken", examples, split="test", shards=min(records, 3))
    cfg = evaluation(num_frames=2, frame_size=8, num_windows_test=1)
    batches = pipeline.evaluation_batches(cfg, "spoken", "test", data_dir=tmp_path, batch_size=64)
    sources, indices = [], []
    for batch in batches:
        assert {len(value) for value in batch.values()} == {64}
        valid = batch["valid"].numpy() == 1
        sources += batch["source"].numpy()[valid].tolist()
        indices += batch["index"].numpy()[valid].tolist()
        for value in batch.values():
            assert not any(value.numpy()[~valid].ravel().tolist())  # zeros and empty strings
    assert sorted(sources) == sorted(f"video{i}.mp4".encode() for i in range(records))
    assert indices == list(range(records))


@pytest.mark.parametrize("multi_crop", [False, True])
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


def test_record_without_frames_stops_and_names_it(tmp_path, pretrain):
    corpus.write_set(tmp_path, "spoken", [corpus.example(7, frames=0)], shards=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"spoken has no frames.*video7"):
        take(pretrain("spoken"), tmp_path, 1)


def test_errors_name_the_field(pretrain, data_dir, tmp_path):
    def failure(cfg):
        with pytest.raises(DataError) as caught:
            pipeline.pretrain_batches(cfg, data_dir=data_dir, seed=0)
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
        pipeline.pretrain_batches(pretrain("sound"), data_dir=tmp_path, seed=0)


@pytest.fixture(scope="module")
def golden_dir(shared_dir, tmp_path_factory):
    source = shared_dir / "conformance/data"
    folder = tmp_path_factory.mktemp("golden")
    corpus.write_set(folder, "toy", [], split="none", shards=1, fps=25.0, sample_rate=48000)
    for index in range(2):
        name = f"test-{index:05d}-of-00002"
        shutil.copy(source / name, folder / "toy" / name)
    card = (folder / "toy/card.yaml").read_text()
    card = card.replace("none-*-of-*.tfrecord", "test-*-of-00002").replace("none:", "test:")
    card = card.replace("num_shards: 1", "num_shards: 2").replace("records: 0", "records: 4")
    (folder / "toy/card.yaml").write_text(card)
    return folder


@pytest.mark.parametrize(
    "case",
    ["pretrain_eval_video_test", "pretrain_eval_audio_test", "pretrain_eval_retrieval_test"],
)
def test_evaluation_equals_the_published_loader(shared_dir, golden_dir, case):
    golden = np.load(shared_dir / "conformance/data/loader_outputs.npz")
    config = json.loads(str(golden[f"{case}/config"]))["input"]
    known = dataset.Evaluation.model_fields
    values = {key: value for key, value in config.items() if key in known}
    cfg = dataset.Evaluation(
        **{**values, "name": ("toy",), "linearize_vision": False},
        vocabulary=str(shared_dir / "conformance/data/vocab_words.txt"),
    )
    batches = pipeline.evaluation_batches(cfg, "toy", "test", data_dir=golden_dir)
    for number, batch in enumerate(batches):
        for ours, theirs in (("video", "vision"), ("audio", "audio"), ("text", "text")):
            if f"{case}/batch{number}/{theirs}" not in golden:
                continue
            expected = golden[f"{case}/batch{number}/{theirs}"]
            found = batch[ours].numpy()
            found = found.reshape(expected.shape)
            if ours == "text":
                np.testing.assert_array_equal(found, expected)
            else:
                np.testing.assert_allclose(found, expected, atol=1e-6)
    assert number == 1
