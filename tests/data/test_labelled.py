"""Batches with labels: fine-tuning, probes, other record layouts, factories, workers, service."""

from __future__ import annotations

import corpus
import numpy as np
import pytest
import tensorflow as tf
import yaml

from vatt.configs import dataset
from vatt.data import factories, pipeline
from vatt.data.examples import LabelledClips
from vatt.errors import DataError, UserError
from vatt.methods.vatt.config import PretrainInput
from vatt.methods.vatt.examples import VideoAudioText

SIZES = {
    "num_frames": 4,
    "frame_size": 16,
    "sample_rate": corpus.SAMPLE_RATE,
    "batch_size": 6,
    "video_stride": 1,
    "audio_stride": 1,
}
COUNT = 12


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    corpus.write_set(folder, "acts", [corpus.example(i) for i in range(COUNT)], text=False)
    clear = [corpus.example(i, frames=12) for i in range(COUNT)]
    corpus.write_set(folder, "clear", clear, sample_rate=16000, text=False, shards=1)
    return folder


def finetune(**changes):
    return dataset.Finetune(**{**SIZES, "name": "acts", "color_augment": False, **changes})


def take(cfg, modality, data_dir, count, **options):
    """Batches for a model of a modality, or of several joined by "+"."""
    options = {"seed": 5, **options}
    card = pipeline.load_card(cfg.name, data_dir)
    examples = LabelledClips(cfg, card, modality.split("+"))
    batches = pipeline.training_batches(examples, data_dir=data_dir, **options)
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(count)]


def test_video_with_smoothed_labels(data_dir):
    run = take(finetune(label_smoothing=0.1, color_augment=True), "video", data_dir, 4)
    for batch in run:
        assert set(batch) == {"video", "label"}
        assert batch["video"].shape == (6, 4, 16, 16, 3) and batch["video"].dtype == np.float32
        assert np.abs(batch["video"]).max() <= 1 + 1e-6
        expected = np.where(batch["label"] > 0.5, 0.9 + 0.1 / 3, 0.1 / 3)
        np.testing.assert_allclose(batch["label"], expected, atol=1e-6)
        assert (batch["label"].argmax(axis=1) < 3).all()
    labels = np.concatenate([batch["label"].argmax(axis=1) for batch in run])
    assert np.bincount(labels).tolist() == [8, 8, 8]  # two epochs of 12, every record once in each


@pytest.mark.slow
def test_any_start_step_gives_the_same_batches(data_dir):
    cfg = finetune(mixup=True)
    run = take(cfg, "video", data_dir, 6)
    for expected, found in zip(run[4:], take(cfg, "video", data_dir, 2, start_step=4), strict=True):
        for key in expected:
            assert expected[key].tobytes() == found[key].tobytes()


@pytest.mark.slow
def test_mixup_mixes_clips_and_labels_alike(data_dir):
    plain = take(finetune(), "audio", data_dir, 2)
    mixed = take(finetune(mixup=True), "audio", data_dir, 2)
    for before, after in zip(plain, mixed, strict=True):
        clips = before["audio"].reshape(6, -1).astype(np.float64)
        # Least squares finds the shares of the six clips in each mixed one.
        shares = np.linalg.lstsq(clips.T, after["audio"].reshape(6, -1).T, rcond=None)[0].T
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-4)
        assert ((shares > 1e-3).sum(axis=1) <= 2).all() and (shares > 1e-3).sum() > 6
        np.testing.assert_allclose(after["label"], shares @ before["label"], atol=1e-4)


def test_audio_waveform_noise_and_spectrogram(data_dir):
    (plain,) = take(finetune(), "audio", data_dir, 1)
    (noisy,) = take(finetune(audio_noise=0.1), "audio", data_dir, 1)
    assert plain["audio"].shape == (6, 640, 1)
    noise = (noisy["audio"] - plain["audio"]).std(axis=(1, 2))
    np.testing.assert_allclose(noise, 0.1 * np.abs(plain["audio"]).max(axis=(1, 2)), rtol=0.2)
    cfg = finetune(name="clear", sample_rate=16000, raw_audio=False)
    (mel,) = take(cfg, "audio", data_dir, 1)
    assert mel["audio"].shape == (6, *pipeline.clip_shapes(cfg)["audio"])
    assert mel["audio"].min() == 0 and mel["audio"].max() == 1


