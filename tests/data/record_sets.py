"""Small ingested data sets as `vatt.data.ingest` leaves them, for the tests of what reads them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vatt.data import cards, records
from vatt.data.ingest import summary
from vatt.files import replace_text, sha256

LABELS = ["cat", "dog"]


def jpeg(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (32, 24)) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG", quality=90)
    return file.getvalue()


def clip(source: str, start: float = 0.0, end: float = 1.5, **fields) -> records.ClipRecord:
    """A clip with everything; `fields` replace parts of it."""
    phase = zlib.crc32(source.encode()) % 997  # another sound for each source
    whole = {
        "fps": 10.0,
        "sample_rate": 1000,
        "frames": [jpeg()] * 3,
        "waveform": np.sin(np.arange(1500, dtype=np.float32) / 3 + phase),
        "captions": [(0.0, 1.0, f"this is {source}")],
        "labels": ["dog"],
        "label_indices": [1],
    }
    return records.ClipRecord(source=source, start=start, end=end, **(whole | fields))


def write_set(
    folder: Path, splits: dict[str, Sequence[records.ClipRecord]], shards: int = 2
) -> tuple[cards.Card, list[dict]]:
    """Writes shards, card, labels and manifest; returns the card and the stats of the shards."""
    folder.mkdir(parents=True)
    stats = []
    for split, clips in splits.items():
        count = min(shards, len(clips))
        for index in range(count):
            path = folder / records.shard_name(split, index, count)
            tally = summary.Tally(split, show=6 if index == 0 else 0)
            with records.ShardWriter(path) as writer:
                for one in clips[index::count]:
                    writer.write(records.encode(one))
                    tally.add(one)
            size = path.stat().st_size
            about = {"file": path.name, "split": split, "bytes": size, "sha256": sha256(path)}
            stats.append({**about, **tally.stats(), "failures": []})
    replace_text(folder / summary.LABELS_FILE, "".join(f"{name}\n" for name in LABELS))
    summary.write_summary(folder, stats)
    summary.write_card(
        folder.name, folder, stats, fps=10.0, sample_rate=1000, labels=LABELS, multi_label=False
    )
    return cards.read(folder / cards.CARD_FILE), stats
