"""Small media files with known content, for the tests of decoding and ingest."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def grey_frames(levels, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames of one grey level each, uint8 [n, height, width, 3]."""
    levels = np.asarray(levels, np.uint8)[:, None, None, None]
    return np.broadcast_to(levels, (len(levels), height, width, 3)).copy()


def tone(frequency: float, seconds: float, rate: int = 48000, amplitude: float = 0.5) -> np.ndarray:
    """A sine, float32 [samples]."""
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def write(
    path: Path,
    frames: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    *,
    fps: int = 25,
    moments: list[float] | None = None,
    rate: int = 48000,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    rotation: int = 0,
) -> Path:
    """Writes a file; `sound` is [samples] or [2, samples], `moments` (s) replace the rate."""
    with av.open(str(path.absolute()), "w") as container:
        if frames is not None:
            options = {"g": "12", "crf": "5"} if video_codec == "libx264" else {}
            video = container.add_stream(video_codec, rate=fps, options=options)
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            channels = np.atleast_2d(sound)
            layout = "mono" if len(channels) == 1 else "stereo"
            audio = container.add_stream(audio_codec, rate=rate)
            audio.layout = layout
        if frames is not None:
            moments = moments or [index / fps for index in range(len(frames))]
            for pixels, moment in zip(frames, moments, strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = round(moment * 1000), Fraction(1, 1000)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(channels, np.float32), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts = rate, 0
            kind = audio.codec_context.format.name
            resampler = av.AudioResampler(kind, layout, rate, frame_size=1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return path
