"""Clips last as long as the configuration says, whatever the rate of the records."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vatt.configs import dataset
from vatt.data import cards, factories, pipeline, records
from vatt.data.examples import LabelledClips
from vatt.errors import DataError
from vatt.methods.vatt.config import PretrainInput
from vatt.methods.vatt.examples import VideoAudioText

SECONDS, SAMPLE_RATE, LEVELS = 4, 1000, 2  # a frame is LEVELS brighter than the one before
CLIP = {
    "num_frames": 8, "frame_size": 8, "min_resize": 8, "sample_rate": SAMPLE_RATE, "batch_size": 3,
    "scale_jitter": False, "color_augment": False, "zero_centering_image": False,
}  # fmt: skip


def _jpeg(level):
    file = io.BytesIO()
    Image.new("L", (8, 8), int(level)).convert("RGB").save(file, "JPEG", quality=100)
    return file.getvalue()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Sets of one clip, whose pictures and samples say their own time."""
    folder = tmp_path_factory.mktemp("rates")
    for fps in (5, 10, 12.5, 15, 25):
        clip = records.ClipRecord(
            source=f"{fps:g}",
            frames=[_jpeg(LEVELS * n) for n in range(int(SECONDS * fps))],
            fps=fps,
            waveform=(np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE / SECONDS).astype(np.float32),
            sample_rate=SAMPLE_RATE,
            labels=["a"],
            label_indices=[0],
        )
        target = folder / f"at{fps:g}"
        target.mkdir()
        with records.ShardWriter(target / "train-00000-of-00001.tfrecord") as shard:
            for _ in range(3):
                shard.write(records.encode(clip))
        card = cards.Card(
            name=target.name,
            tasks=["pretrain", "video_classification", "audio_classification"],
            video=cards.VideoInfo(fps=fps),
            audio=cards.AudioInfo(sample_rate=SAMPLE_RATE),
            splits={"train": cards.Split(pattern="train-*", num_shards=1, records=3)},
            labels=["a", "b"],
        )
        cards.write(card, target)
    return folder


def _times(video, fps):
    """Seconds in the record of every frame of clips [..., frames, 8, 8, 3] in [0, 1]."""
    return np.round(video.mean(axis=(-3, -2, -1)) * 255 / LEVELS) / fps


def _sound(audio):
    """Seconds in the record of every sample of clips [..., samples, 1]."""
    return audio[..., 0] * SECONDS


def _clips(use, rate, data_dir, **changes):
    """Video and audio as a training of either kind or an evaluation reads them."""
    values = {**CLIP, "video_stride": 1, "audio_stride": 1, "name": f"at{rate:g}", **changes}
    if use == "evaluate":
        cfg = dataset.Finetune(**values, num_windows_test=1, multi_crop=False)
        batches = pipeline.evaluation_batches(
            cfg, cfg.name, "train", data_dir=data_dir, modalities=("video", "audio")
        )
        (batch,) = batches.as_numpy_iterator()
        return batch["video"][:, 0], batch["audio"][:, 0]
    if use == "pretrain":
        examples = VideoAudioText(PretrainInput(**values, audio_noise=0, shuffle_buffer=2))
    else:
        cfg = dataset.Finetune(**values, shuffle_buffer=2)
        card = pipeline.load_card(cfg.name, data_dir)
        examples = LabelledClips(cfg, card, ("video", "audio"))
    batches = pipeline.training_batches(examples, data_dir=data_dir, seed=1)
    batch = next(batches.as_numpy_iterator())
    return batch["video"], batch["audio"]


@pytest.mark.parametrize("use", ["pretrain", "finetune", "evaluate"])
@pytest.mark.parametrize("fps", [5, 10, 12.5, 15, 25])
def test_pictures_last_as_long_as_their_sound_at_every_rate(use, fps, data_dir):
    video, audio = _clips(use, fps, data_dir, fps=10)
    heard, seen = _sound(audio), _times(video, fps)
    for times, sound in zip(seen, heard, strict=True):
        first = round(float(times[0] * fps))
        expected = [(first + int(n * fps / 10 + 1e-9)) / fps for n in range(8)]
        np.testing.assert_allclose(times, expected, atol=1e-6)  # what is seen 0.1 s later each
        np.testing.assert_allclose(sound[-1] - sound[0], 0.8 - 1 / SAMPLE_RATE, atol=1e-5)
        assert abs(sound[0] - times[0]) <= (0.5 if use == "evaluate" else 0.01) / fps + 1e-3


