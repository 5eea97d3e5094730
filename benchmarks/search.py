r"""Seconds until a million clips are searched: loading, then one question after the other.

    taskset -c 0,1 python benchmarks/search.py --clips 1000000 --width 256

The index is random vectors, one window of each of so many files; it is written first (1 GB).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from vatt.search.gallery import Gallery


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--windows", type=int, default=1, help="of each file")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="for the index, which is removed at the end")
    return parser.parse_args()


def write(path: Path, clips: int, width: int, windows: int) -> None:
    """Writes an index as `vatt.tools.embed` has it."""
    random = np.random.default_rng(0)
    files = -(-clips // windows)
    starts = np.arange(clips) % windows * 3.2
    empty = np.zeros((0, 2), np.str_)
    np.savez_compressed(
        path,
        recipe=np.array(json.dumps({"model": "random", "step": 0})),
        files=np.array([f"/media/videos/{number:08d}.mp4" for number in range(files)]),
        versions=np.zeros((files, 2), np.int64),
        failures=empty,
        notices=empty,
        **{
            "video/file": np.arange(clips) // windows,
            "video/starts": starts,
            "video/ends": starts + 3.2,
            "video/space": random.standard_normal((clips, width), np.float32),
        },
    )


def ask(gallery: Gallery, random: np.random.Generator, every: bool = False) -> float:
    """Returns how long a question takes (s)."""
    question = random.standard_normal(gallery.width("video", "space"))
    question /= np.linalg.norm(question)
    started = time.monotonic()
    assert len(gallery.find("video", "space", question, 10, every=every)) == 10
    return time.monotonic() - started


def main() -> None:
    arguments = parse_arguments()
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "embeddings.npz"
        write(path, arguments.clips, arguments.width, arguments.windows)
        size = path.stat().st_size / 2**30
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        started, cpu = time.monotonic(), time.process_time()
        gallery = Gallery(path)
        ask(gallery, random)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        print(f"loading {size:.2f} GiB, with the first question: {seconds:.1f} s, {cpu:.1f} of CPU")
    for every in (False, True):
        seconds, started = [], time.process_time()
        for _ in range(arguments.questions):
            seconds.append(ask(gallery, random, every))
        cpu = (time.process_time() - started) / arguments.questions
        print(
            f"{'all windows' if every else 'best window of a file'}: median "
            f"{np.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), "
            f"{cpu:.3f} s of CPU",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory: {peak:.1f} GiB at its peak, {before:.1f} GiB when the index was made")


if __name__ == "__main__":
    main()
