"""From shards to batches: reading, mixing, sharing among workers, making clips, filling up.

What a clip is, `vatt.data.pipeline` says; in which order records come, `vatt.data.ordering`; what
becomes of those that cannot be used, `vatt.data.bad_records`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from vatt.data import cards, factories, ordering, sampling, vision
from vatt.data.bad_records import (
    OK,
    ORIGIN,
    BadRecords,
    Shard,
    attempt,
    replaced,
    reported,
    without_lost_batches,
)
from vatt.data.features import VIDEO, splits_of
from vatt.data.workers import available_cores

if TYPE_CHECKING:
    from vatt import configs

PREFETCH_BATCHES = 4

Batch = dict[str, tf.Tensor]


class Source(NamedTuple):
    """A data set to train from."""

    card: cards.Card
    stride: int  # in frames of its records
    weight: float
    make_clip: Callable[[tf.Tensor, tf.Tensor], Batch]  # (seed int64 [2], serialized) -> clip


def training_batches(
    cfg: configs.dataset.Dataset,
    sources: Sequence[Source],
    shapes: Mapping[str, tuple[int, ...]],
    whole_batch: Callable[[Batch, tf.Tensor], Batch],
    *,
    seed: int,
    start_step: int,
    batch_size: int | None,
    worker: tuple[int, int],
    bad_records: BadRecords | None,
) -> tf.data.Dataset:
    """Endless batches of clips, drawn from the sources in the proportion of their weights.

    Args:
      cfg: what to make.
      sources: data sets; those that are registered factories deliver clips instead of records.
      shapes: of the parts of a clip by name.
      whole_batch: f(batch, seed): what needs all clips of a batch, or is cheaper so.
      seed: of the run.
      start_step: batches passed over.
      batch_size: rows of all workers together; None takes that of `cfg`.
      worker: (index, number of workers).
      bad_records: where bad records are listed; None keeps the list in memory.
    """
    batch_size = batch_size or cfg.batch_size
    bad_records = bad_records or BadRecords(max_fraction=cfg.max_bad_fraction)
    root = sampling.root_seed(seed)
    calls = cfg.num_parallel_calls or available_cores()
    place = _Place(start_step * batch_size, batch_size, worker)
    dataset = _examples(cfg, sources, shapes, root, place, calls, bad_records)
    dataset = dataset.batch(place.rows, drop_remainder=True)
    if cfg.data_service:
        dataset = _through_service(dataset, cfg.data_service)

    dataset = dataset.map(
        sampling.plain_graph(lambda batch: reported(batch, bad_records)),
        num_parallel_calls=calls,
        deterministic=True,
    )

    def finish(step: tf.Tensor, batch: Batch) -> Batch:
        batch = replaced(batch)
        batch = {k: v for k, v in batch.items() if k not in (OK, ORIGIN)}
        return whole_batch(batch, sampling.fold(root, sampling.USE_MIXUP, step))

    dataset = (
        without_lost_batches(dataset, bad_records)
        .enumerate(start_step)
        .map(sampling.plain_graph(finish), num_parallel_calls=calls, deterministic=True)
    )
    return _finish(dataset)


class _Place(NamedTuple):
    """Where in the stream of examples a worker begins, and which of them are its own."""

    start: int  # examples passed over
    batch_size: int  # of all workers together
    worker: tuple[int, int]

    @property
    def rows(self) -> int:
        """Rows of a batch that this worker makes."""
        return self.batch_size // self.worker[1]


def _examples(
    cfg: configs.dataset.Dataset,
    sources: Sequence[Source],
    shapes: Mapping[str, tuple[int, ...]],
    root: tf.Tensor,
    place: _Place,
    calls: int,
    bad_records: BadRecords,
) -> tf.data.Dataset:
    """Endless examples of one worker, drawn from the sources in the proportion of their weights."""
    weights = [source.weight for source in sources]
    taken = ordering.elements_taken(root, weights, place.start)
    seeds = [sampling.fold(root, sampling.USE_CLIP, index) for index in range(len(sources))]

    def make_clip(number: tf.Tensor, element: tf.Tensor, record: tf.Tensor) -> Batch:
        def of_source(index: int) -> Batch:
            return sources[index].make_clip(sampling.fold(seeds[index], element), record)

        if len(sources) == 1:
            return of_source(0)
        return tf.switch_case(number, [lambda i=i: of_source(i) for i in range(len(sources))])

    def records(index: int) -> tf.data.Dataset:
        order_seed = sampling.fold(root, sampling.USE_EPOCH_ORDER, index)
        return _records(cfg, sources[index].card, index, order_seed, taken[index], bad_records)

    def shared(streams: list[tf.data.Dataset]) -> tf.data.Dataset:
        if len(streams) > 1:
            choices = ordering.choices(root, weights, place.start)
            mixed = tf.data.Dataset.choose_from_datasets(
                streams, choices, stop_on_empty_dataset=True
            )
        else:
            (mixed,) = streams
        return _rows_of_worker(mixed, place)

    from_code = [factories.find(source.card.name) is not None for source in sources]
    if not any(from_code):
        mixed = shared([records(index) for index in range(len(sources))])
        return attempt(mixed, make_clip, calls)
    # What a factory delivers is a clip already: clips are mixed, not records.
    return shared(
        [
            factories.clips(source.card.name, cfg, shapes, source.stride, place.rows)
            if is_code
            else attempt(records(index), make_clip, calls)
            for index, (source, is_code) in enumerate(zip(sources, from_code, strict=True))
        ]
    )


def finite_batches(
    cfg: configs.dataset.Dataset,
    card: cards.Card,
    split: str,
    make_clip: Callable[[tf.Tensor, tf.Tensor], Batch],
    *,
    batch_size: int,
    bad_records: BadRecords | None,
    repeats: int = 1,
) -> tf.data.Dataset:
    """Batches of every record of a split, `repeats` times, the last one filled up with zeros.

    `make_clip` gets the number of the record, counted through the shards in their order and on from
    the last one for each repeat, and the serialized record.
    """
    bad_records = bad_records or BadRecords(max_fraction=cfg.max_bad_fraction)
    shards = shards_of(card, split)
    known = tf.constant(bad_records.add_set(card, split, shards), tf.int64)
    total = sum(shard.records for shard in shards)
    starts = tf.constant(np.cumsum([0, *(shard.records for shard in shards)]), tf.int64)

    @sampling.plain_graph
    def one_pass(repeat: tf.Tensor) -> tf.data.Dataset:
        return ordering.one_pass(shards).map(
            lambda place, serialized: (
                tf.concat([[known], place], 0),
                repeat * total + starts[place[0]] + place[1],
                serialized,
            )
        )

    records = tf.data.Dataset.range(repeats).flat_map(one_pass)
    calls = cfg.num_parallel_calls or available_cores()
    dataset = attempt(records, make_clip, calls, repeats * total)
    dataset = dataset.batch(batch_size, drop_remainder=False)
    dataset = dataset.map(sampling.plain_graph(lambda batch: reported(batch, bad_records)))
    return filled_up(dataset, cfg, batch_size)


def filled_up(
    batches: tf.data.Dataset, cfg: configs.dataset.Dataset, batch_size: int
) -> tf.data.Dataset:
    """Renames `ok` to `valid` and adds rows of zeros to a short last batch."""

    def fill_up(batch: Batch) -> Batch:
        batch = dict(batch)
        del batch[ORIGIN]
        batch["valid"] = batch.pop(OK)
        if cfg.space_to_depth and VIDEO in batch:
            batch[VIDEO] = vision.space_to_depth(batch[VIDEO])
        rows = tf.shape(batch["valid"])[0]

        def fill(value: tf.Tensor) -> tf.Tensor:
            missing = [[0, batch_size - rows]] + [[0, 0]] * (value.shape.rank - 1)
            empty = "" if value.dtype == tf.string else tf.zeros((), value.dtype)
            filled = tf.pad(value, missing, constant_values=empty)
            return tf.ensure_shape(filled, (batch_size, *value.shape[1:]))

        return {name: fill(value) for name, value in batch.items()}

    return _finish(batches.map(sampling.plain_graph(fill_up)))


def shards_of(card: cards.Card, split: str) -> list[Shard]:
    """The shards of a split with the number of records of each.

    Of several splits, joined by "+", a shard they share comes once.
    """
    counts: dict[Path, int] = {}
    for name in splits_of(split):
        counts |= card.shard_records(name)
    return [Shard(str(path), count) for path, count in counts.items()]


def _records(
    cfg: configs.dataset.Dataset,
    card: cards.Card,
    index: int,
    seed: tf.Tensor,
    start: int,
    bad_records: BadRecords,
) -> tf.data.Dataset:
    """Endless (origin [3], source number int32, element number, serialized) of one data set."""
    split = cfg.split or "train"
    shards = shards_of(card, split)
    known = tf.constant(bad_records.add_set(card, split, shards), tf.int64)
    number = tf.constant(index, tf.int32)
    stream = ordering.endless(shards, seed=seed, start=start, shuffle_buffer=cfg.shuffle_buffer)

    @sampling.plain_graph
    def with_source(element: tf.Tensor, item: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        return tf.concat([[known], item[0]], 0), number, element, item[1]

    return stream.map(with_source)


def _rows_of_worker(dataset: tf.data.Dataset, place: _Place) -> tf.data.Dataset:
    """Every worker's neighbouring rows of each batch; element `start` is the first of a batch."""
    if place.worker[1] == 1:
        return dataset
    first, size = place.worker[0] * place.rows, place.batch_size
    numbered = dataset.enumerate(place.start).filter(
        lambda at, _: (at % size >= first) & (at % size < first + place.rows)
    )
    return numbered.map(lambda _, element: element)


def _through_service(dataset: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Clips made by the workers of a tf.data service: every record once per epoch of a worker.

    Each worker takes whole epochs, so that the order, unlike without the service, is not a
    function of (seed, step).
    """
    service = tf.data.experimental.service
    return dataset.apply(service.distribute(service.ShardingPolicy.DYNAMIC, address))


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(PREFETCH_BATCHES).with_options(options)
