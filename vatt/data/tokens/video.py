"""Vectors of one or two streams become a fixed number of tokens.

Streams have their own rates; the last one gives the time. Vectors are brought to unit length after
everything else has been done to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

LEAST_NORM = 1e-12


def nearest(length: tf.Tensor, places: tf.Tensor, count: int) -> tf.Tensor:
    """Int32 [count]: where the first of `places` places are in a sequence of `length`.

    floor(place * (length / places)), in float32: whole numbers give others for some lengths, such
    as 84 and 72.
    """
    scale = tf.cast(length, tf.float32) / tf.cast(tf.maximum(places, 1), tf.float32)
    found = tf.cast(tf.floor(tf.cast(tf.range(count), tf.float32) * scale), tf.int32)
    return tf.minimum(found, tf.maximum(length, 1) - 1)


def tokens(streams: Sequence[tf.Tensor], places: int, strategy: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Tokens of a video, and which of them are real.

    | strategy | more vectors than places |
    |---|---|
    | clip | the first ones |
    | nearest | every so many, of each stream |
    | max_pool | the largest values of each floor(vectors / places) neighbours, then nearest; as \
nearest where a stream has less than two vectors for a place |

    With fewer vectors, each is a token. A vector of another stream is that which is nearest before.
    Where a stream is empty there is no token.

    Args:
      streams: float32 [vectors, width] each, numbers and widths of their own.
      places: 0 for the largest values over time in place of tokens.
      strategy: of `vatt.configs.tokens.STRATEGIES`.

    Returns:
      Float32 [places, widths together] and float32 [places]; [widths together] and [1] without
      places, the mask always 1.
    """
    streams = [tf.convert_to_tensor(stream, tf.float32) for stream in streams]
    if not places:
        joined = [normalised(_largest(stream)) for stream in streams]
        return tf.concat(joined, axis=-1), tf.ones([1])
    lengths = [tf.shape(stream)[0] for stream in streams]
    present = tf.reduce_all(tf.stack(lengths) > 0)
    last = lengths[-1]
    long = present & (last > places) if strategy != "clip" else tf.constant(False)
    if strategy == "max_pool":
        factors = tf.stack(lengths) // places
        factors = tf.where(long & tf.reduce_all(factors > 1), factors, 1)
        streams = [_pooled(*pair) for pair in zip(streams, tf.unstack(factors), strict=True)]
    target = tf.where(long, places, last)
    joined = tf.concat([_placed(stream, target, places) for stream in streams], axis=-1)
    count = tf.where(present, tf.where(long, places, tf.minimum(last, places)), 0)
    mask = tf.sequence_mask(count, places, tf.float32)
    return tf.where(mask[:, tf.newaxis] > 0.0, joined, 0.0), mask


def normalised(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors [..., width] divided by their length, or by `LEAST_NORM` where that is more."""
    return vectors / tf.maximum(tf.norm(vectors, axis=-1, keepdims=True), LEAST_NORM)


def span(
    start: tf.Tensor, end: tf.Tensor, rate: float, accurate: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The first vector of the time from `start` to `end` (s), and the first one behind it: int32.

    Args:
      start: float64, at least 0.
      end: float64.
      rate: vectors per second.
      accurate: those that have some time in it; otherwise, as published in pretraining, one more
        where it ends between two of them.
    """
    rate = tf.cast(rate, tf.float64)
    first, last = (tf.cast(moment, tf.float64) * rate for moment in (start, end))
    if accurate:
        return tf.cast(tf.floor(first), tf.int32), tf.cast(tf.math.ceil(last), tf.int32)
    return tf.cast(first, tf.int32), tf.cast(last, tf.int32) + 1


def _largest(stream: tf.Tensor) -> tf.Tensor:
    """[width]: the largest values over time, zeros where there is none."""
    width = stream.shape[-1]
    return tf.cond(
        tf.shape(stream)[0] > 0, lambda: tf.reduce_max(stream, axis=0), lambda: tf.zeros([width])
    )


def _pooled(stream: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """[vectors // factor, width]: the largest values of so many neighbours; a rest is left out."""
    count = tf.shape(stream)[0] // factor
    groups = tf.reshape(stream[: count * factor], [count, factor, stream.shape[-1]])
    return tf.reduce_max(groups, axis=1)


def _placed(stream: tf.Tensor, target: tf.Tensor, places: int) -> tf.Tensor:
    """[places, width]: of a stream as it is when it has `target` vectors, the first ones."""
    found = nearest(tf.shape(stream)[0], target, places)
    there = tf.concat([stream, tf.zeros([1, stream.shape[-1]])], axis=0)  # also of an empty stream
    return normalised(tf.gather(there, found))
