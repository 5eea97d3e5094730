"""CLIP's text model from a file of its published names: read, frozen, left out of checkpoints."""

from __future__ import annotations

import fusion_models as small
import numpy as np
import pytest

import vatt
from tests.torch_writer import write_zip
from vatt import configs, methods
from vatt.errors import CheckpointError, UserError
from vatt.modeling.backbones.clip_text import ClipText

VOCABULARY, CONTEXT, WIDTH, OUT = 12, 9, 64, 5
BLOCK = {
    "ln_1.weight": (WIDTH,),
    "ln_1.bias": (WIDTH,),
    "attn.in_proj_weight": (3 * WIDTH, WIDTH),
    "attn.in_proj_bias": (3 * WIDTH,),
    "attn.out_proj.weight": (WIDTH, WIDTH),
    "attn.out_proj.bias": (WIDTH,),
    "ln_2.weight": (WIDTH,),
    "ln_2.bias": (WIDTH,),
    "mlp.c_fc.weight": (4 * WIDTH, WIDTH),
    "mlp.c_fc.bias": (4 * WIDTH,),
    "mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
    "mlp.c_proj.bias": (WIDTH,),
}
SHAPES = {
    "positional_embedding": (CONTEXT, WIDTH),
    "text_projection": (WIDTH, OUT),
    "token_embedding.weight": (VOCABULARY, WIDTH),
    "ln_final.weight": (WIDTH,),
    "ln_final.bias": (WIDTH,),
    **{f"transformer.resblocks.0.{name}": shape for name, shape in BLOCK.items()},
    "visual.proj": (3, 4),  # of pictures: passed over
}


def tensors():
    random = np.random.default_rng(0)
    return {n: (0.1 * random.normal(size=s)).astype("f2") for n, s in SHAPES.items()}


def config(path):
    return small.config(use_clip_text_model=True, clip_text_tokens=4, clip_text_weights=str(path))


def test_a_model_reads_ids_by_the_weights_of_a_file(tmp_path):
    given = tensors()
    path = write_zip(tmp_path / "clip.pth", given)
    model = methods.named("eao").model(config(path), {}, "float32")
    assert not [v.path for v in model.variables if "clip" in v.path]
    ids = np.zeros((4, CONTEXT), "int32")
    ids[:, :3] = [[10, 3, 11], [10, 4, 11], [10, 11, 0], [10, 5, 11]]
    inputs = {**small.batch(config(path)), "text": ids}
    tokens, mask, full = model.tokens(inputs, "text")
    layer = ClipText.of(given, tokens=4)
    assert not layer.trainable_variables and full.numpy().tolist() == [True, True, False, True]
    states, there = layer(ids)
    np.testing.assert_allclose(model.text(states)[0], tokens[0], atol=1e-5)
    np.testing.assert_array_equal(mask[0], there[0])


def test_other_files_are_told(tmp_path):
    given = tensors()
    given["text_projection"] = np.zeros((WIDTH, 6), "f4")
    path = write_zip(tmp_path / "wide.pth", given)
    with pytest.raises(
        CheckpointError, match=r"clip_text_weights: .* tokens 6 wide, .* which is 5"
    ):
        methods.named("eao").model(config(path), {}, "float32")
    del given["ln_final.weight"]
    path = write_zip(tmp_path / "less.pth", given)
    with pytest.raises(CheckpointError, match=r"not hold the text model of CLIP .*ln_final"):
        methods.named("eao").model(config(path), {}, "float32")
    with pytest.raises(CheckpointError, match="no such file"):
        methods.named("eao").model(config(tmp_path / "none.pth"), {}, "float32")


def test_a_training_needs_the_file():
    cfg = configs.resolve(task="pretrain", model_arch="eao_clip")
    with pytest.raises(UserError, match=r"clip_text_weights: null; expected the file"):
        methods.of(cfg).examples(cfg)


def test_a_model_of_features_reads_no_media():
    with pytest.raises(UserError, match=r"eao_tiny: a model of extracted features"):
        vatt.load("eao_tiny")
