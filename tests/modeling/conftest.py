"""Small configurations and inputs for the model tests."""

from __future__ import annotations

import pytest
import small_models

from vatt import configs


@pytest.fixture
def video_config():
    def make(**changes):
        return configs.registry.backbone("vit_tiny", **{**small_models.VIDEO, **changes})

    return make


@pytest.fixture
def audio_config():
    def make(**changes):
        return configs.registry.backbone("wat_tiny", **{**small_models.AUDIO, **changes})

    return make


@pytest.fixture
def text_config():
    def make(**changes):
        return configs.registry.backbone("t5_tiny", **{**small_models.TEXT, **changes})

    return make


@pytest.fixture
def inputs():
    return small_models.inputs()


@pytest.fixture
def shapes():
    return small_models.SHAPES