def test_sounds_are_brought_to_a_level_and_varied_around_it(data_dir):
    (plain,) = take(finetune(), "audio", data_dir, 1)
    (level,) = take(finetune(audio_level=-20), "audio", data_dir, 1)
    (gain,) = take(finetune(audio_gain=6), "audio", data_dir, 1)
    recorded = 0.5 / np.sqrt(3)  # RMS of what is even between -0.5 and 0.5
    factors = (level["audio"] / plain["audio"]).reshape(6, -1)
    np.testing.assert_allclose(factors, 0.1 / recorded, rtol=0.05)
    assert np.ptp(factors, axis=1).max() < 1e-4  # all of a clip alike
    decibels = 20 * np.log10((gain["audio"] / plain["audio"]).reshape(6, -1))
    assert np.ptp(decibels, axis=1).max() < 1e-3
    assert np.abs(decibels).max() < 6 and np.ptp(decibels[:, 0]) > 2


def test_evaluation_has_the_level_of_training(data_dir):
    def heard(**changes):
        cfg = finetune(num_windows_test=2, **changes)
        batches = pipeline.evaluation_batches(
            cfg, "acts", "train", data_dir=data_dir, modalities=("audio",)
        )
        return next(batches.as_numpy_iterator())["audio"]

    factors = heard(audio_level=-20) / heard()
    np.testing.assert_allclose(factors, 0.1 * np.sqrt(3) / 0.5, rtol=0.05)
    np.testing.assert_array_equal(heard(audio_gain=6), heard())


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_labels_are_smoothed_where_a_clip_has_one(tmp_path, modality):
    """The card says that, not the modality."""
    examples = [corpus.example(i) for i in range(COUNT)]
    corpus.write_set(tmp_path, "acts", examples, text=False, shards=1)
    cfg, card = finetune(label_smoothing=0.1), tmp_path / "acts/card.yaml"
    (one,) = take(cfg, modality, tmp_path, 1)
    assert np.unique(one["label"]) == pytest.approx([0.1 / 3, 0.9 + 0.1 / 3])
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "multi_label": True}))
    (many,) = take(cfg, modality, tmp_path, 1)
    assert set(np.unique(many["label"])) == {0.0, 1.0}
    np.testing.assert_array_equal(many["label"], one["label"] > 0.5)
    np.testing.assert_array_equal(many[modality], one[modality])


def test_clips_of_two_modalities(data_dir):
    """The frames are those of a model of video alone."""
    (both,) = take(finetune(mixup=True), "video+audio", data_dir, 1)
    assert {name: value.shape for name, value in both.items()} == {
        "video": (6, 4, 16, 16, 3),
        "audio": (6, 640, 1),
        "label": (6, 3),
    }
    (video,) = take(finetune(mixup=True), "video", data_dir, 1)
    for name in ("video", "label"):
        np.testing.assert_array_equal(both[name], video[name])
    assert np.abs(both["audio"]).max(axis=(1, 2)).min() > 0


@pytest.mark.slow
def test_space_to_depth(data_dir):
    cfg = finetune()
    (flat,) = take(cfg, "video", data_dir, 1)
    (deep,) = take(finetune(space_to_depth=True), "video", data_dir, 1)
    assert deep["video"].shape == (6, 2, 8, 8, 24)
    for t, y, x in np.ndindex(2, 2, 2):
        first = 3 * (4 * t + 2 * y + x)
        np.testing.assert_array_equal(
            deep["video"][..., first : first + 3], flat["video"][:, t::2, y::2, x::2]
        )


def test_a_picture_fills_the_clip(tmp_path):
    pictures = [corpus.example(i, frames=1, sound=False) for i in range(6)]
    corpus.write_set(tmp_path, "acts", pictures, audio=False, text=False, shards=1)
    (batch,) = take(finetune(), "video", tmp_path, 1)
    assert (batch["video"] == batch["video"][:, :1]).all()
    assert batch["video"].std(axis=(2, 3)).min() > 0


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_evaluation_gives_windows_of_one_modality(data_dir, modality):
    cfg = finetune(num_windows_test=3, multi_crop=True, batch_size=8)
    batches = list(
        pipeline.evaluation_batches(cfg, "acts", "train", data_dir=data_dir, modalities=(modality,))
    )
    assert len(batches) == 2
    expected = {"video": (8, 9, 4, 16, 16, 3), "audio": (8, 3, 640, 1)}[modality]
    assert batches[0][modality].shape == expected
    other = {"video": "audio", "audio": "video"}[modality]
    assert other not in batches[0] and "text" not in batches[0]
    assert sum(float(batch["valid"].numpy().sum()) for batch in batches) == COUNT
    label = np.concatenate([batch["label"] for batch in batches])[:COUNT]
    assert label.sum(axis=0).tolist() == [4, 4, 4]


