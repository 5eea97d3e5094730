"""What the aggregation token looks at: its attention to every patch, for a few clips.

    shown = Examples("toy_retrieval")
    for batch in batches:                     # NumPy dicts of pipeline.evaluation_batches
        shown.add(batch, attend, view.levels)
    shown.save(model_dir, step=2000)          # model_dir/eval/attention/toy_retrieval-2000.npz

The arrays (M clips):

    dataset, step                             scalars
    clips/source, clips/caption, clips/label_text   unicode [M]
    clips/jpeg, clips/jpeg_offsets            strips of t frames, one for each patch in time
    clips/frames int64 [M]                    t
    video/attention float16 [M, t, h, w], audio/attention float16 [M, tokens]   each sums to 1
    audio/envelope float16 [M, bins, 2]       of the same stretch of sound
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts

EXAMPLES = 6


def of_aggregation_token(weights: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Attention of the first token to all others, float32 [rows, *grid], summing to 1.

    Args:
      weights: [rows, heads, 1 + tokens, 1 + tokens], of one layer; heads are averaged.
      grid: number of tokens along each axis.
    """
    others = np.asarray(weights, np.float32).mean(axis=1)[:, 0, 1:]
    others = others / np.maximum(others.sum(axis=1, keepdims=True), 1e-30)
    return others.reshape(-1, *grid)


class Examples:
    """Collects the first clips of a set, their middle window each."""

    def __init__(self, dataset: str) -> None:
        """Starts with no clip."""
        self._dataset = dataset
        self._parts: dict[str, list[np.ndarray]] = {}
        self._strings: dict[str, list[str]] = {"source": [], "caption": [], "label_text": []}
        self._jpegs: list[bytes] = []

    def __len__(self) -> int:
        return len(self._strings["source"])

    def add(
        self,
        batch: Mapping[str, np.ndarray],
        attend: Callable[[str, np.ndarray], np.ndarray | None],
        levels: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Adds clips of a batch until there are enough.

        Args:
          batch: `valid` [B]; video [B, windows, frames, h, w, 3], audio [B, windows, ...], of
            the modalities that the set has; what the strings are made of.
          attend: from modality and clips [rows, ...] to attention [rows, *grid]; None if the
            model has none.
          levels: from pixels as the model sees them to uint8.
        """
        rows = np.flatnonzero(batch["valid"] > 0.5)[: EXAMPLES - len(self)]
        if not len(rows):
            return
        for modality in ("video", "audio"):
            if modality not in batch:
                continue
            clips = batch[modality][rows, batch[modality].shape[1] // 2]
            found = attend(modality, clips)
            if found is None:
                continue
            self._parts.setdefault(f"{modality}/attention", []).append(found.astype(np.float16))
            if modality == "audio":
                outlines = np.stack([artefacts.envelope(clip) for clip in clips])
                self._parts.setdefault("audio/envelope", []).append(outlines)
            else:
                self._jpegs += [_strip(levels(clip), found.shape[1]) for clip in clips]
                self._parts.setdefault("clips/frames", []).append(
                    np.full(len(rows), found.shape[1], np.int64)
                )
        for name, values in self._strings.items():
            texts = batch.get(name)
            values += ["" if texts is None else texts[row].decode(errors="replace") for row in rows]

    def save(self, model_dir: Path | str, step: int) -> Path | None:
        """Writes `eval/attention/<dataset>-<step>.npz`; nothing where there is no attention."""
        if not any(name.endswith("/attention") for name in self._parts):
            return None
        arrays = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        arrays |= {f"clips/{name}": np.array(v, np.str_) for name, v in self._strings.items()}
        arrays |= {"dataset": np.array(self._dataset), "step": np.int64(step)}
        if self._jpegs:
            arrays["clips/jpeg"] = np.frombuffer(b"".join(self._jpegs), np.uint8)
            ends = np.cumsum([0, *map(len, self._jpegs)])
            arrays["clips/jpeg_offsets"] = ends.astype(np.int64)
        path = Path(model_dir) / "eval" / "attention" / f"{self._dataset}-{int(step)}.npz"
        return artefacts.save(path, arrays)


def _strip(clip: np.ndarray, count: int) -> bytes:
    """The first frame of each of `count` patches in time, as one JPEG."""
    return artefacts.strip_jpeg(clip[:: max(1, len(clip) // count)][:count])
