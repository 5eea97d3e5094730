"""The registry of backbones: one name, one class; what a class says of itself is found."""

from __future__ import annotations

import types
from typing import ClassVar

import pytest

from vatt import configs
from vatt.configs import backbones, registry, video
from vatt.configs.base import Count


@pytest.fixture
def table(monkeypatch):
    """The registry, which is afterwards as it was."""
    copy = dict(backbones.BACKBONES)
    monkeypatch.setattr(backbones, "BACKBONES", copy)
    return copy


def test_one_decorator_registers_a_backbone(table):
    @backbones.register("ViT_Nano")
    class ViTNano(video.ViTBase):
        name: str = "vit_nano"
        num_layers: Count = 1

    assert table["vit_nano"] is ViTNano
    assert backbones.of_modality("video")["vit_nano"] is ViTNano
    assert "vit_nano" not in backbones.of_modality("audio")
    assert [name for name, cls in backbones.BACKBONES.items() if cls is ViTNano] == ["vit_nano"]
    assert registry.backbone("VIT_NANO", d_ff=8).as_dict() == ViTNano(d_ff=8).as_dict()
    config = configs.resolve(task="finetune", model_arch="vit_nano")
    assert type(config.model) is ViTNano and config.model_arch == "vit_nano"
    override = "model_config.backbone_config.video_backbone=vit_nano"
    config = configs.resolve(params_override=override)
    assert type(config.model.backbone_config.resolve("video")) is ViTNano
    override = "model_config.backbone_config.audio_backbone=vit_nano"
    with pytest.raises(configs.ConfigError, match="audio_backbone = 'vit_nano': expected one of"):
        configs.resolve(params_override=override)


@pytest.mark.parametrize("name", ["vit_base", "VIT_BASE"])
def test_a_name_is_registered_once(table, name):
    before = dict(table)

    class Other(video.ViTBase):
        pass

    with pytest.raises(ValueError, match=r"backbone 'vit_base' is registered already: .*ViTBase"):
        backbones.register(name)(Other)
    namesake = types.new_class("ViTBase", (video.ViTBase,))  # of another module
    with pytest.raises(ValueError, match="registered already"):
        backbones.register(name)(namesake)
    assert table == before
    assert backbones.register(name)(video.ViTBase) is video.ViTBase  # once more changes nothing


def test_only_some_can_be_fine_tuned(table):
    @backbones.register("eye_and_ear")
    class EyeAndEar(backbones.Backbone):
        modalities: ClassVar[tuple[str, ...]] = ("video", "audio")

    assert backbones.of_modality("video", "audio") == {"eye_and_ear": EyeAndEar}
    assert "eye_and_ear" not in backbones.fine_tuned()
    tuned = {*backbones.of_modality("video"), *backbones.of_modality("audio")}
    tuned |= {name for name in backbones.BACKBONES if name.startswith("mbt_")}
    assert set(backbones.fine_tuned()) == tuned
    EyeAndEar.fine_tuned = True
    assert "eye_and_ear" in backbones.fine_tuned()
    with pytest.raises(configs.ConfigError, match="eye_and_ear"):
        configs.resolve(task="finetune", model_arch="eye_and_eat")


def test_every_name_is_the_label_of_its_class():
    for name, cls in backbones.BACKBONES.items():
        assert [key for key, member in backbones.BACKBONES.items() if member is cls] == [name]
        assert list(cls().problems("here")) == []
