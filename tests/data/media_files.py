"""Small media files with known content, for the tests of decoding and ingest."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

_BITS, _COLUMNS, _BLOCK = 8, 4, 16  # of the number in a picture; pixels


def grey_frames(levels, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames of one grey level each, uint8 [n, height, width, 3]."""
    levels = np.asarray(levels, np.uint8)[:, None, None, None]
    return np.broadcast_to(levels, (len(levels), height, width, 3)).copy()


def numbered_frames(count: int, height: int = 48, width: int = 80) -> np.ndarray:
    """Frames that carry their number as eight blocks, uint8 [n, height, width, 3]."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for number in range(count):
        for bit in range(_BITS):
            if number >> bit & 1:
                y, x = _corner(bit)
                frames[number, y : y + _BLOCK, x : x + _BLOCK] = 210
    return frames


def number_of(jpeg: bytes) -> int:
    """Reads the number of a frame of `numbered_frames`, of the same size, from its JPEG."""
    grey = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float)
    number = 0
    for bit in range(_BITS):
        y, x = _corner(bit)
        block = grey[y + 4 : y + _BLOCK - 4, x + 4 : x + _BLOCK - 4]
        number |= int(block.mean() > 125) << bit
    return number


def _corner(bit: int) -> tuple[int, int]:
    return 4 + bit // _COLUMNS * 20, 2 + bit % _COLUMNS * 20


def tone(frequency: float, seconds: float, rate: int = 48000, amplitude: float = 0.5) -> np.ndarray:
    """A sine, float32 [samples]."""
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def peak_frequency(waveform: np.ndarray, rate: int) -> float:
    """The strongest frequency (Hz), from a parabola through the peak of the log spectrum."""
    spectrum = np.log(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) + 1e-12)
    peak = int(np.clip(spectrum.argmax(), 1, len(spectrum) - 2))
    left, middle, right = spectrum[peak - 1 : peak + 2]
    offset = 0.5 * (left - right) / (left - 2 * middle + right)
    return (peak + offset) * rate / len(waveform)


def amplitude(waveform: np.ndarray) -> float:
    """The amplitude of a sine."""
    return float(np.sqrt(2 * np.mean(waveform.astype(float) ** 2)))


def write(
    path: Path,
    frames: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    *,
    fps: int = 25,
    first: float = 0.0,
    moments: list[float] | None = None,
    rate: int = 48000,
    layout: str = "",
    video_codec: str = "libx264",
    pixels: str = "yuv420p",
    video_options: Mapping[str, str] | None = None,
    audio_codec: str = "aac",
    audio_first: float = 0.0,
    rotation: int = 0,
    mirrored: bool = False,
    options: Mapping[str, str] | None = None,
    container: str | None = None,
) -> Path:
    """Writes a file and returns its path.

    Args:
        frames: uint8 [n, height, width, 3]; frame k is shown at `first + k / fps` s, or at
            `moments[k]` (these with a time base of milliseconds).
        sound: [samples] or [channels, samples] at `rate` Hz, from `audio_first` s on.
        layout: of the channels; mono or stereo by default.
        pixels: format of the encoded pictures.
        rotation: degrees counter-clockwise that players turn the pictures by.
        mirrored: whether they mirror them left to right, too.
        options, container: for the container; its name follows from the ending by default.
    """
    if video_options is None:
        video_options = {"g": "12", "crf": "5"} if video_codec == "libx264" else {}
    with av.open(str(path.absolute()), "w", format=container, options=dict(options or {})) as file:
        if frames is not None:
            video = file.add_stream(video_codec, rate=fps, options=dict(video_options))
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = pixels
            if moments is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation or mirrored:
                video.set_display_rotation(rotation, hflip=mirrored)
        if sound is not None:
            channels = np.atleast_2d(sound)
            layout = layout or ("mono" if len(channels) == 1 else "stereo")
            audio = file.add_stream(audio_codec, rate=rate)
            audio.layout = layout
        if frames is not None:
            moments = moments or [first + index / fps for index in range(len(frames))]
            for picture, moment in zip(frames, moments, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(moment * 90_000), Fraction(1, 90_000)
                file.mux(video.encode(frame))
            file.mux(video.encode())
        if sound is not None:
            interleaved = np.ascontiguousarray(channels.T, np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(audio_first * rate)
            kind = audio.codec_context.format.name
            size = audio.codec_context.frame_size or 1024
            resampler = av.AudioResampler(kind, layout, rate, frame_size=size)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(audio.encode(piece))
            file.mux(audio.encode())
    return path
