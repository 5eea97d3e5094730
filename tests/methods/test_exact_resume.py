"""A training that goes on from a checkpoint ends as one that was never stopped."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from vatt import configs
from vatt.experiments import executor
from vatt.training.checkpoints import open_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus
import token_sets

NARROW = {"widths": [4, 4, 4, 8]}
MODELS = {
    "": {
        "video_model_kwargs": NARROW,
        "audio_backbone": "resnet_tiny",
        "audio_model_kwargs": NARROW,
    },
    "av_mae_tiny": {"decoder_config": {"dropout_rate": 0.1}, "dropout_rate": 0.1},
    "eao_tiny": {
        "video_embed_dim": token_sets.WIDTH,
        "davenet_widths": [4, 4, 4, 8],
        "davenet_blocks": [1, 1, 1],
        "fusion_params": {"embed_dim": 8, "drop_rate": 0.1, "attn_drop_rate": 0.1},
    },
}
TOKENS = {"video_embed_dim": token_sets.WIDTH, "num_audio_stft_frames": 96}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    corpus.write_set(folder, "both", [corpus.example(i) for i in range(6)], text=False)
    token_sets.write_set(folder, "tokens", [token_sets.example(i) for i in range(6)])
    return folder


def config(arch, data_dir, folder):
    clip = {"num_frames": 4, "fps": 10.0, "frame_size": 16, "min_resize": 16}
    spectrum = {"spectrum": {"highest_hz": 800.0}} if arch == "av_mae_tiny" else {}
    heard = spectrum | {"sample_rate": corpus.SAMPLE_RATE, "audio_seconds": 0.4, "batch_size": 2}
    read, evaluated = {"name": "both", **clip, **heard}, spectrum
    if arch == "eao_tiny":
        read, evaluated = {"name": "tokens", "batch_size": 4, "tokens": TOKENS}, {"tokens": TOKENS}
    override = {
        "eval": {"input": evaluated},
        "train": {
            "input": read,
            "iterations_per_loop": 2,
            "save_checkpoint_freq": 2,
            "optimizer": {"learning_rate": {"total_steps": 4, "warmup_steps": 1}},
        },
        "model_config": MODELS.get(arch, MODELS[""]),
    }
    return configs.resolve(
        mode="train",
        model_arch=arch,
        data_dir=str(data_dir),
        model_dir=str(folder),
        params_override=override,
        strategy_type="one_device",
    )


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gdt_tiny", "stica_tiny", "av_mae_tiny", "eao_tiny"])
def test_a_training_goes_on_exactly(arch, data_dir, tmp_path):
    assert executor.run(config(arch, data_dir, tmp_path / "whole")) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for file in (tmp_path / "parts").glob("ckpt-4*"):
        file.unlink()  # as if killed after step 2 was saved
    assert executor.run(config(arch, data_dir, tmp_path / "parts")) == 0
    whole, parts = (open_checkpoint(tmp_path / name / "ckpt-4") for name in ("whole", "parts"))
    shapes = whole.get_variable_to_shape_map()
    assert shapes == parts.get_variable_to_shape_map() and len(shapes) > 100
    for name in shapes:
        np.testing.assert_array_equal(parts.get_tensor(name), whole.get_tensor(name), name)
    first = open_checkpoint(tmp_path / "whole" / "ckpt-2")
    moved = [n for n in shapes if not np.array_equal(first.get_tensor(n), whole.get_tensor(n))]
    assert len(moved) > len(shapes) / 2
