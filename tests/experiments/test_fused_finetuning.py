"""Fine-tuning on video and sound: resumed, on two replicas, from a pre-training, refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
import test_finetune
from test_finetune import config, one_device, rows, trainer, values

from vatt import configs, methods
from vatt.data import pipeline
from vatt.errors import CheckpointError, DataError
from vatt.experiments import executor, finetune, finetune_eval, labelled
from vatt.methods.av_mae.config import DecoderConfig, ModelConfig
from vatt.training import checkpoints, layouts, loop
from vatt.training.rundir import RunDir

data_dir = test_finetune.data_dir
ARCH = "mbt_tiny"
# Everything that draws: of clips, of batches, in the layers.
DRAWN = {
    "train": {
        "input": {
            "mixup": True,
            "mixup_alpha": 0.5,
            "mixup_style": "batch",
            "mixup_apart": True,
            "audio_roll": True,
            "sound_loops": True,
            "band_masks": 2,
            "band_mask_width": 3,
            "time_masks": 1,
            "time_mask_width": 4,
            "grey_probability": 0.5,
        },
        "clip_together": True,
        "gradient_clip_norm": 0.5,
        "layer_decay": 0.75,
    },
    "model_config": {"num_layers": 2, "fusion_layer": 1, "stochastic_depth": 0.5},
}


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(data_dir, tmp_path):
    executor.run(config(data_dir, tmp_path / "whole", ARCH, **DRAWN))
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for file in (tmp_path / "parts").glob("ckpt-4*"):
        file.unlink()  # as if killed after step 2 was saved
    executor.run(config(data_dir, tmp_path / "parts", ARCH, **DRAWN))
    whole, parts = values(tmp_path / "whole", 4), values(tmp_path / "parts", 4)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)


@pytest.mark.slow
def test_two_replicas_give_the_losses_of_one(data_dir, tmp_path, two_replicas):
    histories, ends = [], []
    for strategy in (one_device(), two_replicas):
        folder = tmp_path / str(strategy.num_replicas_in_sync)
        cfg = config(data_dir, folder, ARCH, steps=4, **DRAWN)
        cfg.train.log_every_steps, cfg.train.iterations_per_loop = 1, 1
        recipe = finetune.FinetuneRecipe(cfg, strategy)
        folder.mkdir()
        assert loop.train(recipe, cfg, strategy, RunDir(folder)) == 0
        histories.append([row["metrics"]["total_loss"] for row in rows(folder, "train")])
        ends.append(values(folder, 4))
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)
    for name, value in ends[0].items():
        np.testing.assert_allclose(value, ends[1][name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_gradients_are_clipped_by_the_norm_of_all(data_dir, tmp_path):
    rate = {"type": "LearningRate", "learning_rate_base": 0.5}
    steps = {"gradient_clip_norm": 0.01, "optimizer": {"name": "SGD", "learning_rate": rate}}
    cfg = config(data_dir, tmp_path, ARCH, train={**steps, "clip_together": True})
    recipe, made = trainer(cfg, one_device(), tmp_path)
    before = [v.numpy() for v in recipe.model.trainable_variables]
    norms = made.norms(made.run(1))
    changes = [v.numpy() - b for v, b in zip(recipe.model.trainable_variables, before, strict=True)]
    moved = np.sqrt(sum(np.sum(change.astype(np.float64) ** 2) for change in changes))
    assert norms["gradient_norm"] > 0.01
    assert moved / 0.5 == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
def test_each_modality_has_a_loss_by_its_own_labels(data_dir, tmp_path):
    cfg = config(data_dir, tmp_path, ARCH, **DRAWN)
    recipe = finetune.FinetuneRecipe(cfg, one_device())
    kernel = recipe.model.classification.kernel  # zeros at first: all labels are alike to it
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    batch = next(iter(recipe.batches(0, (0, 1))))
    assert set(batch) == {"video", "audio", "label_video", "label_audio"}
    assert not np.allclose(batch["label_video"], batch["label_audio"])
    changed = {**batch, "label_audio": batch["label_audio"][:, ::-1]}
    seed = tf.constant([1, 2])
    one, other = (float(recipe.losses(b, seed)["model_loss"]) for b in (batch, changed))
    swapped = {**batch, "label_audio": batch["label_video"], "label_video": batch["label_audio"]}
    assert abs(one - other) > 1e-6
    assert abs(one - float(recipe.losses(swapped, seed)["model_loss"])) > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [["video"], ["audio"]])
def test_one_modality(data_dir, tmp_path, modalities):
    changes = {"model_config": {"modality_fusion": modalities}}
    cfg = config(data_dir, tmp_path / "run", ARCH, mode="train_and_eval", steps=2, **changes)
    assert executor.run(cfg) == 0
    assert rows(tmp_path / "run", "eval")


@pytest.mark.slow
def test_from_a_pre_training(data_dir, tmp_path, caplog):
    cfg = config(data_dir, tmp_path / "run", ARCH, steps=2)
    mbt = cfg.model
    sizes = {name: getattr(mbt, name) for name in ("d_model", "num_heads", "d_ff", "num_layers")}
    sizes["d_kv"] = mbt.d_kv
    patches = {
        name: getattr(mbt, name)
        for name in ("temporal_patch_size", "spatial_patch_size", "audio_temporal_patch_size",
                     "audio_spectral_patch_size")
    }  # fmt: skip
    model = methods.named("av_mae").model(
        ModelConfig(
            **sizes,
            **patches,
            encoder_strategy="separate_encoders",
            decoder_config=DecoderConfig(**{**sizes, "num_layers": 1}),
        ),
        {"video": (8, 16, 16, 3), "audio": (40, 8, 1)},
        "float32",
    )
    facts = layouts.metadata(model, layouts.PRETRAIN, "av_mae_test", "av_mae")
    store = checkpoints.CheckpointStore(tmp_path / "before")
    cfg.checkpoint_path = str(store.save(7, checkpoints.variable_map(model), **facts))
    with caplog.at_level("INFO", logger="absl"):
        assert executor.run(cfg) == 0
    assert "0 skipped" not in caplog.text and "2 skipped" in caplog.text
    assert "left out, there each modality has its own" in caplog.text
    assert "classifier/fused/bottleneck" in caplog.text
    deeper = config(data_dir, tmp_path / "deeper", ARCH, steps=2, model_config={"num_layers": 3})
    deeper.checkpoint_path = cfg.checkpoint_path
    with pytest.raises(CheckpointError, match="video\\+audio"):
        executor.run(deeper)


BANDS = "train.input.band_masks=1,train.input.band_mask_width=200"
CLIPPED = "train.clip_together=true,train.gradient_clip_norm_cls=1.0"


def test_a_set_without_one_of_the_modalities_is_refused(data_dir, tmp_path):
    with pytest.raises(DataError, match="'sounds' has no video"):
        executor.run(config(data_dir, tmp_path / "run", ARCH, name="sounds"))


@pytest.mark.parametrize(
    ("override", "field", "hint"),
    [
        ("model_config.fusion_layer=5", "model_config fusion_layer", "num_layers, 4"),
        ("model_config.modality_fusion=[video, video]", "model_config modality_fusion", "[video,"),
        ("model_config.modality_fusion=[]", "model_config modality_fusion", "one of them"),
        ("train.input.raw_audio=true", "train.input.raw_audio", "spectrograms"),
        ("train.input.audio_seconds=0.05", "train.input.audio_seconds", "Try audio_seconds 0.08"),
        ("train.input.mel_bins=8", "train.input.mel_bins", "Try 16"),
        ("train.input.num_frames=7", "train.input.num_frames", "Try 6 or 8"),
        (BANDS, "train.input.band_mask_width", "mel_bins"),
        ("train.input.mixup_apart=true", "train.input.mixup_apart", "mixup true"),
        ("train.input.min_resize=50", "train.input.min_resize", "Try min_resize 54"),
        ("eval.input.test_resize=40", "eval.input.test_resize", "at least frame_size"),
        (CLIPPED, "train.gradient_clip_norm_cls", "clip_together"),
    ],
)
def test_what_does_not_fit_together_is_told_with_the_configuration(override, field, hint):
    with pytest.raises(configs.ConfigError) as refused:
        configs.resolve(task="finetune", model_arch=ARCH, params_override=override)
    told = {problem.path: str(problem) for problem in refused.value.problems}
    assert field in told, told
    assert hint in told[field]


@pytest.mark.slow
def test_crops_of_a_window_are_seen_with_its_sound(data_dir, tmp_path):
    """Logits of three crops are the mean of those of each crop with the sound of the window."""
    crops = {"eval": {"input": {"multi_crop": True, "num_windows_test": 2}}}
    cfg = config(data_dir, tmp_path / "run", ARCH, mode="train_and_eval", steps=2, **crops)
    strategy = one_device()
    opened = labelled.open_set(cfg, "eval")
    model = finetune.build_model(cfg, opened, strategy)
    kernel = model.classification.kernel
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    job = finetune_eval.Evaluator(cfg, model, strategy, RunDir(tmp_path / "run"))
    batches = pipeline.evaluation_batches(
        cfg.eval.input, "acts", "test", data_dir=data_dir, modalities=("video", "audio")
    )
    batch = next(iter(batches))
    video, audio = (batch[m].numpy() for m in ("video", "audio"))
    assert video.shape[:2] == (4, 6) and audio.shape[:2] == (4, 2)
    found = job._functions.classify({"video": video, "audio": audio})
    model.num_test_samples = 1
    each = [
        model({"video": video[:, 2 * crop + window], "audio": audio[:, window]})["logits"]
        for crop in range(3)
        for window in range(2)
    ]
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)
