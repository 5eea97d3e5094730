r"""Clips per second of `vatt.load(RUN).embed_video` and of evaluation's extraction of features.

    python benchmarks/embedding.py --run runs/toy --set toy_actions \
        --media runs/toy_corpus/media/toy_actions [--minutes 70]

Both make the features of the same clips, in interleaved rounds: evaluation from ingested records, a
batch of its own at a time, the other from the media files, which it decodes first. Each ran once
before it is timed; a set with fewer clips is gone through again. On a machine with other work the
processor time counts, whose ratios are told. With --minutes one file of that length, the clips one
after another (by ffmpeg), is embedded instead, and the peak of the process's memory told.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

import vatt
from vatt import configs
from vatt.api.model import Model
from vatt.data import cards, pipeline, records, streams
from vatt.evaluators.subject import Arrays
from vatt.experiments.evaluator import ReplicaFunction
from vatt.experiments.pretrain_eval import Functions


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--set", default="toy_actions")
    parser.add_argument("--split", default="test_1")
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="one file of that length instead")
    return parser.parse_args()


def whole_batch(function: ReplicaFunction, inputs: Arrays) -> Arrays:
    """Runs a batch on one replica, as evaluation does."""
    outputs = function({name: tf.constant(values) for name, values in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def long_file(clips: list[Path], minutes: float, folder: Path) -> Path:
    """Joins clips, again and again, to a file of so many minutes; nothing is encoded again."""
    names, made = folder / "clips.txt", folder / "long.mp4"
    names.write_text("".join(f"file '{path.resolve()}'\n" for path in clips))
    ffmpeg = ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-f", "concat", "-safe", "0"]
    command = [*ffmpeg, "-i", names, "-t", str(60 * minutes), "-c", "copy", made]
    subprocess.run(command, check=True)
    return made


def of_one_file(model: Model, path: Path) -> None:
    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB

    before = peak()
    for embed in (model.embed_video, model.embed_audio):
        started, cpu = time.monotonic(), time.process_time()
        windows = len(embed(path).starts)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        print(f"{embed.__name__}: {windows} windows in {seconds:.1f} s, {cpu:.1f} s of CPU")
    print(f"memory: {before:.2f} GiB before, {peak():.2f} GiB at the peak", flush=True)


def main() -> None:
    arguments = parse_arguments()
    model = vatt.load(arguments.run)
    if arguments.minutes:
        clips = sorted(arguments.media.rglob("*.mp4"))
        with tempfile.TemporaryDirectory() as folder:
            of_one_file(model, long_file(clips, arguments.minutes, Path(folder)))
        return
    cfg = configs.from_yaml(Path(arguments.run) / "config.yaml")
    data, data_dir = cfg.eval.input, cfg.data_dir
    card = cards.load(arguments.set, data_dir)
    shards = streams.shards_of(card, arguments.split)
    stored = [record for shard in shards for record in records.read_shard(shard.path)]
    files = [arguments.media / records.decode(record).source for record in stored]
    repeats = -(-arguments.clips // len(files))
    files = (files * repeats)[: arguments.clips]

    pretrained = model._encoder._functions._model
    functions = Functions(pretrained, whole_batch, tf.distribute.get_strategy())

    def evaluation() -> int:
        rows = 0
        batches = pipeline.evaluation_batches(
            data, arguments.set, arguments.split, data_dir=data_dir, modalities=("video",)
        )
        for batch in batches.repeat(repeats).as_numpy_iterator():
            functions.encode("video", batch["video"])
            rows += int(batch["valid"].sum())
            if rows >= arguments.clips:
                break
        return rows

    def from_files() -> int:
        return len(model.embed_video(files))

    def timed(function: Callable[[], int]) -> tuple[float, float]:
        started, cpu = time.monotonic(), time.process_time()
        rows = function()
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        print(
            f"{function.__name__}: {rows / seconds:.1f} clips/s, "
            f"{1000 * cpu / rows:.1f} ms of CPU per clip",
            flush=True,
        )
        return rows / seconds, 1000 * cpu / rows

    rounds = [
        [timed(function) for function in (evaluation, from_files)]
        for _ in range(arguments.rounds + 1)
    ]
    found = np.array(rounds[1:])  # [rounds, evaluation or files, clips/s or ms]
    for number, name in enumerate(("evaluation", "from_files")):
        (rate, ms), low, high = (
            np.median(found[:, number], 0),
            *np.sort(found[:, number, 0])[[0, -1]],
        )
        print(f"{name}: median {rate:.1f} clips/s ({low:.1f} to {high:.1f}), {ms:.1f} ms of CPU")
    of_clips, of_cpu = np.median(found[:, 1] / found[:, 0], axis=0)
    print(f"files against records: {of_clips:.2f} of its clips/s, {of_cpu:.2f} of its CPU time")


if __name__ == "__main__":
    main()
