"""Presets and recipes: numbers of parameters as published, and what does not fit together."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import pytest

from vatt import configs, methods
from vatt.configs.problems import ConfigError
from vatt.methods.eao import frames

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RECIPES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("*/eao_*.yaml"))
# Published, in millions; running statistics are not counted.
PARAMETERS = {
    "eao": 689.37,
    "eao_s3d": 676.79,
    "eao_clip": 675.56,
    "eao_tv": 689.37,
    "eao_cls_token": 563.52,
    "eao_shared_final_proj": 563.52,
    "eao_no_transformers": 588.67,
    "eao_fusion_no_comb": 689.37,
    "eao_transformer_per_modality": 890.80,
    "eao_4blocks_16heads_1024": 483.93,
    "eao_2blocks_32heads_2048": 546.12,
    "eao_2blocks_64heads_4096_112_10bs": 790.08,
    "eao_2blocks_64heads_4096_224_5bs": 790.08,
    "eao_aligned_audio_text": 689.37,
    "eao_disentangled_equal_weights": 689.37,
    "avlnet_baseline": 119.33,
}
POSITIONS = "model_config.use_positional_emb=true,model_config.video_max_tokens=12"
POSITIONS += ",model_config.text_max_tokens=20,model_config.audio_max_num_stft_frames=768"


def parameters(arch, override=()):
    cfg = configs.resolve(task="pretrain", model_arch=arch, params_override=override)
    with keras.StatelessScope(initialize_variables=False):  # variables without values
        model = methods.of(cfg).model(cfg.model, {}, "float32")
    moving = ("moving_mean", "moving_variance")
    sizes = [(v, int(v.value.size) if v.shape == () else _size(v)) for v in model.variables]
    return sum(size for v, size in sizes if v.name not in moving)


def _size(variable):
    size = 1
    for side in variable.shape:
        size *= side
    return size


def test_every_preset_is_published_or_tiny():
    assert {*PARAMETERS, "eao_tiny"} == set(methods.named("eao").presets)


@pytest.mark.parametrize("arch", PARAMETERS)
def test_models_have_the_published_number_of_parameters(arch):
    assert round(parameters(arch) / 1e6, 2) == PARAMETERS[arch]


def test_variants_without_a_preset_have_the_published_number_of_parameters():
    assert round(parameters("eao", [POSITIONS]) / 1e6, 2) == 689.55
    assert round(parameters("eao", ["model_config.davenet_v2=false"]) / 1e6, 2) == 406.75


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_fit_together_and_say_how_they_are_run(recipe):
    text = (CONFIGS / recipe).read_text()
    for heading in ("command:", "hardware:", "wall time:", "expected:"):
        assert re.search(rf"^#   {heading} ", text, re.MULTILINE), heading
    assert f"--config_file=configs/{recipe}" in text
    assert configs.resolve(config_file=f"configs/{recipe}").model.model_name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model_config.fusion_params.use_cls_token=true", "individual_projections = True"),
        (
            "model_config.fusion_params.num_heads=60",
            r"num_heads = 60: expected a divisor of .*4096",
        ),
        ("train.input.tokens.num_audio_stft_frames=800", r"multiple of 64.* Try 768 or 832"),
        ("eval.input.tokens.num_audio_stft_frames=1000", r"multiple of 64.* Try 960 or 1024"),
        (
            "model_config.davenet_v2=false,train.input.tokens.num_audio_stft_frames=770",
            "768 or 784",
        ),
        ("train.input.tokens.video_embed_dim=512", r"video_embed_dim = 512: .*which is 4096"),
        ("train.input.tokens.text_embed_dim=512", r"text_embed_dim = 512: .*which is 300"),
        ("train.input.tokens.spectrogram=null", "the model hears"),
        ("model_config.use_clip_text_model=true", "text = 'words': expected clip"),
        (
            "model_config.use_positional_emb=true",
            "text_max_tokens = None: use_positional_emb needs",
        ),
        ("model_config.strategy_audio_pooling=max_pool", "strategy_audio_pooling max_pool needs"),
        ("model_config.projection=''", r"projection_dim = 6144: expected .*4096"),
        ("model_config.strategy_audio_pooling=maxpool", "Did you mean 'max_pool'"),
        (
            "model_config.loss_config.ta_weight=0.0,model_config.loss_config.va_weight=0.0"
            ",model_config.cross_modal=false",
            "compares audio, which is not trained",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(override, message):
    with pytest.raises(ConfigError) as error:
        configs.resolve(task="pretrain", model_arch="eao", params_override=override)
    assert re.search(message, str(error.value)), error.value


def test_other_methods_and_clips_are_told():
    with pytest.raises(ConfigError, match="individual_projections = False: expected true with Tr"):
        configs.resolve(
            model_arch="eao_transformer_per_modality",
            params_override="model_config.individual_projections=false",
        )


def test_frames_and_tokens():
    assert [frames.tokens_of(n, 6) for n in (1, 64, 65, 768, 800)] == [1, 1, 2, 12, 13]
    assert [frames.window(n, 6) for n in (64, 768, 126)] == [64, 64, 63]
    assert frames.window(800, 6) is frames.window(1000, 6) is None
    assert frames.expected(40, 64)[1] == " Try 64."
