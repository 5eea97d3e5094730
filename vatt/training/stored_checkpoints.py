"""Checkpoints in object stores that weights are taken from: fetched, then read as files are.

    path = fetched("gs://bucket/run")          # prefix of the newest, as a file of this machine
    path = fetched("gs://bucket/run/ckpt-500")

With it comes what its run says of it: configuration, vocabulary, labels. A process sees a folder as
it was when it first looked.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vatt import stores
from vatt.errors import CheckpointError
from vatt.stores import Object
from vatt.stores.copies import Copy
from vatt.training import checkpoint_files

_ROOM = "checkpoints"
_BESIDE = re.compile(r"(?!ckpt-\d+\.json).*\.(yaml|txt|json)")
_MANIFEST = re.compile(r"ckpt-(\d+)\.json")
_INDEX = re.compile(r"ckpt-(\d+)\.index")


def fetched(path: str | os.PathLike) -> Path:
    """Returns a checkpoint, by its address or that of its folder, as a path of this machine.

    Paths of this machine are returned as they are.

    Raises:
      StoreError: the store cannot be asked.
      CheckpointError: there is none.
    """
    address = os.fspath(path)
    if not stores.is_address(address):
        return Path(path)
    address = address.rstrip("/")
    return _fetched(address, stores.local(address, _ROOM))


@functools.lru_cache
def _fetched(address: str, place: Path) -> Path:
    inside = Copy(address, place)
    objects = inside.store.listed(deep=False)
    if objects:
        return _fetch(inside, objects, _newest(address, objects))
    above, _, name = address.rpartition("/")
    if not stores.is_address(above):
        raise CheckpointError(f"{address}: there is nothing in that bucket")
    beside = Copy(above, place.parent)
    objects = beside.store.listed(deep=False)
    whole = name in objects or f"{name}.index" in objects
    if not whole:
        there = sorted({name.partition(".")[0] for name in objects if _INDEX.fullmatch(name)})
        known = f"; that folder has {', '.join(there[-5:])}" if there else ""
        raise CheckpointError(f"{address}: no checkpoint there{known}")
    return _fetch(beside, objects, name)


def _newest(address: str, objects: Mapping[str, Object]) -> str:
    for pattern in (_MANIFEST, _INDEX):
        steps = [int(found[1]) for name in objects if (found := pattern.fullmatch(name))]
        if steps:
            return f"ckpt-{max(steps)}"
    flax = checkpoint_files.highest_flax(objects)
    if flax is None:
        raise CheckpointError(f"{address}: no checkpoint (ckpt-<step>) in that folder")
    return flax


def _fetch(copy: Copy, objects: Mapping[str, Object], name: str) -> Path:
    """Fetches a checkpoint, its manifest last, and what stands beside it."""
    wanted = [
        *(found for found in objects if _BESIDE.fullmatch(found)),
        *(found for found in objects if found == name or found.startswith(f"{name}.data-")),
        *(found for found in (f"{name}.index", f"{name}.json") if found in objects),
    ]
    with copy.alone():
        copy.fetch(objects[found] for found in wanted)
    return copy.folder / name
