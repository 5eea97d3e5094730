"""Records to rows of tokens: what fits, what is missing, clips in graphs, evaluation."""

from __future__ import annotations

import feature_sets
import numpy as np
import pytest
import tensorflow as tf
from feature_sets import clip, write_pickle

from vatt.configs.tokens import TokenEvaluation, Tokens, problems
from vatt.data import cards, pipeline, records
from vatt.data.ingest import build
from vatt.data.tokens import narrated, rows, seconds, sound, spectrogram, video
from vatt.errors import DataError

SMALL = {"video_embed_dim": 11, "text_embed_dim": 4, "max_words": 5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A set of four clips, of 20, 8, 3 and 20 s; the last one has no sound."""
    folder = tmp_path_factory.mktemp("sets")
    silent = {"audio": np.zeros((40, 0), np.float32)}
    clips = [clip(0), clip(1, 8), clip(2, 3), clip(3, **silent)]
    path = write_pickle(folder / "resnet" / "test.pkl", clips)
    build.ingest([f"test={path}"], folder / "clips")
    return folder


def evaluated(data_dir, **options) -> dict[str, dict[str, np.ndarray]]:
    """Rows of each record, by its source."""
    cfg = TokenEvaluation(name=("clips",), batch_size=3, tokens=Tokens(**SMALL | options))
    found = {}
    for batch in pipeline.evaluation_batches(cfg, "clips", "test", data_dir=data_dir):
        batch = {name: value.numpy() for name, value in batch.items()}
        for source in set(batch["source"][batch["valid"] > 0]):
            own = batch["source"] == source
            found[source.decode()] = {name: value[own] for name, value in batch.items()}
    return found


def test_evaluation_delivers_every_record_with_its_masks(data_dir):
    found = evaluated(data_dir)
    assert sorted(found) == ["video0", "video1", "video2", "video3"]
    shapes = {name: found["video0"][name].shape for name in Tokens(**SMALL).shapes}
    assert shapes == {name: (1, *shape) for name, shape in Tokens(**SMALL).shapes.items()}
    assert [int(found[f"video{k}"]["video_mask"].sum()) for k in range(4)] == [12, 12, 4, 12]
    windows = [int(found[f"video{k}"]["audio_STFT_nframes"][0]) for k in range(4)]
    assert windows == [768, 768, 300, 0]
    assert not found["video3"]["audio_mask"].any() and not found["video3"]["audio"].any()
    assert found["video2"]["ids"].tolist() == [b"video2"]
    assert found["video1"]["caption"] == b"caption 1" and found["video1"]["text_mask"].sum() == 2


@pytest.mark.slow
def test_long_records_are_cut_into_clips_that_count_or_not(data_dir):
    found = evaluated(data_dir, cut_clips=True, n_clips=3, num_audio_stft_frames=640)
    assert found["video0"]["ids"].tolist() == [b"video0"] * 3  # 2000 windows: 640, 640, 640
    assert found["video1"]["ids"].tolist() == [b"video1", b"-1", b"-1"]
    assert found["video3"]["ids"].tolist() == [b"video3", b"-1", b"-1"]
    assert found["video0"]["caption"].tolist() == [b"caption 0"] * 3
    whole = evaluated(data_dir, n_video_tokens=36)["video0"]["video"][0]
    np.testing.assert_array_equal(found["video0"]["video"].reshape(36, 11), whole)


def test_a_set_of_its_own_may_have_other_lengths(data_dir):
    cfg = TokenEvaluation(
        name=("clips",),
        batch_size=4,
        tokens=Tokens(**SMALL),
        tokens_of={"clips": {"n_video_tokens": 30, "num_audio_stft_frames": 128}},
    )
    assert not list(problems("eval.input", cfg))
    (batch,) = pipeline.evaluation_batches(cfg, "clips", "test", data_dir=data_dir)
    assert batch["video"].shape == (4, 30, 11) and batch["audio"].shape == (4, 40, 128)


UNFIT = {
    "has no feature 'resnext' (tokens.features_3d)": {"features_3d": "resnext"},
    "Did you mean 'resnext101'?": {"features_3d": "resnext"},
    "resnet152 has 6 values per vector, but tokens.video_embed_dim is 11": {"features_3d": None},
    "logmel has 40 values per vector, but tokens.mel_bins is 64": {"mel_bins": 64},
    "resnet152 has 1 vectors per second; expected 100": {
        "spectrogram": "resnet152",
        "mel_bins": 6,
    },
    "has no feature 'mel' (tokens.spectrogram)": {"spectrogram": "mel"},
}


@pytest.mark.parametrize("told", UNFIT)
def test_a_set_that_does_not_fit_is_refused(data_dir, told):
    card = cards.load("clips", data_dir)
    with pytest.raises(DataError) as error:
        rows.check(Tokens(**SMALL | UNFIT[told]), card)
    assert told in str(error.value)


def test_what_does_not_fit_together_in_the_options_is_told():
    wrong = Tokens(features_2d=None, features_3d=None, n_clips=4, merges="x", cut_clips=False)
    told = [str(problem) for problem in problems("train.input", TokenEvaluation(tokens=wrong))]
    for part in (
        "nothing is seen",
        "narrated (training) or cut_clips",
        "expected null, or text clip",
    ):
        assert any(part in line for line in told), part
    clip_text = TokenEvaluation(tokens=Tokens(text="clip", word_vectors="x"))
    told = [str(problem) for problem in problems("eval.input", clip_text)]
    assert len(told) == 2 and "file of merges" in told[0] and "has its own" in told[1]


# Parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["clip", "nearest", "max_pool"])
def test_tokens_are_the_same_in_a_graph_of_any_lengths(strategy):
    graph = tf.function(
        lambda first, second: video.tokens([first, second], 12, strategy),
        input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2])],
    )
    for lengths in ((0, 0), (0, 40), (3, 4), (40, 30), (48, 72), (1, 100)):
        streams = [feature_sets.values(n, w, n) for n, w in zip(lengths, (3, 2), strict=True)]
        for found, expected in zip(
            graph(*streams), video.tokens(streams, 12, strategy), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_a_lone_stream_of_pictures_is_as_a_lone_stream_of_motion():
    stream = feature_sets.values(40, 4, 0)
    found, mask = video.tokens([stream], 12, "max_pool")
    pooled = stream[:39].reshape(13, 3, 4).max(axis=1)
    chosen = pooled[np.floor(np.arange(12, dtype=np.float32) * np.float32(13 / 12)).astype(int)]
    np.testing.assert_allclose(found, chosen / np.linalg.norm(chosen, axis=1, keepdims=True), 1e-6)
    assert mask.numpy().all()


def test_times_of_records_are_those_that_were_written():
    written = np.array([0.001, 2.1, 5.05, 1234.567, 3599.999])
    np.testing.assert_array_equal(narrated.exact(written.astype(np.float32)), written)


def test_a_video_in_which_nothing_is_said_gives_a_clip_without_words():
    none = tf.constant([], tf.float64)
    found = narrated.clip(none, none, tf.constant(20), tf.constant(0.5), 8.0, True)
    assert (float(found.start), float(found.end)) == (6.0, 14.0) and found.captions.shape == (0,)
    assert float(found.sound_start) == 6.0


def test_sound_behind_the_end_of_a_video_is_empty():
    mel = tf.zeros([300, 40])
    assert sound.between(mel, tf.constant(5.0), tf.constant(13.0)).shape[0] == 0
    windows, mask, count = sound.fitted(mel[:0], 64)
    assert windows.shape == (40, 64) and not mask.numpy().any() and count == 0


def test_clips_of_seconds_end_with_the_video():
    starts, ends = seconds.around(tf.constant(4), 1)
    assert starts.numpy().tolist() == [0, 0, 1, 2] and ends.numpy().tolist() == [2, 3, 4, 4]


def test_a_spectrogram_is_decibels_below_the_loudest():
    time = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 1000 * time) * (time > 0.5)
    found = spectrogram.log_mel(tone)
    assert found.shape == (101, 40) and found.dtype == np.float32
    assert found.max() == 0 and found.min() == -80 and (found[:40] == -80).all()
    loudest = found[80].argmax()
    corners = spectrogram.filters()[loudest].nonzero()[0] * 40  # Hz
    assert corners.min() <= 1000 <= corners.max()
    np.testing.assert_allclose(found, spectrogram.log_mel(0.1 * tone), atol=1e-3)
    assert spectrogram.log_mel(np.zeros(0)).shape == (2, 40)


def test_records_on_disk_are_those_of_the_pickle(data_dir):
    shards = cards.load("clips", data_dir).shards("test")
    found = [records.decode(r).source for shard in shards for r in records.read_shard(shard)]
    assert sorted(found) == ["video0", "video1", "video2", "video3"]
