"""VATT's configuration: heads and losses of a model, clips, presets of experiments.

Names, fields and defaults are the published ones; what the published code lacks is said so.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import base, dataset, experiment
from vatt.configs.backbones import Backbone
from vatt.configs.base import Count, NonNegative, Positive, WholeNumber
from vatt.configs.model import PretrainModel
from vatt.configs.problems import ConfigError, Problem, Problems
from vatt.methods.vatt import towers

# Heads: FAC (two common spaces) and joint (one) ------------------------------------------------


class BaseHeadConfig(base.Config):
    """A head; `name` says which one (mlp_fac, mlp_joint)."""

    variant_key: ClassVar[str | None] = "name"

    name: str = "projection_head"


class MLPBridgeConfig(BaseHeadConfig):
    """One modality's part of a head; `d_model` is the size of its common space."""

    variant_key: ClassVar[str | None] = None

    name: str = "mlp_bridge_module"
    modality: str = ""
    d_model: Count = 512


def _module(modality: str, d_model: int) -> MLPBridgeConfig:
    return MLPBridgeConfig(name=f"{modality}_mlp_module", modality=modality, d_model=d_model)


class Bridge(BaseHeadConfig):
    """What both heads have: batch norm, and a part for each modality."""

    bn_config: towers.BatchNormConfig = Field(default_factory=towers.BatchNormConfig)
    use_xreplica_bn: bool = True
    vid_to_aud_txt_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("video", 512))
    aud_to_vid_txt_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("audio", 512))
    txt_to_vid_aud_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("text", 512))

    def problems(self, path: str) -> Problems:
        """Yields widths that do not fit together."""
        yield from ()

    def widths(self) -> tuple[int, int, int]:
        """Returns `d_model` of video, audio and text."""
        parts = (
            self.vid_to_aud_txt_kwargs,
            self.aud_to_vid_txt_kwargs,
            self.txt_to_vid_aud_kwargs,
        )
        return tuple(part.d_model for part in parts)


class JointBridge(Bridge):
    """All modalities in one common space."""

    name: base.choice("mlp_joint") = "mlp_joint"

    def problems(self, path: str) -> Problems:
        """Yields widths that differ."""
        sizes = list(self.widths())
        if len(set(sizes)) > 1:
            accepted = "the joint head needs one d_model for video, audio and text"
            yield Problem(f"{path} d_model", sizes, accepted, f" Try {max(sizes)} for all.")


class FACBridge(Bridge):
    """Video and audio share a fine space, from where video goes on to a coarser one with text."""

    name: base.choice("mlp_fac") = "mlp_fac"
    txt_to_vid_aud_kwargs: MLPBridgeConfig = Field(default_factory=lambda: _module("text", 256))


class HeadStack(base.Config):
    stack_of: ClassVar[type[base.Config] | None] = BaseHeadConfig

    bridge: base.sequence(SerializeAsAny[BaseHeadConfig]) = ()


# Losses: NCE and MIL-NCE in two published forms ------------------------------------------------


class BaseLossConfig(base.Config):
    """A loss; `name` says which one (asymmetric_nce, symmetric_nce).

    `mask_normalization`: "global" divides by the number of valid clips of the whole batch;
    "replica" by that of each replica's share, as published, which is not the masked mean when the
    shares differ.
    """

    variant_key: ClassVar[str | None] = "name"

    name: str = ""
    loss_weight: NonNegative = 1.0
    mask_normalization: base.choice("global", "replica") = "global"


class SymmetricNCE(BaseLossConfig):
    name: base.choice("symmetric_nce") = "symmetric_nce"
    temperature: Positive = 0.07
    vid_txt_weight: NonNegative = 1.0
    vid_aud_weight: NonNegative = 1.0
    aud_txt_weight: NonNegative = 0.0

    def problems(self, path: str) -> Problems:
        """Yields weights that leave nothing to compute, or a pair that no head has a space for."""
        weights = [self.vid_txt_weight, self.vid_aud_weight, self.aud_txt_weight]
        if not any(weights):
            yield Problem(f"{path} weights", weights, "expected at least one pair weight above 0")
        if self.aud_txt_weight:
            accepted = "expected 0: no head gives audio and text a space of their own"
            yield Problem(f"{path}.aud_txt_weight", self.aud_txt_weight, accepted)


class AsymmetricNCE(SymmetricNCE):
    name: base.choice("asymmetric_nce") = "asymmetric_nce"


class LossStack(base.Config):
    stack_of: ClassVar[type[base.Config] | None] = BaseLossConfig

    bridge: base.sequence(SerializeAsAny[BaseLossConfig]) = ()


# Models ----------------------------------------------------------------------------------------


def _fac_heads(video: int = 512, audio: int = 512, text: int = 256) -> HeadStack:
    fac = FACBridge()
    fac.vid_to_aud_txt_kwargs.d_model = video
    fac.aud_to_vid_txt_kwargs.d_model = audio
    fac.txt_to_vid_aud_kwargs.d_model = text
    return HeadStack(bridge=(fac,))


def _asymmetric_loss() -> LossStack:
    return LossStack(bridge=(AsymmetricNCE(),))


