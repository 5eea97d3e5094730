"""What may end a run from outside: signals that ask for a clean end, and a watchdog."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

# Schedulers announce the end by SIGTERM or, as Slurm with --signal, SIGUSR1; a terminal that is
# closed sends SIGHUP. Not every system has all of them.
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
)
_IMPATIENT = (signal.SIGTERM, signal.SIGINT)  # the second one of these ends at once
_OF_TERMINALS = getattr(signal, "SIGHUP", None)

_AGAIN_S = 0.1  # until `Interrupted` is raised again where it was lost

_asked: list[int] = []  # signals since the outermost `stop_requests` was opened
_at_once: list[bool] = []  # of those open, the innermost last
_lost: list[threading.Timer] = []  # one for each `Interrupted` that was raised in vain


class Interrupted(KeyboardInterrupt):
    """A request to stop, where that ends at once what is being done."""


@contextlib.contextmanager
def stop_requests(at_once: bool = False) -> Iterator[Callable[[], bool]]:
    """SIGTERM, SIGINT, SIGUSR1 or SIGHUP asks for a save and a clean end.

    A second SIGTERM or SIGINT leaves without one. Inside another of its kind, `at_once` of the
    inner one counts, and so does what was asked before. A SIGHUP that is ignored, as under nohup,
    stays ignored.

    Args:
      at_once: a request raises `Interrupted`, instead of being noted.

    Yields:
      A function that says whether a stop has been asked for.
    """
    _at_once.append(at_once)
    previous = {}
    hook = sys.unraisablehook
    try:
        if len(_at_once) == 1 and threading.current_thread() is threading.main_thread():
            previous = {number: signal.getsignal(number) for number in STOPPING}
            sys.unraisablehook = _repeating(hook)
            for number, handler in previous.items():
                if number != _OF_TERMINALS or handler is not signal.SIG_IGN:
                    signal.signal(number, _request)
        if at_once and _asked:
            raise Interrupted
        yield lambda: bool(_asked)
    except Exception as error:
        if at_once and _comes_of_interrupted(error):
            raise Interrupted from error
        raise
    finally:
        if previous:
            _at_once[-1] = False  # there is nothing left to break off
            _forget_lost()
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            sys.unraisablehook = hook
        _at_once.pop()
        if not _at_once:
            _asked.clear()


def _repeating(hook: Callable[[object], object]) -> Callable[[object], object]:
    """Returns a `sys.unraisablehook` by which no request is lost.

    Python drops what is raised while it deletes an object or calls back from a weak reference.
    """

    def repeat(unraisable: sys.UnraisableHookArgs) -> None:
        if not _comes_of_interrupted(unraisable.exc_value):
            hook(unraisable)
            return
        _lost.append(threading.Timer(_AGAIN_S, ask_to_stop))
        _lost[-1].daemon = True
        _lost[-1].start()

    return repeat


def _forget_lost() -> None:
    for timer in _lost:
        timer.cancel()
        timer.join()
    _lost.clear()


def _comes_of_interrupted(error: BaseException | None) -> bool:
    """Whether a library, in the midst of which `Interrupted` was raised, made this error of it.

    C++ code does that to an exception that comes while it handles another one of Python's.
    """
    while error is not None:
        if isinstance(error, Interrupted) or Interrupted.__name__ in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def asked_to_stop() -> bool:
    """Whether the `stop_requests` that is open has had a request."""
    return bool(_asked)


def ask_to_stop() -> None:
    """Asks for a stop from another thread; wakes the main one, as a signal does."""
    if signal.getsignal(signal.SIGUSR1) is _request:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


def take_back() -> None:
    """Handles signals again that a library has taken for itself since."""
    for number in STOPPING:
        if signal.getsignal(number) is _request:
            signal.signal(number, _request)


def _request(number: int, _frame: object) -> None:
    impatient = number in _IMPATIENT
    if impatient and any(before in _IMPATIENT for before in _asked):
        os._exit(128 + number)
    first = not _asked
    _asked.append(number)
    if first:
        how = "leaving" if _at_once[-1] else "saving after this loop, then leaving"
        name = signal.Signals(number).name
        print(f"\n{name}: {how} (again to leave at once)", file=sys.stderr)
    if _at_once[-1] and (first or _lost):
        _lost.clear()
        raise Interrupted


@dataclasses.dataclass(frozen=True)
class Watchdog:
    """Without a sign of life for `seconds`, dumps the stacks of all threads and exits (0 = off)."""

    seconds: float

    def alive(self) -> None:
        """Gives a sign of life."""
        if self.seconds > 0:
            faulthandler.dump_traceback_later(self.seconds, exit=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Lets the block take as long as it needs."""
        faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self.alive()


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[Watchdog]:
    """Watches over the block."""
    dog = Watchdog(seconds)
    dog.alive()
    try:
        yield dog
    finally:
        faulthandler.cancel_dump_traceback_later()