@pytest.mark.slow
def test_probe_clips(data_dir):
    values = {**SIZES, "name": ("acts",), "batch_size": 8}
    once = dataset.Evaluation(**values)
    batches = list(pipeline.probe_batches(once, "acts", "train", "video", data_dir=data_dir))
    assert batches[0]["video"].shape == (8, 1, 4, 16, 16, 3)
    windows = pipeline.evaluation_batches(
        dataset.Evaluation(**{**values, "num_windows_test": 1}), "acts", "train",
        data_dir=data_dir, modalities=("video",),
    )  # fmt: skip
    np.testing.assert_array_equal(batches[0]["video"], next(iter(windows))["video"])
    thrice = dataset.Evaluation(**{**values, "num_augmentation": 3, "audio_mixup": True})
    for modality in ("video", "audio"):
        batches = list(pipeline.probe_batches(thrice, "acts", "train", modality, data_dir=data_dir))
        valid = np.concatenate([batch["valid"] for batch in batches]) == 1
        assert valid.sum() == 3 * COUNT
        labels = np.concatenate([batch["label"] for batch in batches])[valid]
        assert labels.sum(axis=0).tolist() == [12, 12, 12]


def test_errors_name_set_and_modality(data_dir, tmp_path):
    corpus.write_set(tmp_path, "acts", [corpus.example(0)], video=False, text=False, shards=1)
    with pytest.raises(DataError, match="'acts' has no video"):
        take(finetune(), "video", tmp_path, 1)
    card = tmp_path / "acts/card.yaml"
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "labels": None}))
    with pytest.raises(DataError, match="'acts' has no labels"):
        take(finetune(), "audio", tmp_path, 1)


# Layouts of others -------------------------------------------------------------------------------


def as_example(index: int) -> bytes:
    """What `corpus.example` holds as a flat tf.train.Example under other names."""
    record = tf.train.SequenceExample.FromString(corpus.example(index))
    lists = record.feature_lists.feature_list
    frames = [step.bytes_list.value[0] for step in lists["image/encoded"].feature]
    bytes_of = tf.train.BytesList(value=frames)
    features = {
        "video/frames": tf.train.Feature(bytes_list=bytes_of),
        "WAVEFORM/feature/floats": lists["waveform/floats"].feature[0],
        "clip/label/index": record.context.feature["label/index"],
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def as_dmvr(index: int) -> bytes:
    """`corpus.example` with DMVR's names."""
    record = tf.train.SequenceExample.FromString(corpus.example(index))
    lists, context = record.feature_lists.feature_list, record.context.feature
    lists["WAVEFORM/feature/floats"].CopyFrom(lists["waveform/floats"])
    context["clip/label/index"].CopyFrom(context["label/index"])
    del lists["waveform/floats"], context["label/index"]
    return record.SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize("layout", [as_example, as_dmvr])
def test_shards_made_by_others(data_dir, tmp_path, layout):
    target = tmp_path / "acts"
    target.mkdir()
    for shard in range(3):
        with tf.io.TFRecordWriter(str(target / f"train.tfrecord-{shard:05d}-of-00003")) as writer:
            for index in range(shard, COUNT, 3):
                writer.write(layout(index))
    fields = {"waveform": "WAVEFORM/feature/floats", "label_index": "clip/label/index"}
    card = {
        "name": "acts",
        "video": {"fps": 10},
        "audio": {"sample_rate": corpus.SAMPLE_RATE},
        "splits": {"train": {"pattern": "train.tfrecord-*"}},
        "num_classes": 3,
        "fields": fields,
    }
    if layout is as_example:
        card |= {"record_type": "Example", "fields": {**fields, "image": "video/frames"}}
    (target / "card.yaml").write_text(yaml.safe_dump(card))
    cfg = finetune()
    for modality in ("video", "audio"):
        ours = take(cfg, modality, data_dir, 3)
        theirs = take(cfg, modality, tmp_path, 3)
        for expected, found in zip(ours, theirs, strict=True):
            for key in expected:
                np.testing.assert_array_equal(expected[key], found[key])


# Factories ---------------------------------------------------------------------------------------


class Factory:
    """A data set in DMVR's style: clip i is filled with i, its label is i % 3."""

    def __init__(self, split):
        self.split = split

    def configure(self, is_training, num_frames, stride, crop_size, num_samples, num_test_clips=1):
        self.training, self.windows = is_training, 1 if is_training else num_test_clips
        self.shape = (num_frames, crop_size, crop_size, 3)
        self.samples = num_samples
        return self

    def make_dataset(self, shuffle, num_epochs, batch_size, drop_remainder=True):
        def clip(index):
            value = tf.cast(index, tf.float32) / 10
            return {
                "image": tf.fill([self.windows, *self.shape], value),
                "audio": tf.fill([self.windows, self.samples], value),
                "label": tf.one_hot(index % 3, 3),
            }

        dataset = tf.data.Dataset.range(7).map(clip).repeat(num_epochs)
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)

        def merged(batch):
            flat = {k: tf.reshape(batch[k], [-1, *batch[k].shape[2:]]) for k in ("image", "audio")}
            return {**batch, **flat}

        return dataset.map(merged)


