"""Writes one video of the toy corpus: an MP4 file (H.264 and AAC) and its caption file.

Files are byte for byte the same for the same plan. A free-space box at the end brings every file to
a size that depends on its number of scenes and on chance only: without it, the motion could be
guessed from the size of the file.
"""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np

from vatt.data.toy.captions import Caption
from vatt.data.toy.scene import FPS, render
from vatt.data.toy.sets import VideoPlan
from vatt.data.toy.sound import SAMPLE_RATE, synthesise
from vatt.files import replacing

AUDIO_RATE = 48000  # Hz, of the file
# With x264's look-ahead and its macroblock tree the same frames do not always give the same bytes
# (seen for sides that are no multiples of 16).
VIDEO_OPTIONS = {
    "preset": "veryfast",
    "crf": "21",
    "threads": "1",
    "g": str(FPS),
    "mbtree": "0",
    "rc-lookahead": "0",
}
AUDIO_OPTIONS = {"aac_coder": "fast"}
AUDIO_BITRATE = 64000
PADDED_SIZE = 52 * 1024  # bytes per scene, before a random part


def write_mp4(path: Path, frames: np.ndarray, waveform: np.ndarray) -> None:
    """Encodes uint8 `frames` [n, height, width, 3] and float32 `waveform` [samples] into `path`."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FPS, options=VIDEO_OPTIONS)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1  # the bits depend on the number of threads
        audio = container.add_stream("aac", rate=AUDIO_RATE, options=AUDIO_OPTIONS)
        audio.layout, audio.bit_rate = "mono", AUDIO_BITRATE
        reformatter = av.video.reformatter.VideoReformatter()
        sound = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = SAMPLE_RATE, 0
        resampler = av.AudioResampler("fltp", "mono", AUDIO_RATE, frame_size=1024)
        pieces = iter([*resampler.resample(sound), *resampler.resample(None)])
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = reformatter.reformat(frame, format="yuv420p", threads=1)
            frame.pts = index
            container.mux(video.encode(frame))
            while (piece := next(pieces, None)) is not None:
                container.mux(audio.encode(piece))
                if piece.pts / AUDIO_RATE > index / FPS:
                    break
        for piece in pieces:
            container.mux(audio.encode(piece))
        container.mux(video.encode())
        container.mux(audio.encode())


def pad_mp4(path: Path, size: int) -> None:
    """Appends an MP4 free-space box so that the file has `size` bytes; larger files stay."""
    missing = size - path.stat().st_size
    if missing >= 8:
        with path.open("ab") as file:
            file.write(struct.pack(">I4s", missing, b"free"))
            file.write(bytes(missing - 8))


def write_vtt(path: Path, captions: tuple[Caption, ...]) -> None:
    """Writes captions as WebVTT."""
    lines = ["WEBVTT", ""]
    for caption in captions:
        lines += [f"{_clock(caption.start)} --> {_clock(caption.end)}", caption.text, ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds / 1000:06.3f}"


def make_video(plan: VideoPlan, folder: Path) -> None:
    """Writes `folder`/videos/<name>.mp4 and, for narrated videos, `folder`/captions/<name>.vtt.

    Files appear under their names only when complete, the video last: if it is there, all is.
    """
    rng = np.random.default_rng(plan.seed)
    frames, sounds = [], []
    for scene in plan.scenes:
        frames.append(render(scene, rng))
        sounds.append(synthesise(scene, rng))
    if len(plan.captions) > 1:
        target = folder / "captions" / f"{plan.name}.vtt"
        with replacing(target) as partial:
            write_vtt(partial, plan.captions)
    target = folder / "videos" / f"{plan.name}.mp4"
    with replacing(target) as partial:
        write_mp4(partial, np.concatenate(frames), np.concatenate(sounds))
        pad_mp4(partial, int(PADDED_SIZE * len(plan.scenes) * rng.uniform(1.0, 1.1)))
