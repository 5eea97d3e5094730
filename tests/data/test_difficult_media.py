"""Ingest of files that differ in container, codec, time stamps and shape from plain MP4."""

from __future__ import annotations

import csv
import io
import shutil
import struct
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_files import (
    amplitude,
    grey_frames,
    number_of,
    numbered_frames,
    peak_frequency,
    tone,
    write,
)
from PIL import Image

from vatt.data import cards, records
from vatt.data.ingest import command as ingest

FPS, RATE = 10, 48000
PICTURES = numbered_frames(50)  # 2 s at 25 per second
NOISE = np.random.default_rng(0).integers(0, 255, PICTURES.shape, np.uint8)
QUICK = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}
IRREGULAR = [round(float(t), 3) for t in np.cumsum([0.0, *[0.02, 0.05, 0.15] * 9])]


@dataclass
class Difficult:
    """A file: what is written into it, and how far encoders may change the sound."""

    name: str
    frames: np.ndarray | None = field(default=None, repr=False)
    rate: int = 0  # Hz; 0: no sound
    channels: int = 1
    seconds: float = 2.0  # of sound
    loudness: float = 0.01  # relative error of the amplitude
    delay: float = 0.03  # s by which the length of the sound may differ
    options: dict[str, Any] = field(default_factory=dict)  # of `write`

    def make(self, folder: Path) -> Path:
        """Writes it."""
        sound = None
        if self.rate:
            # Channels differ: their mean is half as loud as the first one. The fourth of six is
            # for deep tones, and encoders take others out of it.
            loud = np.array(
                {1: [1.0], 2: [1.0, 0.0], 6: [1.0, 0.8, 0.6, 0.0, 0.4, 0.2]}[self.channels]
            )
            sound = loud[:, None] * tone(440, self.seconds, self.rate, 0.5)
            self.options.setdefault("layout", {1: "mono", 2: "stereo", 6: "5.1"}[self.channels])
        rate = self.rate or 48000
        return write(folder / self.name, self.frames, sound, rate=rate, **self.options)

    @property
    def amplitude(self) -> float:
        """Of the mean of the channels."""
        return 0.5 if self.channels == 1 else 0.25


def given(**options: Any) -> dict[str, Any]:
    """Options of `write` under their own names, those of codecs with short ones."""
    short = {"v": "video_codec", "a": "audio_codec", "vo": "video_options", "o": "options"}
    return {short.get(name, name): value for name, value in options.items()}