@pytest.fixture
def registered():
    factories.register(
        "made", Factory, fps=10, sample_rate=corpus.SAMPLE_RATE, labels=["a", "b", "c"],
        modalities=("video", "audio"), records={"test": 7},
    )  # fmt: skip
    yield
    factories._REGISTERED.clear()


@pytest.mark.slow
def test_factory_for_training_alone_and_mixed(registered, data_dir):
    (batch,) = take(finetune(name="made", label_smoothing=0.0), "video", None, 1)
    values = batch["video"][:, 0, 0, 0, 0] * 10
    np.testing.assert_allclose(values, range(6), atol=1e-5)
    assert batch["label"].argmax(axis=1).tolist() == [0, 1, 2, 0, 1, 2]
    values = {k: v for k, v in SIZES.items() if k != "audio_stride"}
    cfg = PretrainInput(**values, min_resize=16, name="made+acts", color_augment=False)
    batches = pipeline.training_batches(VideoAudioText(cfg), data_dir=data_dir, seed=2).take(6)
    flat = np.concatenate(
        [batch["video"].numpy().std(axis=(1, 2, 3, 4)) < 1e-6 for batch in batches]
    )
    assert 6 < flat.sum() < 30  # about half of the 36 clips come from the factory
    for batch in batches:
        assert batch["audio_mask"].numpy().all() and not batch["text_mask"].numpy().any()


def test_factory_for_evaluation(registered):
    cfg = finetune(name="made", num_windows_test=2, multi_crop=False, batch_size=4)
    batches = list(
        pipeline.evaluation_batches(cfg, "made", "test", data_dir=None, modalities=("video",))
    )
    assert [batch["valid"].numpy().tolist() for batch in batches] == [[1] * 4, [1, 1, 1, 0]]
    assert batches[0]["video"].shape == (4, 2, 4, 16, 16, 3)
    found = np.concatenate([batch["video"][:, 1, 0, 0, 0, 0] for batch in batches])[:7]
    np.testing.assert_allclose(found, np.arange(7) / 10, atol=1e-6)
    assert np.concatenate([batch["index"] for batch in batches])[:7].tolist() == list(range(7))


def test_factory_errors(registered):
    class Half:
        def __init__(self, split):
            pass

        def configure(self):
            pass

    factories.register("half", Half, labels=["a"])
    with pytest.raises(DataError, match=r"'half': Half has no make_dataset\(\)"):
        take(finetune(name="half", sample_rate=48000), "video", None, 1)
    with pytest.raises(UserError, match=r"--import=no\.such: cannot be imported"):
        factories.import_modules(["no.such"])


# Several readers ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_share_every_batch(data_dir):
    cfg = finetune(mixup=False)
    whole = take(cfg, "audio", data_dir, 4)
    parts = [take(cfg, "audio", data_dir, 4, worker=(index, 3)) for index in range(3)]
    for step, batch in enumerate(whole):
        for key in batch:
            joined = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(batch[key], joined)


@pytest.mark.slow
def test_clips_from_a_data_service(data_dir):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    workers = [
        service.WorkerServer(service.WorkerConfig(dispatcher_address=address)) for _ in range(2)
    ]
    cfg = finetune(data_service=dispatcher.target, label_smoothing=0.0)
    labels = [batch["label"].argmax(axis=1) for batch in take(cfg, "audio", data_dir, 20)]
    counts = np.bincount(np.concatenate(labels))
    assert counts.sum() == 120
    assert np.abs(counts - 40).max() <= 8  # whole epochs, apart from those under way
    del workers
