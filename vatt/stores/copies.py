"""A folder of this machine that is kept in step with one in a store.

    copy = Copy("gs://bucket/records/toy", folder)
    copy.fetch(copy.store.listed().values())     # what is not here yet, or another version
    copy.send(copy.changed())                    # what has been written here since

`.store.json` in the folder says which version of each object the file here is. Files whose names
begin with a dot, and all in such folders, stay on this machine.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from absl import logging
from tqdm import tqdm

from vatt import locks
from vatt.errors import DataError
from vatt.files import NO_FILE, inside, make_folder, read_json, replace_text, version
from vatt.stores import Object, Store

_INDEX, _LOCK = ".store.json", ".store.lock"
_AT_ONCE = 4
_SAVED_EVERY_S = 10.0


class Copy:
    """The copy of what stands under an address.

    Attributes:
      store: what is copied.
      folder: where the copy is.
      holder: who wrote last from here (`leases.Lease.token`), "" if nobody did.
    """

    def __init__(self, address: str, folder: Path) -> None:
        """Opens a copy, which need not be there yet.

        Raises:
          StoreError: the library is not installed.
        """
        self.store, self.folder = Store(address), folder
        self._read()

    def _read(self) -> None:
        self.holder, self._known = "", {}  # by name: tag, size, time of change
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            # Of a damaged file nothing counts: all is fetched again.
            content = read_json(self.folder / _INDEX)
            known = {name: _entry(*entry) for name, entry in content["files"].items()}
            self.holder, self._known = str(content["holder"]), known

    def save(self) -> None:
        """Writes down what is here.

        Raises:
          WriteError: that cannot be written.
        """
        make_folder(self.folder)
        content = {"holder": self.holder, "files": self._known}
        replace_text(self.folder / _INDEX, json.dumps(content))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits for other processes that fetch to the same folder."""
        with locks.held(self.folder / _LOCK, "another process that fetches", wait=True):
            self._read()
            yield

    # -- what differs ----------------------------------------------------------------------

    def files(self) -> Iterator[str]:
        """Yields the names of all files that a store may have."""
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                if not name.startswith("."):
                    yield (Path(place) / name).relative_to(self.folder).as_posix()

    def is_known(self, name: str) -> bool:
        """Whether a file is as it came from the store, or was sent there."""
        return self._known.get(name, ())[1:] == version(self.folder / name)

    def has_sent(self, name: str) -> bool:
        """Whether the store has had a file of that name."""
        return name in self._known

    def changed(self) -> list[str]:
        """Names of the files that have been written here since."""
        return sorted(name for name in self.files() if not self.is_known(name))

    def gone(self) -> list[str]:
        """Names of what was here and has been removed since."""
        return sorted(name for name in self._known if version(self.folder / name) == NO_FILE)

    # -- from the store --------------------------------------------------------------------

    def fetch(self, objects: Iterable[Object]) -> None:
        """Brings objects here, those that are not here in this version; says how much it is.

        Raises:
          DataError: a name that leads out of the folder.
          StoreError: the store cannot be asked.
          WriteError: the disk is full, or the like. What has come stays.
        """
        missing = [found for found in objects if not self._is_here(found)]
        if not missing:
            return
        for found in missing:
            self._place(found.name)
        size = sum(found.size for found in missing)
        files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
        told = f"{files}, {size / 2**20:.1f} MiB, of {self.store.address}"
        logging.info("fetching %s to %s", told, self.folder)
        saved, broken_off = time.monotonic(), threading.Event()
        fetch = functools.partial(self._fetch, broken_off)
        bar = tqdm(total=size, unit="B", unit_scale=True, disable=None, leave=False)
        with bar, ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for found in pool.map(fetch, missing):
                    bar.update(found.size)
                    if time.monotonic() - saved > _SAVED_EVERY_S:
                        self.save()
                        saved = time.monotonic()
            finally:
                broken_off.set()  # for those that are under way after an error or Ctrl-C
                pool.shutdown(cancel_futures=True)
                self.save()

    def _is_here(self, found: Object) -> bool:
        return self._known.get(found.name, ("",))[0] == found.tag and self.is_known(found.name)

    def _fetch(self, broken_off: threading.Event, wanted: Object) -> Object:
        path = self._place(wanted.name)
        make_folder(path.parent)
        found = self.store.fetch(wanted.name, path, broken_off)
        if found is not None:
            self._known[wanted.name] = (found.tag, *version(path))
        return wanted

    def _place(self, name: str) -> Path:
        try:
            return inside(self.folder, name)
        except ValueError as error:
            raise DataError(f"{self.store.address}/{name}: {error}") from None

    def drop(self, names: Iterable[str]) -> None:
        """Removes files from here that the store has no more, and that nobody has changed."""
        for name in names:
            if self.is_known(name):
                (self.folder / name).unlink(missing_ok=True)
                del self._known[name]

    # -- to the store ----------------------------------------------------------------------

    def send(self, names: Iterable[str]) -> None:
        """Writes files to the store, one after another.

        Raises:
          StoreError: the store cannot be asked.
        """
        try:
            for name in names:
                path = self.folder / name
                before = version(path)
                with suppress(FileNotFoundError):  # removed meanwhile
                    self._known[name] = (self.store.send(name, path), *before)
        finally:
            self.save()

    def remove(self, names: Sequence[str]) -> None:
        """Removes objects from the store.

        Raises:
          StoreError: the store cannot be asked.
        """
        try:
            for name in names:
                self.store.remove([name])
                self._known.pop(name, None)
        finally:
            self.save()


def _entry(tag: str, size: int, changed: int) -> tuple[str, int, int]:
    """What is known of a file.

    Raises:
      TypeError: that is something else.
    """
    if not (isinstance(tag, str) and isinstance(size, int) and isinstance(changed, int)):
        raise TypeError("no tag, size and time of change")
    return tag, size, changed
