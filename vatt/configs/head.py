"""Projection heads into the common spaces of modalities: FAC (two spaces) and joint (one)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import base
from vatt.configs.base import Count, Positive, UnitInterval


class BatchNormConfig(base.Config):
    momentum: UnitInterval = 0.9
    epsilon: Positive = 1e-5
    scale: bool = True
    name: str = "batch_norm"


class BaseHeadConfig(base.Config):
    """A head; `name` says which one (mlp_fac, mlp_joint)."""

    variant_key: ClassVar[str | None] = "name"

    name: str = "projection_head"

    @classmethod
    def variants(cls) -> Mapping[str, type[base.Config]]:
        """Returns the heads that can be put into a stack."""
        return {"mlp_fac": FACBridge, "mlp_joint": JointBridge}


class MLPBridgeConfig(BaseHeadConfig):
    """One modality's part of a head; `d_model` is the size of its common space."""

    variant_key: ClassVar[str | None] = None

    name: str = "mlp_bridge_module"
    modality: str = ""
    d_model: Count = 512


def _module(modality: str, d_model: int) -> MLPBridgeConfig:
    return MLPBridgeConfig(name=f"{modality}_mlp_module", modality=modality, d_model=d_model)


class JointBridge(BaseHeadConfig):
    """All modalities in one common space."""

    name: base.choice("mlp_joint") = "mlp_joint"
    bn_config: BatchNormConfig = Field(default_factory=BatchNormConfig)
    use_xreplica_bn: bool = True
    vid_to_aud_txt_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("video", 512))
    aud_to_vid_txt_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("audio", 512))
    txt_to_vid_aud_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("text", 512))


class FACBridge(BaseHeadConfig):
    """Video and audio share a fine space, from where video goes on to a coarser one with text."""

    name: base.choice("mlp_fac") = "mlp_fac"
    bn_config: BatchNormConfig = Field(default_factory=BatchNormConfig)
    use_xreplica_bn: bool = True
    vid_to_aud_txt_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("video", 512))
    aud_to_vid_txt_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("audio", 512))
    txt_to_vid_aud_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("text", 256))


class HeadStack(base.Config):
    stack_of: ClassVar[type[base.Config] | None] = BaseHeadConfig

    bridge: base.sequence(SerializeAsAny[BaseHeadConfig]) = ()
