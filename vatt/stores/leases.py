"""One process at a time works in a folder of a store: a note there, renewed while its holder lives.

    lease = Lease(store, ".training.lock", "another training")
    with lease.held() as before:            # the note of who had it before
        lease.check()                       # before anything is written

A store has no locks that end with a process. So whoever finds a note that does not say that its
holder has ended looks for as long as three renewals take: one that is renewed is held, one that is
not is of a process that died. Clocks of machines are not compared. Notes are replaced only in the
version that was read, so that of two who take a lease one gets it, and that a holder who was
thought dead finds out.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from absl import logging

from vatt import locks
from vatt.files import parse_json
from vatt.locks import HeldError
from vatt.stores import Store, StoreError, TakenError

RENEWAL_S = 20.0
_LONGEST_S = 600.0  # between renewals: a note that says more is damaged
_MISSED = 3  # renewals, after which its holder is dead


class Lease:
    """A note of this process in a store.

    Attributes:
      token: tells this holder from all others.
    """

    def __init__(self, store: Store, name: str, what: str) -> None:
        """Asks nothing yet.

        Args:
          store: of the folder.
          name: of the note in it.
          what: is at work where another has it, for messages: "another training".
        """
        self._store, self._name, self._what = store, name, what
        self.token = uuid.uuid4().hex
        self._note = {"token": self.token, "holder": locks.myself(), "renewal_s": RENEWAL_S}
        self._version: dict[str, str] | None = None
        self._lost, self._over = False, threading.Event()

    @contextmanager
    def held(self) -> Iterator[dict[str, Any]]:
        """Keeps others out while the block runs; gives the note of who had it before, else {}.

        Raises:
          HeldError: another process has it.
          StoreError: the store cannot be asked.
        """
        before = self._take()
        thread = threading.Thread(target=self._renew, daemon=True)
        thread.start()
        try:
            yield before
        finally:
            self._over.set()
            thread.join()
            if not self._lost:
                self._end()

    def check(self) -> None:
        """Asks the store whether another process has taken it, as from one that stood still.

        Raises:
          HeldError: one has.
          StoreError: the store cannot be asked.
        """
        if self._lost or self._read()[0].get("token") != self.token:
            raise HeldError(
                f"{self._store.address}: could not be reached for so long that {self._what} has "
                "begun there; this one ends"
            )

    def _take(self) -> dict[str, Any]:
        before, version = self._read()
        if version is not None and not before.get("ended"):
            before, version = self._look_for_life(before, version)
        try:
            self._version = self._store.write(self._name, self._content(), version)
        except TakenError:
            raise self._is_held(self._read()[0]) from None
        return before

    def _look_for_life(
        self, note: dict[str, Any], version: dict[str, str]
    ) -> tuple[dict[str, Any], dict[str, str] | None]:
        """Waits until a note changes or its holder must be dead; returns it as it then is."""
        renewal = note.get("renewal_s")
        told = isinstance(renewal, int | float) and 0 < renewal <= _LONGEST_S
        renewal = renewal if told else RENEWAL_S
        end = time.monotonic() + _MISSED * renewal
        logging.info("%s; up to %.0f s to see if it lives", self._is_held(note), _MISSED * renewal)
        while time.monotonic() < end:
            time.sleep(min(renewal / 4, 5.0))
            now, found = self._read()
            if found is None or now.get("ended"):
                return now, found
            if found != version:
                raise self._is_held(now)
        logging.warning(
            "%s: %s has ended without a word; going on from there", self._store.address, self._what
        )
        return note, version

    def _read(self) -> tuple[dict[str, Any], dict[str, str] | None]:
        found = self._store.read(self._name)
        if found is None:
            return {}, None
        try:
            note = parse_json(found[0].decode())
        except ValueError:
            note = None
        return note if isinstance(note, dict) else {}, found[1]

    def _is_held(self, note: dict[str, Any]) -> HeldError:
        holder = note.get("holder", "it does not say whose")
        return HeldError(f"{self._store.address}: {self._what} is at work there ({holder})")

    def _content(self, **more: object) -> bytes:
        return json.dumps(self._note | {"time": time.time()} | more).encode()

    def _write_now(self, content: bytes) -> dict[str, str]:
        """Impatiently: it is written again soon, or nothing depends on it."""
        return self._store.write(self._name, content, self._version, patient=False)

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_S):
            try:
                self._version = self._write_now(self._content())
            except TakenError as error:
                logging.error("%s", error)
                self._lost = True
                return
            except StoreError as error:  # what is sent next says so, too
                logging.warning("%s", error)

    def _end(self) -> None:
        try:
            self._write_now(self._content(ended=True))
        except StoreError as error:
            logging.warning("%s", error)
