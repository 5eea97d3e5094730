"""A small model of the method, and a batch for it."""

from __future__ import annotations

import pytest
import small_models

from vatt import configs


@pytest.fixture
def model_config():
    config = configs.registry.model("tx_fac_tiny")
    config.backbone_config.video_model_kwargs = dict(small_models.VIDEO)
    config.backbone_config.audio_model_kwargs = dict(small_models.AUDIO)
    config.backbone_config.text_model_kwargs = dict(small_models.TEXT)
    return config


@pytest.fixture
def inputs():
    return small_models.inputs()


@pytest.fixture
def shapes():
    return small_models.SHAPES
