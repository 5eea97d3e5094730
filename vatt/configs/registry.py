"""Every preset by name: backbones, multimodal models, experiments. Names are case-insensitive.

registry.backbone("vit_base", dropout_rate=0.0)
registry.model("tx_fac_tiny")
registry.experiment_config("pretrain", "tx_fac_tiny")
"""

from __future__ import annotations

from typing import Any

from vatt.configs import audio, base, experiment, multimodal
from vatt.configs.backbones import (
    AUD_MODELS,
    TXT_MODELS,
    UNIFIED_MODELS,
    VID_MODELS,
    lookup,
)
from vatt.configs.merge import merge
from vatt.configs.problems import ConfigError, Problem

MULTIMODAL_MODELS: dict[str, type[base.Config]] = {
    "MMV_FAC": multimodal.MMVFACModel,
    "TX_FAC": multimodal.TxFACModel,
    "TX_FAC_BBS": multimodal.TxFACBBSModel,
    "TX_FAC_MBS": multimodal.TxFACModel,
    "TX_FAC_LBS": multimodal.TxFACLBSModel,
    "TX_FAC_TINY": multimodal.TxFACTinyModel,
    "UT_FAC": multimodal.UnifiedTxFACModel,
    "UT_FAC_MEDIUM": multimodal.UnifiedTxFACModel,
    "UT_FAC_TINY": multimodal.UnifiedTxFACTinyModel,
}
EXPERIMENT_CONFIGS: dict[str, type[experiment.ExperimentConfig]] = {
    "PRETRAIN": experiment.Pretrain,
    "FINETUNE": experiment.Finetune,
}
# What each task trains.
ARCHITECTURES: dict[str, dict[str, type[base.Config]]] = {
    "PRETRAIN": MULTIMODAL_MODELS,
    "FINETUNE": {**VID_MODELS, **AUD_MODELS},
}
DEFAULT_ARCHITECTURE = {"PRETRAIN": "Tx_FAC", "FINETUNE": "ViT_Base"}


def backbone(name: str, /, **kwargs: Any) -> base.Config:
    """Returns the configuration of a backbone of any modality, with `kwargs` changed.

    Raises:
      ConfigError: unknown name, or kwargs that the backbone does not have.
    """
    table = {**VID_MODELS, **AUD_MODELS, **TXT_MODELS, **UNIFIED_MODELS}
    return _changed(lookup(table, name, "backbone")(), kwargs)


def model(name: str, /, **kwargs: Any) -> base.Config:
    """Returns the configuration of a multimodal model; the rest as `backbone`."""
    return _changed(lookup(MULTIMODAL_MODELS, name, "model_arch")(), kwargs)


def experiment_config(task: str, model_arch: str | None = None) -> experiment.ExperimentConfig:
    """Returns the preset of a task for a model; `model_arch` None takes the task's default.

    Raises:
      ConfigError: unknown task or architecture (all that is wrong).
    """
    config = lookup(EXPERIMENT_CONFIGS, task, "task")()
    arch = model_arch if model_arch else DEFAULT_ARCHITECTURE[task.upper()]
    config.model = lookup(ARCHITECTURES[task.upper()], arch, "model_arch", f" for task {task}")()
    config.model_arch = arch.lower()
    if _reads_spectrograms(config.model):
        config.train.input.raw_audio = config.eval.input.raw_audio = False
    return config


def _reads_spectrograms(model: base.Config) -> bool:
    if isinstance(model, multimodal.ModelConfig):
        model = model.backbone_config.resolve("audio")
    return isinstance(model, audio.SpTBase | audio.Resnet2DBase)


def _changed(config: base.Config, kwargs: dict[str, Any]) -> base.Config:
    problems: list[Problem] = []
    config = merge(config, kwargs, problems)
    if problems:
        raise ConfigError(problems)
    return config