def test_stride_makes_clips_longer_not_their_sound(data_dir):
    video, audio = _clips("finetune", 15, data_dir, fps=10, video_stride=2)
    assert audio.shape[1] == 800
    spans = np.ptp(_times(video, 15), axis=1)
    np.testing.assert_allclose(spans, 21 / 15, atol=1e-6)  # 7 steps of 3 pictures


def test_without_a_rate_strides_are_the_published_ones(data_dir):
    for use, fps, step in (("pretrain", 25, 2), ("pretrain", 10, 1), ("evaluate", 25, 1)):
        video, audio = _clips(use, fps, data_dir)
        np.testing.assert_allclose(np.diff(_times(video, fps)), step / fps, atol=1e-6)
        assert audio.shape[1] == 800


@pytest.mark.parametrize("use", ["pretrain", "finetune", "evaluate"])
def test_without_a_rate_other_records_are_refused(use, data_dir):
    with pytest.raises(DataError, match=r"'at15' holds 15 pictures per second.* 10 and 25 only"):
        _clips(use, 15, data_dir)


def test_too_few_pictures_and_sounds_of_another_length_are_told(data_dir, caplog):
    with caplog.at_level("WARNING", "absl"):
        _clips("finetune", 5, data_dir, fps=8)
        _clips("pretrain", 10, data_dir, fps=10, video_stride=2)
        _clips("pretrain", 15, data_dir, fps=10)
    said = [record.getMessage() for record in caplog.records]
    assert any("'at5' holds 5 pictures per second, of which clips make 8" in line for line in said)
    assert any(
        "'at10': clips have 1.6 s of pictures beside 0.8 s of sound" in line for line in said
    )
    assert not any("'at15'" in line for line in said)


def test_a_factory_takes_whole_strides(monkeypatch):
    monkeypatch.setattr(factories, "_REGISTERED", dict(factories._REGISTERED))
    factories.register("coded", lambda split: None, fps=25.0, records={"test": 1})
    cfg = dataset.Evaluation(**CLIP, name=("coded",), fps=10, video_stride=1, vocabulary=None)
    cfg = cfg.model_copy(update={"sample_rate": 48000})
    with pytest.raises(DataError, match=r"'coded' comes from code.*stride of 2\.5\. Set fps to 25"):
        pipeline.evaluation_batches(cfg, "coded", "test", data_dir=None, modalities=("video",))


@pytest.mark.parametrize("use", ["pretrain", "finetune", "evaluate"])
@pytest.mark.parametrize("fps", [5, 12.5, 15, 25])
def test_windows_are_as_long_and_their_frames_lie_evenly(use, fps, data_dir):
    video, audio = _clips(use, fps, data_dir, fps=10, clip_sampling="windows")
    size = 0.8 * fps  # pictures
    for times, sound in zip(_times(video, fps), _sound(audio), strict=True):
        first = round(float(times[0] * fps))
        expected = first + np.floor(np.linspace(0, size - 1, 8) + 1e-6)
        np.testing.assert_allclose(times * fps, expected, atol=1e-4)
        # A window begins between two pictures; the first of it is the later one.
        assert -1e-3 <= times[0] - sound[0] < 1 / fps + 1e-3
        if use == "evaluate":
            assert first == int((SECONDS * fps - size) / 2)


def test_a_window_longer_than_the_record_ends_with_its_last_picture(data_dir):
    video, _ = _clips("finetune", 5, data_dir, fps=10, clip_sampling="windows", video_stride=6)
    size, pictures = 24, SECONDS * 5
    expected = np.minimum(np.floor(np.linspace(0, size - 1, 8)), pictures - 1)
    np.testing.assert_allclose(_times(video, 5)[0] * 5, expected, atol=1e-4)
