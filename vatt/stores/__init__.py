"""Object stores: gs://bucket/folder and s3://bucket/folder, worked on by copies on this machine.

    folder = stores.local("gs://bucket/records", "records")    # where the copy is
    for found in stores.Store("gs://bucket/records").listed(): ...

A store has neither appending, renaming nor locks. So whatever is read is fetched first, and what a
run writes is sent after it is whole here (`copies.Copy`); one process of a kind at a time sends
(`leases.Lease`). Everything else of this project reads and writes files.

The library is obstore, which finds credentials as the makers of the stores say. A store that
cannot be reached is asked again until that has been so for two minutes.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from absl import logging

from vatt.errors import DataError
from vatt.files import cache_folder, replacing, store_parts

_CREDENTIALS = {
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, or the account "
    "of the machine",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with AWS_REGION, or the role of the machine",
}
# The library waits deaf to signals and silently, so for moments only; then `Store._asked` does.
_REPEATED = {"max_retries": 3, "retry_timeout": datetime.timedelta(seconds=10)}
_MAY_PASS = re.compile(r"\bHTTP error: |\bafter \d+ retries\b")  # as the library says it
_HOW_OFTEN = re.compile(
    r" in [\d.]+\w+(, after \d+ retries, max_retries: \d+, retry_timeout: \w+ )?"
)
_PATIENCE_S = 120.0  # with a store that cannot be reached
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
# Plain http is used only where the environment names such an endpoint.
_CLIENT = {"allow_http": True, "connect_timeout": "15s", "timeout": "10m"}
_PART = 16 * 2**20  # bytes of one request
_MOST_SAID = 300  # letters
_TRIES = 3  # of a body that breaks off
_NEVER = threading.Event()

_Answer = TypeVar("_Answer")


class StoreError(DataError):
    """An object store that cannot be reached, or refuses what is asked of it."""


class TakenError(StoreError):
    """An object is there already, or another version of it than the one that was to be replaced."""


@dataclass(frozen=True)
class Object:
    """An object in a store.

    Attributes:
      name: below the address of the store, "a/b".
      size: bytes.
      tag: of this version.
    """

    name: str
    size: int
    tag: str


def is_address(path: str | os.PathLike) -> bool:
    """Whether a path is an address of a store that is taken."""
    return store_parts(os.fspath(path)) is not None


def local(path: str | os.PathLike, room: str) -> Path:
    """Returns the folder of the copy of an address, which need not be there; else the path itself.

    Args:
      path: an address, or a path of this machine.
      room: what the copy is for; those of different rooms do not meet.
    """
    parts = store_parts(os.fspath(path))
    return Path(path) if parts is None else cache_folder().joinpath("stores", room, *parts)


class Store:
    """What stands under an address."""

    def __init__(self, address: str) -> None:
        """Opens an address; sends nothing yet.

        Raises:
          StoreError: the library is not installed, or does not take the address.
        """
        scheme, bucket, *names = store_parts(address)
        self.address = "/".join([f"{scheme}:/", bucket, *names])
        self._scheme = scheme
        try:
            import obstore
        except ImportError:
            raise StoreError(
                f"{address}: the library for object stores is missing: pip install 'vatt[stores]', "
                "or pip install obstore"
            ) from None
        self._library: Any = obstore
        with self._told("open it"):
            self._store: Any = obstore.store.from_url(
                self.address, retry_config=_REPEATED, client_options=_CLIENT
            )

    def listed(self, deep: bool = True) -> dict[str, Object]:
        """Returns the objects by name; without `deep` only those that stand directly here.

        Raises:
          StoreError: the store cannot be asked.
        """

        def ask() -> list[Mapping[str, Any]]:
            if deep:
                return [entry for part in self._library.list(self._store) for entry in part]
            return self._library.list_with_delimiter(self._store)["objects"]

        objects = (_object(entry) for entry in self._asked("list it", ask))
        return {entry.name: entry for entry in objects if not entry.name.endswith("/")}

    def read(self, name: str) -> tuple[bytes, dict[str, str]] | None:
        """Returns content and version of an object; None if there is none.

        Raises:
          StoreError: the store cannot be asked.
        """

        def ask() -> tuple[bytes, dict[str, str]] | None:
            with contextlib.suppress(FileNotFoundError):
                answer = self._library.get(self._store, name)
                return bytes(answer.bytes()), _version(answer.meta)
            return None

        return self._asked(f"read {name}", ask)

    def fetch(
        self, name: str, path: Path, broken_off: threading.Event | None = None
    ) -> Object | None:
        """Writes an object to a file, whole or not at all; None where it is gone.

        Raises:
          CancelledError: `broken_off` has been set meanwhile.
          StoreError: the store cannot be asked, or breaks off again and again.
          WriteError: the disk is full, or the like.
        """

        def ask() -> Object | None:
            with contextlib.suppress(FileNotFoundError):
                for left in reversed(range(_TRIES)):
                    answer = self._library.get(self._store, name)
                    try:
                        with replacing(path) as partial, open(partial, "wb") as file:
                            for part in answer.stream(min_chunk_size=_PART):
                                if broken_off is not None and broken_off.is_set():
                                    raise CancelledError(name)
                                file.write(part)
                        return _object(answer.meta)
                    except self._library.exceptions.BaseError:
                        if not left:
                            raise
            return None

        return self._asked(f"fetch {name}", ask, broken_off=broken_off)

    def send(self, name: str, path: Path) -> str:
        """Writes a file to an object, whole or not at all; returns its tag.

        Raises:
          StoreError: the store cannot be asked.
        """
        with open(path, "rb") as file:
            begin = file.read(_PART)  # what another thread adds to it comes with the next sending
        content = begin if len(begin) < _PART else path
        parts = {"chunk_size": _PART, "max_concurrency": 4}
        answer = self._asked(
            f"send {name}", lambda: self._library.put(self._store, name, content, **parts)
        )
        return str(answer["e_tag"])

    def write(
        self, name: str, content: bytes, over: Mapping[str, str] | None, *, patient: bool = True
    ) -> dict[str, str]:
        """Writes an object if it has not been changed meanwhile; returns its version.

        Args:
          name: of the object.
          content: of it.
          over: the version that is replaced; None if there must be none.
          patient: with a store that cannot be reached.

        Raises:
          TakenError: there is another version.
          StoreError: the store cannot be asked.
        """
        mode = "create" if over is None else dict(over)
        errors = self._library.exceptions

        def ask() -> dict[str, str] | None:
            with contextlib.suppress(errors.AlreadyExistsError, errors.PreconditionError):
                return _version(self._library.put(self._store, name, content, mode=mode))
            return None

        if version := self._asked(f"write {name}", ask, patient=patient):
            return version
        found = self.read(name)
        if found and found[0] == content:  # an answer was lost, and it was sent again
            return found[1]
        raise TakenError(f"{self.address}/{name}: another process has written it")

    def remove(self, names: Sequence[str]) -> None:
        """Removes objects, one after another; it is no error if they are gone.

        Raises:
          StoreError: the store cannot be asked.
        """

        def ask(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._library.delete(self._store, name)

        for name in names:
            self._asked(f"remove {name}", functools.partial(ask, name))

    def _asked(
        self,
        what: str,
        ask: Callable[[], _Answer],
        *,
        broken_off: threading.Event | None = None,
        patient: bool = True,
    ) -> _Answer:
        """Returns the answer to a request, asking again as long as there may still be one."""
        pause, failing_since = _PAUSE_S, None
        with self._told(what):
            while True:
                try:
                    return ask()
                except self._library.exceptions.BaseError as error:
                    begins = failing_since is None
                    failing_since = time.monotonic() if begins else failing_since
                    spent = time.monotonic() - failing_since >= _PATIENCE_S
                    if spent or not patient or not _MAY_PASS.search(str(error)):
                        raise
                    if begins:
                        told = self._error(what, error)
                        logging.warning("%s; trying again for %.0f s", told, _PATIENCE_S)
                if (broken_off or _NEVER).wait(pause):
                    raise CancelledError(what)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Makes a StoreError of what the library says, while something is done."""
        try:
            yield
        except (self._library.exceptions.BaseError, FileNotFoundError, ValueError) as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Exception) -> StoreError:
        said, hint = _HOW_OFTEN.sub("", str(error), count=1), ""
        if "<Code>NoSuchBucket</Code>" in said:
            said = "there is no such bucket"
        elif re.search(r"\b40[13]\b|169\.254\.|metadata|token", said.partition("\n")[0]):
            hint = f". Credentials are taken from {_CREDENTIALS[self._scheme]}"
        said = said.partition("\n")[0][:_MOST_SAID].rstrip() or type(error).__name__
        return StoreError(f"{self.address}: failed to {what}: {said}{hint}")


def _object(entry: Mapping[str, Any]) -> Object:
    return Object(entry["path"], entry["size"], str(entry["e_tag"]))


def _version(entry: Mapping[str, Any]) -> dict[str, str]:
    """What tells a version from others, as the library takes it."""
    return {key: entry[key] for key in ("e_tag", "version") if entry.get(key)}
