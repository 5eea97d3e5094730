"""Records that cannot be used: passed over, counted, listed; too many of them stop the run.

    bad_records = BadRecords("runs/mine/bad_records.csv", max_fraction=0.01)
    batches = pipeline.pretrain_batches(..., bad_records=bad_records)
    ...
    bad_records.check()      # after an error of the input: says what it was, if it was too many

The graph knows a record by its origin: (set, shard, record in the shard). It finds out that one is
bad where it decodes it (`attempt`), puts a clip of zeros in its place, and training replaces that
by another clip of the batch (`replaced`), a batch without any good one by the next batch
(`without_lost_batches`). So every batch is full and the clips of a step do not
depend on what was bad before. Python is asked only when something is bad (`reported`): it reads the
record once more to find the reason.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf
from absl import logging

from vatt import locks
from vatt.data import framing, records
from vatt.data.sampling import plain_graph
from vatt.errors import DataError, WriteError
from vatt.files import make_folder

if TYPE_CHECKING:
    from vatt import configs
    from vatt.data import cards

COLUMNS = ("data_set", "split", "shard", "record", "offset", "reason")
OK = "ok"  # float32 [batch]: 1 where the record could be used
ORIGIN = "origin"  # int64 [batch, 3]: set, shard, record in the shard

MOST_IN_A_ROW = 256

Batch = dict[str, tf.Tensor]


class Shard(NamedTuple):
    """A file and how many records it should have."""

    path: str
    records: int


class _Set(NamedTuple):
    card: cards.Card
    split: str
    shards: Sequence[Shard]


class BadRecords:
    """The bad records of a run, in memory and, with `path`, in a CSV file that a restart reads."""

    def __init__(self, path: str | Path | None = None, max_fraction: float = 0.01) -> None:
        """`max_fraction`: share of a split's records above which `report` fails."""
        self.path = Path(path) if path is not None else None
        self._max_fraction = max_fraction
        self._sets: list[_Set] = []
        self._known: dict[tuple[str, str, str, int], list[str]] = {}
        self._failure: DataError | WriteError | None = None
        self._lock = threading.Lock()
        if self.path is not None and self.path.is_file():
            self._read(self.path)

    def _read(self, path: Path) -> None:
        """Takes over what a list has; lines that are damaged are found again with the record."""
        damaged = 0
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in _rows(file):
                if len(row) != len(COLUMNS) or not re.fullmatch(r"\d{1,18}", row[3]):
                    damaged += 1
                else:
                    self._remember(row)
        if damaged:
            logging.warning("%s: %d lines cannot be read", path, damaged)

    @classmethod
    def of_run(
        cls, folder: str | Path, cfg: configs.dataset.Dataset, worker: int = 0
    ) -> BadRecords:
        """The list in the folder of a run, which all that reads data for the run shares.

        Of several workers each but the chief, worker 0, has its own.
        """
        own = f"-{worker}" if worker else ""
        return cls(Path(folder) / f"bad_records{own}.csv", cfg.max_bad_fraction)

    def add_set(self, card: cards.Card, split: str, shards: Sequence[Shard]) -> int:
        """Makes a split known and returns its number in origins."""
        self._sets.append(_Set(card, split, shards))
        return len(self._sets) - 1

    def rows(self, data_set: str | None = None, split: str | None = None) -> list[list[str]]:
        """What is listed, in the order of `COLUMNS`; of one set or split if asked for."""
        wanted = (data_set, split)
        return [
            row
            for row in self._known.values()
            if all(want in (None, value) for want, value in zip(wanted, row, strict=False))
        ]

    def check(self) -> None:
        """Raises what ended the input: too many bad records, a shard gone, a list not writable."""
        if self._failure is not None:
            raise self._failure

    def summary(self) -> None:
        """Logs how many records were passed over, if any were."""
        if self._known:
            logging.warning("%d bad records were passed over: %s", len(self._known), self.path)

    def report(self, origins: Sequence[Sequence[int]]) -> None:
        """Lists bad records that are not listed yet; those that are count as well.

        Raises:
          DataError: there are too many of them now, or a shard can no longer be read.
          WriteError: they cannot be listed.
        """
        with self._lock:
            self.check()  # batches made at the same time add nothing to what has failed
            for number, shard, record in origins:
                self._report(self._sets[number], int(shard), int(record))

    def _report(self, part: _Set, shard: int, record: int) -> None:
        card, split = part.card, part.split
        path = Path(part.shards[shard].path)
        row = self._known.get((card.name, split, path.name, record))
        if row is None:
            try:
                offset, reason = _explain(part.shards[shard], record, card)
            except OSError as error:
                raise self._failed(
                    f"data set '{card.name}', split '{split}': {path} can no longer be read "
                    f"({error.strerror}). Bring it back and start the same command again"
                ) from error
            row = [card.name, split, path.name, str(record), str(offset), reason]
            self._remember(row)
            try:
                self._append(row)
            except WriteError as error:
                self._failure = error
                raise
            logging.warning("bad record passed over: %s, record %d: %s", path, record, reason)
        bad, total = len(self.rows(card.name, split)), sum(s.records for s in part.shards)
        if bad > self._max_fraction * total:
            raise self._failed(
                f"data set '{card.name}', split '{split}': {bad} of {total} records cannot be "
                f"used, more than max_bad_fraction={self._max_fraction:g} allows; {self._listed()}."
                " Make the set again with vatt.data.ingest, or raise max_bad_fraction"
            )

    def give_up(self) -> None:
        """Ends a run that finds no good record any more.

        Raises:
          DataError: that says so.
        """
        raise self._failed(
            f"{MOST_IN_A_ROW} batches in a row have no record that can be used; {self._listed()}. "
            "Make the sets again with vatt.data.ingest"
        )

    def _listed(self) -> str:
        last = next(reversed(self._known.values()), [""])
        return f"they are listed in {self.path}" if self.path else f"the last: {last[-1]}"

    def _failed(self, message: str) -> DataError:
        """Keeps an error for `check`: what reaches the run is one of TensorFlow's, made of it."""
        self._failure = DataError(message)
        return self._failure

    def _remember(self, row: list[str]) -> None:
        self._known[(row[0], row[1], row[2], int(row[3]))] = row

    def _append(self, row: list[str]) -> None:
        if self.path is None:
            return
        make_folder(self.path.parent)
        for line in [row] if self.path.exists() else [COLUMNS, row]:
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow(line)
            locks.append_line(self.path, text.getvalue())


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a list without its head."""
    table = csv.reader(lines)
    while True:
        try:
            row = next(table)
        except StopIteration:
            return
        except csv.Error as error:  # a field that is too long, or NUL
            row = [str(error)]
        if row and row != list(COLUMNS):
            yield row


def _explain(shard: Shard, record: int, card: cards.Card) -> tuple[int, str]:
    """Byte offset of a record in its shard and what is wrong with it."""
    _, lost = framing.segments(Path(shard.path), shard.records)
    for damage in lost:
        if damage.index <= record < damage.index + damage.records:
            return damage.offset, damage.reason
    place = record - sum(damage.records for damage in lost if damage.index < record)
    intact = (found for found in framing.walk(Path(shard.path)) if not found.problem)
    found = next(itertools.islice(intact, place, None))
    return found.offset, records.diagnose(found.data, card) or "it cannot be decoded"


# In the graph ------------------------------------------------------------------------------------


def attempt(
    elements: tf.data.Dataset,
    make_clip: Callable[..., Batch],
    parallel_calls: int,
    total: int | None = None,
) -> tf.data.Dataset:
    """Maps elements to clips in order; an element that fails gives zeros.

    TensorFlow can drop what fails, so elements are numbered first and gaps in the numbers filled
    afterwards. That takes about half a millisecond per clip.

    Args:
      elements: dataset of (origin int64 [3], ...).
      make_clip: called with what follows the origin.
      parallel_calls: clips made at the same time.
      total: number of elements; None when they are endless.

    Returns:
      Dataset of clips with `ok` and `origin` added.
    """
    make = tf.function(make_clip, autograph=False).get_concrete_function(*elements.element_spec[1:])

    def empty() -> Batch:
        return {k: tf.zeros(v.shape, v.dtype) for k, v in make.structured_outputs.items()}

    def clip(number: tf.Tensor, before: tf.Tensor, origin: tf.Tensor, *element: tf.Tensor) -> tuple:
        made = tf.cond(origin[0] < 0, empty, lambda: make(*element))
        return number, before, {**made, OK: tf.constant(1.0), ORIGIN: origin}

    unknown = tf.fill([MOST_IN_A_ROW, 3], tf.constant(-1, tf.int64))
    made = (
        _with_markers(elements, total)
        .scan((tf.constant(0, tf.int64), unknown), plain_graph(_number))
        .map(plain_graph(clip), num_parallel_calls=parallel_calls, deterministic=True)
        .ignore_errors()
    )
    return _gaps_filled(made, empty)


def _with_markers(elements: tf.data.Dataset, total: int | None) -> tf.data.Dataset:
    """Adds elements of origin -1 that never fail: a gap is noticed at the next good element.

    One stands after every MOST_IN_A_ROW elements, and one at the end, if there is one.
    """
    nothing = [tf.zeros(spec.shape, spec.dtype) for spec in elements.element_spec[1:]]
    marker = tf.data.Dataset.from_tensors((tf.constant([-1, -1, -1], tf.int64), *nothing))
    turns = tf.data.Dataset.range(MOST_IN_A_ROW + 1).map(
        lambda turn: tf.cast(turn == MOST_IN_A_ROW, tf.int64)
    )
    marked = tf.data.Dataset.choose_from_datasets(
        [elements if total is None else elements.take(total), marker.repeat()],
        turns.repeat(),
        stop_on_empty_dataset=True,
    )
    return marked if total is None else marked.concatenate(marker)


def _number(state: tuple, item: tuple) -> tuple:
    """Numbers elements, and gives each the origins of those before it, int64 [MOST_IN_A_ROW, 3]."""
    (number, before), (origin, *element) = state, item
    after = tf.concat([before[1:], origin[tf.newaxis]], 0)
    return (number + 1, after), (number, before, origin, *element)


def _gaps_filled(made: tf.data.Dataset, empty: Callable[[], Batch]) -> tf.data.Dataset:
    """Clips without their numbers; where numbers are missing, `empty` ones that are not OK."""

    def count(expected: tf.Tensor, item: tuple) -> tuple:
        number, before, clip = item
        return number + 1, (number - expected, before, clip)

    def fill(missing: tf.Tensor, before: tf.Tensor, clip: Batch) -> tf.data.Dataset:
        check = tf.debugging.Assert(missing <= MOST_IN_A_ROW, ["too many bad records in a row"])
        with tf.control_dependencies([check]):
            there = missing + tf.cast(clip[ORIGIN][0] >= 0, tf.int64)  # a marker is no clip

        def one(place: tf.Tensor) -> Batch:
            def bad() -> Batch:
                origin = before[MOST_IN_A_ROW - missing + place]
                return {**empty(), OK: tf.constant(0.0), ORIGIN: origin}

            return tf.cond(place < missing, bad, lambda: dict(clip))

        return tf.data.Dataset.range(there).map(plain_graph(one))

    return made.scan(tf.constant(0, tf.int64), plain_graph(count)).flat_map(plain_graph(fill))


def reported(batch: Batch, bad_records: BadRecords) -> Batch:
    """Lists the bad rows of a batch in `bad_records`; passes the batch on."""
    bad = batch[OK] < 0.5

    def report() -> tf.Tensor:
        origins = tf.boolean_mask(batch[ORIGIN], bad)
        tf.py_function(lambda found: bad_records.report(found.numpy().tolist()), [origins], [])
        return tf.constant(True)

    done = tf.cond(tf.reduce_any(bad), report, lambda: tf.constant(False))
    with tf.control_dependencies([done]):
        return {name: tf.identity(value) for name, value in batch.items()}


def without_lost_batches(batches: tf.data.Dataset, bad_records: BadRecords) -> tf.data.Dataset:
    """Puts the next other batch in the place of each that has no good row.

    The next and not the one before, so that wherever a run begins its batches are the same. The run
    ends where there is none among MOST_IN_A_ROW.
    """

    def give_up() -> tf.Tensor:
        tf.py_function(bad_records.give_up, [], [])
        return tf.constant(True)

    def count(lost: tf.Tensor, batch: Batch) -> tuple:
        some = tf.reduce_any(batch[OK] > 0.5)
        ends = tf.cond(lost < MOST_IN_A_ROW, lambda: tf.constant(False), give_up)
        with tf.control_dependencies([ends]):
            times = tf.where(some, lost + 1, 0)
        return lost + 1 - times, (times, batch)

    def spread(times: tf.Tensor, batch: Batch) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(batch).repeat(times)

    counted = batches.scan(tf.constant(0, tf.int64), plain_graph(count))
    return counted.flat_map(plain_graph(spread))


def replaced(batch: Batch) -> Batch:
    """Puts another clip of the batch, the next good one, in the place of each bad row.

    The number of rows must be static, and stays so. One at least is good.
    """
    good = batch[OK] > 0.5
    rows = good.shape[0]

    def fill() -> Batch:
        kept = tf.cast(tf.where(good)[:, 0], tf.int32)
        place = tf.searchsorted(kept, tf.range(rows))  # of the next good row, perhaps past all
        source = tf.gather(kept, place % tf.shape(kept)[0])
        return {name: tf.gather(value, source) for name, value in batch.items()}

    return tf.cond(tf.reduce_all(good), lambda: dict(batch), fill)
