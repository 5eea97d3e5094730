"""Decoding of what is unusual or hostile: odd time stamps and metadata, sizes beyond the limits."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import grey_frames, tone, write
from PIL import Image

from vatt.data.media import MediaError, pictures, read_clip, reading
from vatt.data.media import sound as media_sound

WISH = {"fps": 10, "min_side": 32, "sample_rate": 16000}


def grey(jpeg: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float)[4:-4, 4:-4].mean())


def video_file(path: Path, levels, *, gop: int, first: float = 0.0, aspect=None) -> Path:
    """H.264 at 25 fps with one key frame every `gop` frames; frame k is shown at first + k/25."""
    frames = grey_frames(levels)
    with av.open(str(path), "w") as container:
        options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "crf": "5"}
        video = container.add_stream("libx264", rate=25, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index + round(first * 25), Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


@pytest.mark.parametrize("start", [0.7, 3.0, 5.38])
def test_a_clip_deep_inside_a_long_group_of_pictures(tmp_path, start):
    levels = 20 + np.arange(150) * 13 % 200
    path = video_file(tmp_path / "a.mp4", levels, gop=1000)
    clip = read_clip(path, start, start + 0.6, **WISH)
    shown = np.floor((start + (np.arange(6) + 0.5) / 10) * 25 + 1e-6).astype(int)
    np.testing.assert_allclose([grey(jpeg) for jpeg in clip.frames], levels[shown], atol=3)


@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_time_zero_is_where_the_file_starts(tmp_path, ending):
    path = video_file(tmp_path / f"a.{ending}", 20 + 2 * np.arange(75), gop=12, first=30.0)
    with av.open(str(path)) as container:
        assert container.start_time / av.time_base > 20
    clip = read_clip(path, 1.0, 1.5, **WISH)
    shown = np.floor((1.0 + (np.arange(5) + 0.5) / 10) * 25 + 1e-6)
    np.testing.assert_allclose([grey(jpeg) for jpeg in clip.frames], 20 + 2 * shown, atol=1.2)


MATRICES = {  # a, b, c, d of ISO/IEC 14496-12: x' = a x + c y, y' = b x + d y, y points down
    "quarter turn clockwise": ((0, 1, -1, 0), -1),
    "half turn": ((-1, 0, 0, -1), 2),
    "quarter turn counter-clockwise": ((0, -1, 1, 0), 1),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_matrix_of_the_track_header_is_applied(tmp_path, name):
    (a, b, c, d), turns = MATRICES[name]
    frames = grey_frames(np.full(10, 20))
    frames[:, :16, :24] = 220  # the top left quarter is bright
    path = write(tmp_path / "a.mp4", frames)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # after version 0 times, layer, group and volume
    one = 0x10000
    old = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 0x40000000)
    assert content[place : place + 36] == old
    new = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 0x40000000)
    struct.pack_into(">9i", content, place, *new)
    path.write_bytes(content)
    clip = read_clip(path, 0.0, 0.4, **WISH)
    shown = np.asarray(Image.open(io.BytesIO(clip.frames[0])).convert("L"), float)
    expected = np.rot90(frames[0, :, :, 0], turns)  # rot90 turns counter-clockwise
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6


def test_pixels_that_are_not_square(tmp_path):
    path = video_file(tmp_path / "a.mp4", np.full(10, 90), gop=12, aspect=Fraction(2, 1))
    clip = read_clip(path, 0.0, 0.4, **WISH)
    assert (clip.height, clip.width) == (32, 96)


def test_extreme_pixel_aspect_does_not_take_the_memory(tmp_path):
    path = video_file(tmp_path / "a.mp4", np.full(10, 90), gop=12, aspect=Fraction(2, 1))
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, content.index(b"pasp") + 4, 1_000_000, 1)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MediaError, match="exceed the limit"):
        read_clip(path, 0.0, 0.4, **WISH)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_huge_picture_inside_the_stream(tmp_path):
    """The container says 48x32, the first picture itself 65500x65500."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=25)
        video.height, video.width, video.pix_fmt = 32, 48, "yuvj420p"
        for pixels in grey_frames(np.full(5, 90)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
    content = bytearray(path.read_bytes())
    place, count = content.find(b"\xff\xc0\x00\x11"), 0
    while place >= 0:
        struct.pack_into(">HH", content, place + 5, 65500, 65500)
        place, count = content.find(b"\xff\xc0\x00\x11", place + 4), count + 1
    assert count == 5
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(MediaError):
        read_clip(path, 0.0, 0.1, **WISH)
    assert time.monotonic() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.parametrize("name", ["huge.png", "huge.bmp", "huge.gif"])
def test_huge_still_image(tmp_path, name):
    """R40: a header of 100,000 x 100,000 pixels (of a GIF, the 65,535 that fit into it)."""
    path, side = tmp_path / name, 100_000
    Image.fromarray(grey_frames([90])[0]).save(path)
    content = bytearray(path.read_bytes())
    if name == "huge.png":
        struct.pack_into(">II", content, 16, side, side)
        struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    elif name == "huge.bmp":
        struct.pack_into("<ii", content, 18, side, side)
    else:
        struct.pack_into("<HH", content, 6, 65535, 65535)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(MediaError, match="the limit of 35389440 pixels"):
        read_clip(path, **WISH)
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.parametrize("sound", [False, True])
def test_a_clip_that_does_not_fit_into_a_record(tmp_path, monkeypatch, sound):
    path = write(tmp_path / "a.mkv", grey_frames(np.full(50, 90)), tone(440, 2) if sound else None)
    part = media_sound if sound else pictures
    monkeypatch.setattr(part, "MAX_BYTES", 4000)
    with pytest.raises(MediaError, match="too long for one record"):
        read_clip(path, 0.0, 1.9, **WISH)


def test_a_rate_that_no_recorder_has(tmp_path):
    """Its header says so; a thousand bytes took 700 MiB."""
    path = write(tmp_path / "a.wav", sound=tone(300, 0.1, 4000), rate=4000, audio_codec="pcm_s16le")
    content = bytearray(path.read_bytes())
    assert content[24:28] == (4000).to_bytes(4, "little")
    content[24:28] = (67_637_152).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(MediaError, match="sound of 67637152 Hz exceeds the limit of 3000000 Hz"):
        read_clip(path, 0.0, 0.1, **WISH)


def test_a_codec_that_nobody_knows(tmp_path):
    path = write(tmp_path / "a.mp4", grey_frames(np.full(10, 90)), tone(440, 1))
    content = path.read_bytes()
    (tmp_path / "b.mp4").write_bytes(content.replace(b"avc1", b"zz9z"))
    with pytest.raises(MediaError, match="the video in the file has a codec that cannot"):
        read_clip(tmp_path / "b.mp4", 0.0, 0.4, **WISH)


def test_a_cover_picture_is_not_a_video(tmp_path):
    path = tmp_path / "a.flac"
    cover = io.BytesIO()
    Image.fromarray(grey_frames([90])[0]).save(cover, "PNG")
    sound = write(tmp_path / "plain.flac", sound=tone(440, 1), audio_codec="flac").read_bytes()
    facts = struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">IIIIII", 0, 48, 32, 24, 0, 0)
    facts = facts[:-4] + struct.pack(">I", len(cover.getvalue())) + cover.getvalue()
    block = b"\x06" + len(facts).to_bytes(3, "big") + facts  # METADATA_BLOCK_PICTURE
    path.write_bytes(sound[:42] + block + sound[42:])  # after the stream's own block
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    clip = read_clip(path, **WISH)
    assert clip.frames == []
    assert len(clip.waveform) == 16000


def test_too_long(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", grey_frames(np.full(50, 90)))
    monkeypatch.setattr(reading, "MAX_SECONDS", 1.0)
    with pytest.raises(MediaError, match="2 s exceed the limit of 1 s"):
        read_clip(path, 0.0, 0.4, **WISH)
    monkeypatch.setattr(reading, "MAX_SECONDS", 9.0)
    monkeypatch.setattr(reading, "MAX_FRAMES", 10)
    with pytest.raises(MediaError, match="50 pictures exceed the limit of 10"):
        read_clip(path, 0.0, 0.4, **WISH)


@pytest.mark.parametrize("ending", ["mkv", "flv", "mp4"])
def test_rounded_time_stamps_do_not_tear_the_sound(tmp_path, ending):
    """Some containers count milliseconds, though a frame of sound lasts 23.2 ms."""
    path = write(tmp_path / f"a.{ending}", sound=tone(440, 3, rate=44100), rate=44100)
    clip = read_clip(path, 0.5, 2.5, fps=10, min_side=32, sample_rate=44100)
    times = np.arange(len(clip.waveform)) / 44100
    waves = np.stack([np.sin(2 * np.pi * 440 * times), np.cos(2 * np.pi * 440 * times)], axis=1)
    fitted, *_ = np.linalg.lstsq(waves, clip.waveform.astype(float), rcond=None)
    assert np.hypot(*fitted) == pytest.approx(0.5, rel=0.02)
    noise = clip.waveform - waves @ fitted
    assert np.abs(noise).max() < 0.02
    lag = np.angle(np.exp(1j * (np.arctan2(fitted[1], fitted[0]) - 2 * np.pi * 440 * 0.5)))
    assert abs(lag) / (2 * np.pi * 440) < 0.001  # s


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "a\0b.mp4", "folder/a.mp4/b.mp4", "."])
def test_impossible_names(tmp_path, name):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "a.mp4", grey_frames(np.full(3, 90)))
    with pytest.raises(MediaError):
        read_clip(tmp_path / name, 0.0, 0.1, **WISH)


def test_a_cut_matroska_gives_what_is_there(tmp_path):
    """Containers without a table at the end can be read up to where they are cut."""
    whole = write(tmp_path / "whole.mkv", grey_frames(20 + 2 * np.arange(100)), tone(440, 4))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert read_clip(cut, 0.0, 1.0, **WISH).frames == read_clip(whole, 0.0, 1.0, **WISH).frames
    with pytest.raises(MediaError, match=r"pictures stop at|no picture"):
        read_clip(cut, 2.5, 3.9, **WISH)
