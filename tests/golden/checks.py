"""Golden files, and comparing recomputed values with those in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vatt.configs.base import Config
from vatt.configs.merge import merge
from vatt.configs.problems import ConfigError, Problem
from vatt.training import flax_checkpoints

FEATURES = 2e-5  # absolute
CONVOLUTIONAL = 5e-5  # relative to the largest entry
INTERPOLATED = 1e-2  # published float32 spline, absolute
LOSS = 1e-5  # relative
GRADIENT = 1e-4  # relative to the largest entry
TRAJECTORY = 1e-6  # optimizer steps, absolute
SCHEDULE = 1e-6  # relative, plus 1e-9 absolute
LONG_SPLINE = 1e-4  # the reference of a 1200-row table is itself good to 5e-5


@dataclass(frozen=True)
class Check:
    """One comparison: its largest error, in the unit of its tolerance."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within tolerance (an error that is not a number is not)."""
        return bool(self.error <= self.tolerance)


@dataclass(frozen=True)
class Note:
    """A documented difference: something not compared, and why."""

    text: str


class Golden(dict[str, Any]):
    """What is in one file, arrays or the values of a JSON object, and where the file lies."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.path = path


Checks = Iterator[Check | Note]
Arrays = Mapping[str, np.ndarray]
ConfigType = TypeVar("ConfigType", bound=Config)


def load(path: Path) -> Golden:
    """Returns what is in a .npz, .json or .msgpack file; a JSON list is called `items`."""
    if path.suffix == ".msgpack":
        return Golden(path, flax_checkpoints.everything(path))
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        return Golden(path, content if isinstance(content, dict) else {"items": content})
    with np.load(path, allow_pickle=False) as archive:
        return Golden(path, {name: archive[name] for name in archive.files})


def absolute(name: str, ours: Any, reference: np.ndarray, tolerance: float) -> Check:
    """Compares with an absolute tolerance; a wrong shape is an infinite error."""
    ours = np.asarray(ours, dtype=np.float64)
    if ours.shape != reference.shape:
        return Check(f"{name} {ours.shape} instead of {reference.shape}", np.inf, tolerance)
    return Check(name, float(np.max(np.abs(ours - reference), initial=0.0)), tolerance)


def relative(name: str, ours: Any, reference: np.ndarray, tolerance: float) -> Check:
    """Compares relative to the largest entry of the reference; zeros must be zeros."""
    scale = max(float(np.max(np.abs(reference), initial=0.0)), 1e-30)
    check = absolute(name, ours, reference, tolerance)
    return Check(check.name, check.error / scale, tolerance)


def configured(config: ConfigType, values: Mapping[str, Any]) -> ConfigType:
    """Returns a configuration with the values of a file; a discriminator selects another class.

    Raises:
        ConfigError: values that it does not have.
    """
    problems: list[Problem] = []
    result = merge(config, values, problems)
    if problems:
        raise ConfigError(problems)
    return result


def config_of(arrays: Arrays, key: str = "config") -> dict[str, Any]:
    return json.loads(str(arrays[key]))


def inputs_of(arrays: Arrays, key: str) -> np.ndarray:
    value = arrays[key]
    return value.astype(np.float32) if value.dtype == np.float16 else value


def assign(variables: list[Any], keys: Mapping[str, str], arrays: Arrays, prefix: str) -> None:
    """Gives every variable its stored value; the two sets of names must be the same.

    Raises:
        KeyError: a variable without a stored value, or a stored value without a variable.
    """
    stored = {name.removeprefix(prefix) for name in arrays if name.startswith(prefix)}
    missing, unused = set(keys.values()) - stored, stored - set(keys.values())
    if missing or unused:
        raise KeyError(f"not stored: {sorted(missing)[:3]}; not in the model: {sorted(unused)[:3]}")
    for variable in variables:
        value = arrays[prefix + keys[variable.path]]
        if tuple(variable.shape) != value.shape:
            raise KeyError(f"{variable.path}: {tuple(variable.shape)} instead of {value.shape}")
        variable.assign(value)
