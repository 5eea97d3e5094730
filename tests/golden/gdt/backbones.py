"""Golden files of the backbones, narrow: R(2+1)D on video, ResNet on log filterbanks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from tests.golden.checks import Arrays, Check, Checks, Golden, absolute
from vatt import configs
from vatt.methods.gdt import published
from vatt.methods.gdt.published import AUDIO, VIDEO
from vatt.modeling import factory
from vatt.modeling.typing import Tensor
from vatt.training.published_names import Rules

CLOSE = 1e-4  # absolute, and relative
# Of outputs in training, after eight norms over few values each. The reference is good to 4e-5: so
# far it is from the same computation in float64.
TRAINED = 3e-4


def video_file(arrays: Golden) -> Checks:
    """`r2plus1d_*_small.npz`: outputs in evaluation and training, statistics after training."""
    layer = narrow(arrays, VIDEO, stem_channels=len(arrays["w/stem.0.weight"]))
    yield from compare(layer, arrays, VIDEO)


def audio_file(arrays: Golden) -> Checks:
    """`resnet*_small.npz`: outputs in evaluation."""
    yield from compare(narrow(arrays, AUDIO), arrays, AUDIO)


def narrow(arrays: Golden, rules: Rules, **changes: int) -> keras.layers.Layer:
    """Returns the backbone that the file is called after, as wide as its weights, which it has."""
    weights = {k.removeprefix("w/"): v for k, v in arrays.items() if k.startswith("w/")}
    widths = [len(weights[f"layer{n}.0.{first_convolution(rules)}.weight"]) for n in range(1, 5)]
    name = arrays.path.name.removesuffix("_small.npz")
    layer = factory.build_backbone(configs.registry.backbone(name, widths=widths, **changes))
    layer.build(to_ours(arrays["in/x"]).shape)
    names = published.layer_names(layer, rules)
    give(layer, names, weights)
    return layer


def first_convolution(rules: Rules) -> str:
    """Returns which convolution of a block has as many filters as the block."""
    return "conv1.0.3" if rules is VIDEO else "conv1"


def give(layer: keras.layers.Layer, names: Mapping[str, str], weights: Arrays) -> None:
    """Gives all variables their values; each value is that of one variable.

    Raises:
        KeyError: values and variables are not the same.
    """
    if differing := set(names.values()) ^ set(weights):
        raise KeyError(f"not both stored and in the model: {sorted(differing)[:3]}")
    for variable in layer.variables:
        path = variable.path
        variable.assign(published.from_published(path, weights[names[path]]))


def compare(layer: keras.layers.Layer, arrays: Arrays, rules: Rules) -> Checks:
    """Compares everything in a file that a backbone computes from `in/x`."""
    x = to_ours(arrays["in/x"])
    yield from outputs("out/", layer(x, intermediates=True), arrays)
    if not any(name.startswith("train_out/") for name in arrays):
        return
    yield from outputs("train_out/", layer(x, training=True, intermediates=True), arrays)
    names = published.layer_names(layer, rules)
    after = {names[v.path]: np.asarray(v) for v in layer.variables}
    for name in arrays:
        if name.startswith("train_after/"):
            yield close(name, after[name.removeprefix("train_after/")], arrays[name], CLOSE)


def outputs(prefix: str, ours: Mapping[str, Tensor], arrays: Arrays) -> Checks:
    """Compares the outputs stored under a prefix."""
    values = {name: to_theirs(np.asarray(x)) for name, x in ours["endpoints"].items()}
    pooled = np.asarray(ours["features_pooled"])
    for name in arrays:
        if name.startswith(prefix):
            shape = arrays[name].shape
            values["avgpool"] = pooled.reshape(*pooled.shape, *(1,) * (len(shape) - 2))
            limit = TRAINED if prefix == "train_out/" else CLOSE
            yield close(name, values[name.removeprefix(prefix)], arrays[name], limit)


def close(name: str, ours: np.ndarray, reference: np.ndarray, limit: float) -> Check:
    """Compares with `limit` as absolute and relative tolerance together, in units of their sum."""
    scale = limit * (1 + np.abs(reference))
    if ours.shape != reference.shape:
        return absolute(name, ours, reference, 1.0)
    return absolute(name, ours / scale, reference / scale, 1.0)


def to_ours(x: np.ndarray) -> np.ndarray:
    """Returns `[N, C, T, H, W]` as `[N, T, H, W, C]`, `[N, C, F, T]` as `[N, T, F, C]`."""
    return x.transpose(0, 2, 3, 4, 1) if x.ndim == 5 else x.transpose(0, 3, 2, 1)


def to_theirs(x: np.ndarray) -> np.ndarray:
    """Returns the inverse of `to_ours`."""
    return x.transpose(0, 4, 1, 2, 3) if x.ndim == 5 else x.transpose(0, 3, 2, 1)


HANDLERS: dict[str, Callable[[Golden], Checks]] = {
    "r2plus1d_*_small.npz": video_file,
    "resnet*_small.npz": audio_file,
}
