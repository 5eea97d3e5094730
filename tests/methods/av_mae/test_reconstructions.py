"""Predictions as pictures: in the values of the input, in their places, the same at every call."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt.methods.av_mae import config as configuration
from vatt.methods.av_mae import targets
from vatt.modeling.layers.tokens import flat_patches
from vatt.modeling.random import Randomness

sys.path.insert(0, str(Path(__file__).parent))
import small

DROPPED = {"dropout_rate": 0.5}
VARIANTS = {
    "both": {},
    "sound": {"modalities": ("audio",)},
    "tubes": {"modalities": ("video",), "masking_strategy": "tube"},
    "inpainting": {"use_inpainting": True},
    "moved": {"use_inpainting": True, "shuffle_inpainted_tokens": True},
}


def options(**changes):
    return configuration.LossConfig(**changes)


def made(changes, seed=5, first_row=0, rows=slice(None), **others):
    cfg = small.config(**changes, **others)
    batch = {m: small.batch()[m][rows] for m in cfg.modalities}
    keras.utils.set_random_seed(1)
    found = small.built(cfg).reconstructions(batch, Randomness([seed, 0], first_row))
    return cfg, batch, {m: {k: x.numpy() for k, x in of.items()} for m, of in found.items()}


@pytest.mark.parametrize("colour", [{}, {"reconstruct_grayscale": True}])
@pytest.mark.parametrize("kind", ["standardise_per_patch", "standardise_per_patch_channels"])
@pytest.mark.parametrize("central", [False, True])
def test_targets_come_back_as_what_they_were_made_of(kind, colour, central):
    given = options(**{kind: True}, select_central_frame=central, **colour)
    for modality, x in small.batch().items():
        patch = small.config().patch(modality)
        raw = targets.raw(x, patch, given)
        again = targets.restored(targets.of(x, patch, given), x, patch, given)
        np.testing.assert_allclose(again, raw, atol=1e-5)
        plain = options(select_central_frame=central, **colour)
        np.testing.assert_array_equal(targets.restored(raw, x, patch, plain), raw)


def test_patches_stand_where_they_were_cut():
    batch = small.batch()
    x, patch = batch["video"], (2, 4, 8)
    found = targets.picture(flat_patches(tf.constant(x), patch), (2, 4, 2), patch, 3)
    np.testing.assert_array_equal(found, x[:, 1::2])  # the second of the two frames of a patch
    central = targets.raw(x, patch, options(select_central_frame=True))
    np.testing.assert_array_equal(targets.picture(central, (2, 4, 2), patch, 3), x[:, 1::2])
    x = batch["audio"]
    found = targets.picture(flat_patches(tf.constant(x[:, :23]), (4, 4)), (5, 2), (4, 4), 1)
    np.testing.assert_array_equal(found, x[:, :20])


@pytest.mark.parametrize("variant", VARIANTS)
def test_clips_are_masked_in_part_and_alike_at_every_call(variant):
    cfg, batch, found = made(VARIANTS[variant])
    assert set(found) == set(cfg.modalities)
    for modality, of in found.items():
        whole = batch["video"][:, 1::2] if modality == "video" else batch["audio"]
        np.testing.assert_array_equal(of["given"], whole)
        assert of["predicted"].shape == whole.shape and np.isfinite(of["predicted"]).all()
        assert of["seen"].shape == of["masked"].shape == (*whole.shape[:-1], 1)
        assert of["seen"].mean() == pytest.approx(1 - cfg.mask(modality))
        if not cfg.use_inpainting:
            np.testing.assert_array_equal(of["masked"], 1 - of["seen"])
        elif modality == "video":
            assert of["masked"].mean() == pytest.approx(1 - 6 / 32)  # 6 tokens of sound are seen
    _, _, last = made(VARIANTS[variant], first_row=2, rows=slice(2, 4))
    _, _, other = made(VARIANTS[variant], seed=6)
    for modality, of in found.items():
        for name in of:
            np.testing.assert_allclose(last[modality][name], of[name][2:], atol=1e-5)
        assert not np.array_equal(other[modality]["seen"], of["seen"])


def test_nothing_is_dropped():
    decoder = configuration.DecoderConfig(
        d_model=12, num_heads=2, d_kv=6, d_ff=20, num_layers=1, **DROPPED
    )
    _, _, found = made(DROPPED, decoder_config=decoder)
    _, _, plain = made({})
    for modality, of in plain.items():
        np.testing.assert_array_equal(found[modality]["predicted"], of["predicted"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"loss_config": options(standardise_per_patch_channels=True)}, ["the true patch"]),
        ({"loss_config": options(reconstruct_grayscale=True)}, ["without colours"]),
        ({"use_inpainting": True}, ["of the other one"]),
    ],
)
def test_what_has_to_be_said_of_it(changes, told):
    notes = small.built(small.config(**changes)).reconstruction_notes
    assert len(notes) == len(told)
    assert all(part in note for part, note in zip(told, notes, strict=True))
