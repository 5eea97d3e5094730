"""Media of others, changed at random: what cannot be decoded is told, and soon.

Much of what is behind it is FFmpeg's and Pillow's, whose steps are not seen from here.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import fuzzing
from tests.fuzzing import FEW, MANY, Kind
from vatt.data.media import clip as media_clip
from vatt.data.media import opening, reading

sys.path.insert(0, str(Path(__file__).parent / "data"))
import media_files

HOW = {"fps": 5.0, "min_side": 16, "sample_rate": 4000}
LARGEST = 2**22  # pixels
BOXES = (b"moov", b"mdat", b"stts", b"elst", b"ctts", b"tkhd", b"\0\0\0\1", b"fmt ", b"data",
         b"RIFF", b"IHDR", b"acTL", b"\xff\xd8", b"\xff\xc0", b"Exif\0\0", b"\xff\xe1")  # fmt: skip


def clip(path: Path) -> None:
    found = reading.read_clip(path, **HOW)
    assert found.frames or found.waveform is not None
    reading.length(path)


def still(path: Path) -> None:
    assert len(reading.read_clip(path, **HOW, still=True).frames) == 1


def picture(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert("P" if kind == "GIF" else "RGB").save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    frames, sound = media_files.grey_frames([50, 200], 16, 16), media_files.tone(300, 0.1, 4000)
    options = {"video_codec": "mpeg4", "fps": 10, "video_options": {"threads": "1"}}
    numbered = {"options": {"fflags": "+bitexact"}}  # else every file gets another number

    def made(name: str, **more: object) -> bytes:
        return media_files.write(folder / name, **more).read_bytes()

    exif = Image.Exif()
    exif[0x0112] = 6
    wav = {"sound": sound, "rate": 4000, "audio_codec": "pcm_s16le"}
    return {
        "mp4": Kind("a.mp4", (made("a.mp4", frames=frames, **options),), clip, BOXES),
        "mkv": Kind(
            "a.mkv", (made("a.mkv", frames=frames, **wav, **options, **numbered),), clip, BOXES
        ),
        "wav": Kind("a.wav", (made("a.wav", **wav),), clip, BOXES),
        "jpeg": Kind("a.jpg", (picture("JPEG", exif=exif), picture("JPEG")), still, BOXES),
        "png": Kind("a.png", (picture("PNG"),), still, BOXES, theirs=True),
        "gif": Kind("a.gif", (picture("GIF"),), still, BOXES),
        "webp": Kind("a.webp", (picture("WEBP"),), still, BOXES),
    }


NAMES = ("mp4", "mkv", "wav", "jpeg", "png", "gif", "webp")


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_changed_media_are_read_or_refused(kinds, monkeypatch, name, cases):
    # What is allowed takes more memory than the cases have: 35 million pixels.
    monkeypatch.setattr(media_clip, "MAX_PIXELS", LARGEST)
    monkeypatch.setattr(opening, "MAX_PIXELS", LARGEST)
    fuzzing.check(name, kinds[name], cases)
