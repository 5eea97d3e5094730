"""What must fit together across fields is refused with a value that would do."""

from __future__ import annotations

import pytest

from vatt import configs
from vatt.configs import audio, dataset, experiment, registry

RATE = "train.optimizer.learning_rate"
TINY = {"model_arch": "tx_fac_tiny", "config_file": "configs/pretrain/toy.yaml"}


def problems(override, **arguments):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(params_override=override, **{**TINY, **arguments})
    found = {}
    for problem in caught.value.problems:
        found[problem.path] = found.get(problem.path, "") + str(problem)
    return found


@pytest.mark.parametrize(
    ("override", "path", "says"),
    [
        ("train.input.num_frames=18", "train.input.num_frames", "Try 16 or 20"),
        ("eval.input.frame_size=60", "eval.input.frame_size", "Try 56 or 64"),
        ("train.input.sample_rate=16001", "train.input.num_frames", "25601 audio samples"),
        ("train.input.raw_audio=false", "train.input.raw_audio", "reads waveforms"),
        ("train.input.min_resize=32", "train.input.min_resize", "Try min_resize 64"),
        ("train.input.min_area_ratio=0.9,train.input.max_area_ratio=0.5",
         "train.input.min_area_ratio", "at most max_area_ratio, which is 0.5"),
        ("train.input.mixing_weights=[1.0]", "train.input.mixing_weights", "each of the 2 sets"),
        ("train.save_checkpoint_freq=120", "train.save_checkpoint_freq", "Try 100 or 150"),
        ("train.log_every_steps=70", "train.log_every_steps", "Try 50 or 100"),
        (f"{RATE}.warmup_steps=2500", f"{RATE}.warmup_steps", "fewer than total_steps"),
        ("train.input.batch_size=9,strategy_config.num_devices=2",
         "train.input.batch_size", "Try 8 or 10"),
        ("train.micro_batches=5", "train.input.batch_size", "Try 30 or 35"),
        ("strategy_config.num_devices=2,strategy_config.distribution_strategy=one_device",
         "strategy_config.num_devices", "one_device"),
        ("strategy_config.tpu=local,strategy_config.distribution_strategy=mirrored",
         "strategy_config.tpu", "Try tpu"),
        ("model_config.backbone_config.video_model_kwargs={patch_sampling_rate: 0.001}",
         "model_config.backbone_config.video_backbone patch_sampling_rate", "keeps none of 256"),
        ("{model_config: {backbone_config: {text_backbone: linear, text_model_kwargs: "
         "{use_agg_token: true}}}}",
         "model_config.backbone_config.text_backbone use_agg_token", "sees the words"),
        ("model_config.head_config.bridge=[]", "model_config.head_config.bridge", "mlp_fac"),
        ("model_config.loss_config.bridge=[{aud_txt_weight: 1.0}]",
         "model_config.loss_config.bridge.0.aud_txt_weight", "expected 0"),
        ("model_config.loss_config.bridge=[{vid_txt_weight: 0, vid_aud_weight: 0}]",
         "model_config.loss_config.bridge.0 weights", "at least one"),
        ("model_config.head_config.bridge=[{name: mlp_joint}]",
         "model_config.head_config.bridge.0 d_model", "Try 128 for all"),
    ],
)  # fmt: skip
def test_refused_with_a_suggestion(override, path, says):
    found = problems(override)
    assert says in found[path]


@pytest.mark.parametrize("name", ["model_dir", "data_dir", "checkpoint_path"])
@pytest.mark.parametrize("path", ["a\0b", "runs/" + "a" * 256, "ü" * 128, "caf\udce9"])
def test_paths_that_cannot_be(name, path):
    found = problems({name: path})
    assert "expected a path in UTF-8, its names at most 255 bytes long" in found[name]


@pytest.mark.parametrize("name", ["model_dir", "data_dir", "checkpoint_path"])
@pytest.mark.parametrize("path", ["gs://", "s3://bucket/../a", "hdfs://host/a", "gs:/bucket/a"])
def test_addresses_that_are_not_taken(name, path):
    assert "expected a folder of this machine" in problems({name: path})[name]


@pytest.mark.parametrize("name", ["model_dir", "data_dir", "checkpoint_path"])
@pytest.mark.parametrize("path", ["gs://bucket/a", "s3://bucket/a/"])
def test_addresses_that_are_read(name, path):
    assert getattr(configs.resolve(params_override={name: path}, **TINY), name) == path


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("warmup_steps=100", "the first must be warmup_steps"),
        ("learning_rate_levels=[1.0e-4]", "expected as many as learning_rate_levels"),
        ("total_steps=10000", "up to total_steps, which is 10000"),
        ("learning_rate_steps=[5000, 4000]", "rising steps"),
    ],
)
def test_stepwise_schedule(override, says):
    found = problems(f"{RATE}.{override}", model_arch="tx_fac", config_file=None)
    assert says in found[f"{RATE}.learning_rate_steps"]
    assert "Try [" in found[f"{RATE}.learning_rate_steps"]


def test_schedule_of_epochs():
    epochs = {"type": "MultiStepLearningRate", "steps_per_epoch": 100, "total_steps": 1200}
    found = problems({RATE: epochs | {"warmup_epochs": 12, "milestones": [7, 7]}})
    assert "fewer than total_steps / steps_per_epoch, which is 12" in found[f"{RATE}.warmup_epochs"]
    assert "rising epochs" in found[f"{RATE}.milestones"]
    configs.resolve(params_override={RATE: epochs | {"warmup_epochs": 11, "milestones": [7, 251]}})


def test_a_suggested_schedule_is_accepted():
    configs.resolve(
        params_override=f"{RATE}.total_steps=10000,{RATE}.learning_rate_steps=[5000, 10000]"
    )


