"""Moments cut out of files: the right pictures and sound, in files that play."""

from __future__ import annotations

import io
import wave

import av
import media_files
import numpy as np
import pytest
from PIL import Image

from vatt.errors import DataError
from vatt.search import snippets


def decoded(content):
    with av.open(io.BytesIO(content)) as file:
        pictures = [frame.to_image() for frame in file.decode(video=0)]
    with av.open(io.BytesIO(content)) as file:
        sound = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
        rate = file.streams.audio[0].rate
    return pictures, np.concatenate(sound), rate


@pytest.mark.parametrize("name", ["red.mp4", "blue.avi"])
def test_a_clip_has_the_pictures_and_the_sound_of_its_time(indexed, name):
    snippet = snippets.cut(indexed / "media" / name, 0.8, 1.6)
    assert (snippet.start, snippet.end) == pytest.approx((0.8, 1.6))
    pictures, sound, rate = decoded(snippet.clip)
    numbers = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        numbers.append(media_files.number_of(buffer.getvalue()))
    assert numbers == list(range(20, 40))
    assert media_files.peak_frequency(sound, rate) == pytest.approx(440, abs=2)
    assert len(sound) / rate == pytest.approx(0.8, abs=0.1)
    assert media_files.number_of(snippet.poster) == 30
    assert Image.open(io.BytesIO(snippet.strip)).size == (4 * 80, 48)


def test_sound_alone_is_a_wav(indexed):
    snippet = snippets.cut(indexed / "media" / "bell.wav", 1.0, 2.0)
    assert not snippet.clip and not snippet.strip
    with wave.open(io.BytesIO(snippet.sound)) as file:
        rate, samples = file.getframerate(), np.frombuffer(file.readframes(10**6), "<i2")
    assert len(samples) == rate
    assert media_files.peak_frequency(samples.astype(float), rate) == pytest.approx(440, abs=1)
    assert snippet.outline.shape[1] == 2


def test_a_picture_stays_one(indexed):
    for times in ((0.0, 0.0), (None, None)):
        snippet = snippets.cut(indexed / "media" / "still.png", *times)
        assert not snippet.clip and Image.open(io.BytesIO(snippet.poster)).size == (64, 48)


def test_long_moments_are_cut_short(indexed, monkeypatch):
    monkeypatch.setattr(snippets, "MOST_SECONDS", 1.0)
    snippet = snippets.cut(indexed / "media" / "red.mp4", None, None)
    assert (snippet.start, snippet.end) == pytest.approx((0, 1.0))
    assert len(decoded(snippet.clip)[0]) == 25


def test_without_encoders_there_are_strips(indexed, monkeypatch):
    def none(*given):
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr(snippets, "_mp4", none)
    snippet = snippets.cut(indexed / "media" / "red.mp4", 0.8, 1.6)
    assert not snippet.clip and snippet.strip


def test_sides_of_one_picture_may_be_odd(tmp_path):
    path = media_files.write(tmp_path / "odd.mkv", media_files.grey_frames([50] * 25, 33, 49),
                             pixels="yuv444p")  # fmt: skip
    snippet = snippets.cut(path, 0.0, 1.0)
    with av.open(io.BytesIO(snippet.clip)) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (48, 32)


def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        snippets.cut(tmp_path / "gone.mp4", 0.0, 1.0)
