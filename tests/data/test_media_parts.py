"""Of a file whose sound nobody wants none is decoded, and one that is open is not opened again."""

from __future__ import annotations

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


def test_a_file_is_opened_once_for_its_length_and_its_clip(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", numbered_frames(50), tone(440, 2))
    expected, asked, open_media = media.read_clip(path, **WISH), [], opening.open_media
    monkeypatch.setattr(opening, "open_media", lambda name: asked.append(name) or open_media(name))
    seconds, opened = media.measured(path)
    clip = media.read_clip(path, **WISH, opened=opened)
    assert asked == [path] and seconds == media.length(path)
    assert clip.frames == expected.frames and (clip.waveform == expected.waveform).all()
