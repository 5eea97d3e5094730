"""Mixup (Zhang et al., 2018, <https://arxiv.org/abs/1710.09412>): clips and labels become weighted
means of two rows of a batch.

    how = by_rows(seed, rows, alpha, beta)     # or by_batch(seed, rows, alpha)
    video, label = (mixed(x, *how) for x in (video, label))
"""

from __future__ import annotations

import tensorflow as tf

from vatt.data import sampling


def by_rows(
    seed: tf.Tensor, rows: tf.Tensor | int, alpha: float, beta: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """A share ~ Beta(alpha, beta) and a partner of its own for every row (VATT).

    Returns:
      Float32 [rows] and int32 [rows], a permutation.
    """
    order = sampling.permutation(sampling.fold(seed, 0), rows)
    return _beta(sampling.fold(seed, 1), rows, alpha, beta), order


def by_batch(seed: tf.Tensor, rows: tf.Tensor | int, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """One share ~ Beta(alpha, alpha) for all rows; the first and the last are partners (AV-MAE).

    Returns:
      Float32 [1] and int32 [rows], the rows from the last to the first.
    """
    return _beta(sampling.fold(seed, 1), 1, alpha, alpha), tf.range(rows)[::-1]


def mixed(x: tf.Tensor, share: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """`share` of each row and the rest of its partner; float32 [batch, ...]."""
    share = tf.reshape(share, [-1] + [1] * (x.shape.rank - 1))
    return share * x + (1.0 - share) * tf.gather(x, order)


def _beta(seed: tf.Tensor, count: tf.Tensor | int, alpha: float, beta: float) -> tf.Tensor:
    import tensorflow_probability as tfp  # takes two seconds: only who mixes pays for it

    seed = tf.cast(seed % (2**31), tf.int32)  # as that package wants it
    return tfp.distributions.Beta(float(alpha), float(beta)).sample(count, seed=seed)
