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


@pytest.mark.parametrize("make", [cosine, stepwise])
def test_same_in_graphs_with_integer_steps(make):
    schedule = make()
    compiled = tf.function(schedule)
    for step in (0, 7, 10, 63, 100):
        value = compiled(tf.constant(step, tf.int64))
        assert value.dtype == tf.float32
        # Graph optimisers may reorder a division: the last digit.
        assert float(value) == pytest.approx(float(schedule(step)), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("make", [cosine, stepwise])
def test_round_trip(make):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(make()))
    np.testing.assert_array_equal(again(np.arange(101)), make()(np.arange(101)))


def test_inconsistent_steps_are_refused():
    build = schedules.StepwiseCosineDecay
    with pytest.raises(UserError, match="must rise"):
        build((0.1, 0.2), (10, 10), 100, 0.0, 10)
    with pytest.raises(UserError, match="must be warmup_steps, 5"):
        build((0.1, 0.2), (10, 20), 100, 0.0, 5)
