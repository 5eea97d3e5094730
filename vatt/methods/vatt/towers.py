"""The backbones of VATT's models, by registry name: one for each modality, or one for all.

Names, fields and defaults are the published ones; what the published code lacks is said so.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vatt.configs import backbones, base, unified
from vatt.configs.backbones import Backbone
from vatt.configs.base import Count, Multiplier, Positive, UnitInterval

MODALITIES = ("video", "audio", "text")
BACKBONES = "model_config.backbone_config"  # path in the configuration


class BatchNormConfig(base.Config):
    momentum: UnitInterval = 0.9
    epsilon: Positive = 1e-5
    scale: bool = True
    name: str = "batch_norm"


class BackboneConfig(base.Config):
    """Three backbones by registry name; `*_model_kwargs` change fields of the named one."""

    name: str = "backbone_stack"
    video_backbone: str = ""
    audio_backbone: str = ""
    text_backbone: str = ""
    video_model_kwargs: dict[str, Any] = Field(default_factory=dict)
    audio_model_kwargs: dict[str, Any] = Field(default_factory=dict)
    text_model_kwargs: dict[str, Any] = Field(default_factory=dict)

    def resolve(self, modality: str) -> Backbone:
        """Returns the configuration of the "video", "audio" or "text" backbone, kwargs applied.

        Raises:
          ConfigError: unknown backbone, or kwargs that it does not have.
        """
        kwargs = getattr(self, f"{modality}_model_kwargs")
        return backbones.build(
            getattr(self, f"{modality}_backbone"),
            kwargs.as_dict() if isinstance(kwargs, base.Config) else kwargs,
            f"{BACKBONES}.{modality}_backbone",
            f"{BACKBONES}.{modality}_model_kwargs",
            (modality,),
        )

    def places(self) -> dict[str, str]:
        """Returns the path in the configuration of each backbone, and what `resolve` takes."""
        return {f"{BACKBONES}.{m}_backbone": m for m in MODALITIES}

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        return self.resolve("text").vocab_size

    @property
    def word_embeddings(self) -> str | None:
        """Pretrained word embedding, by name or path."""
        return self.resolve("text").word_embeddings


class TxBackboneConfig(BackboneConfig):
    video_backbone: str = "vit_medium"
    audio_backbone: str = "wat_base"
    text_backbone: str = "t5_small"


class TxBBSBackboneConfig(TxBackboneConfig):
    video_backbone: str = "vit_base"


class TxLBSBackboneConfig(TxBackboneConfig):
    video_backbone: str = "vit_large"


class TxTinyBackboneConfig(BackboneConfig):
    video_backbone: str = "vit_tiny"
    audio_backbone: str = "wat_tiny"
    text_backbone: str = "t5_tiny"


class CNNkwargs(base.Config):
    num_classes: Count | None = None
    width_multiplier: Multiplier = 1
    batch_norm_decay: UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5
    batch_norm_scale: bool = True
    use_xreplica_bn: bool = True


class CNNBackboneConfig(BackboneConfig):
    video_backbone: str = "i3d"
    audio_backbone: str = "resnet2d_50"
    text_backbone: str = "linear"
    video_model_kwargs: CNNkwargs = Field(default_factory=lambda: CNNkwargs(width_multiplier=2))
    audio_model_kwargs: CNNkwargs = Field(default_factory=CNNkwargs)
    text_model_kwargs: dict[str, Any] = Field(default_factory=dict)
    bn_config: BatchNormConfig = Field(default_factory=BatchNormConfig)
    use_xreplica_bn: bool = True


class CNNTinyBackboneConfig(BackboneConfig):
    """Not published: trains on a CPU."""

    video_backbone: str = "r2plus1d_tiny"
    audio_backbone: str = "resnet_tiny"
    text_backbone: str = "linear_tiny"


class UnifiedBackboneConfig(base.Config):
    """One backbone for all modalities, by registry name."""

    name: str = "unified_backbone"
    unified_backbone: str = ""
    unified_model_kwargs: dict[str, Any] = Field(default_factory=dict)

    def resolve(self, modality: str = "") -> unified.UniTBase:
        """Returns the configuration of the backbone; it is the same one for every modality."""
        return backbones.build(
            self.unified_backbone,
            self.unified_model_kwargs,
            f"{BACKBONES}.unified_backbone",
            f"{BACKBONES}.unified_model_kwargs",
            MODALITIES,
        )

    def places(self) -> dict[str, str]:
        """Returns the path in the configuration of the backbone, and what `resolve` takes."""
        return {f"{BACKBONES}.unified_backbone": ""}

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        return self.resolve().txt_vocab_size

    @property
    def word_embeddings(self) -> str | None:
        """Pretrained word embedding, by name or path."""
        return self.resolve().word_embeddings


class UTBackboneConfig(UnifiedBackboneConfig):
    unified_backbone: str = "ut_medium"


class UTTinyBackboneConfig(UnifiedBackboneConfig):
    unified_backbone: str = "ut_tiny"
