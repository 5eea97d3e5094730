"""Clips made small enough to be looked at: a few frames, the outline of the sound, what is said.

For the contact sheet (`check.contact_sheet`) and the page of a data set (`ingest.page`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vatt.data.records import ClipRecord

OUTLINE_BINS = 200


@dataclass
class Sample:
    """A clip to look at; all fields are what JSON can hold."""

    split: str
    source: str
    start: float  # s in the media file
    end: float
    seconds: float
    properties: str  # "10 fps, 340 x 256, 48000 Hz"
    labels: list[str]
    captions: list[list]  # start, end (s from the start of the clip), text
    frames: list[list]  # s from the start of the clip, JPEG in base64
    outline: list[list[float]]  # lowest and highest value of each piece of the sound

    def picture(self, number: int) -> bytes:
        """The JPEG of a frame."""
        return base64.b64decode(self.frames[number][1])


def make(clip: ClipRecord, split: str, *, frames: int = 6, width: int = 160) -> Sample:
    """Returns what to show of a usable record.

    Args:
      clip: the record.
      split: its split.
      frames: how many of its frames, evenly spread.
      width: pixels of the longer side of a shown frame.
    """
    stored = clip.frames or ()
    pictures, size = [], ""
    for _, number in spread([len(stored)], frames):
        encoded, size = _small(stored[number], width)
        time = number / clip.fps if clip.fps else float(number)
        pictures.append([round(time, 3), base64.b64encode(encoded).decode("ascii")])
    properties = [f"{clip.fps:g} fps" if clip.fps and len(stored) > 1 else "", size]
    properties.append(f"{clip.sample_rate} Hz" if clip.waveform is not None else "")
    return Sample(
        split=split,
        source=clip.source,
        start=round(clip.start, 3),
        end=round(clip.end, 3),
        seconds=round(seconds(clip), 3),
        properties=", ".join(part for part in properties if part),
        labels=list(clip.labels),
        captions=[[round(start, 2), round(end, 2), text] for start, end, text in clip.captions],
        frames=pictures,
        outline=_outline(clip.waveform),
    )


def seconds(clip: ClipRecord) -> float:
    """Returns how long a clip is: by its times, else its frames, else its sound; else 0."""
    if clip.end > clip.start:
        return clip.end - clip.start
    if clip.frames and clip.fps:
        return len(clip.frames) / clip.fps
    if clip.waveform is not None and clip.sample_rate:
        return len(clip.waveform) / clip.sample_rate
    return 0.0


def spread(counts: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Returns places spread evenly over parts of so many things: (part, number in it)."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    wanted = min(wanted, total)
    places = [(2 * k + 1) * total // (2 * wanted) for k in range(wanted)]
    parts = [int(np.searchsorted(ends, place, side="right")) for place in places]
    return [
        (part, int(place - ends[part] + counts[part]))
        for part, place in zip(parts, places, strict=True)
    ]


def _small(encoded: bytes, width: int) -> tuple[bytes, str]:
    """Returns a JPEG that fits into a square, and the size of the picture it was made of."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
        size = f"{image.width} x {image.height}"
        image.draft("RGB", (2 * width, 2 * width))
        small = image.convert("RGB")
    small.thumbnail((width, width), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue(), size


def _outline(waveform: np.ndarray | None) -> list[list[float]]:
    if waveform is None or not len(waveform):
        return []
    bins = min(OUTLINE_BINS, len(waveform))
    starts = np.arange(bins) * len(waveform) // bins
    lowest = np.minimum.reduceat(waveform, starts)
    highest = np.maximum.reduceat(waveform, starts)
    return [[round(float(a), 3), round(float(b), 3)] for a, b in zip(lowest, highest, strict=True)]
