"""Files of word vectors, as word2vec writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

VECTORS = {
    "heat": np.array([0.5, -1.0, 2.0], np.float32),
    "naïve": np.array([1.0, 0.25, -0.125], np.float32),
    "don't": np.array([3.0, 4.0, 5.0], np.float32),
}


def binary(path: Path, vectors: Mapping[str, np.ndarray] = VECTORS, end: bytes = b"") -> Path:
    """Writes the binary format; `end` stands behind every vector."""
    width = len(next(iter(vectors.values())))
    rows = (word.encode() + b" " + x.astype("<f4").tobytes() + end for word, x in vectors.items())
    path.write_bytes(f"{len(vectors)} {width}\n".encode() + b"".join(rows))
    return path


def text(path: Path, vectors: Mapping[str, np.ndarray] = VECTORS, header: bool = True) -> Path:
    """Writes the text format."""
    width = len(next(iter(vectors.values())))
    rows = (" ".join([word, *map(repr, x.tolist())]) for word, x in vectors.items())
    first = [f"{len(vectors)} {width}"] if header else []
    path.write_text("\n".join([*first, *rows]) + "\n", encoding="utf-8")
    return path
