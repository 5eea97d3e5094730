"""Sound that records hold as a spectrogram, vector by vector."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from vatt import configs
from vatt.data import cards, pipeline
from vatt.data.check import command
from vatt.data.examples import Clips
from vatt.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
import corpus

BANDS, PER_VECTOR = 4, 10  # a vector of 40 values has 10 times, of 0.01 s each
FRAMES = 12  # of a record, at 10 frames/s
TIMES = FRAMES * PER_VECTOR


def spectrogram(index):
    return np.random.default_rng(index).normal(size=(TIMES, BANDS)).astype("float32")


def record(index):
    """A record without a waveform, as the loaders of AV-MAE read them."""
    example = tf.train.SequenceExample.FromString(corpus.example(index, sound=False))
    lists = example.feature_lists.feature_list
    for vector in spectrogram(index).reshape(FRAMES, -1):
        feature = lists["melspec/feature/floats"].feature.add()
        feature.float_list.value.extend(vector.tolist())
    return example.SerializeToString()


@pytest.fixture
def data_dir(tmp_path):
    corpus.write_set(tmp_path, "heard", [record(i) for i in range(6)], text=False)
    path = tmp_path / "heard" / "card.yaml"
    card = yaml.safe_load(path.read_text())
    card["fields"] = {"feature": "melspec/feature/"}
    card["features"] = {"floats": {"width": BANDS * PER_VECTOR, "rate": 10.0}}
    card["audio"] = {"sample_rate": corpus.SAMPLE_RATE, "feature": "floats"}
    card["labels"] = ["a", "b", "c"]
    path.write_text(yaml.safe_dump(card))
    return tmp_path


def config(kind=configs.dataset.Pretrain, **changes):
    given = {
        "name": "heard",
        "batch_size": 2,
        "num_frames": 4,
        "fps": 10.0,
        "frame_size": 16,
        "min_resize": 16,
        "sample_rate": corpus.SAMPLE_RATE,
        "raw_audio": False,
        "audio_features": "stored",
        "mel_bins": BANDS,
        "stft_length": 0.01,
        "stft_step": 0.01,
        "audio_seconds": 0.4,
        "audio_mean": 0.5,
        "audio_std": 2.0,
    }
    return kind(**given | changes)


def batches(cfg, data_dir):
    made = Clips(cfg, ("video", "audio"))
    return made, pipeline.training_batches(made, data_dir=data_dir, seed=0)


def test_training_hears_times_of_the_record_that_belong_to_its_frames(data_dir):
    made, found = batches(config(), data_dir)
    assert made.shapes["audio"] == (40, BANDS, 1)
    whole = [(spectrogram(i) - 0.5) / 2.0 for i in range(6)]
    starts = set()
    for batch in found.take(6).as_numpy_iterator():
        for heard in batch["audio"][..., 0]:
            places = [
                (i, t)
                for i in range(6)
                for t in range(TIMES - 39)
                if np.allclose(whole[i][t : t + 40], heard, atol=1e-6)
            ]
            assert len(places) == 1
            starts.add(places[0][1])
    assert len(starts) > 3 and starts <= set(range(0, TIMES, PER_VECTOR))  # where a frame begins


def test_evaluation_hears_the_middle(data_dir):
    cfg = config(configs.dataset.Evaluation, name=("heard",), num_windows_test=1, video_stride=1)
    found = pipeline.evaluation_batches(cfg, "heard", "train", data_dir=data_dir)
    batch = next(found.as_numpy_iterator())
    assert batch["audio"].shape == (2, 1, 40, BANDS, 1) and batch["audio_mask"].all()
    for heard, source in zip(batch["audio"][:, 0, ..., 0], batch["source"], strict=True):
        index = int(source.decode().removeprefix("video").removesuffix(".mp4"))
        np.testing.assert_allclose(heard, (spectrogram(index)[40:80] - 0.5) / 2.0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"audio_features": "filterbank", "stft_length": 0.02},
            "feature floats, no waveforms",
        ),
        ({"mel_bins": 7}, "have 40 values, no multiple of mel_bins=7"),
        ({"stft_step": 0.02, "stft_length": 0.02}, "every 0.01 s.*stft_step=0.02"),
    ],
)
def test_sound_of_another_kind_is_told(data_dir, changes, told):
    with pytest.raises(DataError, match=told):
        batches(config(**changes), data_dir)


def test_a_set_of_waveforms_and_a_card_of_nothing_are_told(data_dir):
    corpus.write_set(data_dir, "waves", [corpus.example(i) for i in range(6)], text=False)
    with pytest.raises(DataError, match="holds waveforms, but"):
        batches(config(name="waves"), data_dir)
    path = data_dir / "heard" / "card.yaml"
    path.write_text(path.read_text().replace("feature: floats", "feature: flaots"))
    with pytest.raises(DataError, match="'flaots' is none of features"):
        cards.load("heard", data_dir)


def test_a_set_is_checked_by_the_sound_that_it_has(data_dir, capsys):
    path = data_dir / "heard" / "card.yaml"
    card = yaml.safe_load(path.read_text()) | {"labels": None, "num_classes": 3}
    path.write_text(yaml.safe_dump(card | {"tasks": ["audio_classification"], "video": None}))
    code = command.main([str(path.parent), "--workers=1"])
    told = capsys.readouterr().out
    assert code == 0 and "the card has" not in told and "no sound" not in told, told
    path.write_text(path.read_text().replace("melspec/feature/", "other/"))
    assert command.main([str(path.parent), "--workers=1"]) != 0
    assert "no sound" in capsys.readouterr().out
