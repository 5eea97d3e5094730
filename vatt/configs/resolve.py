"""From flags and files to one checked configuration.

    cfg = resolve(model_arch="tx_fac_tiny", config_file="configs/pretrain/toy.yaml",
                  params_override="train.input.batch_size=16", model_dir="runs/a")

Order, later ones win: preset of (task, model_arch), config file, params_override, flags. A flag
that is not given (None) leaves what the file says. The file may name `task` and `model_arch` too,
so that the `config.yaml` of a run is itself a config file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vatt import assets
from vatt.configs import checks, yaml_text
from vatt.configs.dataset import PUBLISHED_FPS
from vatt.configs.experiment import ExperimentConfig
from vatt.configs.merge import leaves, merge
from vatt.configs.problems import ConfigError, Problem
from vatt.configs.registry import experiment_config

Override = str | Mapping[str, Any]


def resolve(
    *,
    task: str | None = None,
    mode: str | None = None,
    model_arch: str | None = None,
    config_file: str | None = None,
    params_override: Override | Sequence[Override] | None = None,
    model_dir: str | None = None,
    override_checkpoint: str | None = None,
    strategy_type: str | None = None,
    tpu: str | None = None,
    data_dir: str | None = None,
) -> ExperimentConfig:
    """Returns the configuration of a run, completely checked.

    Raises:
      ConfigError: with every problem that was found.
    """
    problems: list[Problem] = []
    layers = [*_config_file(config_file, problems), *_overrides(params_override, problems)]
    task = _take(layers, "task", task) or "pretrain"
    config = _preset(task, _take(layers, "model_arch", model_arch), problems)
    flags = {
        "mode": mode,
        "model_dir": model_dir,
        "checkpoint_path": override_checkpoint,
        "data_dir": data_dir,
        "strategy_config": _given({"distribution_strategy": strategy_type, "tpu": tpu}),
    }
    for layer in (*layers, _given(flags)):
        config = merge(config, layer, problems)
    if not config.mode:
        config.mode = "train"
    problems.extend(problem for problem in checks.problems(config) if problem not in problems)
    if problems:
        raise ConfigError(_with_places(problems, config))
    return config


def _take(layers: list[dict[str, Any]], key: str, flag: Any) -> Any:
    """Takes `key`, which selects the preset, out of the layers; flag first, then the last one."""
    found = [layer.pop(key) for layer in layers if key in layer]
    return flag if flag is not None else next((value for value in found[::-1] if value), None)


def _config_file(name: str | None, problems: list[Problem]) -> list[dict[str, Any]]:
    if not name:
        return []
    try:
        return [read(assets.find(name))]
    except assets.AssetError as error:
        problems.append(Problem("config_file", name, error.accepted, error.hint))
    except ConfigError as error:
        problems.extend(error.problems)
    return []


def read(path: Path) -> dict[str, Any]:
    """Returns the mapping in a configuration file, as today's fields are meant.

    Takes `fps` 10 from complete files of earlier versions, in which it was the published rule. That
    is null now; whoever writes 10 today means ten frames per second of any record.
    """
    layer = yaml_text.load(path)
    for part in ("train", "eval"):
        data = layer.get(part, {})
        data = data.get("input", {}) if isinstance(data, Mapping) else {}
        if isinstance(data, dict) and of_earlier_version(data) and data.get("fps") == PUBLISHED_FPS:
            del data["fps"]
    return layer


def of_earlier_version(data: Mapping[str, Any]) -> bool:
    """Says whether `to_yaml` wrote an `input` before clips had a rate that holds for any record."""
    return "linearize_vision" in data and "horizontal_flip" not in data


def _overrides(
    given: Override | Sequence[Override] | None, problems: list[Problem]
) -> list[dict[str, Any]]:
    if given is None:
        return []
    layers = []
    for override in [given] if isinstance(given, (str, Mapping)) else given:
        try:
            parsed = (
                override if isinstance(override, Mapping) else yaml_text.parse_override(override)
            )
            layers.append(yaml_text.nested(parsed))
        except ConfigError as error:
            problems.extend(error.problems)
    return layers


def _preset(task: Any, model_arch: Any, problems: list[Problem]) -> ExperimentConfig:
    """Returns the preset, or in place of a refused one a default: the rest is checked too."""
    for arguments in (
        (task, model_arch),
        (task, None),
        ("pretrain", model_arch),
        ("pretrain", None),
    ):
        try:
            return experiment_config(*arguments)
        except ConfigError as error:
            problems.extend(p for p in error.problems if p not in problems)
    raise AssertionError("the default preset exists")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != {}}


def _with_places(problems: list[Problem], config: ExperimentConfig) -> list[Problem]:
    """Adds to an unknown key where in the tree a field of that very name stands."""
    if all(problem.accepted != "no such key" for problem in problems):
        return problems
    places: dict[str, list[str]] = {}
    for path, _ in leaves(config):
        places.setdefault(path.rpartition(".")[2], []).append(path)
    result = []
    for problem in problems:
        found = places.get(problem.path.rpartition(".")[2], [])
        if problem.accepted == "no such key" and found:
            problem = Problem(
                problem.path,
                problem.value,
                problem.accepted,
                f" Did you mean {' or '.join(found[:2])}?",
            )
        result.append(problem)
    return result


def diff(before: ExperimentConfig | Mapping, after: ExperimentConfig | Mapping) -> list[str]:
    """Returns what differs between two configurations, one "dotted.path: before -> after" each."""
    old, new = (flat(c if isinstance(c, Mapping) else c.as_dict()) for c in (before, after))
    paths = [*old, *(path for path in new if path not in old)]
    return [
        f"{path}: {old.get(path)!r} -> {new.get(path)!r}"
        for path in paths
        if old.get(path) != new.get(path)
    ]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Returns the values of a configuration as YAML has it by "dotted.path"."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        return {path: value}
    result = {}
    for key, item in items:
        result.update(flat(item, f"{path}.{key}" if path else str(key)))
    return result


def from_yaml(path: str | Path) -> ExperimentConfig:
    """Returns the configuration that `to_yaml` wrote into a file; errors as `resolve`."""
    return resolve(config_file=str(path))


def recorded(path: Path, asked: ExperimentConfig) -> ExperimentConfig | Mapping[str, Any]:
    """Returns what a run's file says; fields that are newer than it have their defaults.

    As a mapping, where it has values that are no longer accepted. The rate that was the published
    rule counts as that of `asked`, which a file that has it in all runs does not contradict.
    """
    written = yaml_text.load(path)
    try:
        found = from_yaml(path)
    except ConfigError:
        return written
    for part in ("train", "eval"):
        told = getattr(asked, part).input.fps
        if told == PUBLISHED_FPS and of_earlier_version(written.get(part, {}).get("input", {})):
            getattr(found, part).input.fps = told
    return found


def to_yaml(config: ExperimentConfig) -> str:
    """Returns the configuration as YAML, usable as a config file again."""
    return yaml_text.dump(config.as_dict())
