"""Learning rate schedules against float64, their ends, and their errors."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import UserError
from vatt.training import schedules


def cosine(**changes):
    fields = {"learning_rate_base": 0.1, "total_steps": 100, "warmup_steps": 10}
    return schedules.build(configs.experiment.CosineDecayLearningRate(**{**fields, **changes}))


def stepwise(**changes):
    fields = {
        "total_steps": 100,
        "warmup_steps": 10,
        "learning_rate_levels": (0.1, 0.04),
        "learning_rate_steps": (10, 60),
    }
    return schedules.build(
        configs.experiment.StepwiseCosineDecayLearningRate(**{**fields, **changes})
    )


@pytest.mark.parametrize("step", [0, 3, 9, 10, 11, 55, 99, 100])
def test_cosine(step):
    expected = (
        0.01 + step / 10 * 0.09
        if step < 10
        else 0.1 * (math.cos(math.pi * (step - 10) / 90) + 1) / 2
    )
    assert float(cosine(warmup_learning_rate=0.01)(step)) == pytest.approx(
        expected, rel=1e-5, abs=1e-8
    )


@pytest.mark.parametrize("step", [0, 5, 10, 35, 59, 60, 80, 100])
def test_stepwise(step):
    if step < 10:
        expected = 0.1 * step / 10
    elif step < 60:
        expected = 0.04 + 0.06 * (math.cos(math.pi * (step - 10) / 50) + 1) / 2
    else:
        expected = 0.04 * (math.cos(math.pi * (step - 60) / 40) + 1) / 2
    assert float(stepwise()(step)) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_published_default_is_finite_at_its_end():
    schedule = schedules.build(configs.experiment.StepwiseCosineDecayLearningRate())
    for step in (500_000, 500_001, 600_000):
        assert float(schedule(step)) == pytest.approx(5e-5)


@pytest.mark.parametrize("make", [cosine, stepwise])
def test_constant_after_the_last_step(make):
    assert float(make()(150)) == float(make()(100)) == pytest.approx(0.0, abs=1e-8)


def test_no_warmup():
    assert float(cosine(warmup_steps=0)(0)) == pytest.approx(0.1)


def test_constant():
    schedule = schedules.build(configs.experiment.LearningRate(learning_rate_base=0.3))
    assert float(schedule(12345)) == pytest.approx(0.3)


def epochs(**changes):
    fields = {"learning_rate_base": 0.1, "total_steps": 60, "steps_per_epoch": 5}
    fields |= {"warmup_epochs": 2, "multiplier": 8.0, "milestones": (7, 11), "gamma": 0.05}
    return configs.experiment.MultiStepLearningRate(**{**fields, **changes})


def linear(**changes):
    fields = {"learning_rate_base": 0.64, "total_steps": 30, "warmup_learning_rate": 0.01}
    config = configs.experiment.LinearWarmupLearningRate(
        **{**fields, "warmup_steps": 10, **changes}
    )
    return schedules.build(config)


def multi_step():
    return schedules.build(epochs())


@pytest.mark.parametrize("make", [cosine, stepwise, multi_step, linear])
def test_same_in_graphs_with_integer_steps(make):
    schedule = make()
    compiled = tf.function(schedule)
    for step in (0, 7, 10, 63, 100):
        value = compiled(tf.constant(step, tf.int64))
        assert value.dtype == tf.float32
        # Graph optimisers may reorder a division: the last digit.
        assert float(value) == pytest.approx(float(schedule(step)), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("make", [cosine, stepwise, multi_step, linear])
def test_round_trip(make):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(make()))
    np.testing.assert_array_equal(again(np.arange(101)), make()(np.arange(101)))


def test_rates_change_between_epochs_only():
    rates = np.asarray(schedules.build(epochs())(np.arange(60))).reshape(12, 5)
    factors = [1, 4.5, 8, 8, 8, 8, 8, 0.4, 0.4, 0.4, 0.4, 0.02]
    np.testing.assert_allclose(rates, 0.1 * np.array(factors)[:, None].repeat(5, 1), rtol=1e-6)


def test_a_warmup_to_the_base_begins_at_zero():
    schedule = schedules.build(epochs(multiplier=1.0, warmup_epochs=4, milestones=()))
    np.testing.assert_allclose(schedule(np.arange(0, 30, 5)), [0, 0.025, 0.05, 0.075, 0.1, 0.1])


def test_without_warmup_only_milestones_count():
    schedule = schedules.build(epochs(multiplier=1.0, warmup_epochs=0, milestones=(1, 3)))
    np.testing.assert_allclose(schedule([0, 4, 5, 14, 15]), [0.1, 0.1, 0.005, 0.005, 0.00025])


def test_linear_warmup_holds_both_ends():
    rates = np.asarray(linear()(np.arange(31)))
    np.testing.assert_allclose(rates[:10], np.linspace(0.01, 0.64, 10), rtol=1e-6)
    np.testing.assert_allclose(rates[10:], 0.64)
    falling = np.asarray(linear(final_learning_rate=0.04)(np.arange(31)))
    np.testing.assert_array_equal(falling[:10], rates[:10])
    cosine = [0.04 + 0.3 * (1 + math.cos(math.pi * s / 20)) for s in range(21)]
    np.testing.assert_allclose(falling[10:], cosine, rtol=1e-6)
    assert float(linear(warmup_steps=0)(0)) == pytest.approx(0.64)


def test_rates_times_the_number_of_replicas():
    """The rate that is reached grows, not that which a warm-up begins with."""
    several = epochs(times_replicas=True, multiplier=1.0).for_replicas(8)
    np.testing.assert_array_equal(
        schedules.build(several)(np.arange(60)), schedules.build(epochs())(np.arange(60))
    )
    assert epochs().for_replicas(8) == epochs()
    config = configs.experiment.LinearWarmupLearningRate(
        learning_rate_base=0.01, warmup_learning_rate=0.01, warmup_steps=10, times_replicas=True
    )
    schedule = schedules.build(config.for_replicas(64))
    assert [float(schedule(s)) for s in (0, 9)] == pytest.approx([0.01, 0.64])
    levels = configs.experiment.StepwiseCosineDecayLearningRate(times_replicas=True)
    assert levels.for_replicas(2).learning_rate_levels == (2e-4, 1e-4)
    constant = configs.experiment.LearningRate(learning_rate_base=0.5, times_replicas=True)
    assert constant.for_replicas(3).learning_rate_base == 1.5


def test_inconsistent_steps_are_refused():
    build = schedules.StepwiseCosineDecay
    with pytest.raises(UserError, match="must rise"):
        build((0.1, 0.2), (10, 10), 100, 0.0, 10)
    with pytest.raises(UserError, match="must be warmup_steps, 5"):
        build((0.1, 0.2), (10, 20), 100, 0.0, 5)
