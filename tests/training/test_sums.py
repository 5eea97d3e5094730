"""Sums of several terms do not depend on which operation happens to be done first."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.traced import operations
from vatt.training import sums


@pytest.fixture(scope="module", autouse=True)
def in_one_order():
    sums.in_one_order()


@pytest.fixture
def factors():
    rng = np.random.default_rng(0)
    return [rng.normal(size=5000).astype(np.float32) for _ in range(4)]


@pytest.mark.parametrize("needed", [(), (0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_terms_that_others_wait_for_are_added_in_their_place(factors, needed):
    """Those that are `needed` are held by what cannot begin before the sum is there."""

    @tf.function(autograph=False)
    def added(x, *others):
        terms = [x * other for other in others]
        total = terms[0] + terms[1] + terms[2]
        with tf.control_dependencies([tf.cos(total)]):
            return total, [tf.sin(terms[number]) for number in needed]

    x, *others = factors
    a, b, c = (x * other for other in others)
    assert not np.array_equal((a + b) + c, (b + c) + a)
    np.testing.assert_array_equal(added(*map(tf.constant, factors))[0], (a + b) + c)


def test_gradients_that_meet_are_added_two_by_two(factors):
    @tf.function(autograph=False)
    def gradient(x, *others):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.add_n([tf.reduce_sum(x * other) for other in others] * 2)
        return tape.gradient(total, x)

    x, *others = map(tf.constant, factors)
    graph = gradient.get_concrete_function(x, *others).graph
    terms = [node.attr["N"].i for node in operations(graph) if node.op == "AddN"]
    assert terms == [6]  # only the one that is asked for
    np.testing.assert_allclose(gradient(x, *others), 2.0 * sum(factors[1:]), rtol=1e-5, atol=1e-5)


def test_rows_of_an_embedding_and_lists_of_tensors_have_gradients():
    table, rows = tf.Variable([[1.0], [2.0], [3.0]]), tf.constant([0, 2, 0])

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            total = sum(tf.reduce_sum(tf.gather(table, rows) * k) for k in (1.0, 2.0, 4.0))
        return tf.convert_to_tensor(tape.gradient(total, table))

    np.testing.assert_array_equal(gradient(), [[14.0], [0.0], [7.0]])

    @tf.function
    def through_a_list(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            kept = tf.TensorArray(tf.float32, 3)
            for number in tf.range(3):
                kept = kept.write(number, x * tf.cast(number + 1, tf.float32))
            total = kept.read(0) + kept.read(1) + kept.read(2) + tf.reduce_sum(kept.stack())
        return tape.gradient(total, x)

    assert through_a_list(tf.constant(1.0)) == 12.0
