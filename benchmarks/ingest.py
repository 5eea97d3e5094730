"""Measures how many videos per second and core ingest takes, beside the ffmpeg program.

    python benchmarks/ingest.py [--rounds 5] [--seconds 10] [--ffmpeg PATH]

Both do the same in turn, on the same core: decode a clip, take the pictures shown in the middle of
each interval, scale the shorter side to 256, encode as JPEG; mix and resample the sound to 48 kHz.
Ours is what ingest does per clip, up to the serialised record; ffmpeg writes pictures and sound
into files, and its start counts. It is measured twice: with the scaler that we use ("area") and
with its default ("bicubic"). Its JPEGs are the best it makes (-q:v 2): about as large as ours.

Material: H.264 with three B pictures between others, AAC in stereo; moving waves, a texture that
moves, and grain. Each picture carries its number as a row of blocks, from which the pictures that
both chose are compared. Without ffmpeg in PATH, only ours is measured.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vatt.data import records
from vatt.data.media import read_clip

SIZES = ((1280, 720, 30), (640, 360, 25), (320, 240, 30))  # width, height, frames per second
STORED_FPS = (10, 25)
MIN_SIDE = 256
SAMPLE_RATE = 48000
QUALITY = 90  # ours, of libjpeg
QSCALE = 2  # ffmpeg's
SCALERS = ("area", "bicubic")
BITS = 10  # of the number in a picture


# Material ----------------------------------------------------------------------------------------


def write_video(path: Path, width: int, height: int, fps: int, seconds: float) -> None:
    """Writes a video with numbered pictures and two tones."""
    rng = np.random.default_rng(width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    texture = 12 * rng.standard_normal((height // 4 + 1, width // 4 + 1, 1)).repeat(4, 0).repeat(
        4, 1
    )
    texture = texture[:height, :width].astype(np.float32)
    grain = rng.normal(0, 1.5, (8, height, width, 1)).astype(np.float32)
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "g": str(2 * fps), "x264-params": "b-adapt=0:bframes=3"}
        video = container.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=44100)
        audio.layout = "stereo"
        for number in range(round(seconds * fps)):
            turns = 2 * np.pi * (number / fps) / 5
            waves = [np.sin(turns + k + x / (40 + 20 * k) + y / (60 - 10 * k)) for k in range(3)]
            pixels = (
                128 + 90 * np.stack(waves, -1) + np.roll(texture, 3 * number, 1) + grain[number % 8]
            )
            pixels[: height // 8] = 16
            for bit in range(BITS):
                if number >> bit & 1:
                    pixels[: height // 8, bit * width // BITS : (bit + 1) * width // BITS] = 235
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        times = np.arange(round(seconds * 44100)) / 44100
        sound = np.stack([0.4 * np.sin(2 * np.pi * hertz * times) for hertz in (440, 550)])
        frame = av.AudioFrame.from_ndarray(sound.astype(np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


def number_of(jpeg: bytes) -> int:
    """Reads the number out of a picture."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float)
    height, width = pixels.shape
    row = pixels[height // 32 : 3 * height // 32]
    blocks = [
        row[:, (4 * b + 1) * width // (4 * BITS) : (4 * b + 3) * width // (4 * BITS)]
        for b in range(BITS)
    ]
    return sum(int(block.mean() > 128) << bit for bit, block in enumerate(blocks))


# The two contestants -----------------------------------------------------------------------------


def ours(path: Path, fps: int, seconds: float) -> list[bytes]:
    """Returns the pictures."""
    clip = read_clip(
        path,
        0.0,
        seconds,
        fps=fps,
        min_side=MIN_SIDE,
        sample_rate=SAMPLE_RATE,
        jpeg_quality=QUALITY,
    )
    made = (clip.frames, clip.waveform)
    records.encode(records.ClipRecord(path.name, clip.start, clip.end, fps, SAMPLE_RATE, *made))
    assert len(clip.waveform) == round(seconds * SAMPLE_RATE)
    return clip.frames


def theirs(
    program: str, scaler: str, size: tuple[int, int], path: Path, fps: int, seconds: float
) -> list[bytes]:
    """Returns the pictures."""
    pictures, sound = path.with_suffix(".mjpeg"), path.with_suffix(".f32")
    factor = min(1.0, MIN_SIDE / min(size))
    width, height = (round(side * factor) for side in size)
    # `fps` rounds time stamps to the nearest interval, which gives the picture shown in its middle;
    # one that begins exactly there belongs to it, too: hence the tick.
    chain = f"setpts=PTS-1,fps={fps}:start_time=0,scale={width}:{height}:flags={scaler}"
    command = [program, "-v", "error", "-nostdin", "-y", "-threads", "1", "-filter_threads", "1"]
    command += ["-t", str(seconds), "-i", str(path)]
    command += ["-map", "0:v", "-vf", chain, "-pix_fmt", "yuvj420p", "-threads", "1"]
    command += ["-c:v", "mjpeg", "-q:v", str(QSCALE), "-f", "mjpeg", str(pictures)]
    command += ["-map", "0:a", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", str(sound)]
    subprocess.run(command, check=True)
    assert sound.stat().st_size == 4 * round(seconds * SAMPLE_RATE)
    parts = pictures.read_bytes().split(b"\xff\xd8\xff")[1:]
    return [b"\xff\xd8\xff" + part for part in parts]


# Measuring ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Seconds of one clip."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """CPU time of this process and of the programs it has run."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure(work: Callable[[], object]) -> Cost:
    """Runs some work once."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return Cost(time.perf_counter() - wall, cpu_seconds() - cpu)


def median(costs: list[Cost]) -> Cost:
    """Median of wall and CPU time, each for itself."""
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def ratio(others: list[Cost], own: list[Cost]) -> Cost:
    """Median of how many times as long the others took, round by round."""
    pairs = list(zip(others, own, strict=True))
    return Cost(
        statistics.median(other.wall / mine.wall for other, mine in pairs),
        statistics.median(other.cpu / mine.cpu for other, mine in pairs),
    )


def compare(
    path: Path, size: tuple[int, int], fps: int, rounds: int, seconds: float, program: str | None
) -> list[str]:
    """Measures one video and returns a line for each contestant."""
    work = {"ours": lambda: ours(path, fps, seconds)}
    for scaler in SCALERS if program else ():
        work[scaler] = lambda scaler=scaler: theirs(program, scaler, size, path, fps, seconds)
    numbers = {name: [number_of(jpeg) for jpeg in run()] for name, run in work.items()}  # warm up
    for name, found in numbers.items():
        if found != numbers["ours"]:
            raise SystemExit(f"{path.name}: other pictures chosen by {name} than by ours")
    costs: dict[str, list[Cost]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            costs[name].append(measure(run))
    lines = []
    for name, found in costs.items():
        cost = median(found)
        line = f"{path.stem:9} {fps:3} {name:8} {1 / cost.cpu:9.2f} {1e3 * cost.wall:8.0f}"
        if name != "ours":
            times = ratio(found, costs["ours"])
            line += f"   {times.wall:5.2f} {times.cpu:5.2f}"
        lines.append(line)
    return lines


def main() -> None:
    """Measures all videos and prints a table and a row for docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="median of so many (5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clips (10)")
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"), help="the ffmpeg program")
    arguments = parser.parse_args()
    program = arguments.ffmpeg
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    version = "no ffmpeg program found: only ours is measured"
    if program:
        shown = subprocess.run([program, "-version"], check=True, capture_output=True, text=True)
        version = " ".join(shown.stdout.split()[:3])
        start = measure(lambda: subprocess.run([program, "-version"], stdout=subprocess.DEVNULL))
        version += f", whose start alone takes {1e3 * start.cpu:.0f} ms of CPU"
    print(f"{version}; PyAV {av.__version__}; medians of {arguments.rounds} rounds")
    print("video     fps who      clips/CPU s  wall ms   x ours: wall  CPU")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for width, height, rate in SIZES:
            path = Path(folder) / f"{width}x{height}.mp4"
            write_video(path, width, height, rate, arguments.seconds)
            for fps in STORED_FPS:
                lines = compare(
                    path, (width, height), fps, arguments.rounds, arguments.seconds, program
                )
                print("\n".join(lines), flush=True)
                rows.append([line.split() for line in lines])
    parts = []
    for (video, fps, _, speed, _), *others in rows:
        against = ", ".join(f"{other[2]} {other[6]}x ({other[5]}x)" for other in others)
        parts.append(f"{video} at {fps}: {speed}; ffmpeg {against or 'not measured'}")
    told = "clips per second of CPU; CPU time of ffmpeg as a multiple of ours (wall time):<br>"
    print(f"\n| date | hardware | `python benchmarks/ingest.py` | {told}{'<br>'.join(parts)} |")


if __name__ == "__main__":
    main()
