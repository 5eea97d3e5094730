"""Training on clips of narrated videos: rows of a batch shared among replicas, and gone on with."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from vatt import configs
from vatt.data.ingest import build
from vatt.data.ingest.sources import Options
from vatt.experiments import executor
from vatt.experiments.pretrain import PretrainRecipe
from vatt.training import loop
from vatt.training.checkpoints import open_checkpoint
from vatt.training.rundir import RunDir

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
import feature_sets

TOKENS = {
    "features_2d": "resnet152",
    "features_3d": "resnext101",
    "video_embed_dim": 11,
    "num_audio_stft_frames": 96,
    "narrated": True,
    "n_clips": 2,
    "flag_text_audio_misaligned": True,
}
MODEL = {
    "video_embed_dim": 11,
    "davenet_widths": [4, 4, 4, 8],
    "davenet_blocks": [1, 1, 1],
    "use_xreplica_bn": True,
    "fusion_params": {"embed_dim": 8, "drop_rate": 0.1},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("howto")
    said = {
        f"v/video{k}": [(5.0 * n, 5.0 * n + 4, f"word{k} number{n}") for n in range(12)]
        for k in range(5)
    }
    root = feature_sets.write_videos(folder / "files", said)
    options = Options(media_root=root, list=root / "videos.csv")
    inputs = [str(root / "caption.json")]
    build.ingest(inputs, folder / "howto", form="feature_files", options=options)
    return folder


def trained(data_dir, folder, steps: int = 4, strategy=None) -> list[float]:
    """Trains and returns the losses that were logged; under `strategy` nothing is evaluated."""
    whole = {key: x for key, x in TOKENS.items() if key not in ("narrated", "n_clips")}
    override = {
        "model_config": MODEL,
        "train": {
            "input": {"name": "howto", "batch_size": 8, "tokens": TOKENS},
            "iterations_per_loop": 1,
            "save_checkpoint_freq": 2,
            "optimizer": {"learning_rate": {"total_steps": steps, "warmup_steps": 1}},
        },
        "eval": {"input": {"tokens": whole}},
    }
    cfg = configs.resolve(
        model_arch="eao_tiny",
        model_dir=str(folder),
        mode="train",
        data_dir=str(data_dir),
        params_override=[override],
        strategy_type="one_device",
    )
    if strategy is None:
        assert executor.run(cfg) == 0
    else:
        folder.mkdir()
        assert loop.train(PretrainRecipe(cfg, strategy), cfg, strategy, RunDir(folder)) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["metrics"]["total_loss"] for line in lines if line["split"] == "train"]


@pytest.mark.slow
def test_two_replicas_learn_from_the_same_clips_as_one(data_dir, tmp_path, two_replicas):
    one = trained(data_dir, tmp_path / "one")
    two = trained(data_dir, tmp_path / "two", strategy=two_replicas)
    assert len(one) == 4
    np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.slow
def test_a_resumed_training_goes_on_with_the_same_clips(data_dir, tmp_path):
    trained(data_dir, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for path in (tmp_path / "part").glob("ckpt-4*"):
        path.unlink()
    trained(data_dir, tmp_path / "part")
    ends = [open_checkpoint(tmp_path / name / "ckpt-4") for name in ("whole", "part")]
    for name in ends[0].get_variable_to_shape_map():
        np.testing.assert_array_equal(*(end.get_tensor(name) for end in ends), err_msg=name)
