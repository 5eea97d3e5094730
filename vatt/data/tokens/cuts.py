"""A long record as clips one after another, whose embeddings are averaged."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

ENOUGH = 0.7  # share of a clip that must have sound, of all but the first one
DROPPED = "-1"  # id of a clip that does not count


def clips(row: Mapping[str, tf.Tensor], name: tf.Tensor, count: int) -> dict[str, tf.Tensor]:
    """Cuts a row into clips of equal length.

    A clip behind the first one counts where more than `ENOUGH` of its windows are left. Its words
    are those of all.

    Args:
      row: what a model gets of it, by name (`vatt.configs.tokens.Tokens.shapes`), with tokens and
        windows for all clips.
      name: string, what is the same for the clips of a record and no other.
      count: of clips.

    Returns:
      The same with an axis of clips in front, and `ids`, string [count], `DROPPED` for those that
      do not count.
    """
    cut = {key: _parts(value, 0, count) for key, value in row.items() if key.startswith("video")}
    cut |= {
        key: tf.repeat(value[tf.newaxis], count, axis=0)
        for key, value in row.items()
        if key.startswith("text")
    }
    counts = tf.range(count) == 0
    if "audio" in row:
        length = row["audio"].shape[1] // count
        left = row["audio_STFT_nframes"] - length * tf.range(count)
        counts |= tf.cast(left, tf.float64) > ENOUGH * length
        cut["audio"] = _parts(row["audio"], 1, count)
        cut["audio_mask"] = _parts(row["audio_mask"], 0, count)
        cut["audio_STFT_nframes"] = tf.where(counts, tf.minimum(left, length), length)
    return {**cut, "ids": tf.where(counts, name, DROPPED)}


def _parts(values: tf.Tensor, axis: int, count: int) -> tf.Tensor:
    """[count, ...] of neighbouring parts along an axis."""
    return tf.stack(tf.split(values, count, axis=axis))
