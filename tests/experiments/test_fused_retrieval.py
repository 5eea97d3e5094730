"""A run on sets of features: every direction searched, by both protocols, whole and in clips."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from vatt import configs
from vatt.experiments import executor

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import token_sets

TOKENS = {
    "video_embed_dim": token_sets.WIDTH,
    "text_embed_dim": 8,
    "max_words": 5,
    "n_video_tokens": 4,
    "num_audio_stft_frames": 192,
}
NARROW = {
    "video_embed_dim": token_sets.WIDTH,
    "text_embed_dim": 8,
    "projection_dim": 8,
    "davenet_widths": [4, 4, 4, 4, 8],
    "fusion_params": {"embed_dim": 8, "num_heads": 2},
}
FOUND, COMPLETE = 5, 7
SINGLE, TOGETHER = ("txt", "vid", "audio"), ("vidaudio", "txtaudio", "txtvid")
ADDED = ("video+audio", "text+audio", "text+video")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    token_sets.write_set(folder, "talk", [token_sets.example(k) for k in range(8)])
    found = [token_sets.example(k, 4.0) for k in range(20, 20 + FOUND)]
    token_sets.write_set(folder, "search", found, split="test", tasks=("retrieval",))
    card = folder / "search" / "card.yaml"
    facts = yaml.safe_load(card.read_text()) | {"complete_splits": {"test": COMPLETE}}
    card.write_text(yaml.safe_dump(facts))
    return folder


def config(data_dir, folder, mode, **tokens):
    override = {
        "train": {
            "input": {"name": "talk", "batch_size": 4, "tokens": TOKENS},
            "iterations_per_loop": 2,
            "save_checkpoint_freq": 2,
            "optimizer": {"learning_rate": {"total_steps": 2, "warmup_steps": 1}},
        },
        "eval": {"input": {"name": ["search"], "batch_size": 4, "tokens": TOKENS | tokens}},
        "model_config": NARROW,
    }
    return configs.resolve(
        task="pretrain",
        mode=mode,
        model_arch="eao_tiny",
        data_dir=str(data_dir),
        model_dir=str(folder),
        params_override=[override],
        strategy_type="one_device",
    )


def figures(folder) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
def test_a_run_is_searched_in_all_directions_by_both_protocols(data_dir, tmp_path):
    run = tmp_path / "run"
    assert executor.run(config(data_dir, run, "train_and_eval")) == 0
    whole = figures(run)
    pairs = [("txt", "vid"), ("txt", "audio"), ("vid", "audio")]
    pairs += [*zip(SINGLE, TOGETHER, strict=True), *zip(SINGLE, ADDED, strict=True)]
    for query, target in (way for pair in pairs for way in (pair, pair[::-1])):
        name = f"search_{query}2{target}"
        assert whole[f"{name}_complete_R50"] == pytest.approx(FOUND / COMPLETE)
        assert whole[f"{name}_embd_R5"] == 1.0 and whole[f"{name}_embd_MeanRank"] >= 1
    assert (whole["search_num_clips"], whole["search_complete_num_clips"]) == (FOUND, COMPLETE)
    page = (run / "report.html").read_text()
    assert "R@10 of the complete set" in page and "video &amp; audio" in page

    # In clips, whose embeddings are averaged: other figures of the same checkpoint.
    cut = config(data_dir, run, "eval", cut_clips=True, n_clips=2)
    assert executor.run(cut) == 0
    clips = figures(run / "evaluations" / "search")
    assert clips.keys() == whole.keys() and clips["search_num_clips"] == FOUND
    gap = "search_geometry_video_text_modality_gap"
    assert np.isfinite(clips[gap]) and clips[gap] != whole[gap]
