"""Examples of Everything at Once: several clips of a record, a function of seed and step alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
import feature_sets

from vatt.configs.tokens import TokenPretrain, Tokens
from vatt.data import pipeline
from vatt.data.ingest import build
from vatt.data.ingest.sources import Options
from vatt.errors import DataError
from vatt.methods.eao.examples import TokenRows

SMALL = {
    "video_embed_dim": 11,
    "text_embed_dim": 4,
    "max_words": 5,
    "num_audio_stft_frames": 64,
    "narrated": True,
    "n_clips": 3,
    "flag_text_audio_misaligned": True,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Seven videos of a minute, each with a caption every 5 s."""
    folder = tmp_path_factory.mktemp("howto")
    said = {
        f"v/video{k}": [(5.0 * n, 5.0 * n + 4, f"word{k} number{n}") for n in range(12)]
        for k in range(7)
    }
    root = feature_sets.write_videos(folder / "files", said)
    options = Options(media_root=root, list=root / "videos.csv")
    inputs = [str(root / "caption.json")]
    build.ingest(inputs, folder / "howto", form="feature_files", options=options, num_shards=2)
    return folder


def batches(data_dir, count: int, start: int = 0, worker=(0, 1), **changes):
    data = TokenPretrain(name="howto", batch_size=12, tokens=Tokens(**SMALL | changes))
    made = pipeline.training_batches(
        TokenRows(data), data_dir=data_dir, seed=5, start_step=start, worker=worker
    )
    return [{k: v.numpy() for k, v in batch.items()} for batch in made.take(count)]


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.slow
def test_a_batch_is_rows_of_clips_of_records_one_after_another(data_dir):
    (batch,) = batches(data_dir, 1)
    shapes = {name: x.shape for name, x in batch.items()}
    assert shapes == {name: (12, *shape) for name, shape in Tokens(**SMALL).shapes.items()}
    assert (batch["audio_STFT_nframes"] == -1).all()
    assert batch["video_mask"].any(axis=1).all() and batch["text_mask"].any(axis=1).mean() > 0.5
    # The clips of a record share their words by the video: word0, word1, ...
    norms = np.linalg.norm(batch["video"], axis=-1)
    np.testing.assert_allclose(norms[batch["video_mask"] > 0], np.sqrt(2), rtol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_batches(data_dir):
    whole = batches(data_dir, 5)
    for resumed, expected in zip(batches(data_dir, 2, start=3), whole[3:], strict=True):
        same(resumed, expected)
    assert np.abs(whole[0]["audio"] - whole[1]["audio"]).max() > 0


@pytest.mark.slow
def test_workers_make_neighbouring_rows_of_the_same_batch(data_dir):
    (whole,) = batches(data_dir, 1)
    parts = [batches(data_dir, 1, worker=(k, 2))[0] for k in range(2)]
    same({k: np.concatenate([part[k] for part in parts]) for k in whole}, whole)


@pytest.mark.slow
def test_whole_records_have_one_of_their_captions(data_dir):
    options = {"narrated": False, "n_clips": 1, "caption_selection": "random"}
    first, second = batches(data_dir, 2, **options)
    assert first["audio_STFT_nframes"].tolist() == [64] * 12
    assert (first["text_mask"].sum(axis=1) == 2).all()
    texts = {row.tobytes() for batch in (first, second) for row in batch["text"]}
    assert len(texts) > 14  # 24 rows of 7 videos


def test_a_set_without_captions_is_refused(data_dir):
    from vatt.data import cards

    card = cards.load("howto", data_dir).model_copy(update={"text": None})
    data = TokenPretrain(name="howto", batch_size=12, tokens=Tokens(**SMALL))
    with pytest.raises(DataError, match="has no text"):
        TokenRows(data).maker(card)


def test_a_tf_data_service_is_refused(data_dir):
    data = TokenPretrain(
        name="howto", batch_size=12, tokens=Tokens(**SMALL), data_service="grpc://host:1"
    )
    with pytest.raises(DataError, match="data_service"):
        pipeline.training_batches(TokenRows(data), data_dir=data_dir, seed=0)
