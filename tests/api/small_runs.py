"""Small runs on media files, for tests of what is done with a trained model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import yaml

from vatt.data.ingest import build
from vatt.experiments import executor

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import corpus
import media_files
import test_finetune
import test_pretrain

RATE, FILES = 8000, 9


def write_media(folder: Path, count: int = FILES) -> list[Path]:
    """Writes videos of 1.2 to 1.6 s with sound, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        random = np.random.default_rng(number)
        frames = media_files.numbered_frames(30 + 5 * (number % 3))
        frames[:, -8:] = random.integers(0, 256, (1, 8, 80, 3), np.uint8)
        sound = media_files.tone(200 + 90 * number, len(frames) / 25, RATE)
        path = folder / f"clip{number}.mkv"
        paths.append(media_files.write(path, frames, sound, rate=RATE, audio_codec="pcm_s16le"))
    return paths


def write_sets(folder: Path, media: list[Path]) -> Path:
    """Ingests the files as a labelled set `acts`; also what test_pretrain trains on."""
    rows = ["path,split,label"]
    rows += [
        f"{p.name},{'test' if i % 3 == 2 else 'train'},{'ab'[i % 2]}" for i, p in enumerate(media)
    ]
    manifest = media[0].parent / "clips.csv"
    manifest.write_text("\n".join(rows) + "\n")
    build.ingest([str(manifest)], folder / "acts", fps=10.0, min_side=20, sample_rate=1600)
    card = folder / "acts" / "card.yaml"
    content = yaml.safe_load(card.read_text())
    content["tasks"] = ["video_classification", "audio_classification"]
    card.write_text(yaml.safe_dump(content))
    narrated = [corpus.example(i, captions=test_pretrain.CAPTIONS) for i in range(12)]
    corpus.write_set(folder, "talk", narrated)
    corpus.write_set(folder, "sounds", [corpus.example(i) for i in range(20, 29)], text=False)
    corpus.write_vocabulary(folder)
    return folder


def make(folder: Path) -> Path:
    """Makes media/, records/ and runs/tiny, pretrained on them, in a folder."""
    data_dir = write_sets(folder / "records", write_media(folder / "media"))
    pretrained(data_dir, folder / "runs" / "tiny")
    return folder


def pretrained(data_dir: Path, folder: Path) -> Path:
    """Trains some steps and evaluates the features of `acts`."""
    options = {"input": {"name": ["acts"]}, "probes": ["knn"], "report": False}
    cfg = test_pretrain.config(data_dir, folder, mode="train_and_eval", steps=3, eval=options)
    assert executor.run(cfg) == 0
    return folder


def fine_tuned(data_dir: Path, folder: Path) -> Path:
    """Trains a classifier of `acts` for some steps and evaluates it, with three crops."""
    clip = {"input": {"sample_rate": 1600, "multi_crop": True}}
    cfg = test_finetune.config(
        data_dir, folder, mode="train_and_eval", steps=2, train=clip, eval=clip | {"report": False}
    )
    assert executor.run(cfg) == 0
    return folder
