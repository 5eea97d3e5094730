"""What may end a run from outside: signals that ask for a clean end, and a watchdog."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """SIGTERM or SIGINT asks for a save and a clean end; a second one ends at once.

    Yields a function that says whether a stop has been asked for.
    """
    requests: list[int] = []

    def request(number: int, _frame: object) -> None:
        if requests:
            os._exit(128 + number)
        requests.append(number)
        name = signal.Signals(number).name
        print(
            f"\n{name}: saving after this loop, then leaving (again to leave at once)",
            file=sys.stderr,
        )

    previous = {
        number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[Callable[[], None]]:
    """Without a sign of life for `seconds`, dumps the stacks of all threads and exits (0 = off).

    Yields the function that gives a sign of life.
    """

    def alive() -> None:
        if seconds > 0:
            faulthandler.dump_traceback_later(seconds, exit=True)

    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()