def test_spectrogram_backbones_want_spectrograms():
    preset = configs.resolve(model_arch="mmv_fac")
    assert not preset.train.input.raw_audio and not preset.eval.input.raw_audio
    raw = {f"{part}.input.raw_audio": True for part in ("train", "eval")}
    assert set(problems(raw, model_arch="mmv_fac", config_file=None)) == set(raw)


def test_total_steps_need_not_be_a_multiple_of_the_loop():
    configs.resolve(**TINY, params_override=f"{RATE}.total_steps=1234")


@pytest.mark.parametrize("interval", [10, 25, 50, 100])
def test_log_interval_divides_or_is_divided_by_the_loop(interval):
    configs.resolve(**TINY, params_override=f"train.log_every_steps={interval}")


def test_batch_against_replicas():
    config = configs.resolve(**TINY)
    configs.check_batch(config, 8)
    with pytest.raises(
        configs.ConfigError, match=r"batch_size = 32: .*multiple of 3.*Try 30 or 33"
    ):
        configs.check_batch(config, 3)
    config.train.micro_batches = 4
    configs.check_batch(config, 8)
    with pytest.raises(
        configs.ConfigError, match=r"multiple of 12, 3 replicas x 4 train.micro_batches.*24 or 36"
    ):
        configs.check_batch(config, 3)


def test_the_unified_model_is_checked_as_well():
    found = problems("train.input.num_frames=30", model_arch="ut_fac", config_file=None)
    assert "Try 28 or 32" in found["train.input.num_frames"]


@pytest.mark.parametrize(
    ("override", "path", "task", "arch"),
    [
        ("eval.zero_shot=false", "eval.zero_shot", "finetune", "vit_base"),
        ("eval.probes=[knn]", "eval.probes", "finetune", "vit_base"),
        ("model_config.name=wat_base", "model_config name", "finetune", "vit_base"),
        ("train.input.num_examples=100", "train.input.num_examples", "pretrain", "tx_fac"),
        ("eval.input.num_examples=-1", "eval.input.num_examples", "pretrain", "tx_fac"),
        ("train.layer_decay=0.5", "train.layer_decay", "pretrain", "tx_fac"),
        ("train.backbone_rate=0.5", "train.backbone_rate", "pretrain", "tx_fac"),
        ("eval.best_on_test_of_last=3", "eval.best_on_test_of_last", "pretrain", "tx_fac"),
        (
            "train.backbone_rate=0.5,model_config.freeze_backbone=true",
            "train.backbone_rate",
            "finetune",
            "i3d",
        ),
        ("train.layer_decay=0.5", "train.layer_decay", "finetune", "i3d"),
        ("train.pooling_rate=0.5", "train.pooling_rate", "finetune", "r2plus1d_18"),
        ("train.pooling_rate=0.5", "train.pooling_rate", "pretrain", "stica_tiny"),
        ("train.gradient_clip_norm_cls=1", "train.gradient_clip_norm_cls", "pretrain", "tx_fac"),
        ("train.micro_batches=2", "train.micro_batches", "finetune", "vit_base"),
        ("train.remat=true", "train.remat", "finetune", "i3d"),
        ("train.remat=true", "train.remat", "pretrain", "gdt_tiny"),
    ],
)
def test_what_would_have_no_effect_is_refused(override, path, task, arch):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(task=task, model_arch=arch, params_override=override)
    assert path in {problem.path for problem in caught.value.problems}


def test_a_label_does_not_choose_the_backbone():
    """Every label is that of its class; another one would be ignored."""
    says = "'wat_base': expected '{}': the architecture chooses the backbone, not its label"
    arguments = {"config_file": None, "task": "finetune", "model_arch": "vit_base"}
    found = problems("model_config.name=wat_base", **arguments)
    assert found == {"model_config name": f"model_config name = {says.format('vit_base')}."}
    arguments["params_override"] = "model_config.name=vit_base"
    assert configs.resolve(**arguments).model.name == "vit_base"
    found = problems("{model_config: {backbone_config: {video_model_kwargs: {name: wat_base}}}}")
    assert says.format("vit_tiny") in found["model_config.backbone_config.video_backbone name"]


def test_how_many_examples_there_are_cannot_be_chosen():
    """The published field has no effect; its default is accepted and says why."""
    found = problems("train.input.num_examples=100,eval.input.num_examples=1000")
    for path, default, value in (("train", -1, 100), ("eval", 4096, 1000)):
        path = f"{path}.input.num_examples"
        says = f"expected {default}, as published: every record of the split is used"
        assert found.pop(path) == f"{path} = {value}: {says}."
    assert not found
    configs.resolve(**TINY, params_override="train.input.num_examples=-1")


def test_clips_of_a_preset_are_those_of_its_backbone_where_it_says_no_others(monkeypatch):
    defaults = {"raw_audio": False, "mel_bins": 40, "audio_masking": "mild"}
    monkeypatch.setattr(audio.SpTTiny, "clip_defaults", defaults)
    found = registry.experiment_config("finetune", "spt_tiny")
    for data in (found.train.input, found.eval.input):
        assert not data.raw_audio and data.mel_bins == 40
    assert found.train.input.audio_masking == "mild"  # which evaluation has not

    def preset():
        clips = dataset.Finetune(mel_bins=64)
        return experiment.Finetune(model=audio.SpTTiny(), train=experiment.TrainConfig(input=clips))

    monkeypatch.setitem(registry._TASKS, "finetune", lambda arch: {arch: preset})
    found = registry.experiment_config("finetune", "spt_tiny")
    assert (found.train.input.mel_bins, found.eval.input.mel_bins) == (64, 40)
