"""Overrides: order, forms, discriminators, stacks, kwargs, what is written and read back."""

from __future__ import annotations

import pytest
import yaml

from vatt import assets, configs
from vatt.configs import experiment
from vatt.methods.vatt import config as vatt


def refused(**arguments) -> dict[str, str]:
    """Returns {path: message} of everything that `resolve` refuses."""
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(**arguments)
    assert caught.value.exit_code == 2
    return {problem.path: str(problem) for problem in caught.value.problems}


def test_defaults_are_the_published_experiment():
    config = configs.resolve()
    assert (config.task, config.mode, config.model_arch) == ("Pretrain", "train", "tx_fac")
    assert config.model.backbone_config.video_backbone == "vit_medium"


def test_order_is_preset_file_override_flags(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("model_dir: from_file\nmode: eval\nseed: 1\ntrain: {input: {batch_size: 3}}\n")
    override = "seed=2,mode=train_and_eval"
    config = configs.resolve(config_file=str(file), params_override=override, mode="TRAIN")
    assert config.train.input.batch_size == 3  # file over preset
    assert config.seed == 2  # override over file
    assert config.mode == "train"  # flag over override
    assert config.model_dir == "from_file"  # a flag that was not given changes nothing


def test_repeated_overrides_apply_in_order():
    config = configs.resolve(params_override=["seed=1,jit_compile=true", "seed=2"])
    assert (config.seed, config.jit_compile) == (2, True)


@pytest.mark.parametrize(
    "override",
    [
        "train.input.batch_size=16,eval.input.name=[a,b],data_dir=x=y",
        "{train: {input: {batch_size: 16}}, eval: {input: {name: [a, b]}}, data_dir: x=y}",
        "train:\n  input:\n    batch_size: 16\neval.input.name: [a, b]\ndata_dir: 'x=y'\n",
        {"train": {"input": {"batch_size": 16}}, "eval.input.name": ["a", "b"], "data_dir": "x=y"},
    ],
)
def test_forms_of_an_override(override):
    config = configs.resolve(params_override=override)
    assert config.train.input.batch_size == 16
    assert config.eval.input.name == ("a", "b")
    assert config.data_dir == "x=y"


def test_numbers_written_like_1e_4_are_numbers():
    config = configs.resolve(
        params_override="train.optimizer.learning_rate.learning_rate_base=1e-3"
    )
    assert config.train.optimizer.learning_rate.learning_rate_base == 1e-3


def test_names_are_accepted_in_any_case():
    config = configs.resolve(
        task="PRETRAIN",
        model_arch="TX_fac_TINY",
        mode="Train_And_Eval",
        strategy_type="MIRRORED",
        params_override="train.input.crop_resize_style=inception,train.optimizer.name=ADAMW",
    )
    assert config.mode == "train_and_eval"
    assert config.strategy_config.distribution_strategy == "mirrored"
    assert config.train.input.crop_resize_style == "Inception"
    assert type(config.train.optimizer) is experiment.AdamWOptimizer
    assert config.train.optimizer.name == "AdamW"


def test_changing_a_discriminator_keeps_the_shared_fields():
    config = configs.resolve(
        params_override=[
            "train.optimizer.beta_1=0.5,train.optimizer.learning_rate.total_steps=900000",
            "train.optimizer.name=AdamW,train.optimizer.weight_decay=0.1",
            "train.optimizer.learning_rate.type=CosineDecayLearningRate",
        ]
    )
    optimizer = config.train.optimizer
    assert (optimizer.beta_1, optimizer.weight_decay) == (0.5, 0.1)
    assert type(optimizer.learning_rate) is experiment.CosineDecayLearningRate
    assert optimizer.learning_rate.total_steps == 900_000
    assert optimizer.learning_rate.warmup_steps == 5_000


def test_a_constant_rate_is_a_schedule_too():
    config = configs.resolve(params_override="train.optimizer.learning_rate.type=learningrate")
    assert type(config.train.optimizer.learning_rate) is experiment.LearningRate


def test_stacks_can_be_changed_replaced_and_extended():
    config = configs.resolve(
        params_override=[
            "model_config.loss_config.bridge.0.temperature=0.1",
            "model_config.head_config.bridge=[{txt_to_vid_aud_kwargs: {d_model: 64}}]",
        ]
    )
    assert config.model.loss_config.bridge[0].temperature == 0.1
    assert config.model.head_config.bridge[0].txt_to_vid_aud_kwargs.d_model == 64
    config = configs.resolve(
        params_override="model_config.loss_config.bridge="
        "[{name: symmetric_nce}, {name: asymmetric_nce, loss_weight: 0.5}]"
    )
    first, second = config.model.loss_config.bridge
    assert type(first) is vatt.SymmetricNCE
    assert (type(second), second.loss_weight) == (vatt.AsymmetricNCE, 0.5)


def test_a_stack_member_needs_a_name():
    problems = refused(params_override="model_config.loss_config.bridge=[{}, {temperature: 1}]")
    assert "asymmetric_nce, symmetric_nce" in problems["model_config.loss_config.bridge.1"]
    problems = refused(params_override="model_config.loss_config.bridge=[{name: nce}]")
    assert "asymmetric_nce" in problems["model_config.loss_config.bridge.0.name"]


def test_backbone_kwargs_are_those_of_the_named_backbone():
    kwargs = "model_config.backbone_config.video_model_kwargs"
    config = configs.resolve(params_override=f"{kwargs}={{num_layers: 2}},{kwargs}.d_ff=7")
    backbone = config.model.backbone_config.resolve("video")
    assert (backbone.name, backbone.num_layers, backbone.d_ff) == ("vit_medium", 2, 7)
    problems = refused(params_override=f"{kwargs}={{n_layers: 2, d_ff: many}}")
    assert "Did you mean 'num_layers'?" in problems[f"{kwargs}.n_layers"]
    assert "a whole number >= 1" in problems[f"{kwargs}.d_ff"]


def test_an_unknown_backbone_is_refused_with_the_nearest():
    path = "model_config.backbone_config.audio_backbone"
    assert "Did you mean 'wat_base'?" in refused(params_override=f"{path}=wat_bse")[path]


@pytest.mark.parametrize("name", assets.available("configs", ".yaml"))
def test_every_experiment_file_resolves_and_opens_with_what_to_expect(name):
    configs.resolve(config_file=name)
    opening = assets.find(name).read_text().partition("\n\n")[0]
    for word in ("command:", "hardware:", "wall time:", "expected:"):
        assert word in opening, f"{name} does not say its {word}"


@pytest.mark.parametrize("name", assets.available("configs", ".yaml"))
def test_what_is_written_resolves_to_the_same(name, tmp_path):
    config = configs.resolve(
        config_file=name, model_dir="m", params_override="train.optimizer.name=AdamW"
    )
    file = tmp_path / "config.yaml"
    file.write_text(configs.to_yaml(config))
    again = configs.from_yaml(file)
    assert again == config
    assert configs.diff(config, again) == []
    assert yaml.safe_load(file.read_text())["model_arch"] == config.model_arch


def test_diff_lists_dotted_differences():
    before = configs.resolve(params_override="seed=1")
    after = configs.resolve(params_override="seed=2,train.optimizer.name=AdamW")
    assert configs.diff(before, after) == [
        "train.optimizer.name: 'Adam' -> 'AdamW'",
        "seed: 1 -> 2",
        "train.optimizer.weight_decay: None -> 5e-05",
    ]


def test_the_finetune_preset_resolves():
    config = configs.resolve(task="Finetune")
    assert (config.task, config.model.name) == ("Finetune", "vit_base")
    assert "vit_base" in refused(task="finetune", model_arch="tx_fac")["model_arch"]
