"""Processes of one job: they end together, whatever happens to one of them or to this process.

    code = run([Program("0", command, environment), Program("1", ...)])

A request to stop goes on to all of them. None is left behind: this process ends those that run
when one has failed, and when it is killed itself, Linux kills them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from vatt.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_WORKER
from vatt.tools.worker_logs import Log
from vatt.training import signals

KILL_S = 20.0  # from SIGTERM to SIGKILL
# How long the others may take by themselves after one has ended with a code; not at all after
# another. Whoever lost a worker may be the first to end, and after 42 all end, the chief last.
PATIENCE_S = {EXIT_WORKER: 5.0, EXIT_PREEMPTED: 30.0}
_LOOK_S = 0.2
_CHUNK = 1 << 16
# Asks for a save and a clean end. Whoever stops this process may send SIGTERM to the others too,
# and a second one would not wait for the save.
_STOP = signal.SIGUSR1
_IMPATIENT = (signal.SIGTERM, signal.SIGINT)
_CONTINUES = ". The same command goes on from the newest checkpoint"
_LASTING = range(2, 6)  # exit codes of what is as wrong the next time
_PR_SET_PDEATHSIG = 1
_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


@dataclass(frozen=True)
class Program:
    """What a process runs.

    Attributes:
      name: stands before its lines.
      command: its arguments.
      environment: variables beside those that this process has, or in their place.
      cores: that it may use; none of them leaves all.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: Sequence[int] = ()


class _Process:
    """A running program; its output is one stream."""

    def __init__(self, program: Program) -> None:
        """Starts it, in a session of its own: a terminal sends Ctrl-C to this process only."""
        self.name = program.name
        self.code: int | None = None  # once it has ended: 128 + n where signal n killed it
        self.killed_by = 0  # the signal that did
        self.told = False  # that it is to end
        self._popen = subprocess.Popen(
            program.command,
            env=os.environ | program.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_preparation(program.cores),
        )
        self.output = self._popen.stdout
        os.set_blocking(self.output.fileno(), False)

    @property
    def running(self) -> bool:
        """Whether it had not ended when it was last looked at."""
        return self.code is None

    def look(self) -> bool:
        """Whether it has just ended."""
        if not self.running or os.waitid(os.P_PID, self._popen.pid, _ENDED) is None:
            return False
        self._kill_all()  # before its number can become that of another
        self.code = code = self._popen.wait()
        if code < 0:
            self.killed_by = -code
            self.code = EXIT_INTERRUPTED if self.told else 128 - code  # told while it was starting
        return True

    def read(self) -> bytes:
        """Returns what it has printed since the last time; nothing also at the end."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.output.fileno(), _CHUNK)
        return b""

    def send(self, number: int) -> None:
        """Tells it to end, by a signal."""
        if self.running:
            self.told = True
            os.kill(self._popen.pid, number)  # its number is its own until `look` has seen its end

    def end(self) -> None:
        """Kills it where it still runs, and waits."""
        if self.running:
            self._kill_all()
            self._popen.wait()
        self.output.close()

    def _kill_all(self) -> None:
        """Kills it and what it has started itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody but itself is left
            os.killpg(self._popen.pid, signal.SIGKILL)


