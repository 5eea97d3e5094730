"""The order in which records are read: a function of (seed, position), so that a run can start
anywhere in it.

One epoch of a data set: its shards in an order drawn from (seed, data set, epoch), 32 of them read
in turn one record at a time, then a shuffle buffer seeded the same way. Epochs follow each other
without end. A position is reached by counting whole epochs (the card knows the number of records)
and passing over undecoded records within the last one.

Several sets are mixed by a draw per element from (seed, global element number): counting the same
draws says how many elements each set has given before any position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from vatt.data import sampling

INTERLEAVE_CYCLE = 32
READ_BUFFER_BYTES = 1 << 20
MIXING_BLOCK = 1 << 16  # draws made at once; changing it changes the order of every mixed run


def _interleave(shards: tf.data.Dataset, count: int) -> tf.data.Dataset:
    return shards.interleave(
        lambda path: tf.data.TFRecordDataset(path, buffer_size=READ_BUFFER_BYTES),
        cycle_length=min(INTERLEAVE_CYCLE, count),
        block_length=1,
    )


def one_pass(shards: Sequence[str], records: int) -> tf.data.Dataset:
    """Every record once, in the fixed interleaved order: dataset of serialized examples."""
    dataset = _interleave(tf.data.Dataset.from_tensor_slices(list(shards)), len(shards))
    return dataset.apply(tf.data.experimental.assert_cardinality(records))


def endless(
    shards: Sequence[str], records: int, *, seed: tf.Tensor, start: int, shuffle_buffer: int
) -> tf.data.Dataset:
    """Shuffled epochs without end, from element number `start` on.

    Args:
      shards: files, in the fixed order of the card.
      records: number of records in them together; reading fails when it is not true.
      seed: int64 [2] for the order of this data set.
      start: elements passed over, counted over all epochs.
      shuffle_buffer: records held undecoded to draw from.

    Returns:
      Dataset of (element number int64, serialized example).
    """
    paths = tf.constant(list(shards))

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        # tf.data mixes the graph's own seed into every shuffle seed. A fixed one here keeps the
        # order independent of tf.random.set_seed elsewhere; inside this function it concerns its
        # graph only.
        tf.random.set_seed(1)
        epoch_seed = sampling.fold(seed, epoch)
        order = sampling.permutation(sampling.fold(epoch_seed, 0), len(shards))
        shuffle_seed = tf.random.stateless_uniform(
            (), sampling.fold(epoch_seed, 1), 0, tf.int64.max, tf.int64, alg="philox"
        )
        dataset = _interleave(
            tf.data.Dataset.from_tensor_slices(tf.gather(paths, order)), len(shards)
        )
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(records))
        dataset = dataset.shuffle(
            min(shuffle_buffer, records), seed=shuffle_seed, reshuffle_each_iteration=False
        )
        first, within = divmod(start, records)
        passed_over = tf.where(tf.equal(epoch, first), tf.constant(within, tf.int64), 0)
        return dataset.skip(passed_over)

    epochs = tf.data.Dataset.range(start // records, tf.int64.max)
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
