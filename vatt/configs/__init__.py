"""Typed configuration of runs: classes, presets, overrides, checks. No TensorFlow, no Keras.

from vatt import configs
cfg = configs.resolve(model_arch="tx_fac_tiny", params_override="train.input.batch_size=16")
print(configs.to_yaml(cfg))
"""

from vatt.configs import (
    audio,
    backbones,
    base,
    dataset,
    experiment,
    model,
    multimodal,
    registry,
    residual,
    text,
    unified,
    video,
)
from vatt.configs.checks import check_batch
from vatt.configs.experiment import ExperimentConfig
from vatt.configs.problems import ConfigError, Problem
from vatt.configs.resolve import diff, flat, from_yaml, read, recorded, resolve, to_yaml

__all__ = [
    "ConfigError",
    "ExperimentConfig",
    "Problem",
    "audio",
    "backbones",
    "base",
    "check_batch",
    "dataset",
    "diff",
    "experiment",
    "flat",
    "from_yaml",
    "model",
    "multimodal",
    "read",
    "recorded",
    "registry",
    "residual",
    "resolve",
    "text",
    "to_yaml",
    "unified",
    "video",
]
