"""Contrastive losses against an independent float64 computation, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import UserError
from vatt.objectives import contrastive
from vatt.tools.conformance_losses import simulate_replicas

CLIPS, CANDIDATES, WIDTH = 6, 3, 8


def config(kind="AsymmetricNCE", **changes):
    return getattr(configs.loss, kind)(**changes)


def objective(*losses):
    return contrastive.build(configs.loss.LossStack(bridge=losses or (config(),)))


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
        "audio": np.array([1, 0, 1, 1, 0, 1], "float32"),
        "text": np.array([0, 1, 1, 0, 1, 0], "float32"),
    }


def nested(flat):
    result = {}
    for name, value in flat.items():
        modality, target = name.split("/")
        result.setdefault(modality, {})[target] = value
    return result


def unit(x):
    return x.astype("f8") / np.linalg.norm(x.astype("f8"), axis=-1, keepdims=True)


def asymmetric(one, two, mask, temperature=0.07):
    """Sums over explicit lists of pairs; absent clips are left out instead of being penalised."""
    one, two = unit(one), unit(two).reshape(len(one), -1, one.shape[1])
    losses = []
    for i in np.flatnonzero(mask):
        others = [j for j in range(len(one)) if mask[j]]
        forward = [one[i] @ two[j, k] for j in others for k in range(two.shape[1])]
        backward = [one[j] @ two[i, k] for j in range(len(one)) for k in range(two.shape[1])]
        own = [one[i] @ two[i, k] for k in range(two.shape[1])]
        total = np.exp(np.array(forward + backward) / temperature).sum()
        losses.append(np.log(total) - np.log(np.exp(np.array(own) / temperature).sum()))
    return np.mean(losses)


def symmetric(one, two, mask, temperature=0.07):
    """`one` is the masked modality with several rows per clip, `two` is video."""
    clips = len(mask)
    one, two = unit(one).reshape(clips, -1, one.shape[1]), unit(two)
    losses = []
    for i in np.flatnonzero(mask):
        towards = [one[i, m] @ two[c] for m in range(one.shape[1]) for c in range(clips)]
        back = [two[i] @ one[c, m] for c in range(clips) if mask[c] for m in range(one.shape[1])]
        own = np.exp(
            np.array([one[i, m] @ two[i] for m in range(one.shape[1])]) / temperature
        ).sum()
        for side in (towards, back):
            losses.append(np.log(np.exp(np.array(side) / temperature).sum()) - np.log(own))
    return 2 * np.mean(losses)


def test_asymmetric_against_numpy(embeddings, masks):
    logs = objective()(nested(embeddings), masks)
    e = embeddings
    expected = {
        "vidtxt": asymmetric(e["video/totxt"], e["text/tovid"], masks["text"]),
        "vidaud": asymmetric(e["video/toaud"], e["audio/tovid"], masks["audio"]),
    }
    for pair, value in expected.items():
        assert float(logs[f"bridge_losses/asymmetric_nce/{pair}_loss"]) == pytest.approx(
            value, rel=1e-5
        )
    assert float(logs["total_loss"]) == pytest.approx(sum(expected.values()) / 2, rel=1e-5)


def test_symmetric_against_numpy(embeddings, masks):
    logs = objective(config("SymmetricNCE"))(nested(embeddings), masks)
    expected = symmetric(embeddings["text/tovid"], embeddings["video/totxt"], masks["text"])
    assert float(logs["bridge_losses/symmetric_nce/vidtxt_loss"]) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("kind", ["AsymmetricNCE", "SymmetricNCE"])
@pytest.mark.parametrize("replicas", [2, 3])
def test_global_loss_does_not_depend_on_the_replicas(embeddings, masks, kind, replicas):
    """Also with different numbers of valid clips per replica: values and gradients."""
    loss = contrastive.build(configs.loss.LossStack(bridge=(config(kind),))).losses[0]
    flat = {name: tf.constant(value) for name, value in embeddings.items()}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(flat)
        one = loss(nested(flat), masks, contrastive.identity)["total"]
        many = simulate_replicas(
            loss, flat, {k: tf.constant(v) for k, v in masks.items()}, replicas
        )
        mean = tf.reduce_mean(tf.stack([value["total"] for value in many]))
    assert float(mean) == pytest.approx(float(one), rel=1e-6)
    for name in flat:
        np.testing.assert_allclose(
            tape.gradient(mean, flat[name]), tape.gradient(one, flat[name]), atol=1e-5
        )


@pytest.mark.parametrize("kind", ["AsymmetricNCE", "SymmetricNCE"])
def test_batch_without_valid_clips_gives_zero(embeddings, kind):
    flat = {name: tf.constant(value) for name, value in embeddings.items()}
    nothing = {"audio": np.zeros(CLIPS, "float32"), "text": np.zeros(CLIPS, "float32")}
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
    logs = objective(config(temperature=0.001))(nested(embeddings))
    assert np.isfinite(logs["total_loss"])


def test_weights_and_loss_weight(embeddings, masks):
    plain = objective()(nested(embeddings), masks)
    weighted = objective(config(vid_txt_weight=3.0, loss_weight=0.5))(nested(embeddings), masks)
    name = "bridge_losses/asymmetric_nce/vidtxt_loss"
    assert float(weighted[name]) == pytest.approx(3 * float(plain[name]), rel=1e-6)
    expected = 0.5 * (float(weighted[name]) + float(plain[name.replace("txt", "aud")])) / 4
    assert float(weighted["total_loss"]) == pytest.approx(expected, rel=1e-6)


def test_losses_in_a_stack_add(embeddings):
    one = objective()(nested(embeddings))["total_loss"]
    two = objective(config("SymmetricNCE"))(nested(embeddings))["total_loss"]
    both = objective(config(), config("SymmetricNCE"))(nested(embeddings))
    assert float(both["total_loss"]) == pytest.approx(float(one + two), rel=1e-6)
    assert len([name for name in both if name.endswith("vidtxt_loss")]) == 2


def test_pair_without_embedding_is_named(embeddings):
    with pytest.raises(UserError, match=r"audtxt needs audio\.totxt.*aud_txt_weight"):
        objective(config(aud_txt_weight=1.0))(nested(embeddings))


def test_nothing_to_compute_is_refused():
    with pytest.raises(UserError, match="no pair has a positive weight"):
        objective(config(vid_txt_weight=0.0, vid_aud_weight=0.0))
    with pytest.raises(UserError, match="empty"):
        contrastive.build(configs.loss.LossStack())