FILES = [
    Difficult(
        "vp9_opus.webm", PICTURES, 48000, 2, options=given(v="libvpx-vp9", a="libopus", vo=QUICK)
    ),
    Difficult(  # as browsers record it: no length anywhere
        "live.webm",
        PICTURES,
        48000,
        options=given(v="libvpx", a="libopus", vo=QUICK, o={"live": "1"}),
    ),
    Difficult(
        "hevc_10_bit.mkv",
        PICTURES,
        44100,
        options=given(
            v="libx265",
            a="flac",
            pixels="yuv420p10le",
            vo={"preset": "ultrafast", "crf": "10", "x265-params": "log-level=none"},
        ),
    ),
    Difficult(
        "grey.mkv", PICTURES, 22050, 2, options=given(v="ffv1", a="pcm_s16le", pixels="gray")
    ),
    Difficult(
        "prores_alpha.mov",
        PICTURES,
        96000,
        options=given(v="prores_ks", a="pcm_s24le", pixels="yuva444p10le", vo={"profile": "4"}),
    ),
    Difficult(
        "mjpeg_422.mov",
        PICTURES,
        11025,
        options=given(v="mjpeg", a="pcm_s16be", pixels="yuvj422p", vo={"qmin": "1", "qmax": "2"}),
    ),
    Difficult(
        "odd_444.mp4", numbered_frames(50, 47, 81), 48000, 2, options=given(pixels="yuv444p")
    ),
    Difficult(
        "fragments.mp4",
        PICTURES,
        48000,
        6,
        loudness=0.03,
        delay=0.1,
        options=given(o={"movflags": "frag_keyframe+empty_moov"}),
    ),
    Difficult(
        "ac3.avi", PICTURES, 48000, 6, delay=0.1, options=given(v="mpeg4", a="ac3", vo={"g": "20"})
    ),
    Difficult(
        "b_pictures.ts",
        PICTURES,
        48000,
        options=given(
            v="mpeg2video", a="mp2", vo={"bf": "2", "g": "15"}, first=10.0, audio_first=10.0
        ),
    ),
    Difficult(  # a container that does not tell its length
        "silent.mpg",
        np.concatenate([PICTURES, NOISE], axis=1),
        options=given(v="mpeg1video", vo={"g": "12", "qmin": "1", "qmax": "2"}),
    ),
    Difficult(
        "variable.mp4",
        numbered_frames(len(IRREGULAR)),
        options=given(moments=IRREGULAR, vo={"bf": "0"}),
    ),
    Difficult("late.mp4", PICTURES, 44100, seconds=3.0, loudness=0.03, options=given(first=1.0)),
    Difficult(  # cut out of a longer recording without new time stamps
        "gap.mkv", PICTURES, options={"moments": [(k + 25 * (k >= 25)) / 25 for k in range(50)]}
    ),
    Difficult(
        "mp3.flv", PICTURES, 22050, loudness=0.06, delay=0.1, options=given(v="flv", a="libmp3lame")
    ),
    Difficult(
        "phone.3gp",
        numbered_frames(50, 96, 128),
        8000,
        loudness=0.16,
        delay=0.05,
        options=given(v="h263", a="libopencore_amrnb"),
    ),
    Difficult("moving.gif", numbered_frames(30), options=given(v="gif", pixels="rgb8", fps=10)),
    Difficult("moving.apng", numbered_frames(30), options=given(v="apng", pixels="rgb24", fps=10)),
    Difficult("one.mp4", numbered_frames(1)),
    Difficult("one.webm", numbered_frames(1), options=given(v="libvpx")),
    Difficult("u8.wav", rate=8000, options=given(a="pcm_u8")),
    Difficult("s64.wav", rate=44100, channels=2, options=given(a="pcm_s64le")),
    Difficult("surround.flac", rate=96000, channels=6, options=given(a="flac")),
    Difficult("opus.ogg", rate=48000, channels=2, options=given(a="libopus")),
    Difficult("apple.m4a", rate=44100, options=given(a="alac")),
    Difficult("raw.aac", rate=32000, delay=0.1, options=given(container="adts")),
    Difficult(
        "headless.mp3",
        rate=22050,
        channels=2,
        loudness=0.06,
        delay=0.1,
        options=given(a="libmp3lame", o={"write_xing": "0", "id3v2_version": "0"}),
    ),
    Difficult("live.mka", rate=48000, options=given(a="pcm_s16le", o={"live": "1"})),
]
BY_NAME = {file.name: file for file in FILES}
VIDEOS = [file.name for file in FILES if file.frames is not None]
SOUNDS = [file.name for file in FILES if file.rate]


def store(folder: Path, names: list[str], *options: str) -> tuple[int, dict, dict]:
    """Ingests files of a folder; returns the exit code, the records and the failures by name."""
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path"], *([name] for name in names)])
    manifest, output = f"--manifest={folder / 'clips.csv'}", folder / "set"
    code = ingest.main(
        [manifest, f"--output_dir={output}", "--workers=1", f"--sample_rate={RATE}", *options]
    )
    clips = {}
    if (output / "card.yaml").exists():
        for shard in cards.read(output / "card.yaml").shards("train"):
            for record in map(records.decode, records.read_shard(shard)):
                clips[record.source] = record
    with (output / "failures.csv").open(newline="", encoding="utf-8") as file:
        failures = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    return code, clips, failures


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """All files, and the set made of them."""
    folder = tmp_path_factory.mktemp("difficult")
    for file in FILES:
        file.make(folder)
    return folder


