"""The combinatorial loss: against NumPy in float64, on several replicas, without common clips."""

from __future__ import annotations

import fusion_models as small
import numpy as np
import pytest
import tensorflow as tf

from tests.golden.replicas import simulate
from vatt.methods.eao.config import COMPARED, JOINT, TV_ONLY, LossConfig
from vatt.methods.eao.objective import LEFT_OUT, CombinatorialLoss

ROWS, WIDTH = 8, 5
WEIGHTS = dict(zip(COMPARED, (1.0, 0.1, 0.2, 0.3, 0.4, 0.5), strict=True))


def loss_of(kind="NormSoftmax", weights=None, **changes):
    given = {f"{name}_weight": weight for name, weight in (weights or WEIGHTS).items()}
    config = small.config(loss_config=LossConfig(contrastive_loss=kind, **given), **changes)
    return CombinatorialLoss(config)


def outputs(empty=None, seed=0):
    random = np.random.default_rng(seed)
    names = ["text", "video", "audio", *JOINT]
    found = {f"{n}_embed": random.normal(size=(ROWS, WIDTH)).astype("f4") for n in names}
    for modality in ("text", "video", "audio"):
        there = np.ones(ROWS, "f4")
        there[(empty or {}).get(modality, [])] = 0.0
        found[f"{modality}_nonempty_input_mask"] = there
    return found


def expected(found, kind, temperature=0.05, margin=0.001):
    """The published definition, of rows that have all modalities."""
    total, weights, terms = 0.0, 0.0, {}
    for name, weight in WEIGHTS.items():
        sides = COMPARED[name]
        modalities = [m for side in sides for m in JOINT.get(side, (side,))]
        rows = np.all([found[f"{m}_nonempty_input_mask"] > 0 for m in modalities], axis=0)
        if not rows.any():
            continue
        x, y = (found[f"{side}_embed"][rows].astype("f8") for side in sides)
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
        scores = x @ y.T
        scores = scores / temperature if kind == "NormSoftmax" else scores - margin * np.eye(len(x))
        own = np.diag(scores)
        logs = [np.log(np.exp(scores).sum(axis)) for axis in (0, 1)]
        terms[name] = sum(np.mean(log - own) for log in logs)
        total, weights = total + weight * terms[name], weights + weight
    return total / weights, terms


@pytest.mark.parametrize("kind", ["NormSoftmax", "MMS"])
@pytest.mark.parametrize("empty", [{}, {"text": [1, 2], "audio": [2, 5]}])
def test_the_loss_is_the_published_one(kind, empty):
    found = outputs(empty)
    result, (total, terms) = loss_of(kind)(found), expected(found, kind)
    np.testing.assert_allclose(result["total_loss"], total, rtol=1e-5)
    for name, value in terms.items():
        np.testing.assert_allclose(result[f"combinatorial/{name}_loss"], value, rtol=1e-5)
    assert float(result[LEFT_OUT]) == 0


@pytest.mark.parametrize("kind", ["NormSoftmax", "MMS"])
def test_two_replicas_have_the_loss_and_gradients_of_all_rows(kind):
    """Also where one of them has no clip of a comparison."""
    loss = loss_of(kind)
    found = outputs({"text": [0, 1, 2, 3], "audio": [5]})
    given = {k: tf.Variable(v) for k, v in found.items() if k.endswith("_embed")}
    masks = {k: v for k, v in found.items() if k not in given}

    def share(index, replica):
        rows = slice(index * ROWS // 2, (index + 1) * ROWS // 2)
        return loss(
            {k: tf.convert_to_tensor(v)[rows] for k, v in (given | masks).items()}, {}, replica
        )

    with tf.GradientTape() as tape:
        whole = loss(given | masks)
    with tf.GradientTape() as other:
        parts = simulate(share, 2)
        total = (parts[0]["total_loss"] + parts[1]["total_loss"]) / 2
    np.testing.assert_allclose(total, whole["total_loss"], rtol=1e-5)
    one, two = tape.gradient(whole["total_loss"], given), other.gradient(total, given)
    for name in given:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_a_comparison_without_common_clips_is_left_out_and_counted():
    """Published it is no number, and with it the loss."""
    half = ROWS // 2
    found = outputs({"text": range(half), "audio": range(half, ROWS)})
    given = {k: tf.Variable(v) for k, v in found.items() if k.endswith("_embed")}
    with tf.GradientTape() as tape:
        result = loss_of()(found | given)
    lacking = ("ta", "t_va", "v_ta", "a_tv")
    for name in lacking:
        assert float(result[f"combinatorial/{name}_loss"]) == 0.0
    assert float(result[LEFT_OUT]) == len(lacking)
    np.testing.assert_allclose(result["total_loss"], expected(found, "NormSoftmax")[0], rtol=1e-5)
    for name, gradient in tape.gradient(result["total_loss"], given).items():
        assert np.isfinite(gradient).all(), name
    none = loss_of()(outputs(dict.fromkeys(("text", "video", "audio"), range(ROWS))))
    assert float(none["total_loss"]) == 0.0 and float(none[LEFT_OUT]) == len(COMPARED)


def test_values_that_are_no_numbers_are_not_hidden():
    found = outputs()
    found["text_embed"][3] = np.nan
    assert np.isnan(loss_of()(found)["total_loss"])


def test_losses_of_embeddings_that_there_are_not_are_left_out():
    assert loss_of(type=TV_ONLY).names == ("combinatorial/tv_loss", LEFT_OUT, "total_loss")
    assert len(loss_of(cross_modal=False).weights) == 3
    assert set(loss_of(weights={"tv": 1.0, "a_tv": 2.0}).weights) == {"tv", "a_tv"}
