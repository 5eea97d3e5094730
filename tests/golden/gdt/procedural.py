"""Weights and inputs that golden files do not store but say how to draw, and loading of weights."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from vatt.methods.gdt import published


def value(salt: str, name: str, shape: Sequence[int]) -> np.ndarray:
    """Returns the value of a parameter of the published model."""
    random = np.random.RandomState(zlib.crc32((salt + name).encode()))
    shape = tuple(shape)
    if name.endswith("running_mean") or name.endswith("bias"):
        drawn = 0.05 * random.standard_normal(shape)
    elif name.endswith("running_var"):
        drawn = 0.5 + random.random_sample(shape)
    elif len(shape) == 1:
        drawn = 1 + 0.1 * random.standard_normal(shape)
    else:
        drawn = random.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
    return np.asarray(drawn, np.float32)


def sample(salt: str, name: str, shape: Sequence[int]) -> np.ndarray:
    """Returns an input."""
    random = np.random.RandomState(zlib.crc32((salt + name).encode()))
    return random.standard_normal(tuple(shape)).astype(np.float32)


def fill(
    variables: Sequence[keras.Variable],
    names: Mapping[str, str],
    stored: Callable[[str], np.ndarray],
    known: Sequence[str],
) -> None:
    """Gives variables the values of published ones.

    Args:
        variables: ours.
        names: published name by path.
        stored: the published value of a name.
        known: the published names there are; all but counters must be used.

    Raises:
        KeyError: the two sets of names differ, or shapes do.
    """
    wanted = {name for name in known if not published.SKIPPED.fullmatch(name)}
    missing, unused = set(names.values()) - wanted, wanted - set(names.values())
    if missing or unused:
        raise KeyError(f"not stored: {sorted(missing)[:3]}; not in the model: {sorted(unused)[:3]}")
    for variable in variables:
        found = published.from_published(variable.path, stored(names[variable.path]))
        if tuple(variable.shape) != found.shape:
            raise KeyError(f"{variable.path}: {tuple(variable.shape)} instead of {found.shape}")
        variable.assign(found)
