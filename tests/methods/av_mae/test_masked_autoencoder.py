"""What masked autoencoders see and what they do not; masks; losses; features."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.traced import graphs_left_by
from vatt import methods
from vatt.methods.av_mae import config as configuration
from vatt.methods.av_mae import targets
from vatt.methods.av_mae.masks import Mask
from vatt.modeling import flops
from vatt.modeling.random import Randomness

sys.path.insert(0, str(Path(__file__).parent))
import small

STRATEGIES = [
    (encoder, decoder)
    for encoder in (
        configuration.SEPARATE,
        configuration.EARLY,
        configuration.SHARED,
        configuration.MID,
    )
    for decoder in (
        configuration.SAME_DECODER,
        configuration.OWN_DECODERS,
        configuration.JOINT_DECODER,
    )
    if (encoder, decoder) != (configuration.SEPARATE, configuration.OWN_DECODERS)
]


def rng(step=3, first_row=0):
    return Randomness([7, step], first_row)


def predicted(model, batch, masks):
    return {m: x["predicted"].numpy() for m, x in model.reconstruct(batch, masks).items()}


def changed_where(batch, model, modality, flags):
    """Returns the batch with other values in the patches of a modality that `flags` name."""
    layer = model.backbone(modality).embedding
    grid = layer.grid(batch[modality].shape)
    spread = flags.reshape(len(flags), *grid)
    for axis, side in enumerate(layer.patch, start=1):
        spread = np.repeat(spread, side, axis=axis)
    return batch | {modality: batch[modality] + spread[..., None].astype("float32")}


@pytest.mark.parametrize(("encoder", "decoder"), STRATEGIES)
def test_predictions_see_what_they_should(encoder, decoder):
    """Nothing depends on masked pixels; on the other modality, what the strategy lets through."""
    cfg = small.config(encoder_strategy=encoder, decoder_strategy=decoder)
    model, batch = small.built(cfg), small.batch()
    masks = model.masks(batch, rng())
    before = predicted(model, batch, masks)
    together = decoder == configuration.JOINT_DECODER
    together |= encoder in (configuration.EARLY, configuration.MID)
    for modality, other in (("video", "audio"), ("audio", "video")):
        hidden = masks[modality].flags.numpy()
        same = predicted(model, changed_where(batch, model, modality, hidden), masks)
        for name, values in before.items():
            np.testing.assert_array_equal(same[name], values)
        moved = predicted(model, changed_where(batch, model, modality, 1 - hidden), masks)
        assert np.abs(moved[modality] - before[modality]).max() > 1e-4
        difference = np.abs(moved[other] - before[other]).max()
        assert (difference > 1e-5) if together else (difference == 0)


def test_only_visible_tokens_are_encoded(monkeypatch):
    model, batch, seen = small.built(small.config()), small.batch(), {}
    encode = type(model).encode

    def noted(self, tokens, **options):
        seen.update({m: x.shape[1] for m, x in tokens.items()})
        return encode(self, tokens, **options)

    monkeypatch.setattr(type(model), "encode", noted)
    features = model.towers(batch, training=True, rng=rng())
    assert seen == {"video": 8, "audio": 6}  # of 32 and 12
    assert features["video"]["predicted"].shape == (4, 32, 2 * 4 * 4 * 3)
    np.testing.assert_array_equal(np.sum(features["video"]["masked"], axis=1), 24)


def test_only_visible_patches_are_projected():
    """Nothing as wide as the encoder has all tokens of a modality."""
    model = small.built(small.config(d_model=28, d_kv=14))
    clips = {m: tf.TensorSpec(x.shape) for m, x in small.batch().items()}
    traced = tf.function(lambda x: model.towers(x, True, rng()), autograph=False)
    graph = traced.get_concrete_function(clips).graph
    shapes = {tuple(x.shape) for op in graph.get_operations() for x in op.outputs if x.shape.rank}
    for tokens, visible in ((32, 8), (12, 6)):
        assert {(4, tokens, 12), (4, visible, 28)} <= shapes  # in the decoder, in the encoder
        assert not {(4, tokens, 28), (4 * tokens, 28)} & shapes


def test_masks_are_functions_of_seed_step_and_row():
    model, batch = small.built(small.config()), small.batch(6)
    whole = model.masks(batch, rng())
    parts = [
        model.masks({m: x[first : first + 3] for m, x in batch.items()}, rng(first_row=first))
        for first in (0, 3)
    ]
    for modality, mask in whole.items():
        joined = np.concatenate([part[modality].order for part in parts])
        np.testing.assert_array_equal(mask.order, joined)
        assert len(np.unique(mask.order, axis=0)) == 6  # each row has its own
        again, next_step = model.masks(batch, rng())[modality], model.masks(batch, rng(4))[modality]
        np.testing.assert_array_equal(mask.order, again.order)
        assert not np.array_equal(mask.order, next_step.order)
    assert not np.array_equal(whole["video"].order[:, :12] % 12, whole["audio"].order)


def test_tubes_hide_the_same_places_of_all_frames():
    cfg = small.config(modalities=("video",), masking_strategy="tube")
    mask = small.built(cfg).masks(small.batch(), rng())["video"]
    flags = mask.flags.numpy().reshape(4, 2, 16)
    np.testing.assert_array_equal(flags[:, 0], flags[:, 1])
    np.testing.assert_array_equal(flags.sum(axis=2), 12)
    for kind in (mask.order[:, : mask.count], mask.visible):
        assert (np.diff(kind.numpy(), axis=1) > 0).all()


def test_inpainting_sees_the_other_modality_alone():
    model = small.built(small.config(use_inpainting=True, encoder_strategy=configuration.SEPARATE))
    batch = small.batch()
    masks = model.masks(batch, rng())
    features = model.reconstruct(batch, masks)
    flags = features["video"]["masked"].numpy()
    np.testing.assert_array_equal(flags[:, :6], 0)  # as many as are visible of the sound
    np.testing.assert_array_equal(flags[:, 6:], 1)
    other = batch | {"video": batch["video"] + 1}
    np.testing.assert_array_equal(
        predicted(model, other, masks)["video"], features["video"]["predicted"]
    )
    assert (
        np.abs(predicted(model, other, masks)["audio"] - features["audio"]["predicted"]).max() > 0
    )


def test_loss_is_that_of_masked_tokens():
    cfg = small.config()
    model, batch = small.built(cfg), small.batch()
    objective = methods.named("av_mae").objective(cfg)
    outputs = model.towers(batch, training=True, rng=rng())
    found = objective(model.train_outputs(outputs), batch)
    assert set(found) == set(objective.names)
    total = 0.0
    for modality in cfg.modalities:
        target = targets.of(batch[modality], cfg.patch(modality), cfg.loss_config).numpy()
        masked = outputs[modality]["masked"].numpy().astype(bool)
        off = (outputs[modality]["predicted"].numpy() - target)[masked]
        loss = np.mean(off**2)
        np.testing.assert_allclose(found[f"reconstruction/{modality}_loss"], loss, rtol=1e-5)
        total += 0.5 * loss
    np.testing.assert_allclose(found["total_loss"], total, rtol=1e-5)
    np.testing.assert_allclose(found["mask_ratio_audio"], 0.5)


def test_decay_in_the_loss_is_half_the_squares():
    cfg = small.config(loss_config=configuration.LossConfig(l2_decay_factor=0.1))
    model, batch = small.built(cfg), small.batch()
    objective = methods.named("av_mae").objective(cfg)
    found = objective(model.train_outputs(model.towers(batch, True, rng())), batch)
    squares = sum(np.sum(np.square(v)) for v in model.trainable_variables)
    np.testing.assert_allclose(found["l2_loss"], 0.05 * squares, rtol=1e-5)


@pytest.mark.parametrize("encoder", [configuration.SEPARATE, configuration.MID])
def test_features_of_a_modality_alone(encoder):
    model, batch = small.built(small.config(encoder_strategy=encoder)), small.batch()
    both, alone = model.towers(batch), model.towers({"video": batch["video"]})
    assert alone["video"]["features_pooled"].shape == (4, 16)
    np.testing.assert_allclose(
        alone["video"]["features_pooled"], np.mean(alone["video"]["features"], axis=1), atol=1e-6
    )
    difference = np.abs(both["video"]["features"] - alone["video"]["features"]).max()
    assert (difference < 1e-5) == (encoder == configuration.SEPARATE)


def test_half_precision_is_near():
    batch, outputs = small.batch(), []
    for precision in ("float32", "mixed_bfloat16"):
        model = small.built(small.config(), precision)
        for variable in model.variables:
            random = np.random.default_rng(len(variable.path))
            variable.assign(0.1 * random.normal(size=variable.shape))
        outputs.append(model.towers(batch, training=True, rng=rng())["video"]["predicted"])
    np.testing.assert_allclose(np.float32(outputs[1]), outputs[0], atol=0.05)


def test_a_step_costs_what_visible_tokens_do():
    shapes = small.SHAPES
    costs = [
        flops.pretraining_step(small.built(small.config(video_mask=share)), shapes)
        for share in (0.25, 0.75)
    ]
    assert costs[1] < 0.8 * costs[0]


def test_tokens_return_to_their_places():
    order = tf.constant([[2, 0, 3, 1], [1, 3, 2, 0]])
    mask = Mask(order, 2)
    visible = tf.constant([[[3.0], [1.0]], [[2.0], [0.0]]])  # each is its place
    filled = mask.filled(visible, tf.constant([-1.0]))
    np.testing.assert_array_equal(filled[..., 0], [[-1, 1, -1, 3], [0, -1, 2, -1]])


def test_a_model_that_was_traced_without_training_is_forgotten():
    def trace():
        model = small.built(small.config())
        specs = {m: tf.TensorSpec((2, *shape)) for m, shape in small.SHAPES.items()}
        tf.function(model.towers, autograph=False).get_concrete_function(specs)

    assert graphs_left_by(trace) <= 0
