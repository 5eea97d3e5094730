"""Runs a model over rows of many owners, so many at a time, and gives each owner its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import tensorflow as tf

from vatt.data.workers import available_cores
from vatt.evaluators.subject import Arrays
from vatt.experiments.evaluator import ReplicaFunction

MOST_ROWS = 16  # at a time: of more, what is in between no longer fits into a processor's caches
MOST_BYTES = 2**28  # of the clips that are in the model at a time

Owner = TypeVar("Owner")
Made = TypeVar("Made")


def in_batches(function: ReplicaFunction, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Calls `function` with rows of `inputs`; joins what it returns.

    The number of rows is filled up to a power of two, so that the function is traced a few times
    only, whatever number there is.
    """
    rows = len(next(iter(inputs.values())))
    size = most_rows(sum(values[:1].nbytes for values in inputs.values()))
    parts = []
    for start in range(0, rows, size):
        batch = {name: _filled_up(values[start : start + size]) for name, values in inputs.items()}
        outputs = function({name: tf.constant(values) for name, values in batch.items()})
        parts.append({name: value.numpy() for name, value in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}


def most_rows(row_bytes: int) -> int:
    """How many rows of so many bytes are run at a time: a power of two."""
    fitting = max(1, min(MOST_ROWS, MOST_BYTES // max(row_bytes, 1)))
    return 1 << (fitting.bit_length() - 1)


def _filled_up(values: np.ndarray) -> np.ndarray:
    missing = (1 << (len(values) - 1).bit_length()) - len(values)
    return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)]) if missing else values


def for_owners(
    clips: Iterable[tuple[Owner, Arrays]], encode: Callable[[Arrays], Arrays]
) -> Iterator[tuple[Owner, Arrays]]:
    """Yields what `encode` makes of each owner's rows, in their order; rows are run together.

    An owner without rows gets nothing.
    """
    waiting: list[tuple[Owner, Arrays]] = []
    count = 0
    for owner, rows in clips:
        waiting.append((owner, rows))
        if rows:
            count += len(next(iter(rows.values())))
            size = most_rows(sum(values[:1].nbytes for values in rows.values()))
            if count >= size:
                yield from _run(waiting, encode)
                waiting, count = [], 0
    yield from _run(waiting, encode)


def _run(
    waiting: list[tuple[Owner, Arrays]], encode: Callable[[Arrays], Arrays]
) -> Iterator[tuple[Owner, Arrays]]:
    by_inputs: dict[tuple[str, ...], list[Arrays]] = {}
    for _, rows in waiting:
        if rows:
            by_inputs.setdefault(tuple(rows), []).append(rows)
    made = {
        names: encode({name: np.concatenate([rows[name] for rows in given]) for name in names})
        for names, given in by_inputs.items()
    }
    places = dict.fromkeys(made, 0)
    for owner, rows in waiting:
        if not rows:
            yield owner, {}
            continue
        names = tuple(rows)
        place, end = places[names], places[names] + len(rows[names[0]])
        places[names] = end
        yield owner, {key: values[place:end] for key, values in made[names].items()}


def ahead(
    jobs: Iterable[tuple[Owner, Callable[[], Made]]], failing: type[Exception]
) -> Iterator[tuple[Owner, Made | Exception]]:
    """Yields what jobs return, or how they fail, in their order; a few run ahead in threads."""
    workers = available_cores()
    waiting: list[tuple[Owner, Future[Made]]] = []

    def finished() -> tuple[Owner, Made | Exception]:
        owner, future = waiting.pop(0)
        try:
            return owner, future.result()
        except failing as error:
            return owner, error

    with ThreadPoolExecutor(workers) as pool:
        try:
            for owner, job in jobs:
                waiting.append((owner, pool.submit(job)))
                if len(waiting) > 2 * workers:
                    yield finished()
            while waiting:
                yield finished()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
