from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
from media_files import grey_frames, tone, write
from PIL import Image

from vatt.data.media import MediaError, read_clip, resample

WISH = {"fps": 10, "min_side": 32, "sample_rate": 16000}


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def levels(clip) -> np.ndarray:
    return np.array([pixels(jpeg)[4:-4, 4:-4].mean() for jpeg in clip.frames])


def peak_frequency(waveform: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 16 * len(waveform)))
    return spectrum.argmax() * rate / (16 * len(waveform))


def shown_at(moments: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Index of the frame that a player shows at each time."""
    return np.maximum(np.searchsorted(moments, when + 1e-4, side="right") - 1, 0)


@pytest.mark.parametrize("start", [0.0, 0.36, 1.0, 2.2])
def test_frames_are_those_shown_in_the_middle_of_each_interval(tmp_path, start):
    path = write(tmp_path / "a.mp4", grey_frames(20 + 2 * np.arange(100)), tone(440, 4))
    clip = read_clip(path, start, start + 1.6, **WISH)
    expected = 20 + 2 * shown_at(np.arange(100) / 25, start + (np.arange(16) + 0.5) / 10)
    assert len(clip.frames) == 16
    np.testing.assert_allclose(levels(clip), expected, atol=1.2)


def test_variable_frame_rate_follows_the_time_stamps(tmp_path):
    moments = np.cumsum(np.random.default_rng(0).choice([0.02, 0.05, 0.3], 40)) - 0.02
    moments = np.round(moments - moments[0], 3)
    path = write(tmp_path / "a.mkv", grey_frames(20 + 5 * np.arange(40)), moments=list(moments))
    end = float(np.floor(moments[-1] * 10) / 10)
    clip = read_clip(path, 0.0, end, **WISH)
    when = (np.arange(len(clip.frames)) + 0.5) / 10
    np.testing.assert_allclose(levels(clip), 20 + 5 * shown_at(moments, when), atol=1.5)


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("wav", "pcm_s16le")])
def test_440_hz_stays_440_hz(tmp_path, rate, ending, codec):
    path = write(tmp_path / f"a.{ending}", sound=tone(440, 3), audio_codec=codec)
    clip = read_clip(path, 0.5, 2.5, fps=10, min_side=32, sample_rate=rate)
    assert clip.frames == []
    assert clip.waveform.dtype == np.float32
    assert clip.waveform.shape == (2 * rate,)
    assert np.isfinite(clip.waveform).all()
    assert abs(peak_frequency(clip.waveform, rate) - 440) < 1
    exact = codec != "aac"  # the encoder itself changes the amplitude by 1 %
    assert np.sqrt(2 * np.mean(clip.waveform**2)) == pytest.approx(0.5, rel=0.01 if exact else 0.02)
    if exact:  # phase as well: sample 0 is at the start of the clip
        expected = 0.5 * np.sin(2 * np.pi * 440 * (0.5 + np.arange(2 * rate) / rate))
        np.testing.assert_allclose(clip.waveform, expected, atol=0.003)


def test_stereo_is_averaged(tmp_path):
    sound = np.stack([tone(440, 1), 0.5 * tone(440, 1)])
    path = write(tmp_path / "a.wav", sound=sound, audio_codec="pcm_f32le")
    clip = read_clip(path, 0.0, 1.0, fps=10, min_side=32, sample_rate=48000)
    np.testing.assert_allclose(clip.waveform, sound.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_and_picture_are_aligned(tmp_path, start, ending):
    flash = 60  # frame, at 2.4 s
    sound = np.zeros(4 * 48000, np.float32)
    sound[115200 : 115200 + 480] = 0.9
    path = write(
        tmp_path / f"a.{ending}", grey_frames(np.where(np.arange(100) < flash, 30, 200)), sound
    )
    clip = read_clip(path, start, start + 2.5, fps=25, min_side=32, sample_rate=16000)
    seen = np.argmax(levels(clip) > 100) / 25 + start
    heard = np.argmax(np.abs(clip.waveform) > 0.3) / 16000 + start
    assert seen == pytest.approx(2.4, abs=1e-9)
    assert heard == pytest.approx(2.4, abs=0.003)


def test_a_clip_after_a_seek_equals_the_same_part_of_the_whole(tmp_path):
    times = np.arange(4 * 48000) / 48000
    chirp = 0.4 * np.sin(2 * np.pi * (200 * times + 400 * times**2))
    path = write(tmp_path / "a.mp4", grey_frames(20 + 2 * np.arange(100)), chirp)
    whole = read_clip(path, 0.0, 4.0, **WISH)
    part = read_clip(path, 2.0, 3.0, **WISH)
    assert part.frames == whole.frames[20:30]
    np.testing.assert_allclose(part.waveform, whole.waveform[32000:48000], atol=1e-4)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path, rotation):
    frames = grey_frames(np.full(10, 30))
    frames[:, :, :16] = (220, 30, 30)  # the left third is red
    path = write(tmp_path / "a.mp4", frames, rotation=rotation)
    clip = read_clip(path, 0.0, 0.4, **WISH)
    red = pixels(clip.frames[0])[..., 0] > 120
    # The display matrix turns counter-clockwise by the angle: left goes down, right, up.
    side = {90: red[-8:], 180: red[:, -8:], 270: red[:8]}[rotation]
    assert side.mean() > 0.9
    assert red.mean() == pytest.approx(1 / 3, abs=0.08)
    assert (clip.height, clip.width) == ((32, 48) if rotation == 180 else (48, 32))


@pytest.mark.parametrize(("min_side", "size"), [(16, (16, 24)), (32, (32, 48)), (256, (32, 48))])
def test_short_side_is_reduced_and_never_enlarged(tmp_path, min_side, size):
    path = write(tmp_path / "a.mp4", grey_frames(np.full(10, 90)))
    clip = read_clip(path, fps=10, min_side=min_side, sample_rate=16000)
    assert (clip.height, clip.width) == size == pixels(clip.frames[0]).shape[:2]
    assert clip.waveform is None
    assert len(clip.frames) == 4


def test_resampling_keeps_the_place_of_an_impulse():
    impulse = np.zeros(4800, np.float32)
    impulse[2400] = 1
    assert np.argmax(resample(impulse, 48000, 16000)) == 800
    assert np.argmax(resample(impulse, 48000, 96000)) == 4800


@pytest.mark.parametrize("name", ["-y.mp4", "ein film mit ümlaut é.mp4", "a:b.mp4", "%03d.mp4"])
def test_odd_file_names(tmp_path, monkeypatch, name):
    write(tmp_path / "plain.mp4", grey_frames(np.full(10, 90))).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read_clip(name, 0.0, 0.4, **WISH).frames) == 4


def test_bad_files_are_refused_with_a_reason(tmp_path):
    good = write(tmp_path / "good.mp4", grey_frames(np.arange(50)), tone(440, 2))
    cases = {
        "absent.mp4": "no such file",
        "empty.mp4": "empty",
        "text.mp4": "not a media file",
        "cut.mp4": "not a media file",
        "list.m3u8": "not a media file",
        "list.mp4": "not a media file",
        "concat.mp4": "not a media file",
    }
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is a text\n" * 100)
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:3000])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{good}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    (tmp_path / "list.mp4").write_text(playlist)
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {good.name}\n")
    for name, reason in cases.items():
        with pytest.raises(MediaError, match=reason):
            read_clip(tmp_path / name, 0.0, 1.0, **WISH)
    with pytest.raises(MediaError, match="starts at 5 s but the file ends at 2"):
        read_clip(good, 5.0, 6.0, **WISH)
    with pytest.raises(MediaError, match="ends at 6 s but the file ends at 2"):
        read_clip(good, 1.0, 6.0, **WISH)


def test_protocols_are_not_followed(tmp_path):
    good = write(tmp_path / "good.mp4", grey_frames(np.arange(10)))
    for name in (f"concat:{good}", "http://127.0.0.1:9/a.mp4", f"file:{good}"):
        with pytest.raises(MediaError, match="no such file"):
            read_clip(name, 0.0, 0.2, **WISH)


def test_pictures_that_stop_early_are_an_error_only_beyond_the_slack(tmp_path):
    path = write(tmp_path / "a.mkv", grey_frames(np.full(50, 90)), tone(440, 4))
    assert len(read_clip(path, 1.0, 2.3, **WISH).frames) == 13
    with pytest.raises(MediaError, match="pictures stop at 2"):
        read_clip(path, 1.0, 4.0, **WISH)


def test_sound_that_stops_early_is_followed_by_silence(tmp_path):
    path = write(tmp_path / "a.mkv", grey_frames(np.full(100, 90)), tone(440, 2))
    clip = read_clip(path, 1.0, 4.0, **WISH)
    assert np.abs(clip.waveform[8000:15000]).max() > 0.4
    assert np.abs(clip.waveform[18000:]).max() < 1e-3
    assert read_clip(path, 3.0, 4.0, **WISH).waveform is None


@pytest.mark.parametrize("side", [9000, 100_000])
def test_a_huge_picture_is_refused_from_its_header(tmp_path, side):
    path = write(tmp_path / "a.avi", grey_frames(np.full(3, 90)), video_codec="rawvideo")
    content = bytearray(path.read_bytes())
    place = content.index(b"strf") + 12  # width and height of the picture header
    struct.pack_into("<ii", content, place, side, side)
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(MediaError, match="above 35389440 pixels"):
        read_clip(path, 0.0, 0.1, **WISH)
    assert time.monotonic() - started < 1
