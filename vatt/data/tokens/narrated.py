"""Clips of a narrated video: so many seconds from anywhere, or what is said around them.

A caption that is being said where the clip begins, or where it ends, decides: the clip becomes this
caption with so many of its neighbours that it lasts long enough. The words of neighbours come
behind, in the order in which they were added. Where nothing is said the clip has no words. Source:
Everything at Once on HowTo100M.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_DECIMALS = 1000.0  # of times in records, float32
_ENDLESS = 1e5  # s: behind the end of every video


class Clip(NamedTuple):
    """Where a clip is in a video; times are float64 scalars (s)."""

    start: tf.Tensor
    end: tf.Tensor
    captions: tf.Tensor  # int32 [captions]: whose words they are, in their order
    sound_start: tf.Tensor
    sound_end: tf.Tensor


def exact(seconds: tf.Tensor) -> tf.Tensor:
    """Float64 times, of float32 ones in records: the nearest with three decimals."""
    return tf.round(tf.cast(seconds, tf.float64) * _DECIMALS) / _DECIMALS


def clip(
    starts: tf.Tensor,
    ends: tf.Tensor,
    seconds: tf.Tensor,
    share: tf.Tensor,
    least: float,
    misaligned: bool,
) -> Clip:
    """One clip.

    Args:
      starts: of the captions, float64 [captions], rising.
      ends: of the captions, float64 [captions].
      seconds: of the video, whole ones.
      share: draw in [0, 1): where in the video.
      least: seconds of a clip.
      misaligned: its sound begins half of `least` later and lasts `least`, so that it does not say
        the words themselves; without captions it has the sound that is there.
    """
    starts, ends = (tf.cast(times, tf.float64) for times in (starts, ends))
    room = tf.maximum(tf.cast(seconds, tf.float64) - least, 0.0)
    start = tf.cast(share, tf.float64) * room
    end = start + least
    found = tf.cond(
        tf.size(starts) > 0,
        lambda: _said_at(starts, ends, tf.stack([start, end])),
        lambda: tf.constant(-1),
    )

    def silent() -> Clip:
        return Clip(start, end, tf.zeros([0], tf.int32), start, tf.constant(_ENDLESS, tf.float64))

    def said() -> Clip:
        first, last, captions = _long_enough(starts, ends, found, least)
        begin, finish = starts[first], ends[last]
        if not misaligned:
            return Clip(begin, finish, captions, begin, finish)
        later = begin + least / 2.0
        return Clip(begin, finish, captions, later, later + least)

    return Clip(*tf.cond(found < 0, silent, said))


def _said_at(starts: tf.Tensor, ends: tf.Tensor, moments: tf.Tensor) -> tf.Tensor:
    """Int32: the caption that is said at the first of the moments where one is, else -1.

    Looked at is the last caption that begins before the moment (the first one where none does).
    """
    chosen = tf.maximum(tf.searchsorted(starts, moments, side="left") - 1, 0)
    there = (tf.gather(starts, chosen) <= moments) & (moments <= tf.gather(ends, chosen))
    return tf.concat([tf.boolean_mask(chosen, there), [-1]], axis=0)[0]


def _long_enough(
    starts: tf.Tensor, ends: tf.Tensor, found: tf.Tensor, least: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """First and last of the neighbours of a caption that last `least` s, and all as visited."""
    count = tf.size(starts)

    def short(first: tf.Tensor, last: tf.Tensor, visited: tf.Tensor) -> tf.Tensor:
        more = (first > 0) | (last < count - 1)
        return (ends[last] - starts[first] < least) & more

    def wider(
        first: tf.Tensor, last: tf.Tensor, visited: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        before, after = tf.maximum(first - 1, 0), tf.minimum(last + 1, count - 1)
        shorter = ends[last] - starts[before] <= ends[after] - starts[first]
        backwards = (first > 0) & ((last == count - 1) | shorter)
        added = tf.where(backwards, before, after)
        first, last = tf.where(backwards, before, first), tf.where(backwards, last, after)
        return first, last, tf.concat([visited, added[tf.newaxis]], axis=0)

    shapes = (tf.TensorShape([]), tf.TensorShape([]), tf.TensorShape([None]))
    return tf.while_loop(short, wider, (found, found, found[tf.newaxis]), shapes)
