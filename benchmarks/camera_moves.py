r"""Renders videos of four movements of a camera: what mirroring does to left and right.

    python benchmarks/camera_moves.py --output_dir runs/camera/media
    python -m vatt.data.ingest --input runs/camera/media --output_dir runs/camera/records/mine \
        --test_share 0.2 --fps 10 --min_side 72 --sample_rate 16000

A video is three seconds of a random picture, over which the camera pans or into which it zooms, so
that no single frame tells the kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from scipy.ndimage import gaussian_filter

KINDS = ("pan_left", "pan_right", "zoom_in", "zoom_out")
VIDEOS = 60  # of each kind
FPS, FRAMES = 25, 75
SIDE, WIDTH, HEIGHT = 320, 160, 120  # of the picture, and of what the camera sees

Frame = np.ndarray


def picture(rng: np.random.Generator) -> Frame:
    """Coloured spots of two sizes, uint8 [SIDE, SIDE, 3]."""
    fine, coarse = rng.standard_normal((2, SIDE, SIDE, 3))
    spots = gaussian_filter(fine, (4, 4, 0)) + 4 * gaussian_filter(coarse, (14, 14, 0))
    return (255 * (spots - spots.min()) / np.ptp(spots)).astype(np.uint8)


def frames(kind: str, rng: np.random.Generator) -> Iterator[Frame]:
    """Yields what the camera sees, uint8 [HEIGHT, WIDTH, 3]."""
    seen, top, speed = picture(rng), rng.integers(40, 150), rng.uniform(0.7, 1.4)
    for number in range(FRAMES):
        way = number / FRAMES * speed
        if kind.startswith("pan"):
            left = int(10 + 90 * way) if kind == "pan_right" else int(140 - 90 * way)
            yield np.ascontiguousarray(seen[top : top + HEIGHT, left : left + WIDTH])
        else:
            height = 240 - 80 * (way if kind == "zoom_in" else speed - way)
            rows, columns = (
                np.linspace(SIDE / 2 - length / 2, SIDE / 2 + length / 2, count).astype(int)
                for length, count in ((height, HEIGHT), (height * WIDTH / HEIGHT, WIDTH))
            )
            taken = seen[np.clip(rows, 0, SIDE - 1)][:, np.clip(columns, 0, SIDE - 1)]
            yield np.ascontiguousarray(taken)


def write(path: Path, kind: str, rng: np.random.Generator) -> None:
    """Writes one video, H.264."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames(kind, rng):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def main() -> None:
    """Renders the set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for index, kind in enumerate(KINDS):
        folder = options.output_dir / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(VIDEOS):
            rng = np.random.default_rng([options.seed, index, number])
            write(folder / f"{number:03d}.mp4", kind, rng)


if __name__ == "__main__":
    main()
