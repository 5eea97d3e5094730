"""Measures what a training clip costs in CPU time, beside the published order of operations.

    python benchmarks/input_pipeline.py [--recipes pretrain finetune ...] [--rounds 5] [--clips 16]

"Published order" is the reference pipeline below: every sampled frame decoded fully, then each
operation on all pixels it is given. Both sides prepare the same clips with the same draws from the
same records, in turn, on one thread. CPU time is that of the process over all its threads; parsing,
sound and text are common to both. The records are made here: 340x256 pictures (toy: 72x72) of noise
in several octaves with moving discs, JPEG quality 90, about 23 kB each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tensorflow as tf

from vatt import assets
from vatt.data import audio, clips, colour, decoding, geometry, records, sampling, text, vision
from vatt.data.appearance import ColourJitter
from vatt.data.cuts import InceptionCut, ScaleJitter, VGGCut
from vatt.data.views import View

FPS = 10
RECORDS = 6
AREA, ASPECT = (0.08, 1.0), (0.5, 2.0)
NOISE = 0.01
WORDS = 16
BARE = "record"  # parsing without the frames
WARM_UP = 24  # clips before the first round: functions are compiled for the shapes they meet


@dataclass(frozen=True)
class Recipe:
    """A training recipe at its published sizes."""

    style: str  # crop
    min_resize: int
    frames: int = 32
    size: int = 224
    scale_jitter: bool = True
    colour: bool = True
    zero_centred: bool = True
    source: tuple[int, int] = (256, 340)  # height, width of the stored frames
    sample_rate: int = 48000
    sound: bool = True  # and text
    times: int = 1  # as many clips per round

    @property
    def samples(self) -> int:
        return self.frames * self.sample_rate // FPS

    def view(self, jitters_colour: bool = False) -> View:
        cut = VGGCut(self.min_resize, ScaleJitter() if self.scale_jitter else None)
        if self.style == "Inception":
            cut = InceptionCut(AREA, ASPECT)
        steps = (ColourJitter(),) if jitters_colour else ()
        return View(self.size, cut, zero_centred=self.zero_centred, steps=steps)


RECIPES = {
    "pretrain": Recipe("VGG", 224),
    "pretrain256": Recipe("VGG", 256),
    "finetune": Recipe("Inception", 224, sound=False),
    "toy": Recipe("VGG", 72, 16, 64, False, False, source=(72, 72), sample_rate=16000, times=12),
    "toy_jitter": Recipe(
        "VGG", 72, 16, 64, True, False, source=(72, 72), sample_rate=16000, times=12
    ),
}

Stages = dict[str, Callable]


# Material ----------------------------------------------------------------------------------------


def natural_frames(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Uint8 [count, height, width, 3]: a drifting texture with the spectrum of photographs, discs
    that move across it, a little grain.
    """
    rng = np.random.default_rng(seed)
    drift = 12  # pixels
    texture = np.full((height + 2 * drift, width + 2 * drift, 3), 128.0)
    for cells in (3, 6, 12, 24, 48, 96, 200):
        grid = (1, max(2, cells * height // width), cells)
        noise = rng.normal(size=(*grid, 1)) + 0.5 * rng.normal(size=(*grid, 3))
        layer = tf.image.resize(noise, texture.shape[:2], method="bicubic")[0]
        texture += 180.0 / cells**0.75 * layer.numpy()
    y, x = np.mgrid[:height, :width]
    discs = [
        (rng.uniform((0, 0), (height, width)), rng.uniform(-4, 4, 2), rng.uniform(0, 255, 3))
        for _ in range(5)
    ]
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        top, left = (drift + drift * np.sin([index / 7, index / 9])).astype(int)
        frame = texture[top : top + height, left : left + width].copy()
        for start, speed, tint in discs:
            centre = (start + speed * index) % (height, width)
            inside = np.clip(height / 8 - np.hypot(y - centre[0], x - centre[1]), 0, 1)[..., None]
            frame += inside * (0.7 * tint + 0.3 * frame - frame)
        frame += rng.normal(scale=2, size=(height, width, 1))
        frames[index] = np.clip(frame, 0, 255)
    return frames


def write_records(path: Path, recipe: Recipe) -> None:
    """Records twice as long as a clip, with sound and three captions."""
    words = ("slice the onion and fry it", "now add two eggs", "and that is how you do it")
    rng = np.random.default_rng(0)
    count = 2 * recipe.frames
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(RECORDS):
            frames = natural_frames(count, *recipe.source, seed=number)
            clip = records.ClipRecord(
                source=f"{number}.mp4",
                fps=FPS,
                sample_rate=recipe.sample_rate,
                frames=[tf.io.encode_jpeg(frame, quality=90).numpy() for frame in frames],
                waveform=rng.normal(scale=0.1, size=2 * recipe.samples).astype(np.float32),
                captions=[(2.0 * i, 2.0 * i + 2, line) for i, line in enumerate(words)],
            )
            writer.write(records.encode(clip))


# Pipelines ---------------------------------------------------------------------------------------


def published_order(encoded, seeds, recipe: Recipe) -> Iterator[tuple[str, tf.Tensor]]:
    """The reference: each published operation on all pixels it is given; (stage, result so far)."""
    frames = decoding.decode_jpegs(encoded, recipe.frames)
    yield "decoding", frames
    crop_seed, flip_seed = seeds[sampling.CROP], seeds[sampling.FLIP]
    if recipe.style == "Inception":
        frames = vision.normalise(vision.random_flip(frames, flip_seed), recipe.zero_centred)
        frames = inception_crop(frames, recipe.size, crop_seed)
        yield "geometry, normalisation", frames
    else:
        if recipe.scale_jitter:
            frames = vision.scale_jitter(frames, seeds[sampling.JITTER])
        frames = vision.resize_smallest(frames, recipe.min_resize)
        frames = vision.random_crop(frames, recipe.size, crop_seed)
        frames = vision.random_flip(frames, flip_seed)
        frames = vision.normalise(frames, recipe.zero_centred)
        yield "geometry, normalisation", frames
    if recipe.colour:
        draws = ColourJitter().draw(seeds[sampling.COLOUR])
        yield "colour", colour.colour_jitter(frames, draws, recipe.zero_centred)


def inception_crop(frames: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """One random box out of all frames, resized to [frames, size, size, 3]."""
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    begin, extent = geometry.inception_box(height, width, seed, AREA, ASPECT)
    box = frames[:, begin[0] : begin[0] + extent[0], begin[1] : begin[1] + extent[1]]
    return tf.image.resize(box, [size, size], method="bilinear")


def ours(encoded, seeds, recipe: Recipe) -> Iterator[tuple[str, tf.Tensor]]:
    """`vision.training_frames`; (stage, result so far)."""
    yield "decoding", decoded_only(encoded, seeds, recipe)
    for stage in ("geometry, normalisation", "colour")[: 1 + recipe.colour]:
        view = recipe.view(jitters_colour=stage == "colour")
        yield stage, vision.training_frames(encoded, recipe.frames, seeds, view)


def decoded_only(encoded, seeds, recipe: Recipe) -> tf.Tensor:
    """What `vision.training_frames` decodes."""
    frame = decoding.frame_size(encoded[0])

    def region(cut: geometry.Cut) -> tf.Tensor:
        return decoding.decode_region(encoded, recipe.frames, frame, *cut.axes(recipe.size))[0]

    cut = recipe.view().draw(frame, seeds)
    if recipe.style == "Inception":
        return region(cut)
    return tf.cond(
        cut.keeps_pixels(),
        lambda: decoding.decode_jpegs(encoded, recipe.frames),
        lambda: region(cut),
    )


def sound(waveform, start, seeds, recipe: Recipe) -> tf.Tensor:
    samples = tf.gather(waveform, sampling.indices(start, tf.shape(waveform)[0], recipe.samples, 1))
    return audio.add_noise(samples, seeds[sampling.NOISE], NOISE)[:, tf.newaxis]


def pipelines(path: Path, recipe: Recipe) -> dict[tuple[str, str], Iterator]:
    """{(side, stage): endless clips prepared up to and with that stage}."""
    vocabulary = text.read_vocabulary(assets.find_misc("toy_en", ".txt"))
    tokenize = text.tokenizer(vocabulary, False, False)

    def stage(side: str, name: str) -> Iterator:
        def make(number, serialized):
            seeds = sampling.seeds_per_use(sampling.fold(sampling.root_seed(0), number))
            record = clips.parse(serialized)
            count = tf.shape(record.frames)[0]
            offset = sampling.random_offset(seeds[sampling.OFFSET], count, recipe.frames, 1)
            chosen = tf.gather(record.frames, sampling.indices(offset, count, recipe.frames, 1))
            if name == BARE:
                return record.source
            if name == "parsing":
                return tf.strings.length(chosen)
            if name == "sound":
                start = offset * (recipe.sample_rate // FPS)
                return sound(record.waveform, start, seeds, recipe)
            if name == "text":
                return tokenize(record.captions, WORDS)
            order = published_order if side == "published" else ours
            return next(result for step, result in order(chosen, seeds, recipe) if step == name)

        dataset = tf.data.TFRecordDataset(str(path)).cache().repeat().enumerate()
        options = tf.data.Options()  # nothing is prepared ahead, while others are measured
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        return iter(dataset.map(sampling.plain_graph(make)).with_options(options))

    video = ["decoding", "geometry, normalisation"] + ["colour"] * recipe.colour
    common = [BARE, "parsing"] + ["sound", "text"] * recipe.sound
    chosen = [("both", name) for name in common]
    chosen += [(side, name) for side in ("published", "ours") for name in video]
    return {key: stage(*key) for key in chosen}


# Measuring ---------------------------------------------------------------------------------------


def cpu_ms(clips_of: Iterator, count: int) -> float:
    """CPU milliseconds of the process per clip, all threads together."""
    before = time.process_time()
    for _ in range(count):
        next(clips_of)
    return 1000.0 * (time.process_time() - before) / count


def measure(recipe: Recipe, rounds: int, count: int) -> dict[tuple[str, str], float]:
    """{(side, stage): median CPU ms per clip of that stage alone}; the sides take turns."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clips.tfrecord"
        write_records(path, recipe)
        running = pipelines(path, recipe)
        for clips_of in running.values():
            cpu_ms(clips_of, WARM_UP)
        times = {key: [] for key in running}
        for _ in range(rounds):
            for key, clips_of in running.items():
                times[key].append(cpu_ms(clips_of, count * recipe.times))
    total = {key: statistics.median(values) for key, values in times.items()}
    alone, before = {}, {}
    for (side, stage), value in total.items():
        if side == "both" and stage != BARE:  # each pipeline also parses
            alone[side, stage] = value - total["both", BARE] * (stage != "parsing")
        elif side != "both":  # the stages of the video build on one another
            alone[side, stage] = value - before.get(side, total["both", "parsing"])
            before[side] = value
    return alone


def table(alone: dict[tuple[str, str], float]) -> str:
    """Stages with their cost and share on both sides, and the sums."""
    sums = {
        side: sum(ms for (of, _), ms in alone.items() if of in (side, "both"))
        for side in ("published", "ours")
    }
    lines = [f"{'stage':<26}{'published order':>22}{'ours':>22}"]
    for stage in dict.fromkeys(stage for _, stage in alone):
        cells = ""
        for side, total in sums.items():
            ms = alone.get(("both", stage), alone.get((side, stage)))
            cells += f"{ms:>13.2f} ms {ms / total:>5.0%}"
        lines.append(f"{stage:<26}{cells}")
    lines.append(f"{'clip':<26}" + "".join(f"{ms:>13.2f} ms      " for ms in sums.values()))
    return "\n".join(lines)


def markdown_row(name: str, recipe: Recipe, alone: dict[tuple[str, str], float]) -> str:
    """A row for docs/benchmarks.md, without date and hardware."""

    def video(side: str) -> float:
        return sum(ms for (of, _), ms in alone.items() if of == side)

    common = sum(ms for (side, _), ms in alone.items() if side == "both")
    theirs, own, decoded = video("published"), video("ours"), alone["published", "decoding"]
    height, width = recipe.source
    return (
        f"| | | `python benchmarks/input_pipeline.py --recipes {name}` | {recipe.frames} frames of "
        f"{width}x{height} JPEG to {recipe.size}: video {own:.1f} ms CPU per clip, published order "
        f"{theirs:.1f} ms ({theirs / own:.1f}x); {own / decoded:.1f} times decoding "
        f"({decoded:.1f} ms); with parsing{', sound and text' * recipe.sound} "
        f"{1000 / (own + common):.0f} clips/s per core, published order "
        f"{1000 / (theirs + common):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=16, help="per round and pipeline (16)")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows = []
    for name in arguments.recipes:
        alone = measure(RECIPES[name], arguments.rounds, arguments.clips)
        print(f"\n{name}: CPU time per clip\n{table(alone)}", flush=True)
        rows.append(markdown_row(name, RECIPES[name], alone))
    print("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
