"""Small configurations and inputs for the model tests."""

from __future__ import annotations

import numpy as np
import pytest

from vatt import configs

SHAPES = {"video": (4, 4, 16, 16, 3), "audio": (4, 512, 1), "text": (8, 6)}
SMALL = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32}
VIDEO = {
    **SMALL,
    "temporal_patch_size": 2,
    "spatial_patch_size": 4,
    "max_temporal_buckets": 2,
    "max_vertical_buckets": 4,
    "max_horizontal_buckets": 4,
}
AUDIO = {
    **SMALL,
    "temporal_patch_size": 32,
    "temporal_patch_stride": 32,
    "max_temporal_buckets": 16,
}
TEXT = {**SMALL, "vocab_size": 40, "d_embedding": 12, "d_pre_proj": 16}


@pytest.fixture
def video_config():
    def make(**changes):
        return configs.registry.backbone("vit_tiny", **{**VIDEO, **changes})

    return make


@pytest.fixture
def audio_config():
    def make(**changes):
        return configs.registry.backbone("wat_tiny", **{**AUDIO, **changes})

    return make


@pytest.fixture
def text_config():
    def make(**changes):
        return configs.registry.backbone("t5_tiny", **{**TEXT, **changes})

    return make


@pytest.fixture
def model_config():
    config = configs.registry.model("tx_fac_tiny")
    config.backbone_config.video_model_kwargs = dict(VIDEO)
    config.backbone_config.audio_model_kwargs = dict(AUDIO)
    config.backbone_config.text_model_kwargs = dict(TEXT)
    return config


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    return {
        "video": random.uniform(size=SHAPES["video"]).astype("float32"),
        "audio": random.normal(size=SHAPES["audio"]).astype("float32"),
        "text": random.integers(0, 40, SHAPES["text"]).astype("int32"),
    }


@pytest.fixture
def shapes():
    return SHAPES
