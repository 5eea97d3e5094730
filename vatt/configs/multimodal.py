"""Multimodal models: which backbones, heads and losses belong together."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializeAsAny

from vatt.configs import backbones, base, head, loss
from vatt.configs.base import Count, Positive, UnitInterval


class BackboneConfig(base.Config):
    """Three backbones by registry name; `*_model_kwargs` change fields of the named one."""

    name: str = "backbone_stack"
    video_backbone: str = ""
    audio_backbone: str = ""
    text_backbone: str = ""
    video_model_kwargs: dict[str, Any] = Field(default_factory=dict)
    audio_model_kwargs: dict[str, Any] = Field(default_factory=dict)
    text_model_kwargs: dict[str, Any] = Field(default_factory=dict)

    def resolve(self, modality: str) -> base.Config:
        """Returns the configuration of the "video", "audio" or "text" backbone, kwargs applied.

        Raises:
          ConfigError: unknown backbone, or kwargs that it does not have.
        """
        kwargs = getattr(self, f"{modality}_model_kwargs")
        kwargs = kwargs.as_dict() if isinstance(kwargs, base.Config) else kwargs
        return backbones.build(
            getattr(self, f"{modality}_backbone"),
            modality,
            kwargs,
            name_path=f"model_config.backbone_config.{modality}_backbone",
            kwargs_path=f"model_config.backbone_config.{modality}_model_kwargs",
        )

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
    width_multiplier: Positive = 1
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
    bn_config: head.BatchNormConfig = Field(default_factory=head.BatchNormConfig)
    use_xreplica_bn: bool = True


class UnifiedBackboneConfig(base.Config):
    """One backbone for all modalities, by registry name."""

    name: str = "unified_backbone"
    unified_backbone: str = ""
    unified_model_kwargs: dict[str, Any] = Field(default_factory=dict)

    def resolve(self, modality: str = "") -> base.Config:
        """Returns the configuration of the backbone; it is the same one for every modality."""
        return backbones.build(
            self.unified_backbone,
            "unified",
            self.unified_model_kwargs,
            name_path="model_config.backbone_config.unified_backbone",
            kwargs_path="model_config.backbone_config.unified_model_kwargs",
        )

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


def _fac_heads(video: int = 512, audio: int = 512, text: int = 256) -> head.HeadStack:
    fac = head.FACBridge()
    fac.vid_to_aud_txt_kwargs.d_model = video
    fac.aud_to_vid_txt_kwargs.d_model = audio
    fac.txt_to_vid_aud_kwargs.d_model = text
    return head.HeadStack(bridge=(fac,))


def _asymmetric_loss() -> loss.LossStack:
    return loss.LossStack(bridge=(loss.AsymmetricNCE(),))


class ModelConfig(base.Config):
    """Backbones, head stack and loss stack of a model for pretraining."""

    model_name: str = ""
    backbone_config: SerializeAsAny[BackboneConfig | UnifiedBackboneConfig] = Field(
        default_factory=BackboneConfig
    )
    head_config: head.HeadStack = Field(default_factory=head.HeadStack)
    loss_config: loss.LossStack = Field(default_factory=loss.LossStack)


class MMVFACModel(ModelConfig):
    model_name: str = "mmv_fac"
    backbone_config: CNNBackboneConfig = Field(default_factory=CNNBackboneConfig)
    head_config: head.HeadStack = Field(default_factory=_fac_heads)
    loss_config: loss.LossStack = Field(default_factory=_asymmetric_loss)


class TxFACModel(ModelConfig):
    model_name: str = "tx_mlp_fac"
    backbone_config: TxBackboneConfig = Field(default_factory=TxBackboneConfig)
    head_config: head.HeadStack = Field(default_factory=_fac_heads)
    loss_config: loss.LossStack = Field(default_factory=_asymmetric_loss)


class TxFACBBSModel(TxFACModel):
    """Base video, base audio, small text: the smallest published checkpoint."""

    backbone_config: TxBackboneConfig = Field(default_factory=TxBBSBackboneConfig)


class TxFACLBSModel(TxFACModel):
    """Large video, base audio, small text."""

    backbone_config: TxBackboneConfig = Field(default_factory=TxLBSBackboneConfig)


class TxFACTinyModel(ModelConfig):
    """Not published: about a million parameters, trains on a CPU."""

    model_name: str = "tx_mlp_fac_tiny"
    backbone_config: TxTinyBackboneConfig = Field(default_factory=TxTinyBackboneConfig)
    head_config: head.HeadStack = Field(default_factory=lambda: _fac_heads(128, 128, 64))
    loss_config: loss.LossStack = Field(default_factory=_asymmetric_loss)


class UnifiedTxFACModel(ModelConfig):
    model_name: str = "uvatt_mlp_fac"
    backbone_config: UTBackboneConfig = Field(default_factory=UTBackboneConfig)
    head_config: head.HeadStack = Field(default_factory=_fac_heads)
    loss_config: loss.LossStack = Field(default_factory=_asymmetric_loss)


class UnifiedTxFACTinyModel(UnifiedTxFACModel):
    """Not published: tx_fac_tiny with one encoder for all modalities."""

    model_name: str = "uvatt_mlp_fac_tiny"
    backbone_config: UTTinyBackboneConfig = Field(default_factory=UTTinyBackboneConfig)
    head_config: head.HeadStack = Field(default_factory=lambda: _fac_heads(128, 128, 64))
