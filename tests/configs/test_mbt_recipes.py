"""Recipes of MBT's published rows say what is published, and nothing that is not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from vatt import configs

FOLDER = Path(__file__).parents[2] / "configs" / "finetune"
# Clips, batch, rate, seconds of sound, fusion layer, (masks of bands, their width), roll.
PUBLISHED = {
    "audioset": (508_994, 128, 1.6, 10.0, 18, (2, 36), True),
    "vggsound": (172_427, 64, 0.8, 8.0, 16, (1, 48), False),
}
FUSION = {"": ("video", "audio"), "_audio": ("audio",), "_video": ("video",)}


@pytest.mark.parametrize("ending", FUSION)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows(name, ending):
    clips, batch, base, seconds, fusion, bands, roll = PUBLISHED[name]
    cfg = configs.resolve(config_file=str(FOLDER / f"mbt_{name}{ending}.yaml"))
    train, data, model = cfg.train, cfg.train.input, cfg.model
    epoch, rate = clips // batch, train.optimizer.learning_rate
    assert (cfg.model_arch, model.modalities) == ("mbt_large", FUSION[ending])
    assert (data.batch_size, rate.learning_rate_base) == (batch, base)
    assert (rate.warmup_steps, rate.total_steps) == (2.5 * epoch, 50 * epoch)
    assert (train.optimizer.name, train.optimizer.momentum) == ("TorchSGD", 0.9)
    assert (train.layer_decay, model.stochastic_depth) == (0.75, 0.3)
    assert train.clip_together and train.gradient_clip_norm == 1.0
    assert data.mixup and (data.mixup_style, data.mixup_alpha) == ("batch", 0.5)
    assert data.label_smoothing == 0.3
    assert train.rarity_weights == (name != "audioset")
    assert data.smooth_multi_label == (name == "audioset")
    if "video" in model.modalities:
        assert (data.num_frames, data.video_stride, data.frame_size) == (32, 2, 224)
        assert (data.crop_resize_style, data.min_resize) == ("Stretched", 256)
        assert (data.min_stretch, data.max_stretch, data.grey_probability) == (0.9, 1.33, 0.1)
        assert (cfg.eval.input.test_resize, cfg.eval.input.multi_crop) == (256, False)
    if "audio" in model.modalities:
        assert data.num_spectrogram_times == seconds * 100 and data.mel_bins == 128
        assert (data.band_masks, data.band_mask_width) == bands
        assert (data.time_masks, data.time_mask_width, data.time_mask_ratio) == (4, 48, 0.0)
        assert data.audio_roll == roll
    if len(model.modalities) > 1:
        assert data.mixup_apart
        assert (model.fusion_layer, model.num_bottlenecks) == (fusion, 4)
    assert cfg.eval.input.num_windows_test == 4


def test_toy_recipe_has_the_layers_of_the_toy_pre_training():
    cfg = configs.resolve(config_file=str(FOLDER / "mbt_toy.yaml"))
    before = configs.resolve(config_file=str(FOLDER.parent / "pretrain" / "av_mae_toy.yaml"))
    for field in ("d_model", "d_ff", "num_layers", "num_heads", "spatial_patch_size"):
        assert getattr(cfg.model, field) == getattr(before.model, field), field
    for field in ("num_frames", "frame_size", "mel_bins", "audio_seconds", "audio_mean"):
        assert getattr(cfg.train.input, field) == getattr(before.train.input, field), field