def _preparation(cores: Sequence[int]) -> Callable[[], None]:
    """Returns what a new process does before it becomes the program."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before that
            os._exit(EXIT_INTERRUPTED)
        if cores:
            os.sched_setaffinity(0, cores)

    return prepare


def run(workers: Sequence[Program], beside: Program | None = None) -> int:
    """Runs all to their end and returns the exit code of the job.

    It is that of the worker that ended the others; else that of the process `beside` them, whose
    failure they survive, and which goes on to its own end when they have done their work.
    """
    log = Log([one.name for one in workers], [beside.name] if beside else (), say)
    with _requests() as asked, contextlib.ExitStack() as stack:
        started = []
        for program in [*workers, *([beside] if beside else ())]:
            started.append(_Process(program))
            stack.callback(started[-1].end)
        job = _Job(started[: len(workers)], started[len(workers) :], log, asked)
        job.watch()
    return job.outcome()


@contextlib.contextmanager
def _requests() -> Iterator[list[int]]:
    """Notes requests to stop, while the block runs, in the list that it yields."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in signals.STOPPING}
    for number, handler in before.items():
        if number != signal.SIGHUP or handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class _Job:
    """The processes while they run."""

    def __init__(
        self,
        workers: Sequence[_Process],
        beside: Sequence[_Process],
        log: Log,
        asked: list[int],
    ) -> None:
        """Takes those that train, those beside them, and the list of requests to stop."""
        self._workers, self._beside, self._log, self._asked = workers, beside, log, asked
        self._failed: list[_Process] = []  # workers that did not end with 0, in that order
        self._heard = 0  # requests that were passed on
        self._end_at = self._kill_at = float("inf")  # when the others are told to end, and killed

    def watch(self) -> None:
        """Looks after them until all have ended."""
        with selectors.DefaultSelector() as selector:
            for process in self._all():
                selector.register(process.output, selectors.EVENT_READ, process)
            while any(process.running for process in self._all()):
                for key, _ in selector.select(_LOOK_S):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                for process in self._all():
                    if process.look():
                        self._has_ended(process)
                self._pass_on()
                self._end_others()
                self._log.flush(time.monotonic())

    def _all(self) -> list[_Process]:
        return [*self._workers, *self._beside]

    def _read(self, process: _Process) -> bool:
        """Takes what a process has printed; False at the end of its output."""
        data = process.read()
        self._log.add(process.name, data, time.monotonic())
        return bool(data)

    def _has_ended(self, process: _Process) -> None:
        while self._read(process):
            pass
        now = time.monotonic()
        self._log.ended(process.name, now)
        if process.code and process in self._workers:
            self._failed.append(process)
            self._end_at = min(self._end_at, now + PATIENCE_S.get(process.code, 0.0))
        elif process.code and not process.told:
            for line in self._log.error(process.name):
                _tell(f"[{process.name}] {line}")
            training = any(worker.running for worker in self._workers)
            on = "; the training goes on without it" if training else ""
            _tell(f"error: the process {process.name} {_end_of(process)}{on}")
        if self._failed and not any(worker.running for worker in self._workers):
            self._end_at = now

    def _pass_on(self) -> None:
        """Passes requests to stop on; the second one that does not want to wait ends all."""
        while self._heard < len(self._asked):
            before, number = self._asked[: self._heard], self._asked[self._heard]
            self._heard += 1
            if number in _IMPATIENT and any(one in _IMPATIENT for one in before):
                self._kill_at = 0.0
            elif not before:
                _tell(
                    f"{_name(number)}: the workers are asked to save and to end (SIGTERM or Ctrl-C "
                    "again ends them at once)"
                )
            for process in self._all():
                process.send(_STOP)

    def _end_others(self) -> None:
        """Ends those that still run when one has failed: by SIGTERM, then by SIGKILL."""
        now = time.monotonic()
        if now >= self._end_at:
            self._end_at, self._kill_at = float("inf"), min(self._kill_at, now + KILL_S)
            for process in self._all():
                process.send(signal.SIGTERM)
        if now >= self._kill_at:
            for process in self._all():
                process.send(signal.SIGKILL)

    def outcome(self) -> int:
        """Says how it ended, where that was not well, and returns the exit code."""
        cause = min(self._failed, key=_is_consequence, default=None)
        error = self._log.close(but=cause.name if cause else None)
        if cause is None:
            return next((process.code for process in self._beside if process.code), 0)
        for line in error:
            _tell(f"[{cause.name}] {line}")
        if cause.code == EXIT_INTERRUPTED and self._asked:
            _tell("stopped without saving; the same command continues")
        elif cause.code != EXIT_PREEMPTED:
            _tell(
                f"error: worker {cause.name} of {len(self._workers)} {_end_of(cause)}"
                + self._others_ended()
                + ("" if cause.code in _LASTING else _CONTINUES)
            )
        return cause.code

    def _others_ended(self) -> str:
        told = [worker for worker in self._workers if worker.told]
        stuck = [worker.name for worker in told if worker.killed_by == signal.SIGKILL]
        if stuck:
            return f"; worker {', '.join(stuck)} would not end and was killed"
        others = "the other was" if len(self._workers) == 2 else "the others were"
        return f"; {others} ended" if told else ""


def _is_consequence(process: _Process) -> int:
    """Orders workers that failed: first why, then what followed from it."""
    ended_by_us = process.told and process.killed_by
    return {EXIT_WORKER: 1, EXIT_PREEMPTED: 2}.get(process.code, 3 if ended_by_us else 0)


def _end_of(process: _Process) -> str:
    if not process.killed_by:
        return f"ended with exit code {process.code}"
    memory = " (the system does that where memory runs out)"
    memory = memory if process.killed_by == signal.SIGKILL else ""
    return f"was killed by {_name(process.killed_by)}{memory}"


def _name(number: int) -> str:
    known = number in set(signal.Signals)
    return signal.Signals(number).name if known else f"signal {number}"


def _tell(line: str) -> None:
    """Prints a line of this process."""
    say(line, sys.stderr)


def say(line: str, stream: TextIO | None = None) -> None:
    """Prints a line; without whoever reads it the work goes on."""
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except OSError:  # a pipe or a terminal that is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
