"""Presets by name: experiments of a task and an architecture, and the models in them.

registry.experiment_config("pretrain", "tx_fac_tiny")
registry.model("tx_fac_tiny")
registry.backbone("vit_base", dropout_rate=0.0)

Architectures of the task pretrain are those of the methods (`vatt.methods`), those of finetune the
backbones that a classifier can be put on. Names are case-insensitive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vatt import methods
from vatt.configs import backbones, experiment
from vatt.configs.backbones import Backbone, lookup
from vatt.configs.merge import merge
from vatt.configs.model import PretrainModel
from vatt.configs.problems import ConfigError, Problem

DEFAULT_ARCHITECTURE = {"pretrain": "Tx_FAC", "finetune": "ViT_Base"}

Preset = Callable[[], experiment.ExperimentConfig]


def experiment_config(task: str, model_arch: str | None = None) -> experiment.ExperimentConfig:
    """Returns the preset of a task for a model; `model_arch` None takes the task's default.

    Raises:
      ConfigError: unknown task or architecture (all that is wrong).
    """
    architectures = lookup(_TASKS, task, "task")
    if not isinstance(model_arch, str | None):
        raise ConfigError([Problem("model_arch", model_arch, "expected a text")])
    arch = (model_arch or DEFAULT_ARCHITECTURE[task.lower()]).lower()
    config = lookup(architectures(arch), arch, "model_arch", f" for task {task}")()
    config.model_arch = arch
    for data in (config.train.input, config.eval.input):
        for name, value in _clip_defaults(config.model).items():
            if name in type(data).model_fields and name not in data.model_fields_set:
                setattr(data, name, value)
    return config


def _pretraining(model_arch: str) -> Mapping[str, Preset]:
    method = methods.with_architecture(model_arch)
    if method is not None:  # those after it need not be imported
        return method.presets
    return {name: preset for other in methods.known() for name, preset in other.presets.items()}


def _finetuning(_model_arch: str) -> Mapping[str, Preset]:
    def preset(cls: type[Backbone]) -> Preset:
        return lambda: experiment.Finetune(model=cls())

    return {name: preset(cls) for name, cls in backbones.fine_tuned().items()}


_TASKS = {"pretrain": _pretraining, "finetune": _finetuning}


def model(name: str, /, **kwargs: Any) -> PretrainModel:
    """Returns the model of a pretraining preset, with `kwargs` changed.

    Raises:
      ConfigError: unknown name, or kwargs that the model does not have.
    """
    return _changed(experiment_config("pretrain", name).model, kwargs)


def backbone(name: str, /, **kwargs: Any) -> Backbone:
    """Returns the configuration of a backbone of any modality, with `kwargs` changed.

    Raises:
      ConfigError: unknown name, or kwargs that the backbone does not have.
    """
    return backbones.build(name, kwargs)


def _clip_defaults(model: PretrainModel | Backbone) -> dict[str, Any]:
    backbones = model.backbones().values() if isinstance(model, PretrainModel) else (model,)
    found = [backbone.clip_defaults for backbone in backbones if isinstance(backbone, Backbone)]
    return {name: value for fields in found for name, value in fields.items()}


def _changed(config: PretrainModel, kwargs: Mapping[str, Any]) -> PretrainModel:
    problems: list[Problem] = []
    config = merge(config, kwargs, problems)
    if problems:
        raise ConfigError(problems)
    return config
