"""Masked clips and what a model predicts of them, kept for the report.

    save(model_dir, "toy_audioset", 2000, found, texts, notes, view.levels)

writes `model_dir/eval/reconstructions/toy_audioset-2000.npz` (M clips):

    dataset, step                             scalars
    notes                                     unicode [N], sentences
    clips/source, clips/caption, clips/label_text   unicode [M]
    video/given, video/predicted              uint8 [M, t, h, w, 3]
    audio/given, audio/predicted              float16 [M, times, bands]
    <modality>/seen, <modality>/masked        bool, the same without colours

These are as `PretrainingModel.reconstructions` has them, but for frames beyond `FRAMES` and, of
larger pictures, rows and columns beyond `SIDE`, of which not every one is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts

FOLDER = "reconstructions"  # in eval/
FRAMES, SIDE = 8, 112
_MOST = 6e4  # float16 has numbers up to 65,504


def save(
    model_dir: Path,
    dataset: str,
    step: int,
    found: Mapping[str, Mapping[str, np.ndarray]],
    texts: Mapping[str, Sequence[str]],
    notes: Sequence[str],
    levels: Callable[[np.ndarray], np.ndarray],
) -> Path:
    """Writes the artefact and returns its path.

    Args:
      model_dir: folder of the run.
      dataset: name of the set.
      step: of the checkpoint.
      found: by modality what `PretrainingModel.reconstructions` gives.
      texts: `source`, `caption` and `label_text` of each clip.
      notes: what has to be said of it.
      levels: from values of pictures to uint8.
    """
    arrays = {"dataset": np.array(dataset), "step": np.int64(step)}
    arrays["notes"] = np.array(list(notes), np.str_)
    arrays |= {f"clips/{name}": np.array(list(of), np.str_) for name, of in texts.items()}
    for modality, of in found.items():
        for name, values in of.items():
            kept = _fewer(values) if modality == "video" else values
            if name in ("seen", "masked"):
                kept = kept[..., 0] > 0.5
            elif modality == "video":
                kept = levels(kept)
            else:
                kept = np.clip(kept[..., 0], -_MOST, _MOST).astype(np.float16)
            arrays[f"{modality}/{name}"] = kept
    return artefacts.save(Path(model_dir) / "eval" / FOLDER / f"{dataset}-{int(step)}.npz", arrays)


def _fewer(clips: np.ndarray) -> np.ndarray:
    """Clips [M, t, h, w, channels] with at most `FRAMES` frames of about `SIDE` pixels."""
    count = clips.shape[1]
    places = np.unique(np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int))
    every = max(1, -(-max(clips.shape[2:4]) // SIDE))
    return clips[:, places, ::every, ::every]
