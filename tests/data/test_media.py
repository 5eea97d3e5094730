from __future__ import annotations

import io
import itertools
import struct
import time

import numpy as np
import pytest
from media_files import amplitude, grey_frames, number_of, numbered_frames, tone, write
from PIL import Image

from vatt.data.media import MediaError, length, pictures, read_clip
from vatt.data.media.sound import resample

SOUND = {"sample_rate": 16000}
WISH = {"fps": 10, "min_side": 32, **SOUND}


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


def quarters(height: int = 32, width: int = 48) -> np.ndarray:
    """A picture of which each quarter has another grey."""
    picture = np.full((height, width, 3), 30, np.uint8)
    picture[: height // 2, width // 2 :] = 90
    picture[height // 2 :, : width // 2] = 150
    picture[height // 2 :, width // 2 :] = 210
    return picture


@pytest.mark.parametrize(
    ("rotation", "mirrored"), list(itertools.product([0, 90, 180, 270], [False, True]))
)
@pytest.mark.parametrize("min_side", [16, 32])
def test_mirrored_display_matrices(tmp_path, rotation, mirrored, min_side):
    frames = np.stack([quarters()] * 5)
    path = write(tmp_path / "a.mov", frames, rotation=rotation, mirrored=mirrored)
    clip = read_clip(path, 0.0, 0.2, fps=10, min_side=min_side, sample_rate=16000)
    expected = np.rot90(frames[0], rotation // 90)  # counter-clockwise
    expected = expected[:, ::-1] if mirrored else expected
    expected = expected[:: 32 // min_side, :: 32 // min_side]
    shown = pixels(clip.frames[0])
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_exif_orientation(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(quarters()).save(path, exif=exif, quality=95)
    clip = read_clip(path, **WISH)
    # Where row 0 and column 0 of what is stored are seen: the words of the EXIF standard.
    picture = quarters()
    if orientation >= 5:  # rows are columns
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):  # from the right
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):  # from the bottom
        picture = picture[::-1]
    assert (clip.height, clip.width) == picture.shape[:2]
    assert np.abs(pixels(clip.frames[0]) - picture).mean() < 4


@pytest.mark.parametrize(
    "structure",
    [
        "bframes=3:b-adapt=0",
        "bframes=8:b-adapt=0:b-pyramid=strict:keyint=20",
        "bframes=5:b-adapt=0:b-pyramid=none:open-gop=1:keyint=15",
        "bframes=3:b-adapt=0:interlaced=1:slices=2",
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_pictures_that_are_left_out_change_nothing(tmp_path, monkeypatch, structure, ending):
    rng = np.random.default_rng(0)
    frames = np.roll(rng.integers(0, 255, (1, 64, 96, 3), np.uint8), 0).repeat(75, 0)
    frames = np.stack([np.roll(frame, 2 * k, 1) for k, frame in enumerate(frames)])
    frames[:, :48, :80] = numbered_frames(75)
    options = {"preset": "ultrafast", "x264-params": structure, "crf": "10"}
    path = write(tmp_path / f"a.{ending}", frames, video_options=options)
    decoded = []
    add = pictures.Pictures.add
    monkeypatch.setattr(pictures.Pictures, "add", lambda *given: (decoded.append(0), add(*given)))
    for start, end, fps in ((0.0, 2.9, 10), (0.3, 2.5, 3), (1.4, 2.2, 12.5), (0.0, 2.9, 25)):
        wish = {"fps": fps, "min_side": 64, "sample_rate": 16000}
        decoded.clear()
        some = read_clip(path, start, end, **wish)
        few = len(decoded)
        with monkeypatch.context() as patch:
            patch.setattr(pictures.Pictures, "_may_be_taken", lambda *_: True)
            decoded.clear()
            everything = read_clip(path, start, end, **wish)
        assert some.frames == everything.frames
        assert few < len(decoded) or fps == 25
        assert len({number_of(jpeg) for jpeg in some.frames}) == len(some.frames)


def test_h264_with_b_pictures_in_avi_stays_in_order(tmp_path):
    """AVI has no times of display; FFmpeg counts pictures as they come out of the decoder."""
    options = {"x264-params": "bframes=3:b-adapt=0", "crf": "10"}
    path = write(tmp_path / "a.avi", numbered_frames(50), video_options=options)
    clip = read_clip(path, fps=25, min_side=48, sample_rate=16000)
    numbers = [number_of(jpeg) for jpeg in clip.frames]
    late = numbers.count(0) - 1
    assert late <= 2
    assert numbers == [0] * late + list(range(50 - late))


def test_length(tmp_path):
    frames, sound = grey_frames(np.full(50, 90)), tone(440, 2)
    live = {"live": "1"}
    assert length(write(tmp_path / "a.mp4", frames, sound)) == pytest.approx(2, abs=0.03)
    assert length(write(tmp_path / "b.mkv", frames, sound, options=live)) == pytest.approx(
        2, abs=0.03
    )
    sounds = {"audio_codec": "libmp3lame", "rate": 48000, "options": {"write_xing": "0"}}
    assert length(write(tmp_path / "c.mp3", sound=sound, **sounds)) == pytest.approx(2, abs=0.08)
    Image.fromarray(frames[0]).save(tmp_path / "d.png")
    assert length(tmp_path / "d.png") == 0
    (tmp_path / "e.mp4").write_text("no video\n" * 99)
    with pytest.raises(MediaError, match="not a media file"):
        length(tmp_path / "e.mp4")


@pytest.mark.parametrize("ending", ["m4a", "flac"])
def test_eight_channels(tmp_path, ending):
    loud = np.array([0.9, 0.8, 0.7, 0.0, 0.6, 0.5, 0.3, 0.2])[:, None]  # the fourth: deep tones
    codec = {"m4a": "aac", "flac": "flac"}[ending]
    path = write(
        tmp_path / f"a.{ending}", sound=loud * tone(440, 2), layout="7.1", audio_codec=codec
    )
    clip = read_clip(path, fps=10, min_side=32, sample_rate=48000)
    assert amplitude(clip.waveform[24000:72000]) == pytest.approx(0.25, rel=0.02)


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
        "photo.heic": "HEIC images are not read",
        "moving.webp": "animated WebP is not read",
        "cut.jpg": "the image is damaged",
        "header.png": "the image is damaged",
    }
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is a text\n" * 100)
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:3000])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{good}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    (tmp_path / "list.mp4").write_text(playlist)
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {good.name}\n")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    pictures = [Image.fromarray(frame) for frame in grey_frames([20, 200])]
    pictures[0].save(tmp_path / "moving.webp", save_all=True, append_images=pictures[1:])
    Image.fromarray(numbered_frames(9)[7]).save(tmp_path / "cut.jpg")
    photo = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(photo[: len(photo) * 3 // 4])
    (tmp_path / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    for name, reason in cases.items():
        with pytest.raises(MediaError, match=reason) as raised:
            read_clip(tmp_path / name, **WISH)
        assert str(tmp_path) not in str(raised.value)
    Image.fromarray(grey_frames([9])[0]).save(tmp_path / "still.png")
    with pytest.raises(MediaError, match="a still image has no time"):
        read_clip(tmp_path / "still.png", 0.0, 1.0, **WISH)
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


def test_without_an_end_the_clip_ends_with_the_pictures(tmp_path):
    path = write(tmp_path / "a.mkv", numbered_frames(50), tone(440, 4))
    clip = read_clip(path, **WISH)
    assert clip.end == pytest.approx(2, abs=1e-3)
    assert [number_of(jpeg) for jpeg in read_clip(path, fps=10, min_side=48, **SOUND).frames] == [
        int(2.5 * k + 1.25) for k in range(20)
    ]
    assert len(clip.waveform) == pytest.approx(32000, abs=20)


def test_sound_alone_that_stops_early_is_an_error(tmp_path):
    path = write(tmp_path / "a.ogg", sound=tone(440, 4), audio_codec="libopus")
    assert len(read_clip(path, 1.0, 4.2, **WISH).waveform) == 51200
    content = path.read_bytes()
    gap = tmp_path / "cut.ogg"
    last = content.rindex(b"OggS")
    middle = content.index(b"OggS", len(content) // 3)
    gap.write_bytes(content[:middle] + content[last:])  # the last page still tells the length
    with pytest.raises(MediaError, match="the sound stops at"):
        read_clip(gap, 0.0, 3.0, **WISH)


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
