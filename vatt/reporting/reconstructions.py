"""Report section of reconstructions: clips, what the model sees of them and predicts, and errors.

Artefacts are those of `vatt.evaluation.reconstructions`, one for each checkpoint that was
evaluated; predictions of the first, one in the middle and the newest are shown.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vatt import pages
from vatt.errors import DataError
from vatt.evaluation import artefacts
from vatt.pages import Markup, head
from vatt.reporting.pieces import Arrays, html, image, of_artefact
from vatt.reporting.plots import number

clips = pages.Macros("clips.html")

HIDDEN = (84, 98, 128)  # colour of what the model does not see
FULL = 99.5  # percentile of all errors at which the picture of errors is white
# Title and unit of errors of a modality.
TITLES = {"video": ("frames", "levels of 255"), "audio": ("spectrogram", "values heard")}
_LEAST = {"video": 8.0, "audio": 0.1}  # that white stands for, so that noise is not shown as errors


def section(paths: Sequence[Path]) -> Markup:
    """Pictures of a set, of its artefacts, the newest last; a sentence if that cannot be read."""
    return of_artefact(paths[-1], "reconstructions", lambda newest: _section(newest, paths[:-1]))


def _section(newest: Arrays, earlier: Sequence[Path]) -> Markup:
    shown = [m for m in TITLES if f"{m}/given" in newest]
    steps = [*_loaded(_spread(earlier), newest, shown), newest]
    full = {m: _full(newest, m) for m in shown}
    name, count = str(newest["dataset"]), len(newest["clips/source"])
    scale = " and ".join(f"{number(full[m])} {TITLES[m][1]}" for m in shown)
    about = (
        "Parts of each clip are hidden, the same at every checkpoint; what is predicted stands "
        "in their places, between what was given. Errors are black where there are none and white "
        f"from {scale} on."
    )
    parts = [html.heading(3, name, f"step {int(newest['step']):,}"), html.paragraph(about)]
    parts += [html.paragraph(str(note)) for note in newest["notes"]]
    parts.append(_errors(steps, shown))
    return pages.join([*parts, *(_clip(steps, row, full) for row in range(count))])


def _spread(paths: Sequence[Path]) -> list[Path]:
    """The first of several, and the one in the middle."""
    return [paths[place] for place in sorted({0, (len(paths) + 1) // 2} & set(range(len(paths))))]


def _loaded(paths: Sequence[Path], newest: Arrays, shown: Sequence[str]) -> list[Arrays]:
    """Artefacts of the same clips; others, and those that cannot be read, are passed over."""
    found = []
    for path in paths:
        try:
            arrays = artefacts.load(path)
            alike = (np.array_equal(arrays[f"{m}/given"], newest[f"{m}/given"]) for m in shown)
            found += [arrays] if all(alike) else []
        except (DataError, KeyError):
            continue
    return found


def _off(arrays: Arrays, modality: str) -> np.ndarray:
    """Errors, [clips, t, h, w] or [clips, times, bands], 0 where nothing is predicted."""
    given, predicted = (
        arrays[f"{modality}/{name}"].astype(np.float32) for name in ("given", "predicted")
    )
    off = np.abs(predicted - given)
    off = off.mean(axis=-1) if modality == "video" else off
    return np.where(arrays[f"{modality}/masked"], off, 0.0)


def _full(arrays: Arrays, modality: str) -> float:
    off = _off(arrays, modality)[arrays[f"{modality}/masked"]]
    off = off[np.isfinite(off)]
    top = float(np.percentile(off, FULL)) if off.size else 0.0
    return float(f"{max(top, _LEAST[modality]):.2g}")


def _errors(steps: Sequence[Arrays], shown: Sequence[str]) -> Markup:
    """Table of the errors of the clips shown."""
    rows = [
        [head(f"{int(arrays['step']):,}"), *(number(round(_rms(arrays, m), 3)) for m in shown)]
        for arrays in steps
    ]
    titles = [f"{TITLES[m][0]} ({TITLES[m][1]})" for m in shown]
    above = [("", 0), ("root of the mean squared error where it is predicted", len(shown))]
    return html.table(["step", *titles], rows, "data", left=("step",), above=above)


def _rms(arrays: Arrays, modality: str) -> float:
    off = _off(arrays, modality)[arrays[f"{modality}/masked"]]
    return float(np.sqrt(np.mean(np.square(off, dtype=np.float64)))) if off.size else 0.0


def _clip(steps: Sequence[Arrays], row: int, full: dict[str, float]) -> Markup:
    newest = steps[-1]
    caption, source = (str(newest[f"clips/{name}"][row]) for name in ("caption", "source"))
    label = str(newest["clips/label_text"][row]).replace("|", ", ")
    pictures = {m: _pictures(steps, m, row, full[m]) for m in full}
    columns = [{"text": TITLES[m][0], "share": _share(newest, m)} for m in full]
    labels = ["input", "masked: what is seen"]
    labels += [f"predicted, step {int(arrays['step']):,}" for arrays in steps]
    labels += [f"error, step {int(newest['step']):,}"]
    rows = [(label, [pictures[m][place] for m in full]) for place, label in enumerate(labels)]
    return clips.restored(source, caption or label or source or f"clip {row}", columns, rows)


def _share(arrays: Arrays, modality: str) -> str:
    """How wide pictures are for their height."""
    shape = arrays[f"{modality}/masked"].shape
    wide = shape[1] * shape[3] / shape[2] if modality == "video" else shape[1] / shape[2]
    return f"{wide:.2f}"


def _pictures(steps: Sequence[Arrays], modality: str, row: int, full: float) -> list[Markup]:
    """Input, what is seen of it, predictions of each checkpoint, and errors of the last one."""
    newest = steps[-1]
    given = newest[f"{modality}/given"][row]
    low, high = (0.0, 255.0) if modality == "video" else np.percentile(given, (1, 99))

    def levels(values: np.ndarray) -> np.ndarray:
        """Uint8 [..., 3]."""
        values = np.nan_to_num(np.asarray(values, np.float32), nan=high)
        unit = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
        grey = np.round(255 * unit).astype(np.uint8)
        return grey if modality == "video" else np.repeat(grey[..., None], 3, axis=-1)

    def drawn(frames: np.ndarray, alt: str) -> Markup:
        if modality == "video":
            return image("jpeg", artefacts.strip_jpeg(frames), alt)
        return image("png", _png(frames.transpose(1, 0, 2)[::-1]), alt)

    shown = [(levels(given), "the input")]
    seen = newest[f"{modality}/seen"][row][..., None]
    shown.append((np.where(seen, levels(given), np.array(HIDDEN, np.uint8)), "what is seen of it"))
    for arrays in steps:
        masked = arrays[f"{modality}/masked"][row][..., None]
        predicted = levels(arrays[f"{modality}/predicted"][row])
        shown.append((np.where(masked, predicted, levels(given)), "what is predicted"))
    off = np.nan_to_num(_off(newest, modality)[row], nan=full) / full
    grey = np.round(255 * np.clip(off, 0, 1)).astype(np.uint8)
    shown.append((np.repeat(grey[..., None], 3, axis=-1), "how far off it is"))
    return [drawn(frames, f"{TITLES[modality][0]}: {alt}") for frames, alt in shown]


def _png(picture: np.ndarray) -> bytes:
    """Uint8 [height, width, 3] as a file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
