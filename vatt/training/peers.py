"""The workers of a run among themselves: who writes, and what all must know before they go on.

    peers = peers.of(strategy)
    stop = peers.any(asked_to_stop())            # the same answer on every worker
    if peers.chief: write(...)
    whole = peers.on_chief(lambda: evaluate())   # the others wait

All workers run the same program; whatever is said here, all must say in the same order. A run
without others is `ALONE`, for which nothing is sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf
from absl import logging

from vatt.errors import UserError, WorkerError
from vatt.training import cluster, signals
from vatt.training.cluster import Cluster

_LOOK_S = 1.0  # between two looks of those that wait for the chief
_GOING_ON, _DONE, _INTERRUPTED, _FAILED = range(4)  # what the chief says of what it does
# How TensorFlow says that another worker is gone.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
_PERHAPS_LOST = (tf.errors.InternalError, tf.errors.UnknownError)
_COLLECTIVE = "ollective"  # operations of all workers: then it was in one of those


class Alone:
    """The only worker."""

    chief = True
    name = "this process"

    def gather(self, number: int) -> list[int]:
        """Returns the numbers of all workers, the chief's first."""
        return [number]

    def any(self, flag: bool) -> bool:
        """Whether any worker says so."""
        return bool(max(self.gather(int(flag))))

    def on_chief(self, action: Callable[[], object]) -> bool:
        """The chief calls `action`, the others wait; False where a request to stop ended it.

        A request is noted, so that all workers may agree on what follows, and ends `action` only
        where that lets it.
        """
        with signals.stop_requests():
            try:
                action()
            except signals.Interrupted:
                return False
        return True

    def check_same(self, what: str, content: Callable[[], Iterable[bytes]]) -> None:
        """Raises UserError when the workers do not hold the same content."""

    def lost_ones_told(self) -> contextlib.AbstractContextManager:
        """Turns TensorFlow's errors of a lost worker into a WorkerError."""
        return contextlib.nullcontext()


ALONE = Alone()


class Several(Alone):
    """One of several workers."""

    def __init__(self, strategy: tf.distribute.Strategy, members: Cluster) -> None:
        """Takes the strategy that connects them; sends nothing yet."""
        self._strategy, self._members = strategy, members
        self._replicas = strategy.num_replicas_in_sync // len(members.addresses)
        self.chief, self.name = members.index == 0, members.me

    def gather(self, number: int) -> list[int]:
        """Returns the numbers of all workers, the chief's first."""
        return self._gather(tf.constant(number, tf.int64)).numpy()[:: self._replicas].tolist()

    @tf.function(autograph=False)
    def _gather(self, number: tf.Tensor) -> tf.Tensor:
        def of_replica() -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(number[tf.newaxis], axis=0)

        return self._strategy.experimental_local_results(self._strategy.run(of_replica))[0]

    def on_chief(self, action: Callable[[], object]) -> bool:
        """The chief calls `action`, the others wait; False where a request to stop ended it.

        A request to any of them counts. Where the action fails, all end.
        """
        with signals.stop_requests():
            if not self.chief:
                return self._wait()
            listener = _Listener(self)
            try:
                done = super().on_chief(action)
            except BaseException:
                with contextlib.suppress(tf.errors.OpError):
                    listener.end(_FAILED)
                raise
            listener.end(_DONE if done else _INTERRUPTED)
            return done

    def _wait(self) -> bool:
        state = _GOING_ON
        while state == _GOING_ON:
            state = self.gather(int(signals.asked_to_stop()))[0]
        if state == _FAILED:
            raise WorkerError(f"{self.name}: the chief ended with an error; its messages say which")
        return state == _DONE

    def check_same(self, what: str, content: Callable[[], Iterable[bytes]]) -> None:
        """Raises UserError when the workers do not hold the same content."""
        digest = hashlib.sha256()
        for part in content():
            digest.update(part)
        found = self.gather(int.from_bytes(digest.digest()[:8], "big", signed=True))
        others = [self._members.name(i) for i, of_it in enumerate(found) if of_it != found[0]]
        if others:
            raise UserError(f"{what} of {', '.join(others)} differs from that of the chief")

    @contextlib.contextmanager
    def lost_ones_told(self) -> Iterator[None]:
        """Turns TensorFlow's errors of a lost worker into a WorkerError; says whose others are."""
        try:
            yield
        except Exception as error:
            reason = _reason(error)
            perhaps = isinstance(error, _PERHAPS_LOST) and _COLLECTIVE in reason
            if isinstance(error, _LOST) or perhaps:
                raise WorkerError(
                    f"{self.name}: another worker ended or cannot be reached ({reason}). Start all "
                    "workers again with the same command: they go on from the newest checkpoint"
                ) from error
            if not isinstance(error, WorkerError):
                logging.error("%s ends with an error:", self.name)
            raise


def _reason(error: Exception) -> str:
    """The line of an error of TensorFlow that says what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if _COLLECTIVE in line]
    return (telling or lines or [type(error).__name__])[-1][:200]


class _Listener:
    """Hears, while the chief does something alone, whether another worker is asked to stop."""

    def __init__(self, peers: Several) -> None:
        """Begins to listen, in a thread."""
        self._peers, self._over = peers, threading.Event()
        self._lost: tf.errors.OpError | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while not self._over.wait(_LOOK_S):
                if any(self._peers.gather(_GOING_ON)) and not signals.asked_to_stop():
                    logging.info("another worker was asked to stop")
                    signals.ask_to_stop()
        except tf.errors.OpError as error:
            self._lost = error
            signals.ask_to_stop()

    def end(self, state: int) -> None:
        """Tells the others what has become of it."""
        self._over.set()
        self._thread.join()
        if self._lost is not None:
            raise self._lost
        self._peers.gather(state)


def of(strategy: tf.distribute.Strategy) -> Alone:
    """Returns the workers that a strategy connects, as this one sees them."""
    members = cluster.of_environment()
    connected = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not connected or members is None or len(members.addresses) == 1:
        return ALONE
    return Several(strategy, members)
