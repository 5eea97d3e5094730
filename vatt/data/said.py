"""Clips that are cut where a caption is said, instead of captions chosen for a clip.

Source: GDT on HowTo100M. A caption is given at least so many seconds, and a clip begins at a whole
one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.data import records, sampling, text

if TYPE_CHECKING:
    from vatt.data.clips import ClipSpec
    from vatt.data.parsing import Record

LEAST = 4.0  # seconds that a caption is given


def segment(start: tf.Tensor, end: tf.Tensor, least: float = LEAST) -> tuple[tf.Tensor, tf.Tensor]:
    """Int32 first and last second of a caption from `start` to `end` (s).

    If it is shorter than `least`, it is widened on both sides alike, from 0 s on; decimals are cut
    off.
    """
    start, end = tf.cast(start, tf.float64), tf.cast(end, tf.float64)
    missing = tf.maximum(least - (end - start), 0.0)
    wider = tf.maximum(start - missing / 2.0, 0.0)
    short = missing > 0.0
    start, end = tf.where(short, wider, start), tf.where(short, wider + least, end)
    return tf.cast(start, tf.int32), tf.cast(end, tf.int32)


def latest(first: tf.Tensor, last: tf.Tensor, seconds: float) -> tf.Tensor:
    """Int32 last second at which a clip of so many seconds begins in a `segment`."""
    end = tf.cast(last, tf.float64) - seconds
    return tf.cast(tf.maximum(tf.cast(first, tf.float64), end), tf.int32)


def random_start(
    record: Record, count: tf.Tensor, seeds: tf.Tensor, spec: ClipSpec, least: float = LEAST
) -> tuple[tf.Tensor, tf.Tensor]:
    """A caption of a record by chance, and where a clip begins that shows what is said.

    Args:
      record: with captions, or none; those said outside of it are left out, and those without times
        are said at any time.
      count: int32 number of its frames.
      seeds: int64 [sampling.ROWS, 2] of the clip.
      spec: facts of the data set.
      least: seconds that a caption is given.

    Returns:
      String scalar, empty where there is no caption, and the first frame as of
      `ClipSpec.random_start`.
    """
    starts, ends, total = record.caption_starts, record.caption_ends, tf.size(record.captions)
    timed = (tf.size(starts) == total) & (tf.size(ends) == total)
    seconds = tf.cast(count, tf.float32) / spec.rate
    inside = tf.cond(
        timed, lambda: records.said_inside(starts, ends, seconds), lambda: tf.fill([total], True)
    )
    choices = tf.boolean_mask(tf.range(total), inside)
    share = sampling.uniform(seeds[sampling.CAPTIONS])
    chosen = choices[sampling.scaled_below(share, tf.size(choices)) :][:1]  # [1], or [0] without
    anywhere = spec.random_start(seeds[sampling.OFFSET], count)

    def at_caption() -> tf.Tensor:
        first, last = segment(starts[chosen[0]], ends[chosen[0]], least)
        share = sampling.uniform(seeds[sampling.OFFSET])
        number = latest(first, last, spec.seconds) - first + 1
        second = tf.cast(first + sampling.scaled_below(share, number), tf.float32)
        room = tf.maximum(tf.cast(count, tf.float32) - spec.size, 0.0)
        start = tf.clip_by_value(tf.round(second * spec.rate), 0.0, tf.floor(room))
        return tf.cast(start, anywhere.dtype)

    start = tf.cond((tf.size(chosen) > 0) & timed, at_caption, lambda: anywhere)
    return text.select_captions(tf.gather(record.captions, chosen), 1, "first")[0], start
