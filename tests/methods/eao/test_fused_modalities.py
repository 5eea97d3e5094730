"""The model: what is compared, empty inputs, what nothing trains, precision, refusals."""

from __future__ import annotations

import fusion_models as small
import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import experiment
from vatt.errors import UserError
from vatt.methods.eao import config as eao
from vatt.methods.eao.objective import CombinatorialLoss
from vatt.modeling import flops
from vatt.modeling.backbones.clip_text import ClipText
from vatt.modeling.random import Randomness
from vatt.training import checkpoints, optimizers

MODELS = {
    "fusion": {},
    "without pairs": {"cross_modal": False},
    "one projection": {"individual_projections": False},
    "class token": {"individual_projections": False, "fusion": {"use_cls_token": True}},
    "positions": {"use_positional_emb": True, "video_max_tokens": 3, "text_max_tokens": 4}
    | {"audio_max_num_stft_frames": 32},
    "no transformer": {"fusion": {"depth": 0}},
    "minimal": {"token_projection": "minimal", "projection": "minimal"},
    "as it is": {"token_projection": "", "projection": "", "projection_dim": 8}
    | {"video_embed_dim": 8, "text_embed_dim": 8, "fusion": {"embed_dim": 8, "num_heads": 2}},
    "apart": {"type": eao.PER_MODALITY},
    "text and video": {"type": eao.TV_ONLY},
    "baseline": {"type": eao.BASELINE},
}
JOINT = {"tv_embed", "ta_embed", "va_embed"}
ADDED = {"t+v_embed", "t+a_embed", "v+a_embed"}


