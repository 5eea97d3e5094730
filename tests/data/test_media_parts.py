"""What nobody wants of a file is not decoded, and one that is open is not opened again."""

from __future__ import annotations

import numpy as np
import pytest
from media_files import numbered_frames, tone, write

from vatt.data import media
from vatt.data.media import MediaError, opening, reading

WISH = {"fps": 10, "min_side": 32, "sample_rate": 16000}
LENGTHS = {
    "as long": (50, 2),
    "a little longer": (50, 2.4),
    "much longer": (50, 4),
    "still": (1, 3),
}


@pytest.mark.parametrize("frames, seconds", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("times", [(None, None), (0.5, 1.7)], ids=["whole", "piece"])
def test_pictures_are_the_same_without_the_sound(tmp_path, frames, seconds, times):
    path = write(tmp_path / "a.mkv", numbered_frames(frames), tone(440, seconds))
    both = media.read_clip(path, *times, **WISH)
    alone = media.read_clip(path, *times, **WISH, sound=False)
    assert alone.frames == both.frames and (alone.start, alone.end) == (both.start, both.end)


def test_sound_is_decoded_where_the_pictures_depend_on_it_only(tmp_path, monkeypatch):
    short = write(tmp_path / "a.mkv", numbered_frames(50), tone(440, 4))
    long = write(tmp_path / "b.mkv", numbered_frames(50), tone(440, 2))
    sound = write(tmp_path / "c.mkv", None, tone(440, 2))
    heard, add = [], reading.Sound.add
    monkeypatch.setattr(reading.Sound, "add", lambda *a: heard.append(1) or add(*a))
    assert media.read_clip(long, **WISH, sound=False).waveform is None and not heard
    assert media.read_clip(short, **WISH, sound=False).end == pytest.approx(2) and heard
    assert not media.read_clip(sound, **WISH, sound=False).frames
    with pytest.raises(MediaError, match="pictures stop at 2"):
        media.read_clip(short, 1.0, 4.0, **WISH, sound=False)


KINDS = {
    "mp4": {"video_options": {"bf": "3", "g": "12"}},
    "mkv": {"moments": [0.0] + [0.3 + 0.035 * k for k in range(49)]},
    "mov": {"video_codec": "mjpeg", "pixels": "yuvj420p"},
    "webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus"},
    "ts": {},
    "flv": {"video_codec": "flv1"},
}
UNSTAMPED = {
    "avi": {"video_options": {"bf": "3"}, "audio_codec": "mp3"},
    "mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2"},
}


def same_sound(path, times, monkeypatch):
    """Asserts that the sound alone is that beside the pictures; whether pictures were decoded."""
    both = media.read_clip(path, *times, **WISH)
    seen, decode = [], reading.Pictures.decode
    with monkeypatch.context() as patch:
        patch.setattr(reading.Pictures, "decode", lambda *a: seen.append(1) or decode(*a))
        alone = media.read_clip(path, *times, **WISH, pictures=False)
    np.testing.assert_array_equal(alone.waveform, both.waveform)
    assert (alone.start, alone.end) == (both.start, both.end) and len(both.frames)
    return bool(seen)


@pytest.mark.parametrize("frames, seconds", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_sound_is_the_same_without_the_pictures_which_are_not_decoded(
    tmp_path, monkeypatch, kind, frames, seconds
):
    """Also where it ends with them because they stop before it does."""
    options = KINDS[kind] if frames > 1 else {**KINDS[kind], "moments": None}
    path = write(tmp_path / f"a.{kind}", numbered_frames(frames), tone(440, seconds), **options)
    for times in ((None, None), (0.5, 1.7), (0.0, 1.0)):
        assert not same_sound(path, times, monkeypatch)


@pytest.mark.parametrize("kind", UNSTAMPED)
def test_pictures_without_time_stamps_are_decoded_only_where_the_sound_may_end_with_them(
    tmp_path, monkeypatch, kind
):
    for seconds, decoded in ((2, False), (4, True)):
        sound, options = tone(440, seconds), UNSTAMPED[kind]
        path = write(tmp_path / f"{seconds}.{kind}", numbered_frames(50), sound, **options)
        assert same_sound(path, (None, None), monkeypatch) == decoded


def test_of_what_lacks_all_that_is_wanted_nothing_is_decoded(tmp_path, monkeypatch):
    silent = write(tmp_path / "a.mkv", numbered_frames(50))
    sound = write(tmp_path / "b.mkv", None, tone(440, 2))
    monkeypatch.setattr(reading, "_ahead", None)
    for path, unwanted in ((silent, "pictures"), (sound, "sound")):
        clip = media.read_clip(path, **WISH, **{unwanted: False})
        assert not clip.frames and clip.waveform is None


def test_sound_that_stops_before_unwanted_pictures_is_followed_by_silence(tmp_path):
    path = write(tmp_path / "a.mkv", numbered_frames(75), tone(440, 1))
    heard = media.read_clip(path, 0.0, 3.0, **WISH, pictures=False).waveform
    assert len(heard) == 3 * 16000 and heard[:16000].any() and not heard[20000:].any()


def test_a_file_is_opened_once_for_its_length_and_its_clip(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", numbered_frames(50), tone(440, 2))
    expected, asked, open_media = media.read_clip(path, **WISH), [], opening.open_media
    monkeypatch.setattr(opening, "open_media", lambda name: asked.append(name) or open_media(name))
    seconds, opened = media.measured(path)
    clip = media.read_clip(path, **WISH, opened=opened)
    assert asked == [path] and seconds == media.length(path)
    assert clip.frames == expected.frames and (clip.waveform == expected.waveform).all()
