"""The order in which records are read: a function of (seed, position), so that a run can start
anywhere in it.

One epoch of a data set: its shards in an order drawn from (seed, data set, epoch), in groups of 32
that are read in turn one record at a time through a shuffle buffer, seeded the same way. Epochs
follow each other without end. A position is reached by counting: whole epochs and groups before it
are not opened (the card knows the number of records), and undecoded records are passed over within
one group. Damage in a shard changes no position: a record that cannot be read is still counted, as
an empty string.

Several sets are mixed by a draw per element from (seed, global element number): counting the same
draws says how many elements each set has given before any position.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from vatt.data import framing, sampling
from vatt.data.bad_records import Shard

INTERLEAVE_CYCLE = 32
READ_BUFFER_BYTES = 1 << 20
MIXING_BLOCK = 1 << 16  # draws made at once; changing it changes the order of every mixed run


@sampling.plain_graph
def _read_shard(path: tf.Tensor, number: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    """Dataset of ([shard, record] int64, serialized): `count` elements, whatever is in the file.

    What cannot be read is an empty string. A healthy shard is read by TensorFlow alone; the place
    to go on after damage is looked for when there is some.
    """
    read = tf.data.TFRecordDataset(path, buffer_size=READ_BUFFER_BYTES)
    # What cannot even be opened fails again and again: without numbers that end, for ever.
    tries = tf.data.Dataset.range(count + 1)
    intact = tf.data.Dataset.zip(tries, read).ignore_errors().map(lambda _, data: data)
    # Evaluated only when `intact` ends before `count` records, that is at the first damaged one.
    rest = tf.data.Dataset.from_tensors((path, count)).flat_map(_after_damage)
    lost = tf.data.Dataset.from_tensors("").repeat()  # should even that fail
    found = intact.concatenate(rest.ignore_errors()).concatenate(lost).take(count)
    return found.enumerate().map(lambda index, data: (tf.stack([number, index]), data))


def _after_damage(path: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    """What is left of a damaged shard, with an empty string for every record that is lost."""

    def pieces(path: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Byte offsets (-1: lost) and numbers of records, from the first damaged record on."""
        readable, _ = framing.segments(Path(path.decode()), int(count))
        done = readable.pop(0).records if readable and readable[0].first == 0 else 0
        offsets, numbers = [], []
        for part in readable:
            offsets += [-1, part.offset]
            numbers += [part.first - done, part.records]
            done = part.first + part.records
        return np.array([*offsets, -1], np.int64), np.array([*numbers, count - done], np.int64)

    offsets, numbers = tf.numpy_function(pieces, [path, count], [tf.int64, tf.int64])

    def piece(offset: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        lost = tf.where(offset < 0, number, 0)
        read = tf.raw_ops.TFRecordDatasetV2(
            filenames=path[tf.newaxis],
            compression_type="",
            buffer_size=READ_BUFFER_BYTES,
            byte_offsets=tf.maximum(offset, 0)[tf.newaxis],
        )
        read = tf.data.experimental.from_variant(read, tf.TensorSpec((), tf.string))
        return tf.data.Dataset.from_tensors("").repeat(lost).concatenate(read.take(number - lost))

    return tf.data.Dataset.from_tensor_slices(
        (tf.ensure_shape(offsets, [None]), tf.ensure_shape(numbers, [None]))
    ).flat_map(piece)


def _interleave(shards: Sequence[Shard], order: tf.Tensor) -> tf.data.Dataset:
    """Shards of the numbers `order`, INTERLEAVE_CYCLE at a time, one record of each in turn."""
    paths = tf.constant([shard.path for shard in shards])
    counts = tf.constant([shard.records for shard in shards], tf.int64)
    numbers = tf.range(len(shards), dtype=tf.int64)
    columns = [tf.gather(column, order) for column in (paths, numbers, counts)]
    return tf.data.Dataset.from_tensor_slices(tuple(columns)).interleave(
        _read_shard, cycle_length=min(INTERLEAVE_CYCLE, len(shards)), block_length=1
    )


def one_pass(shards: Sequence[Shard]) -> tf.data.Dataset:
    """Every record once, in the fixed interleaved order: ([shard, record] int64, serialized)."""
    return _interleave(shards, tf.range(len(shards)))


def endless(
    shards: Sequence[Shard], *, seed: tf.Tensor, start: int, shuffle_buffer: int
) -> tf.data.Dataset:
    """Shuffled epochs without end, from element number `start` on.

    Args:
      shards: files in the fixed order of the card, with the number of records of each.
      seed: int64 [2] for the order of this data set.
      start: elements passed over, counted over all epochs.
      shuffle_buffer: records held undecoded to draw from.

    Returns:
      Dataset of (element number int64, ([shard, record] int64, serialized)).
    """
    total = sum(shard.records for shard in shards)
    counts = tf.constant([shard.records for shard in shards], tf.int64)
    first_epoch, within = divmod(start, total)

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        # tf.data mixes the graph's own seed into every shuffle seed. A fixed one here keeps the
        # order independent of tf.random.set_seed elsewhere; inside this function it concerns its
        # graph only.
        tf.random.set_seed(1)
        epoch_seed = sampling.fold(seed, epoch)
        order = sampling.permutation(sampling.fold(epoch_seed, 0), len(shards))
        groups = -(-len(shards) // INTERLEAVE_CYCLE)
        places = tf.range(len(shards)) // INTERLEAVE_CYCLE
        ends = tf.cumsum(tf.math.segment_sum(tf.gather(counts, order), places))  # [groups]
        passed = tf.where(tf.equal(epoch, first_epoch), tf.constant(within, tf.int64), 0)
        first = tf.searchsorted(ends, passed[tf.newaxis], side="right", out_type=tf.int64)[0]
        rest = passed - tf.concat([[tf.constant(0, tf.int64)], ends], 0)[first]

        def group_order(group: tf.Tensor) -> tf.data.Dataset:
            begin = tf.cast(group, tf.int32) * INTERLEAVE_CYCLE
            shuffle_seed = tf.random.stateless_uniform(
                (), sampling.fold(epoch_seed, 1 + group), 0, tf.int64.max, tf.int64, alg="philox"
            )
            dataset = _interleave(shards, order[begin : begin + INTERLEAVE_CYCLE]).shuffle(
                min(shuffle_buffer, total), seed=shuffle_seed, reshuffle_each_iteration=False
            )
            return dataset.skip(tf.where(tf.equal(group, first), rest, 0))

        return tf.data.Dataset.range(first, groups).flat_map(sampling.plain_graph(group_order))

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(sampling.plain_graph(epoch_order)).enumerate(start)


def _block_of_choices(seed: tf.Tensor, shares: np.ndarray, block: int | tf.Tensor) -> tf.Tensor:
    """Int64 [MIXING_BLOCK] choices of the elements block * MIXING_BLOCK onwards."""
    draws = sampling.uniform(sampling.fold(seed, sampling.USE_MIXING, block), (MIXING_BLOCK,))
    edges = tf.constant(np.cumsum(shares)[:-1], tf.float32)
    return tf.searchsorted(edges, draws, side="right", out_type=tf.int64)


def _shares(weights: Sequence[float]) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    return weights / weights.sum()


def choices(seed: tf.Tensor, weights: Sequence[float], start: int) -> tf.data.Dataset:
    """Which data set gives each element, from element number `start` on: int64 without end."""
    shares = _shares(weights)
    blocks = tf.data.Dataset.range(start // MIXING_BLOCK, tf.int64.max)

    @sampling.plain_graph
    def block_of_choices(block: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(_block_of_choices(seed, shares, block))

    drawn = blocks.flat_map(block_of_choices)
    return drawn.skip(start % MIXING_BLOCK)


def elements_taken(seed: tf.Tensor, weights: Sequence[float], start: int) -> list[int]:
    """How many of the first `start` elements each data set gave."""
    if len(weights) == 1:
        return [start]
    shares = _shares(weights)
    taken = np.zeros(len(weights), np.int64)
    for block in range(-(-start // MIXING_BLOCK)):
        drawn = _block_of_choices(seed, shares, block).numpy()
        drawn = drawn[: start - block * MIXING_BLOCK]
        taken += np.bincount(drawn, minlength=len(weights))
    return taken.tolist()
