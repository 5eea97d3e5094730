"""Published layouts of extracted features, small: folders of HowTo100M and pickles of clips."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WIDTHS = {"2d": 6, "3d": 5, "audio": 40}


def values(steps: int, width: int, seed: int) -> np.ndarray:
    """Features, unlike for each seed."""
    return np.random.default_rng(seed).normal(size=(steps, width)).astype(np.float32)


def decibels(windows: int, seed: int) -> np.ndarray:
    """A spectrogram [40, windows]."""
    return np.random.default_rng(seed).uniform(-80, 0, (40, windows)).astype(np.float32)


def clip(number: int, seconds: int = 20, **fields: object) -> dict:
    """A clip as in a published pickle."""
    return {
        "id": f"video{number}",
        "caption": f"caption {number}",
        "audio": decibels(100 * seconds, number),
        "2d": values(seconds, WIDTHS["2d"], 2 * number),
        "3d": values(3 * seconds // 2, WIDTHS["3d"], 2 * number + 1),
    } | fields


def write_pickle(path: Path, clips: Sequence[dict]) -> Path:
    """Writes a pickle, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(list(clips), 4))
    return path


def write_videos(root: Path, captions: dict[str, list[tuple[float, float, str]]]) -> Path:
    """Writes features, captions and list of videos, by their paths, of 60 s."""
    told = {}
    for number, (path, said) in enumerate(captions.items()):
        name = path.rpartition("/")[2]
        files = {
            f"features/{path}/{name}_2d.npz": {"features": values(60, WIDTHS["2d"], number)},
            f"features/{path}/{name}_3d.npz": {"features": values(90, WIDTHS["3d"], number)},
            f"audio_features/{path}/{name}_spec.npz": {"arr_0": decibels(6000, number)},
        }
        for file, arrays in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            np.savez(root / file, **arrays)
        starts, ends, texts = ([caption[k] for caption in said] for k in range(3))
        told[name] = {"start": starts, "end": ends, "text": texts}
    (root / "caption.json").write_text(json.dumps(told))
    (root / "videos.csv").write_text("\n".join(["path", *captions]) + "\n")
    return root
