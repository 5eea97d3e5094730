"""Files as Flax leaves them, written without Flax.

write(path, {"params": {"Dense_0": {"kernel": array}}, "global_step": 3})
write(path, nested({"Dense_0/kernel": array}))
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def packed(value: Any) -> bytes:
    """Writes the few kinds of values that checkpoints are made of."""
    if isinstance(value, dict):
        items = b"".join(packed(key) + packed(item) for key, item in value.items())
        return b"\xdf" + struct.pack(">I", len(value)) + items
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    if isinstance(value, str):
        return b"\xd9" + struct.pack(">B", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, np.ndarray | np.generic):
        kind = 1 if isinstance(value, np.ndarray) else 3
        inside = packed([list(value.shape), str(value.dtype), value.tobytes()])
        return b"\xc9" + struct.pack(">Ib", len(inside), kind) + inside
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    return b"\xd3" + struct.pack(">q", value)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values by the parts of their names, which "/" joins."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *above, leaf = name.split("/")
        place = found
        for part in above:
            place = place.setdefault(part, {})
        place[leaf] = value
    return found


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a file and returns its path."""
    path.write_bytes(packed(dict(content)))
    return path
