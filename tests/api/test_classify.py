"""Classes of files are those that evaluation predicts; what is alike, and what is not compared."""

from __future__ import annotations

import numpy as np
import pytest

from vatt.errors import UserError
from vatt.evaluation import artefacts, metrics

pytestmark = pytest.mark.slow


def test_a_file_has_the_classes_that_evaluation_predicted(place, classifier):
    told = artefacts.load(place / "runs" / "acts" / "predictions" / "acts-2.npz")
    files = [place / "media" / source for source in told["source"].tolist()]
    found = classifier.classify(files)
    assert classifier.labels == ["a", "b"] and len(found) == len(told["index"])
    for one, logits in zip(found, told["logits"], strict=True):
        np.testing.assert_allclose(one.logits.mean(axis=0), logits, atol=1e-5)
        shares = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(one.probabilities, shares, atol=1e-5)
        (best, share), (_, other) = one.top()
        assert best == "ab"[int(np.argmax(logits))] and share + other == pytest.approx(1)
        windows = list(one.windows())
        assert [start for start, _, _ in windows] == one.starts.tolist() and len(windows) == 2
        assert all(p.sum() == pytest.approx(1) for _, _, p in windows)
    pooled = classifier.embed_video(files[0])
    assert list(pooled.spaces) == ["features_pooled"] and len(pooled) == 2


def test_only_fine_tuned_models_classify(model, classifier, place):
    file = place / "media" / "clip0.mkv"
    with pytest.raises(UserError, match="is pretrained and knows no classes"):
        model.classify(file)
    with pytest.raises(UserError, match="takes video, no text"):
        classifier.embed_text("a red circle")
    with pytest.raises(UserError, match="takes video, no audio"):
        classifier.embed_audio(file)


def test_similarities_are_those_that_evaluation_ranks_by(model, place):
    files = [place / "media" / f"clip{n}.mkv" for n in range(3)]
    videos, texts = model.embed_video(files), model.embed_text(["a red circle", "one"])
    sounds = model.embed_audio(files)
    left = np.stack([one.in_space("text_tovid") for one in texts])
    right = np.stack([one.in_space("video_totxt") for one in videos])
    found = model.similarity(texts, videos)
    np.testing.assert_allclose(found, metrics.similarity(left, right), atol=1e-6)
    heard = np.stack([one.in_space("audio_tovid") for one in sounds])
    seen = np.stack([one.in_space("video_toaud") for one in videos])
    np.testing.assert_allclose(
        model.similarity(videos, sounds), metrics.similarity(heard, seen).T, atol=1e-6
    )
    assert model.similarity(texts[0], videos).shape == (3,)
    assert float(model.similarity(texts[1], videos[2])) == pytest.approx(float(found[1, 2]))
    assert float(model.similarity(videos[0], videos[0])) == pytest.approx(1, abs=1e-5)
    windows = model.similarity(texts[0], videos[0].windows())
    assert windows.shape == (2,)


def test_what_cannot_be_compared_is_told(model, classifier, place):
    file = place / "media" / "clip0.mkv"
    video, text, sound = model.embed_video(file), model.embed_text("one"), model.embed_audio(file)
    with pytest.raises(UserError, match="of other weights than"):
        model.similarity(video, classifier.embed_video(file))
    with pytest.raises(UserError, match="does not compare text with audio in 'video_totxt'"):
        model.similarity(text, sound, space="video_totxt")
    with pytest.raises(UserError, match=r"audio and video; give each in its own list"):
        model.similarity([video, sound], text)
    with pytest.raises(UserError, match="an empty list"):
        model.similarity([], text)
    with pytest.raises(UserError, match=r"'video_totext'.*Did you mean 'video_totxt'"):
        video.vector("video_totext")
