"""Runs independent jobs in worker processes, so that Ctrl-C, a crash or a kill leaves no mess."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from vatt.errors import DataError

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from tqdm import tqdm

Made = TypeVar("Made")

_LOOK_S = 1.0  # s between two looks at the ticks of the workers


def available_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def progress(total: int | None, initial: int, desc: str, unit: str) -> tqdm:
    """Returns a tqdm progress bar; in a log file it writes a line at most every ten seconds."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    of_bytes = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
    return tqdm(
        total=total, initial=initial, desc=desc, unit=unit, mininterval=interval, **of_bytes
    )


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block.

    Processes started meanwhile never see it: one that is still starting would print a traceback.
    They inherit the mask. It does not cover the other threads of this process, through one of which
    the signal can still arrive, so that Python's own reaction is put off as well.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "pthread_sigmask") or not in_main_thread:
        yield
        return
    arrived: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if arrived:
        raise KeyboardInterrupt


def _nothing() -> None:
    pass


_report: Callable[[], object] = _nothing  # what `tick` does in this process


def _set_report(report: Callable[[], object]) -> None:
    global _report
    _report = report


def _start_worker(ticks: Synchronized) -> None:
    """Leaves Ctrl-C to the parent, ends with it, however it ends, and counts ticks for it."""

    def count() -> None:
        with ticks.get_lock():
            ticks.value += 1

    _set_report(count)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=follow, daemon=True).start()


def tick() -> None:
    """Tells, from inside a job, that a part of it is done; see `run_jobs`."""
    _report()


def run_jobs(
    function: Callable[..., Made],
    jobs: Iterable[tuple],
    workers: int,
    on_ticks: Callable[[int], object] = lambda number: None,
) -> Iterator[tuple[int, Made]]:
    """Yields (index of the job, function(*job)) as jobs finish, in any order.

    With one worker everything runs in this process. An exception in a job, or Ctrl-C, cancels what
    has not started, ends the workers and is raised here. `on_ticks` is called now and then with the
    number of times that jobs called `tick` since.

    Raises:
      DataError: a worker process died.
    """
    jobs = list(jobs)
    if workers <= 1 or len(jobs) <= 1:
        _set_report(lambda: on_ticks(1))
        try:
            for index, job in enumerate(jobs):
                yield index, function(*job)
        finally:
            _set_report(_nothing)
        return
    context = multiprocessing.get_context("spawn")  # forking after TensorFlow started can hang
    ticks, reported = context.Value("Q", 0), 0
    pool = futures.ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_start_worker, initargs=(ticks,)
    )
    finished = False
    try:
        with _interrupts_held():
            waiting = {pool.submit(function, *job): index for index, job in enumerate(jobs)}
        while waiting:
            with _interrupts_held():  # else Ctrl-C can leave a lock of the futures taken for ever
                done, _ = futures.wait(waiting, _LOOK_S, return_when=futures.FIRST_COMPLETED)
            now = ticks.get_obj().value  # not under the lock: a worker may have died with it
            on_ticks(now - reported)
            reported = now
            for future in done:
                yield waiting.pop(future), future.result()
        finished = True
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, perhaps for lack of memory. What is finished is kept: start "
            f"the same command again, with fewer workers than {workers} if it happens again."
        ) from error
    finally:
        if not finished:
            # A worker that ends in the middle of a result: with the last writer closed here, the
            # pool reads to the end of it instead of waiting for the rest.
            pool._result_queue._writer.close()
            for process in list((pool._processes or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