def made(name, precision="float32", **changes):
    cfg = small.config(**MODELS[name] | changes)
    assert not list(cfg.problems())
    return cfg, small.built(cfg, precision)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_compared_in_training_and_evaluation(name):
    cfg, model = made(name)
    inputs = small.batch(cfg)
    alone = {f"{m}_embed" for m in cfg.modalities}
    trained = model.train_outputs(model.towers(inputs, training=True, rng=Randomness([0, 1])))
    joint = JOINT if cfg.type == eao.FUSION else set()
    found = {key for key in trained if key.endswith("_embed")}
    assert found == alone | (joint if cfg.cross_modal else set())
    assert {key for key in trained if key.endswith("_mask")} == {
        f"{m}_nonempty_input_mask" for m in cfg.modalities
    }
    embedded = model.embed(model.towers(inputs))
    added = ADDED if cfg.type in (eao.FUSION, eao.PER_MODALITY) else set()
    assert set(embedded) == alone | joint | added
    assert {pair.left for pair in model.pairs} | {pair.right for pair in model.pairs} == set(
        embedded
    )
    for key, value in embedded.items():
        assert value.shape == (4, cfg.projection_dim) and value.dtype == tf.float32, key
        assert np.isfinite(value).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_step_reaches_every_trainable_variable_and_no_other(name):
    cfg, model = made(name)
    loss = CombinatorialLoss(cfg)
    before = {v.path: v.numpy() for v in model.non_trainable_variables}
    with tf.GradientTape() as tape:
        features = model.towers(small.batch(cfg), training=True, rng=Randomness([0, 1]))
        found = loss(model.train_outputs(features))
    assert set(found) == set(loss.names)
    gradients = tape.gradient(found["total_loss"], [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path
    reached = [
        v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if np.any(g)
    ]
    # A bias of keys adds the same to all scores; masking tokens are of rows that are empty.
    assert len(reached) > 0.9 * len(gradients)
    for path, value in before.items():
        still = (
            path.split("/")[1] != "audio" or "input_norm" in path or eao.AUDIO not in cfg.modalities
        )
        same = np.array_equal(value, next(v for v in model.variables if v.path == path))
        assert same == (still or path.rpartition("/")[2] in ("positions",)), path


@pytest.mark.parametrize("name", MODELS)
def test_variables_and_their_slots_have_names_of_their_own(name):
    _, model = made(name)
    optimizer = optimizers.build(experiment.AdamOptimizer())
    optimizer.build(model.trainable_variables)
    assert len(checkpoints.variable_map(model, optimizer)) > 2 * len(model.trainable_variables)


def test_what_published_files_hold_and_nothing_uses_is_not_trained():
    for name, expected in {
        "fusion": {"fusion/final_norm", "audio/davenet/input_norm"},
        "apart": {"fusion/final_norm", "fusion_video/final_norm", "fusion_audio/final_norm"}
        | {"fusion_video", "fusion_audio", "audio/davenet/input_norm"},
    }.items():
        _, model = made(name)
        moving = ("moving_mean", "moving_variance")
        frozen = {
            v.path.partition("/")[2].rpartition("/")[0]
            for v in model.non_trainable_variables
            if v.name not in moving
        }
        assert frozen == expected


def test_an_empty_modality_is_the_learned_vector():
    cfg, model = made("fusion")
    inputs = small.batch(cfg)
    one, two = inputs, {k: v.copy() for k, v in inputs.items()}
    two["text"][small.EMPTY["text"]] += 3.0  # of words that are not there
    first, second = (model.embed(model.towers(x)) for x in (one, two))
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5, atol=1e-6)
    tokens, mask, full = model.tokens(inputs, "text")
    row = small.EMPTY["text"]
    np.testing.assert_array_equal(tokens[row, 0], model.fusion.masking_token)
    assert mask[row].numpy().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert full.numpy().tolist() == [r != row for r in range(4)]
    np.testing.assert_array_equal(inputs["text_mask"][row], 0.0)  # the caller's is left alone


def test_padding_has_no_effect():
    cfg, model = made("fusion")
    inputs = small.batch(cfg)
    inputs["video_mask"][:] = [1.0, 1.0, 0.0]
    other = {**inputs, "video": inputs["video"].copy()}
    other["video"][:, 2] = 9.0
    shorter = {**inputs, "video": inputs["video"][:, :2], "video_mask": inputs["video_mask"][:, :2]}
    first = model.embed(model.towers(inputs))
    for changed in (other, shorter):
        for key, value in model.embed(model.towers(changed)).items():
            np.testing.assert_allclose(value, first[key], rtol=1e-4, atol=1e-5, err_msg=key)


def test_some_modalities_alone_give_their_embeddings():
    cfg, model = made("fusion")
    inputs = small.batch(cfg)
    whole = model.embed(model.towers(inputs))
    both = ("text", "text_mask", "video", "video_mask")
    found = model.embed(model.towers({name: inputs[name] for name in both}))
    assert set(found) == {"text_embed", "video_embed", "tv_embed", "t+v_embed"}
    for key, value in found.items():
        np.testing.assert_allclose(value, whole[key], rtol=1e-5, atol=1e-6)
    inputs["video_mask"][:] = 1.0
    masked, bare = (
        model.embed(model.towers(x))
        for x in ({n: inputs[n] for n in both}, {"video": inputs["video"]})
    )
    np.testing.assert_allclose(bare["video_embed"], masked["video_embed"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fusion", "class token", "apart", "baseline"])
def test_half_precision_gives_nearly_the_same_in_float32(name):
    cfg, model = made(name)
    _, half = made(name, "mixed_bfloat16")
    for one, two in zip(half.variables, model.variables, strict=True):
        one.assign(two)
    inputs = small.batch(cfg)
    whole, found = (m.embed(m.towers(inputs)) for m in (model, half))
    for key, value in found.items():
        assert value.dtype == tf.float32
        scale = np.abs(whole[key]).max()
        np.testing.assert_allclose(value, whole[key], atol=0.05 * scale, err_msg=key)


@pytest.mark.parametrize("strategy", ["clip", "nearest", "max_pool", "avg_pool"])
def test_long_sounds_become_fewer_tokens(strategy):
    limits = {"audio_max_num_stft_frames": 32, "strategy_audio_pooling": strategy}
    cfg, model = made("fusion", **limits)
    inputs = small.batch(cfg)
    long = np.random.default_rng(0).normal(size=(4, 40, 96)).astype("float32")
    inputs |= {"audio": long, "audio_mask": np.ones((4, 96), "float32")}
    inputs["audio_STFT_nframes"] = np.array([96, 64, 20, -1], "int32")
    tokens, mask, _ = model.tokens(inputs, "audio")
    assert tokens.shape == (4, 2, 12) and mask.shape == (4, 2)
    projected = model.audio.projected(model.audio.states(inputs["audio"])).numpy()
    np.testing.assert_allclose(tokens[2:], projected[2:, :2], atol=1e-5)  # no more than two
    if strategy == "nearest":
        np.testing.assert_allclose(tokens[0], projected[0, [0, 3]], atol=1e-5)
        np.testing.assert_allclose(tokens[1], projected[1, [0, 2]], atol=1e-5)


def test_operations_are_counted():
    cfg, model = made("fusion")
    shapes = {name: x.shape[1:] for name, x in small.batch(cfg).items()}
    assert flops.pretraining_step(model, shapes) > 0
    without, _ = made("without pairs")
    other = small.built(without)
    assert other.joint_cost(shapes).forward < model.joint_cost(shapes).forward


# What is refused ---------------------------------------------------------------------------------


def test_features_of_another_width_are_told():
    cfg, model = made("fusion")
    inputs = small.batch(cfg)
    with pytest.raises(UserError, match=r"video: features are 6 wide.* 7 \(video_embed_dim\)"):
        model.towers({**inputs, "video": inputs["video"][..., :6]})
    with pytest.raises(UserError, match=r"audio: 39 bands .*expected 40"):
        model.towers({**inputs, "audio": inputs["audio"][:, :39]})


@pytest.mark.parametrize(("frames", "near"), [(40, "32 or 48"), (9, "16")])
def test_a_length_without_whole_tokens_is_told_with_the_nearest(frames, near):
    cfg, model = made("fusion")
    inputs = small.batch(cfg)
    inputs |= {"audio": np.zeros((4, 40, frames), "f4"), "audio_mask": np.ones((4, frames), "f4")}
    if frames == 9:  # one token of one window: as short as that may be
        model.towers(inputs)
        return
    with pytest.raises(UserError, match=rf"{frames} frames .* multiple of 16.* Try {near}"):
        model.towers(inputs)


def test_positions_are_of_so_many_tokens():
    cfg, model = made("positions")
    inputs = small.batch(cfg)
    wrong = {"text": inputs["text"][:, :2], "text_mask": inputs["text_mask"][:, :2]}
    with pytest.raises(UserError, match=r"text: 2 tokens, .*exactly 4 .*text_max_tokens"):
        model.towers({**inputs, **wrong})


# CLIP's text -------------------------------------------------------------------------------------


def test_ids_are_read_by_a_frozen_layer_that_is_no_part_of_the_model():
    cfg = small.config(use_clip_text_model=True, clip_text_tokens=4)
    model = small.built(cfg)
    ids = np.zeros((4, 9), "int32")
    ids[:, :4] = [[10, 3, 4, 11], [10, 11, 0, 0], [10, 5, 11, 0], [10, 7, 8, 11]]
    inputs = {**small.batch(cfg), "text": ids}
    with pytest.raises(UserError, match="clip_text_weights"):
        model.towers(inputs)
    layer = ClipText(12, 9, 8, 2, 2, d_out=5, tokens=4, name="clip_text")
    layer.build()
    count = len(model.variables)
    model.read_text_with(layer)
    assert len(model.variables) == count
    tokens, mask = layer(ids)
    assert mask.numpy().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    with tf.GradientTape() as tape:
        outputs = model.train_outputs(model.towers(inputs, training=True, rng=Randomness([0, 1])))
        total = CombinatorialLoss(cfg)(outputs)["total_loss"]
    assert all(g is None for g in tape.gradient(total, [v.value for v in layer.variables]))
    assert outputs["text_nonempty_input_mask"].numpy().tolist() == [1, 0, 1, 1]
    given = {**inputs, "text": tokens, "text_mask": mask}
    plain = small.built(small.config())
    for one, two in zip(plain.variables, model.variables, strict=True):
        one.assign(two)
    expected = plain.embed(plain.towers(given))["text_embed"]
    np.testing.assert_allclose(model.embed(model.towers(inputs))["text_embed"], expected, atol=1e-6)


def test_words_see_no_later_ones():
    layer = ClipText(12, 9, 8, 2, 2, d_out=5, tokens=6, name="clip_text")
    layer.build()
    ids = np.array([[10, 3, 4, 5, 11, 0, 0, 0, 0]], "int32")
    other = ids.copy()
    other[0, 3] = 7
    one, two = layer(ids)[0][0].numpy(), layer(other)[0][0].numpy()
    np.testing.assert_allclose(one[:2], two[:2], atol=1e-6)
    assert np.abs(one[2] - two[2]).max() > 1e-4
