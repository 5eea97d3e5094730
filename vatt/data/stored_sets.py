"""Data sets in object stores: the card is fetched first, shards of a split when they are asked for.

A process sees a set as it was when it first looked. What has been fetched is not fetched again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from vatt import stores
from vatt.data.card_schema import CARD_FILE, MANIFEST_FILE, Card
from vatt.errors import DataError
from vatt.stores.copies import Copy

_ROOM = "records"
_STATE = (".shards/*.tfrecord.json", 1)  # what media were read with; one says it for all


class StoredSet:
    """A data set in a store, and its copy here."""

    def __init__(self, address: str, folder: Path) -> None:
        """Looks what there is.

        Raises:
          StoreError: the store cannot be asked.
          DataError: there is no such set.
        """
        self._copy = Copy(address, folder)
        self._objects = self._copy.store.listed()
        if CARD_FILE not in self._objects:
            raise DataError(f"data set not found: there is no {address}/{CARD_FILE}")

    def card_file(self) -> Path:
        """Returns the card, fetched."""
        return self._fetched([CARD_FILE])

    def fetch_beside(self, card: Card) -> None:
        """Fetches what else the set says of itself; no shards."""
        pattern, most = _STATE
        names = sorted(name for name in self._objects if _matches(name.split("/"), pattern))[:most]
        others = (MANIFEST_FILE, card.label_file)
        self._fetched([*names, *(name for name in others if name in self._objects)])

    def fetch_shards(self, patterns: Iterable[str]) -> None:
        """Fetches what matches one of the patterns, as of `card_schema.Split`."""
        wanted = [
            name
            for name in {*self._objects, *self._copy.files()}
            if any(_matches(name.split("/"), pattern) for pattern in patterns)
        ]
        self._fetched(wanted)

    def _fetched(self, names: Sequence[str]) -> Path:
        with self._copy.alone():
            self._copy.drop(name for name in names if name not in self._objects)
            self._copy.fetch(self._objects[name] for name in names if name in self._objects)
        return self._copy.folder / CARD_FILE


def find(data_dir: str | os.PathLike, name: str) -> StoredSet:
    """Returns the data set `name` of a folder in a store.

    Raises:
      StoreError: the store cannot be asked.
      DataError: there is no such set.
    """
    address = f"{os.fspath(data_dir).rstrip('/')}/{name}"
    if not stores.is_address(address):
        raise DataError(
            f"data set '{name}': {address} is no address of a folder in a store, "
            "gs://bucket/folder or s3://bucket/folder"
        )
    return _opened(address, stores.local(address, _ROOM))


_opened = functools.lru_cache(maxsize=256)(StoredSet)


def _matches(parts: Sequence[str], pattern: str | Sequence[str]) -> bool:
    """Whether a name, by its parts, matches a pattern as `Path.glob` has it."""
    first, *others = pattern.split("/") if isinstance(pattern, str) else pattern
    if first == "**":
        return bool(others) and any(_matches(parts[i:], others) for i in range(len(parts)))
    if not parts or not fnmatchcase(parts[0], first):
        return False
    return _matches(parts[1:], others) if others else len(parts) == 1
