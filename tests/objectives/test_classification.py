"""Losses of fine-tuning against float64, golden numbers, and their invariances."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from tests.golden.checks import Note
from tests.golden.vatt.evaluation import classification_losses_file
from vatt.objectives import classification
from vatt.training import replica

ROWS, CLASSES = 6, 5


@pytest.fixture
def logits():
    return np.random.default_rng(1).normal(scale=3.0, size=(ROWS, CLASSES)).astype("float32")


@pytest.fixture
def many_hot():
    labels = (np.random.default_rng(2).uniform(size=(ROWS, CLASSES)) < 0.4).astype("float32")
    labels[:, 0] = 0.0  # a class nobody has
    labels[2] = 0.0  # a row without labels
    labels[3, 1:3] = 0.3, 0.7  # mixup
    return labels


@pytest.fixture
def one_hot():
    return np.eye(CLASSES, dtype="float32")[[0, 4, 2, 2, 1, 3]]


def expected_softmax(logits, labels):
    exponentials = np.exp(logits.astype("f8"))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return -np.mean([np.sum(y * np.log(p)) for y, p in zip(labels, probabilities, strict=True)])


def expected_sigmoid(logits, labels):
    """Label by label, with probabilities."""
    probabilities = 1.0 / (1.0 + np.exp(-logits.astype("f8")))
    total = 0.0
    for y, p in zip(labels.astype("f8"), probabilities, strict=True):
        present = np.flatnonzero(y)
        if len(present):
            weight = sum(y[c] / labels[:, c].astype("f8").sum() for c in present) / y.sum()
            total -= weight * np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))
    return total / len(labels)


def value_and_gradient(loss, logits, *arguments):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits, *arguments)
    return value, np.asarray(tape.gradient(value, logits))


def numerical_gradient(loss, logits, labels, step=1e-5):
    gradient = np.zeros(logits.shape)
    for place in np.ndindex(logits.shape):
        moved = logits.astype("f8")
        moved[place] += step
        gradient[place] = loss(moved, labels)
        moved[place] -= 2 * step
        gradient[place] -= loss(moved, labels)
    return gradient / (2 * step)


def test_softmax_against_float64(logits, one_hot):
    for labels in (one_hot, 0.9 * one_hot + 0.1 / CLASSES):
        value, gradient = value_and_gradient(classification.softmax_loss, logits, labels)
        assert float(value) == pytest.approx(expected_softmax(logits, labels), rel=1e-5)
        expected = numerical_gradient(expected_softmax, logits, labels)
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_sigmoid_against_float64(logits, many_hot):
    value, gradient = value_and_gradient(classification.sigmoid_loss, logits, many_hot)
    assert float(value) == pytest.approx(expected_sigmoid(logits, many_hot), rel=1e-5)
    expected = numerical_gradient(expected_sigmoid, logits, many_hot)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    assert not gradient[2].any()


def test_rare_labels_weigh_more():
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], "float32")
    _, gradient = value_and_gradient(
        classification.sigmoid_loss, np.zeros((4, 2), "float32"), labels
    )
    # at logit 0 the derivative of the cross-entropy is +-1/2; times the weight, over 4 rows
    np.testing.assert_allclose(np.abs(gradient[:3]), 1 / 3 / 2 / 4, rtol=1e-6)
    np.testing.assert_allclose(np.abs(gradient[3]), 1 / 2 / 4, rtol=1e-6)


def test_without_rarity_rows_weigh_alike(logits, many_hot):
    loss = classification.sigmoid_loss(logits, many_hot, rarity=False)
    x, y = np.asarray(logits, np.float64), np.asarray(many_hot, np.float64)
    entropy = y * np.log1p(np.exp(-x)) + (1 - y) * np.log1p(np.exp(x))
    np.testing.assert_allclose(loss, entropy.sum(axis=1).mean(), rtol=1e-5)


def test_nobody_has_a_label(logits):
    labels = np.zeros((ROWS, CLASSES), "float32")
    value, gradient = value_and_gradient(classification.sigmoid_loss, logits, labels)
    assert float(value) == 0.0 and not gradient.any()


@pytest.mark.parametrize("replicas", [2, 3])
def test_several_replicas_equal_one(logits, many_hot, replicas):
    """Values and gradients, although replicas hold different labels."""
    one, expected = value_and_gradient(classification.sigmoid_loss, logits, many_hot)
    parts = list(zip(np.split(logits, replicas), np.split(many_hot, replicas), strict=True))
    values, gradients = [], []
    for rows, labels in parts:
        everyone = types.SimpleNamespace(gather=lambda _: tf.constant(many_hot))
        counts = classification.count_labels(labels, everyone)
        value, gradient = value_and_gradient(classification.sigmoid_loss, rows, labels, counts)
        values.append(value)
        gradients.append(gradient / replicas)
    assert np.mean(values) == pytest.approx(float(one), rel=1e-6)
    np.testing.assert_allclose(np.concatenate(gradients), expected, atol=1e-7)
    local = [classification.sigmoid_loss(*part) for part in parts]
    assert abs(np.mean(local) - float(one)) > 1e-3  # counts of one replica only: another loss


def test_two_replicas_that_gather(two_replicas, logits, many_hot):
    def share(context):
        rows = slice(context.replica_id_in_sync_group * 3, None)
        return tf.constant(logits[rows][:3]), tf.constant(many_hot[rows][:3])

    shares = [
        two_replicas.experimental_distribute_values_from_function(lambda c, i=i: share(c)[i])
        for i in range(2)
    ]

    @tf.function(autograph=False)
    def step(rows, labels):
        def share(rows, labels):
            counts = classification.count_labels(labels, replica.of_this_step())
            return classification.sigmoid_loss(rows, labels, counts)

        return two_replicas.reduce("MEAN", two_replicas.run(share, (rows, labels)), axis=None)

    one = classification.sigmoid_loss(logits, many_hot)
    assert float(step(*shares)) == pytest.approx(float(one), rel=1e-6)


def test_extreme_logits_stay_finite(many_hot, one_hot):
    extreme = np.where(many_hot > 0, -1e4, 1e4).astype("float32")  # all wrong
    for loss, labels in (
        (classification.sigmoid_loss, many_hot),
        (classification.softmax_loss, one_hot),
    ):
        value, gradient = value_and_gradient(loss, extreme, labels)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_values_that_are_not_finite_stay_visible(logits, many_hot, one_hot):
    logits[2] = np.nan  # the row without labels: weight 0 does not hide it
    assert np.isnan(classification.sigmoid_loss(logits, many_hot))
    assert np.isnan(classification.softmax_loss(logits, one_hot))


def test_low_precision_logits_and_integer_labels(logits, many_hot, one_hot):
    low = tf.cast(logits, tf.bfloat16)
    whole = np.ceil(many_hot)
    for loss, labels in (
        (classification.sigmoid_loss, whole),
        (classification.softmax_loss, one_hot),
    ):
        value = loss(low, labels.astype("int32"))
        assert value.dtype == tf.float32
        assert float(value) == float(loss(tf.cast(low, tf.float32), labels))


@pytest.mark.parametrize("loss", [classification.softmax_loss, classification.sigmoid_loss])
def test_labels_that_do_not_fit_are_refused(loss, logits):
    for labels in (np.ones((ROWS, 1), "float32"), np.ones(ROWS, "float32")):
        with pytest.raises(ValueError, match=r"logits have shape \(6, 5\) and labels \(6"):
            loss(logits, labels)


@pytest.fixture(scope="module")
def golden(shared_dir):
    with np.load(shared_dir / "conformance" / "classification_losses.npz") as archive:
        return {name: archive[name] for name in archive.files}


def test_golden_numbers(golden):
    items = list(classification_losses_file(golden))
    checks = [item for item in items if not isinstance(item, Note)]
    assert [check for check in checks if not check.passed] == []
    names = " ".join(check.name for check in checks)
    outputs = [n for n in golden if ":" in n and "/in:" not in n]
    assert [n for n in outputs if n not in names] == []
    assert len(items) > len(checks)  # the row without labels is reported


def test_wrong_numbers_are_noticed(golden):
    for name in [n for n in golden if "/out:" in n or "/grad:" in n or n.startswith("initial")]:
        wrong = {**golden, name: golden[name] + np.float32(1e-2)}
        if np.isnan(golden[name]).any():
            wrong[name] = np.nan_to_num(golden[name])  # a number where ours must differ from it
        failed = [
            c for c in classification_losses_file(wrong) if getattr(c, "passed", True) is False
        ]
        assert failed, name
