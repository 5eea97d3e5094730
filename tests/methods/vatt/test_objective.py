"""The objective: pairs of modalities, their weights, stacks of losses; several replicas."""

from __future__ import annotations

import nce_numpy
import numpy as np
import pytest
import tensorflow as tf

from tests.golden.replicas import simulate
from vatt.errors import UserError
from vatt.methods.vatt import config as vatt
from vatt.methods.vatt import objective as objectives
from vatt.objectives.replica import ALONE

CLIPS, CANDIDATES, WIDTH = 6, 3, 8


def config(kind="AsymmetricNCE", **changes):
    return getattr(vatt, kind)(**changes)


def objective(*losses):
    return objectives.build(vatt.LossStack(bridge=losses or (config(),)))


@pytest.fixture
def embeddings():
    random = np.random.default_rng(3)
    rows = {
        "video/toaud": CLIPS,
        "video/totxt": CLIPS,
        "audio/tovid": CLIPS,
        "text/tovid": CLIPS * CANDIDATES,
    }
    return {name: random.normal(size=(n, WIDTH)).astype("float32") for name, n in rows.items()}


@pytest.fixture
def masks():
    return {
        "audio_mask": np.array([1, 0, 1, 1, 0, 1], "float32"),
        "text_mask": np.array([0, 1, 1, 0, 1, 0], "float32"),
    }


def nested(flat):
    result = {}
    for name, value in flat.items():
        modality, target = name.split("/")
        result.setdefault(modality, {})[target] = value
    return result


def test_asymmetric_against_numpy(embeddings, masks):
    logs = objective()(nested(embeddings), masks)
    e = embeddings
    expected = {
        "vidtxt": nce_numpy.asymmetric(e["video/totxt"], e["text/tovid"], masks["text_mask"]),
        "vidaud": nce_numpy.asymmetric(e["video/toaud"], e["audio/tovid"], masks["audio_mask"]),
    }
    for pair, value in expected.items():
        assert float(logs[f"bridge_losses/asymmetric_nce/{pair}_loss"]) == pytest.approx(
            value, rel=1e-5
        )
    assert float(logs["total_loss"]) == pytest.approx(sum(expected.values()) / 2, rel=1e-5)


def test_symmetric_against_numpy(embeddings, masks):
    logs = objective(config("SymmetricNCE"))(nested(embeddings), masks)
    expected = nce_numpy.symmetric(
        embeddings["text/tovid"], embeddings["video/totxt"], masks["text_mask"]
    )
    assert float(logs["bridge_losses/symmetric_nce/vidtxt_loss"]) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("kind", ["AsymmetricNCE", "SymmetricNCE"])
@pytest.mark.parametrize("replicas", [2, 3])
def test_global_loss_does_not_depend_on_the_replicas(embeddings, masks, kind, replicas):
    """Also with different numbers of valid clips per replica: values and gradients."""
    loss = objective(config(kind))
    flat = {name: tf.constant(value) for name, value in embeddings.items()}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(flat)
        one = loss(nested(flat), masks, ALONE)
        rows = {name: tf.split(value, replicas) for name, value in flat.items()}
        valid = {name: tf.split(value, replicas) for name, value in masks.items()}

        def share(index, replica):
            mine = {name: parts[index] for name, parts in rows.items()}
            batch = {name: parts[index] for name, parts in valid.items()}
            return loss(nested(mine), batch, replica)

        many = simulate(share, replicas)
        assert all(values.keys() == one.keys() == set(loss.names) for values in many)
        means = {name: tf.reduce_mean(tf.stack([v[name] for v in many])) for name in one}
    for name, mean in means.items():
        assert float(mean) == pytest.approx(float(one[name]), rel=1e-6), name
    mean, one = means["total_loss"], one["total_loss"]
    for name in flat:
        np.testing.assert_allclose(
            tape.gradient(mean, flat[name]), tape.gradient(one, flat[name]), atol=1e-5
        )


@pytest.mark.parametrize("kind", ["AsymmetricNCE", "SymmetricNCE"])
def test_batch_without_valid_clips_gives_zero(embeddings, kind):
    flat = {name: tf.constant(value) for name, value in embeddings.items()}
    nothing = dict.fromkeys(("audio_mask", "text_mask"), np.zeros(CLIPS, "float32"))
    with tf.GradientTape() as tape:
        tape.watch(flat)
        total = objective(config(kind))(nested(flat), nothing)["total_loss"]
    assert float(total) == 0.0
    for gradient in tape.gradient(total, flat).values():
        assert np.all(np.asarray(gradient) == 0.0)


def test_values_that_are_not_finite_stay_visible(embeddings, masks):
    embeddings["video/totxt"][1] = np.nan
    assert np.isnan(objective()(nested(embeddings), masks)["total_loss"])


def test_large_similarities_do_not_overflow(embeddings):
    logs = objective(config(temperature=0.001))(nested(embeddings), {})
    assert np.isfinite(logs["total_loss"])


def test_weights_and_loss_weight(embeddings, masks):
    plain = objective()(nested(embeddings), masks)
    weighted = objective(config(vid_txt_weight=3.0, loss_weight=0.5))(nested(embeddings), masks)
    name = "bridge_losses/asymmetric_nce/vidtxt_loss"
    assert float(weighted[name]) == pytest.approx(3 * float(plain[name]), rel=1e-6)
    expected = 0.5 * (float(weighted[name]) + float(plain[name.replace("txt", "aud")])) / 4
    assert float(weighted["total_loss"]) == pytest.approx(expected, rel=1e-6)


def test_losses_in_a_stack_add(embeddings):
    one = objective()(nested(embeddings), {})["total_loss"]
    two = objective(config("SymmetricNCE"))(nested(embeddings), {})["total_loss"]
    both = objective(config(), config("SymmetricNCE"))(nested(embeddings), {})
    assert float(both["total_loss"]) == pytest.approx(float(one + two), rel=1e-6)
    assert len([name for name in both if name.endswith("vidtxt_loss")]) == 2


def test_pair_without_embedding_is_named(embeddings):
    with pytest.raises(UserError, match=r"audtxt needs audio\.totxt.*aud_txt_weight"):
        objective(config(aud_txt_weight=1.0))(nested(embeddings), {})


def test_nothing_to_compute_is_refused():
    with pytest.raises(UserError, match="no pair has a positive weight"):
        objective(config(vid_txt_weight=0.0, vid_aud_weight=0.0))
    with pytest.raises(UserError, match="empty"):
        objectives.build(vatt.LossStack())


def test_names_are_those_of_what_is_returned(embeddings, masks):
    weighted = config("SymmetricNCE", vid_aud_weight=0.0)
    built = objective(config(), weighted)
    assert set(built(nested(embeddings), masks)) == set(built.names)
    assert len(built.names) == len(set(built.names)) == 3 + 3
    assert "bridge_losses/symmetric_nce/vidaud_loss" not in built.names
