"""Cuts a moment out of a media file, as any browser plays it: MP4, WAV, JPEG.

    snippet = cut("talk.mkv", 12.8, 16.0)
    snippet.clip            # MP4: H.264, and AAC where there is sound; b"" where that fails
    snippet.sound           # WAV, where there are no pictures
    snippet.strip           # JPEG: some pictures side by side

Files are read by ingest's decoder, so that what plays is what the model was given.
"""

from __future__ import annotations

import contextlib
import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from vatt.data import media
from vatt.evaluation import artefacts

MOST_SECONDS = 12.0
FPS, SIDE, RATE = 25, 240, 32000  # side: the shorter one, in pixels; rate: of sound, in Hz
STRIP = 4  # pictures
_VIDEO = {"preset": "veryfast", "crf": "27"}
_AUDIO_BITRATE = 64000
_WAV_RATE = RATE // 2


@dataclass(frozen=True)
class Snippet:
    """A moment of a file; what there is not is empty.

    Attributes:
      start: s in the file.
      end: s in the file; the same for a still picture.
      clip: MP4.
      sound: WAV, of what has no pictures.
      strip: JPEG of up to `STRIP` pictures side by side.
      poster: JPEG of the picture in the middle.
      outline: float16 [bins, 2], lowest and highest sample of each stretch of the sound.
    """

    start: float
    end: float
    clip: bytes = b""
    sound: bytes = b""
    strip: bytes = b""
    poster: bytes = b""
    outline: np.ndarray | None = None


def cut(path: str | Path, start: float | None, end: float | None, clip: bool = True) -> Snippet:
    """Returns a moment of a file, or the first `MOST_SECONDS` of it.

    Args:
      path: of the file.
      start: s; None is the start of the file.
      end: s; None is its end. At or before `start`: a still picture.
      clip: False leaves out what plays.

    Raises:
      DataError: the file cannot be used.
    """
    still = start is not None and end is not None and end <= start
    begin, finish = (None, None) if still else _bounded(path, start, end)
    read = media.read_clip(path, begin, finish, fps=FPS, min_side=SIDE, sample_rate=RATE)
    times = (read.start, read.end)
    outline = None if read.waveform is None else artefacts.envelope(read.waveform)
    if not read.frames:
        return Snippet(*times, sound=_wav(read.waveform) if clip else b"", outline=outline)
    shown = np.linspace(0, len(read.frames) - 1, min(STRIP, len(read.frames))).round().astype(int)
    strip = artefacts.strip_jpeg(np.stack([_pixels(read.frames[i]) for i in shown]))
    poster = read.frames[len(read.frames) // 2]
    made = b""
    if clip and len(read.frames) > 1:
        # An FFmpeg may lack the encoders: the strip is shown.
        with contextlib.suppress(av.error.FFmpegError, LookupError, ValueError):
            made = _mp4(read.frames, read.waveform)
    return Snippet(*times, clip=made, strip=strip, poster=poster, outline=outline)


def _bounded(
    path: str | Path, start: float | None, end: float | None
) -> tuple[float | None, float | None]:
    """Start and end of at most `MOST_SECONDS`; of a still picture none."""
    if end is None:
        end = media.length(path)
        if end == 0.0:
            return None, None
    return start, min(end, (start or 0.0) + MOST_SECONDS)


def _pixels(jpeg: bytes) -> np.ndarray:
    """A picture as uint8 [height, width, 3], both sides even."""
    with Image.open(io.BytesIO(jpeg)) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width = (max(side - side % 2, 1) for side in pixels.shape[:2])
    return pixels[:height, :width]


def _wav(waveform: np.ndarray) -> bytes:
    samples = np.asarray(waveform, np.float32)
    samples = samples[: len(samples) // 2 * 2].reshape(-1, 2).mean(axis=1)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, _WAV_RATE, 0, "NONE", ""))
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _mp4(frames: list[bytes], waveform: np.ndarray | None) -> bytes:
    """Encodes pictures and sound; all of a moment is in memory, so one follows the other."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options=_VIDEO)
        video.height, video.width = _pixels(frames[0]).shape[:2]
        video.pix_fmt = "yuv420p"
        audio = None
        if waveform is not None:
            audio = container.add_stream("aac", rate=RATE)
            audio.layout, audio.bit_rate = "mono", _AUDIO_BITRATE
        for index, jpeg in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(_pixels(jpeg), format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for piece in _pieces(waveform):
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return buffer.getvalue()


def _pieces(waveform: np.ndarray) -> Iterator[av.AudioFrame]:
    sound = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(waveform, np.float32)[None], format="fltp", layout="mono"
    )
    sound.sample_rate, sound.pts = RATE, 0
    resampler = av.AudioResampler("fltp", "mono", RATE, frame_size=1024)
    yield from (*resampler.resample(sound), *resampler.resample(None))