class ModelConfig(PretrainModel):
    """Backbones, head stack and loss stack of a model for pretraining."""

    required_modalities: ClassVar[tuple[str, ...]] = ("video",)  # a set may lack sound or captions
    backbone_config: SerializeAsAny[towers.BackboneConfig | towers.UnifiedBackboneConfig] = Field(
        default_factory=towers.BackboneConfig
    )
    head_config: HeadStack = Field(default_factory=HeadStack)
    loss_config: LossStack = Field(default_factory=LossStack)

    def backbones(self) -> dict[str, Backbone | ConfigError]:
        """Returns the backbones by the path where each is configured."""
        found: dict[str, Backbone | ConfigError] = {}
        for path, which in self.backbone_config.places().items():
            try:
                found[path] = self.backbone_config.resolve(which)
            except ConfigError as error:
                found[path] = error
        return found

    def problems(self) -> Problems:
        """Yields what does not fit together in heads and losses."""
        for name, stack in (("head_config", self.head_config), ("loss_config", self.loss_config)):
            if not stack.bridge:
                choices = ", ".join(type(stack).stack_of.variants())
                accepted = f"expected at least one of {choices}"
                yield Problem(f"model_config.{name}.bridge", [], accepted)
            for i, member in enumerate(stack.bridge):
                yield from member.problems(f"model_config.{name}.bridge.{i}")


class MMVFACModel(ModelConfig):
    model_name: str = "mmv_fac"
    backbone_config: towers.CNNBackboneConfig = Field(default_factory=towers.CNNBackboneConfig)
    head_config: HeadStack = Field(default_factory=_fac_heads)
    loss_config: LossStack = Field(default_factory=_asymmetric_loss)


class MMVFACTinyModel(ModelConfig):
    """Not published: mmv_fac with small residual networks, trains on a CPU."""

    model_name: str = "mmv_fac_tiny"
    backbone_config: towers.CNNTinyBackboneConfig = Field(
        default_factory=towers.CNNTinyBackboneConfig
    )
    head_config: HeadStack = Field(default_factory=lambda: _fac_heads(128, 128, 64))
    loss_config: LossStack = Field(default_factory=_asymmetric_loss)


class TxFACModel(ModelConfig):
    model_name: str = "tx_mlp_fac"
    backbone_config: towers.TxBackboneConfig = Field(default_factory=towers.TxBackboneConfig)
    head_config: HeadStack = Field(default_factory=_fac_heads)
    loss_config: LossStack = Field(default_factory=_asymmetric_loss)


class TxFACBBSModel(TxFACModel):
    """Base video, base audio, small text: the smallest published checkpoint."""

    backbone_config: towers.TxBackboneConfig = Field(default_factory=towers.TxBBSBackboneConfig)


class TxFACLBSModel(TxFACModel):
    """Large video, base audio, small text."""

    backbone_config: towers.TxBackboneConfig = Field(default_factory=towers.TxLBSBackboneConfig)


class TxFACTinyModel(ModelConfig):
    """Not published: about a million parameters, trains on a CPU."""

    model_name: str = "tx_mlp_fac_tiny"
    backbone_config: towers.TxTinyBackboneConfig = Field(
        default_factory=towers.TxTinyBackboneConfig
    )
    head_config: HeadStack = Field(default_factory=lambda: _fac_heads(128, 128, 64))
    loss_config: LossStack = Field(default_factory=_asymmetric_loss)


class UnifiedTxFACModel(ModelConfig):
    model_name: str = "uvatt_mlp_fac"
    backbone_config: towers.UTBackboneConfig = Field(default_factory=towers.UTBackboneConfig)
    head_config: HeadStack = Field(default_factory=_fac_heads)
    loss_config: LossStack = Field(default_factory=_asymmetric_loss)


class UnifiedTxFACTinyModel(UnifiedTxFACModel):
    """Not published: tx_fac_tiny with one encoder for all modalities."""

    model_name: str = "uvatt_mlp_fac_tiny"
    backbone_config: towers.UTTinyBackboneConfig = Field(
        default_factory=towers.UTTinyBackboneConfig
    )
    head_config: HeadStack = Field(default_factory=lambda: _fac_heads(128, 128, 64))


# Examples --------------------------------------------------------------------------------------


class PretrainInput(dataset.Pretrain):
    """Clips with sound and captions (published: `dataset.Pretrain`).

    `caption_selection`: which captions become the `max_context_sentences` + 1 candidates.
    `audio_gain`: sounds are made louder or softer by up to so many dB, at random.
    """

    max_num_words: Count = 16
    max_context_sentences: WholeNumber = 4
    audio_noise: NonNegative = 0.01
    audio_gain: dataset.Gain = 0.0
    audio_mixup: bool = False
    mixup_alpha: Positive = 10
    mixup_beta: Positive = 2
    caption_selection: base.choice("nearest", "first", "random") = "random"


# Presets ---------------------------------------------------------------------------------------


class Pretrain(experiment.Pretrain):
    """A pretraining run of VATT (published: `experiment.Pretrain`)."""

    method: ClassVar[str] = "vatt"

    model: SerializeAsAny[ModelConfig] = Field(default_factory=TxFACModel, alias="model_config")
    train: experiment.TrainConfig = Field(
        default_factory=lambda: experiment.TrainConfig(
            input=PretrainInput(),
            optimizer=experiment.AdamOptimizer(
                learning_rate=experiment.StepwiseCosineDecayLearningRate()
            ),
        )
    )
