"""NCE between two modalities against an independent float64 computation, and its invariances."""

from __future__ import annotations

import nce_numpy
import numpy as np
import pytest
import tensorflow as tf

from tests.golden.replicas import simulate
from vatt.errors import UserError
from vatt.objectives import contrastive
from vatt.objectives.replica import ALONE

CLIPS, CANDIDATES, WIDTH = 6, 3, 8
KINDS = [contrastive.AsymmetricNCE, contrastive.SymmetricNCE]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def pair():
    """Embeddings of videos, and of several sentences for each."""
    random = np.random.default_rng(3)
    rows = (CLIPS, CLIPS * CANDIDATES)
    return [random.normal(size=(n, WIDTH)).astype("float32") for n in rows]


@pytest.fixture
def mask():
    return np.array([0, 1, 1, 0, 1, 0], "float32")


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("candidates", [1, CANDIDATES])
def test_against_numpy(pair, mask, temperature, candidates):
    video, text = pair[0], pair[1][: candidates * CLIPS]
    loss = contrastive.AsymmetricNCE(temperature)
    expected = nce_numpy.asymmetric(video, text, mask, temperature)
    assert float(loss(video, text, None, mask, ALONE)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(video, text, 0 * mask, mask, ALONE)) == pytest.approx(expected, rel=1e-5)
    loss = contrastive.SymmetricNCE(temperature)
    expected = nce_numpy.symmetric(text, video, mask, temperature)
    assert float(loss(video, text, None, mask, ALONE)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(text, video, mask, None, ALONE)) == pytest.approx(expected, rel=1e-5)


@every_kind
def test_without_a_mask_all_clips_count(pair, kind):
    everyone = np.ones(CLIPS, "float32")
    one = kind(0.07)(*pair, None, None, ALONE)
    assert float(one) == pytest.approx(float(kind(0.07)(*pair, None, everyone, ALONE)), rel=1e-6)


@every_kind
@pytest.mark.parametrize("replicas", [2, 3])
def test_the_loss_does_not_depend_on_the_replicas(pair, mask, kind, replicas):
    """Also with different numbers of valid clips per replica: values and gradients."""
    loss, pair = kind(0.07), [tf.constant(x) for x in pair]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(pair)
        one = loss(*pair, None, mask, ALONE)
        parts = [tf.split(x, replicas) for x in (*pair, mask)]

        def share(index, replica):
            video, text, valid = (part[index] for part in parts)
            return loss(video, text, None, valid, replica)

        mean = tf.reduce_mean(tf.stack(simulate(share, replicas)))
    assert float(mean) == pytest.approx(float(one), rel=1e-6)
    for x in pair:
        np.testing.assert_allclose(tape.gradient(mean, x), tape.gradient(one, x), atol=1e-5)


@every_kind
def test_a_mean_over_each_replica_weighs_its_clips(pair, mask, kind):
    """As published: the replica with one valid clip of three counts as much as that with two."""
    parts = [tf.split(tf.constant(x), 2) for x in (*pair, mask)]

    def shares(normalization):
        loss = kind(0.07, normalization)

        def share(index, replica):
            video, text, valid = (part[index] for part in parts)
            return loss(video, text, None, valid, replica)

        return np.array([float(x) for x in simulate(share, 2)])

    per_clip, per_replica = shares("global"), shares("replica")
    valid = mask.reshape(2, -1).sum(axis=1)
    np.testing.assert_allclose(per_replica, per_clip * valid.sum() / 2 / valid, rtol=1e-6)
    assert abs(per_replica.mean() - per_clip.mean()) > 1e-3
    alone = [kind(0.07, n)(*pair, None, mask, ALONE) for n in contrastive.MASK_NORMALIZATIONS]
    assert float(alone[0]) == float(alone[1])


@every_kind
def test_a_batch_without_valid_clips_gives_zero(pair, kind):
    pair = [tf.constant(x) for x in pair]
    with tf.GradientTape() as tape:
        tape.watch(pair)
        value = kind(0.07)(*pair, None, np.zeros(CLIPS, "float32"), ALONE)
    assert float(value) == 0.0
    for gradient in tape.gradient(value, pair):
        assert np.all(np.asarray(gradient) == 0.0)


@every_kind
def test_values_that_are_not_finite_stay_visible(pair, mask, kind):
    pair[0][0] = np.nan  # of a clip that is masked
    assert np.isnan(kind(0.07)(*pair, None, mask, ALONE))


@every_kind
def test_large_similarities_do_not_overflow(pair, kind):
    assert np.isfinite(kind(0.001)(*pair, None, None, ALONE))


@every_kind
def test_half_precision_is_compared_in_float32(pair, mask, kind):
    low = [tf.cast(x, tf.bfloat16) for x in pair]
    value = kind(0.07)(*low, None, tf.cast(mask, tf.bfloat16), ALONE)
    assert value.dtype == tf.float32
    expected = kind(0.07)(*(tf.cast(x, tf.float32) for x in low), None, mask, ALONE)
    assert float(value) == float(expected)


def test_batch_sizes_must_be_known(pair):
    @tf.function(input_signature=[tf.TensorSpec((None, WIDTH)), tf.TensorSpec((None, WIDTH))])
    def loss(one, two):
        return contrastive.SymmetricNCE(0.07)(one, two, None, None, ALONE)

    with pytest.raises(ValueError, match="static batch sizes"):
        loss(*pair)


@every_kind
def test_an_unknown_mean_is_refused(kind):
    with pytest.raises(UserError, match="mask_normalization: 'batch' is not one of"):
        kind(0.07, "batch")
