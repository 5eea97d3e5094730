"""What needs no weights: targets, positions, tubes, optimizer steps, learning rates."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tests.golden.av_mae.pretraining import near
from tests.golden.checks import Arrays, Check, Checks, absolute
from vatt.methods.av_mae import targets
from vatt.methods.av_mae.config import LossConfig
from vatt.methods.av_mae.masks import Mask, tube
from vatt.modeling.layers import sines
from vatt.training import optimizers, schedules

VALUES = (2e-5, 1e-4)
STEP = (2e-6, 1e-5)
RATE = 1e-6  # of the largest rate
OPTIONS = {
    "raw": {},
    "std": {"standardise_per_patch": True},
    "stdc": {"standardise_per_patch_channels": True},
    "gray": {"reconstruct_grayscale": True},
    "central": {"select_central_frame": True},
}
_TARGET = re.compile(r"(?P<of>video|image|spec)\w*?_(?P<patch>\d+(x\d+)+)_(?P<kind>[a-z_]+)")
_SINES = re.compile(r"posemb_sin1d_(?P<count>\d+)x(?P<width>\d+)(?P<corner>_corner)?")
_GRID = re.compile(r"posemb_sin\dd_(t(?P<t>\d+)_)?h(?P<h>\d+)_w(?P<w>\d+)_c(?P<width>\d+)")


def targets_file(arrays: Arrays) -> Checks:
    """`targets_posemb*.npz`, each array by what its name says."""
    for name, reference in arrays.items():
        if found := _TARGET.fullmatch(name):
            yield near(name, _target(arrays[found["of"]], found), reference, VALUES)
        elif found := _SINES.fullmatch(name):
            table = sines.of_sequence(int(found["count"]), int(found["width"]))
            table = table[::97, ::41] if found["corner"] else table[None]
            yield near(name, table, reference, VALUES)
        elif found := _GRID.fullmatch(name):
            grid = tuple(int(found[axis]) for axis in "thw" if found[axis])
            yield near(name, sines.of_grid(grid, int(found["width"]))[None], reference, VALUES)
        elif name not in ("video", "image", "spec") and not name.startswith("tube/"):
            yield Check(f"{name}: no such target or table is known", 1.0, 0.0)
    if "tube/mask" in arrays:
        yield from _tubes(arrays)


def _target(values: np.ndarray, name: Mapping[str, str]) -> tf.Tensor:
    """Sizes in a name are height, width and time; a spectrogram has time and bands."""
    height, width, *frames = map(int, name["patch"].split("x"))
    options: dict[str, bool] = {}
    for kind in name["kind"].split("_"):
        options |= OPTIONS[kind]
    return targets.of(tf.constant(values), (*frames, height, width), LossConfig(**options))


def _tubes(arrays: Arrays) -> Checks:
    """The places that a file masks at the first time are masked at all; indices rise."""
    meta = json.loads(str(arrays["tube/meta"]))
    steps, places = meta["temporal"], meta["n_tokens"] // meta["temporal"]
    count = int(meta["prob"] * places)
    first = arrays["tube/mask"][:, :places]
    order = np.argsort(1 - first, axis=-1, kind="stable").astype("int32")
    found = tube(tf.constant(order), count, steps)
    flat = Mask(tf.constant(order), count)
    yield absolute("tube/mask, one time", flat.flags, first, 0.0)
    yield absolute("tube/mask", found.flags, arrays["tube/mask"], 0.0)
    yield absolute("tube/masked", found.order[:, : found.count], arrays["tube/masked"], 0.0)
    yield absolute("tube/unmasked", found.visible, arrays["tube/unmasked"], 0.0)


# Optimizer and learning rates ------------------------------------------------------------------


def optimiser_file(arrays: Arrays) -> Checks:
    """The part `pretrain` of `optimiser_steps*.npz`: each step from the one before."""
    if "pretrain/meta" not in arrays:
        return
    meta = json.loads(str(arrays["pretrain/meta"]))
    rate = _cosine(meta["base_learning_rate"], meta["warmup_steps"], meta["total_steps"])
    decay = meta["explicit_weight_decay"] or 0.0
    numbers = (meta["beta1"], meta["beta2"], meta["eps"], decay)
    optimizer = optimizers.FlaxAdam(rate, *numbers, name="optimizer")
    first = "pretrain/w0/"
    names = [name.removeprefix(first) for name in arrays if name.startswith(first)]
    variables = [_variable(name, arrays[first + name]) for name in names]
    optimizer.build(variables)
    for step, expected in enumerate(arrays["pretrain/lr"]):
        tolerance = RATE * meta["base_learning_rate"]
        yield absolute(f"pretrain/lr {step}", optimizer.rate_at(step), expected, tolerance)
        gradients = [tf.constant(arrays[f"pretrain/grad{step}/{name}"]) for name in names]
        optimizer.apply(gradients, variables)
        for name, variable in zip(names, variables, strict=True):
            key = f"pretrain/w{step + 1}/{name}"
            yield near(key, variable, arrays[key], STEP)


def _variable(name: str, value: np.ndarray) -> keras.Variable:
    """Returns a variable whose path ends as the name in Flax does, by which kernels are told."""
    above, _, leaf = name.rpartition("/")
    with keras.name_scope(above.replace("/", ".") or "top"):
        return keras.Variable(value, name=leaf)


def _cosine(base: float, warmup: float, total: int) -> schedules.CosineDecay:
    """Returns the schedule of a file, whose warm-up need not end with a step."""
    return schedules.CosineDecay(base, total, 0.0, warmup)


# Of `schedules.npz`, which does not say them.
_AUDIOSET = {"base_learning_rate": 6e-4, "steps_per_epoch": 3627, "epochs": 120, "warmup_epochs": 4}


def schedules_file(arrays: Arrays) -> Checks:
    """Learning rates of pretraining in `schedules*.npz`; after the last step ours stays at 0."""
    for name in sorted(arrays):
        case, _, leaf = name.rpartition("/")
        if leaf != "lr" or not case.startswith("pretrain"):
            continue
        meta = f"{case}/meta"
        meta = json.loads(str(arrays[meta])) if meta in arrays else _AUDIOSET
        epoch, base = meta["steps_per_epoch"], meta["base_learning_rate"]
        total = round(epoch * meta["epochs"])
        schedule = _cosine(base, epoch * meta["warmup_epochs"], total)
        steps = arrays[f"{case}/steps"]
        inside = steps < total
        found = np.array([float(schedule(step)) for step in steps[inside]])
        yield absolute(name, found, arrays[name][inside], RATE * base)


HANDLERS = {
    "targets_posemb*.npz": targets_file,
    "optimiser_steps*.npz": optimiser_file,
    "schedules*.npz": schedules_file,
}
