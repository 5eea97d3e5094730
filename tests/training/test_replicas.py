"""Heads, loss and optimizer on two replicas equal one device with the whole batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.modeling import heads
from vatt.objectives import contrastive
from vatt.training import optimizers

SIZES = {"video": 5, "audio": 6, "text": 7}
RANDOM = np.random.default_rng(0)
ROWS = {"video": 8, "audio": 8, "text": 24}
BATCH = {m: RANDOM.normal(size=(ROWS[m], size)).astype("f4") for m, size in SIZES.items()}
MASKS = {  # the replicas have different numbers of valid clips
    "audio": np.array([1, 1, 1, 0, 0, 0, 1, 0], "f4"),
    "text": np.array([0, 1, 0, 0, 1, 1, 1, 1], "f4"),
}


def train(strategy, optimizer_config, steps=4):
    """Returns losses, model values and optimizer values after some steps."""
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        keras.utils.set_random_seed(1)
        head = heads.build(configs.head.HeadStack(bridge=(configs.head.FACBridge(),)))
        head.build(SIZES)
        optimizer = optimizers.build(optimizer_config, "opt")
        optimizer.build(head.trainable_variables)
    objective = contrastive.build(configs.loss.LossStack(bridge=(configs.loss.AsymmetricNCE(),)))

    def replica_step(inputs, masks):
        context = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            embeddings = head(inputs, training=True)
            logs = objective(embeddings, masks, lambda x: context.all_gather(x, 0))
            scaled = logs["total_loss"] / replicas
        variables = [v.value for v in head.trainable_variables]
        optimizer.apply(tape.gradient(scaled, variables), head.trainable_variables)
        return logs["total_loss"]

    @tf.function
    def step(inputs, masks):
        return strategy.reduce("mean", strategy.run(replica_step, (inputs, masks)), axis=None)

    def split(values):
        def part(context):
            replica = context.replica_id_in_sync_group
            return {k: tf.constant(np.split(v, replicas)[replica]) for k, v in values.items()}

        return strategy.experimental_distribute_values_from_function(part)

    losses = [float(step(split(BATCH), split(MASKS))) for _ in range(steps)]
    return losses, [v.numpy() for v in head.variables], [v.numpy() for v in optimizer.variables]


@pytest.mark.parametrize(
    "name", ["AdamWOptimizer", pytest.param("MomentumWOptimizer", marks=pytest.mark.slow)]
)
def test_two_replicas_equal_one_device(two_replicas, name):
    rate = configs.experiment.LearningRate(learning_rate_base=0.01)
    config = getattr(configs.experiment, name)(learning_rate=rate)
    one = train(tf.distribute.OneDeviceStrategy("CPU:0"), config)
    two = train(two_replicas, config)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-5)
    assert one[0][-1] < one[0][0]
    for ours, theirs in zip(two[1] + two[2], one[1] + one[2], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 if name == "AdamWOptimizer" else 2e-5)