@pytest.fixture(scope="module")
def stored(made) -> dict[str, records.ClipRecord]:
    """The records by file name."""
    code, clips, failures = store(made, [file.name for file in FILES])
    assert failures == {}
    assert code == 0
    return clips


def first_shown(path: Path) -> float:
    """When a player shows the first picture, s after it started."""
    with av.open(str(path)) as container:
        start = max(0, container.start_time or 0) / av.time_base
        return next(container.decode(video=0)).time - start


@pytest.mark.parametrize("name", VIDEOS)
def test_pictures_are_the_right_ones(made, stored, name):
    file, record = BY_NAME[name], stored[name]
    count = len(file.frames)
    rate = file.options.get("fps", 25)
    moments = np.array(file.options.get("moments") or np.arange(count) / rate)
    first = first_shown(made / name)
    shown = first + moments - moments[0]
    when = (np.arange(len(record.frames)) + 0.5) / FPS
    expected = np.maximum(np.searchsorted(shown, when + 1e-4, side="right") - 1, 0)
    assert [number_of(jpeg) for jpeg in record.frames] == list(expected)
    last = 1 / rate if "moments" not in file.options else 0.05
    end = max(shown[-1] + last, file.seconds if file.rate else 0.0)
    assert record.end - record.start == pytest.approx(end, abs=max(file.delay, 0.04) + 0.02)
    assert len(record.frames) == max(1, int((record.end - record.start) * FPS + 1e-3))
    size = Image.open(io.BytesIO(record.frames[0])).size
    assert size == (file.frames.shape[2], file.frames.shape[1]) or name == "phone.3gp"


