"""A replica of a `tf.distribute` strategy, as objectives see it (`vatt.objectives.replica`)."""

from __future__ import annotations

import tensorflow as tf

from vatt.objectives.replica import ALONE, Replica


class _OneOfSeveral:
    """A replica inside `strategy.run`."""

    def __init__(self, context: tf.distribute.ReplicaContext) -> None:
        self._context = context
        self.index = tf.cast(context.replica_id_in_sync_group, tf.int32)
        self.count: int = context.num_replicas_in_sync

    def gather(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` of all replicas in float32, as gathering knows no half precision."""
        gathered = self._context.all_gather(tf.cast(x, tf.float32), axis=0)
        # Not ensure_shape, which would pass the gradient of rows that are picked from these on to
        # all_gather as it is: sparse, which it cannot sum.
        return tf.reshape(gathered, [x.shape[0] * self.count, *x.shape[1:]])

    def gather_others(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `x` of all replicas but this one, in their order."""
        rows = x.shape[0]
        kept = tf.range((self.count - 1) * rows)
        kept += rows * tf.cast(kept >= self.index * rows, tf.int32)  # passes over this one's
        return tf.gather(self.gather(x), kept)


def of_this_step() -> Replica:
    """Returns the replica that the calling function runs on."""
    context = tf.distribute.get_replica_context()
    return ALONE if context.num_replicas_in_sync == 1 else _OneOfSeveral(context)
