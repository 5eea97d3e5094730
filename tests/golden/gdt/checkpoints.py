"""Golden checkpoints: published containers of PyTorch, and what must come out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.golden.checks import Check, Checks, Golden, absolute
from vatt.training.torch_checkpoints import TorchCheckpoint

SUM = 1e-9  # relative, in float64


def containers(arrays: Golden) -> Checks:
    """`checkpoints/expected.npz`: every file of the folder that it names."""
    meta = json.loads(str(arrays["meta"]))
    for name in meta["files"]:
        checkpoint = TorchCheckpoint(arrays.path.parent / name)
        yield from _tensors(name, checkpoint, meta["tensors"])
        yield absolute(f"{name} epoch", checkpoint.beside["epoch"], np.array(meta["epoch"]), 0.0)


def _tensors(name: str, checkpoint: TorchCheckpoint, expected: Mapping[str, Any]) -> Checks:
    """Compares names, shapes, types and sums of all tensors of a file."""
    differing = set(checkpoint.shapes) ^ set(expected)
    yield Check(f"{name} names, such as {min(differing, default='')}", len(differing), 0.0)
    for key, (shape, dtype, *sums) in expected.items():
        value = checkpoint.get_tensor(key)
        same = (list(value.shape), str(value.dtype)) == (shape, dtype)
        yield Check(f"{name} {key} {value.dtype} {value.shape}", float(not same), 0.0)
        numbers = value.astype(np.float64)
        for ours, theirs in zip((numbers.sum(), np.abs(numbers).sum()), sums, strict=True):
            yield absolute(f"{name} {key}", ours, np.array(theirs), SUM * max(sums[1], 1.0))


HANDLERS: dict[str, Callable[[Golden], Checks]] = {"checkpoints/expected.npz": containers}