@pytest.mark.parametrize("name", SOUNDS)
def test_tones_are_the_right_ones(stored, name):
    file, record = BY_NAME[name], stored[name]
    assert record.sample_rate == RATE
    count = len(record.waveform)
    assert count == round((record.end - record.start) * RATE) or abs(count / RATE - 2) < 1e-3
    assert count / RATE == pytest.approx(file.seconds, abs=file.delay + 0.02)
    middle = record.waveform[count // 4 : count * 3 // 4]
    assert np.isfinite(record.waveform).all()
    assert peak_frequency(middle, RATE) == pytest.approx(440, abs=1)
    assert amplitude(middle) == pytest.approx(file.amplitude, rel=file.loudness)


def test_what_is_not_in_the_file_is_not_in_the_record(stored):
    for file in FILES:
        assert (stored[file.name].frames is None) == (file.frames is None)
        assert (stored[file.name].waveform is None) == (not file.rate)


@pytest.mark.parametrize("name", ["live.webm", "b_pictures.ts", "silent.mpg", "raw.aac"])
def test_a_piece_equals_the_same_part_of_the_whole(made, stored, tmp_path, name):
    shutil.copy(made / name, tmp_path)
    (tmp_path / "clips.csv").write_text(f"path,start,end\n{name},1.0,1.6\n")
    output = tmp_path / "set"
    arguments = [f"--manifest={tmp_path / 'clips.csv'}", f"--output_dir={output}", "--workers=1"]
    assert ingest.main(arguments) == 0
    shard = cards.read(output / "card.yaml").shards("train")[0]
    piece = records.decode(next(iter(records.read_shard(shard))))
    if BY_NAME[name].frames is not None:
        assert list(piece.frames) == list(stored[name].frames[10:16])
    if BY_NAME[name].rate:
        # Time stamps in Matroska are rounded to milliseconds: sound may lie one apart.
        part = piece.waveform[2000:-2000]
        whole = stored[name].waveform[RATE + 2000 - 60 :][: len(part) + 120]
        apart = [np.abs(part - whole[lag : lag + len(part)]).max() for lag in range(121)]
        assert min(apart) < 0.03


# Still images ------------------------------------------------------------------------------------


def test_still_images(tmp_path):
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(30, 220, (4, 6, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    picture = Image.fromarray(blocks)
    turned = Image.Exif()
    turned[0x0112] = 6
    see_through = picture.copy()
    see_through.putalpha(128)
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    picture.save(tmp_path / "plain.jpg", quality=95, subsampling="4:2:0")
    picture.save(tmp_path / "full.jpg", quality=98, subsampling="4:4:4", progressive=True)
    picture.save(tmp_path / "turned.jpg", quality=98, exif=turned)
    picture.convert("CMYK").save(tmp_path / "print.jpg", quality=98)
    see_through.save(tmp_path / "alpha.png")
    picture.quantize(64).save(tmp_path / "palette.png")
    Image.fromarray(grey).save(tmp_path / "deep.png")
    picture.save(tmp_path / "a.webp", lossless=True, exif=turned)
    picture.save(tmp_path / "a.bmp")
    picture.save(tmp_path / "one.gif")
    picture.save(tmp_path / "wrong ending.mp4", format="PNG")
    names = sorted(path.name for path in tmp_path.iterdir())
    code, clips, failures = store(tmp_path, names)
    assert (code, failures) == (0, {})
    assert sorted(clips) == names
    for name, record in clips.items():
        assert (record.start, record.end, len(record.frames)) == (0.0, 0.0, 1)
        assert record.waveform is None
        shown = Image.open(io.BytesIO(record.frames[0])).convert("RGB")
        expected = picture.convert("L").convert("RGB") if name == "deep.png" else picture
        if name == "alpha.png":  # on white
            white = Image.new("RGB", picture.size, "white")
            expected = Image.blend(white, picture, 128 / 255)
        if name in ("turned.jpg", "a.webp"):
            expected = expected.transpose(Image.Transpose.ROTATE_270)
        assert shown.size == expected.size
        inner = np.asarray(shown, int)[4::16, 4::16] - np.asarray(expected, int)[4::16, 4::16]
        assert np.abs(inner).mean() < (12 if name in ("palette.png", "one.gif") else 6)
    assert clips["plain.jpg"].frames[0] == (tmp_path / "plain.jpg").read_bytes()
    assert clips["full.jpg"].frames[0] != (tmp_path / "full.jpg").read_bytes()


# Bad files ---------------------------------------------------------------------------------------


def patched(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    """Writes a file with all `old` replaced by `new`."""
    content = source.read_bytes()
    assert old in content
    target.write_bytes(content.replace(old, new))
    return target


def png_header(path: Path, width: int, height: int) -> Path:
    """Writes a PNG file that consists of its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    path.write_bytes(image + struct.pack(">II", zlib.crc32(header), 8) + b"IDAT" + bytes(64))
    return path


def test_twelve_bad_files(tmp_path, capsys):
    """R23: every file is stored right or listed with its reason, and nothing crashes."""
    frames, sound = numbered_frames(50), tone(440, 2)
    front = {"movflags": "faststart"}
    good = write(tmp_path / "good.mp4", frames, sound, options=front)
    content = good.read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(content[: len(content) * 2 // 3])
    late = write(tmp_path / "late.mp4", frames, sound)
    (tmp_path / "cut.mp4").write_bytes(late.read_bytes()[:3000])
    (tmp_path / "zero.mp4").touch()
    write(tmp_path / "silent.mp4", frames)
    write(tmp_path / "sound.mp4", sound=sound)
    write(tmp_path / "variable.mkv", numbered_frames(len(IRREGULAR)), moments=IRREGULAR)
    write(tmp_path / "turned.mp4", frames, rotation=90)
    write(tmp_path / "one.mp4", frames[:1])
    (tmp_path / "video.txt").write_bytes(content)
    png_header(tmp_path / "huge.png", 100_000, 100_000)
    patched(good, tmp_path / "codec.mp4", b"avc1", b"zz9z")
    write(tmp_path / "still.gif", frames[:1], video_codec="gif", pixels="rgb8")
    shutil.copy(good, tmp_path / "ein Film, größer 映画.mp4")
    write(tmp_path / "cut.wav", sound=tone(440, 4), audio_codec="pcm_s16le")
    wave = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(wave[: len(wave) // 4])
    names = sorted(p.name for p in tmp_path.iterdir())
    code, clips, failures = store(tmp_path, names)
    assert code == 3
    assert sorted([*clips, *failures]) == names
    reasons = {
        "truncated.mp4": "pictures stop at",
        "cut.mp4": "damaged",
        "zero.mp4": "the file is empty",
        "huge.png": "exceeds the limit of 35389440 pixels",
        "codec.mp4": "the video in the file has a codec that cannot be decoded",
    }
    assert failures.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in failures[name]
    assert clips["silent.mp4"].waveform is None
    assert clips["sound.mp4"].frames is None
    assert clips["video.txt"].frames == clips["good.mp4"].frames
    assert clips["ein Film, größer 映画.mp4"].frames == clips["good.mp4"].frames
    assert Image.open(io.BytesIO(clips["turned.mp4"].frames[0])).size == (48, 80)
    assert (clips["still.gif"].end, len(clips["still.gif"].frames)) == (0.0, 1)
    assert len(clips["one.mp4"].frames) == 1
    assert "5 clips failed" in capsys.readouterr().out


def test_a_wave_file_cut_short(tmp_path):
    """Its header promises more: FFmpeg believes the file, so it is stored as long as it is."""
    path = write(tmp_path / "a.wav", sound=tone(440, 4), audio_codec="pcm_s16le")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    code, clips, _ = store(tmp_path, ["a.wav"])
    assert code == 0
    assert len(clips["a.wav"].waveform) / RATE == pytest.approx(1.0, abs=0.01)
    assert amplitude(clips["a.wav"].waveform) == pytest.approx(0.5, rel=0.01)


def test_grey_stays_grey_and_colours_stay_colours(tmp_path):
    """Through limited and full range, BT.601 and BT.709, scaled and not."""
    colours = np.zeros((10, 96, 160, 3), np.uint8)
    patches = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 40, 40), (40, 180, 60)]
    for index, colour in enumerate(patches):
        colours[:, :, 32 * index : 32 * index + 32] = colour
    for name, space, pixels in (
        ("601.mp4", "smpte170m", "yuv420p"),
        ("709.mp4", "bt709", "yuv420p"),
        ("full.mp4", "smpte170m", "yuvj420p"),
        ("rgb.mkv", "", "bgra"),
    ):
        with av.open(str(tmp_path / name), "w") as container:
            options = {"crf": "2", "colorspace": space} if space else {}
            codec = "libx264" if space else "ffv1"
            video = container.add_stream(codec, rate=25, options=options)
            video.height, video.width, video.pix_fmt = 96, 160, pixels
            to = {"bt709": "ITU709", "smpte170m": "ITU601"}.get(space)
            for index, picture in enumerate(colours):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format=pixels, dst_colorspace=to)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        for side in (96, 48):
            folder = tmp_path / f"{name}-{side}"
            folder.mkdir()
            shutil.copy(tmp_path / name, folder)
            _, clips, failures = store(folder, [name], f"--min_side={side}")
            assert not failures
            shown = np.asarray(Image.open(io.BytesIO(clips[name].frames[0])), int)
            middles = shown[side // 2, [(32 * k + 16) * side // 96 for k in range(5)]]
            assert np.abs(middles - np.array(patches)).max() <= 5, (name, side, middles)
            assert np.ptp(middles[2]) <= 3, (name, side)


def test_frames_are_scaled_to_the_same_grey_as_they_had(tmp_path):
    path = write(tmp_path / "a.mp4", grey_frames([20, 60, 120, 180, 230] * 5, 64, 96))
    _, clips, _ = store(tmp_path, [path.name], "--min_side=32", "--fps=25")
    levels = [
        np.asarray(Image.open(io.BytesIO(jpeg)), float).mean() for jpeg in clips[path.name].frames
    ]
    np.testing.assert_allclose(levels, [20, 60, 120, 180, 230] * 5, atol=1.2)
