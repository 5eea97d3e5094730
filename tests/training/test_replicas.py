"""Rows of other replicas; heads, loss and optimizer on two equal one device with all rows."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.methods.vatt import config as vatt
from vatt.methods.vatt import heads, objective
from vatt.objectives.replica import ALONE
from vatt.training import optimizers, replica

SIZES = {"video": 5, "audio": 6, "text": 7}
RANDOM = np.random.default_rng(0)
ROWS = {"video": 8, "audio": 8, "text": 24}
BATCH = {m: RANDOM.normal(size=(ROWS[m], size)).astype("f4") for m, size in SIZES.items()}
MASKS = {  # the replicas have different numbers of valid clips
    "audio_mask": np.array([1, 1, 1, 0, 0, 0, 1, 0], "f4"),
    "text_mask": np.array([0, 1, 0, 0, 1, 1, 1, 1], "f4"),
}


# Rows of other replicas ---------------------------------------------------------------------------

X = RANDOM.normal(size=(2, 3, 4)).astype("f4")  # [replicas, rows, d]
WEIGHTS = {"gather": RANDOM.normal(size=(2, 6, 4)), "gather_others": RANDOM.normal(size=(2, 3, 4))}
WEIGHTS["pick"] = RANDOM.normal(size=(2, 5, 4))
PICKED = [5, 0, 2, 2, 3]


def gathered(strategy, how, x, weights):
    """Returns of every replica what it gathers, and the gradient of its weighted sum."""

    def part(values):
        def of(context):
            return tf.constant(values[context.replica_id_in_sync_group])

        return strategy.experimental_distribute_values_from_function(of)

    def share(x, weights):
        this = replica.of_this_step()
        with tf.GradientTape() as tape:
            tape.watch(x)
            rows = tf.gather(this.gather(x), PICKED) if how == "pick" else getattr(this, how)(x)
            total = tf.reduce_sum(rows * weights)
        return rows, tape.gradient(total, x), tf.stack([this.index, this.count])

    @tf.function(autograph=False)
    def step(x, weights):
        return strategy.run(share, (x, weights))

    local = strategy.experimental_local_results
    return [
        [value.numpy() for value in local(part_of)]
        for part_of in step(part(x), part(weights.astype("f4")))
    ]


@pytest.mark.parametrize("how", WEIGHTS)
def test_two_replicas_gather_rows_and_gradients(two_replicas, how):
    """The gradient of a replica's rows is that of the sum over replicas."""
    weights = WEIGHTS[how]
    rows, gradients, places = gathered(two_replicas, how, X, weights)
    everyone = X.reshape(6, 4)
    if how == "gather":
        expected = [everyone, everyone]
        slopes = weights.sum(axis=0).reshape(2, 3, 4)
    elif how == "pick":
        expected, slopes = [everyone[PICKED]] * 2, np.zeros((6, 4))
        np.add.at(slopes, PICKED, weights.sum(axis=0))
        slopes = slopes.reshape(2, 3, 4)
    else:
        expected = [X[1], X[0]]
        slopes = weights[::-1]  # what one weighs is of the other
    for index in range(2):
        assert places[index].tolist() == [index, 2]
        assert rows[index].dtype == np.float32
        np.testing.assert_array_equal(rows[index], expected[index])
        np.testing.assert_allclose(gradients[index], slopes[index], rtol=1e-6)


def test_vectors_and_half_precision_are_gathered_in_float32(two_replicas):
    @tf.function(autograph=False)
    def step():
        def share():
            this = replica.of_this_step()
            mine = tf.cast(this.index + 1, tf.bfloat16) * tf.ones([2], tf.bfloat16)
            everyone, others = this.gather(mine), this.gather_others(mine)
            assert everyone.shape == (4,) and others.shape == (2,)
            return everyone, others

        return two_replicas.run(share)

    local = two_replicas.experimental_local_results
    everyone, others = (local(value) for value in step())
    for value, other, expected in zip(everyone, others, ([2, 2], [1, 1]), strict=True):
        assert value.dtype == other.dtype == tf.float32
        assert value.numpy().tolist() == [1, 1, 2, 2]
        assert other.numpy().tolist() == expected


def test_one_replica_has_no_others():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    assert strategy.run(replica.of_this_step) is ALONE
    assert replica.of_this_step() is ALONE  # and outside a strategy
    assert (ALONE.index, ALONE.count) == (0, 1)
    rows, gradients, _ = gathered(strategy, "gather", X[:1], WEIGHTS["gather_others"][:1])
    np.testing.assert_array_equal(rows[0], X[0])
    np.testing.assert_allclose(gradients[0], WEIGHTS["gather_others"][0], rtol=1e-6)
    rows, gradients, _ = gathered(strategy, "gather_others", X[:1], np.zeros((1, 0, 4)))
    assert rows[0].shape == (0, 4) and not gradients[0].any()


# A whole step ------------------------------------------------------------------------------------


def train(strategy, optimizer_config, steps=4):
    """Returns losses, model values and optimizer values after some steps."""
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        keras.utils.set_random_seed(1)
        head = heads.build(vatt.HeadStack(bridge=(vatt.FACBridge(),)))
        head.build(SIZES)
        optimizer = optimizers.build(optimizer_config, "opt")
        optimizer.build(head.trainable_variables)
    minimised = objective.build(vatt.LossStack(bridge=(vatt.AsymmetricNCE(),)))

    def replica_step(inputs, masks):
        with tf.GradientTape() as tape:
            embeddings = head(inputs, training=True)
            logs = minimised(embeddings, masks, replica.of_this_step())
            scaled = logs["total_loss"] / replicas
        variables = [v.value for v in head.trainable_variables]
        optimizer.apply(tape.gradient(scaled, variables), head.trainable_variables)
        return logs["total_loss"]

    @tf.function(autograph=False)
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
    "name",
    ["AdamWOptimizer"]
    + [pytest.param(n, marks=pytest.mark.slow) for n in ("MomentumWOptimizer", "MuonOptimizer")],
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
