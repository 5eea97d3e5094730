"""How many replicas share a step: layers that count the rows of the global batch need it."""

from __future__ import annotations

import keras


def count() -> int:
    """Returns the number of replicas whose batches make the global batch of this step.

    1 where the backend holds the global batch as one array anyway.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync
