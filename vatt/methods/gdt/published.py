"""Names and layouts of variables in the published PyTorch checkpoints.

    names = model_names(model)                       # {path of our variable: published name}
    variable.assign(from_published(variable.path, tensors[names[variable.path]]))
    tensors[name] = to_published(path, np.asarray(variable))

The map is complete: every variable has exactly one name, and a path that no rule fits is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from vatt.training.published_names import (
    TORCH_NOT_NEEDED,
    Rules,
    UnmappedVariableError,
    one_each,
    torch_name,
)

UNIT = r"(layer\d)_(\d+)"
VIDEO: Rules = (
    (r"stem/spatial/conv", r"stem.0"),
    (r"stem/spatial/bn", r"stem.1"),
    (r"stem/temporal/conv", r"stem.3"),
    (r"stem/temporal/bn", r"stem.4"),
    (rf"{UNIT}/(conv\d)/spatial/conv", r"\1.\2.\3.0.0"),
    (rf"{UNIT}/(conv\d)/spatial/bn", r"\1.\2.\3.0.1"),
    (rf"{UNIT}/(conv\d)/temporal/conv", r"\1.\2.\3.0.3"),
    (rf"{UNIT}/(conv\d)/temporal/bn", r"\1.\2.\3.1"),
    (rf"{UNIT}/shortcut/conv", r"\1.\2.downsample.0"),
    (rf"{UNIT}/shortcut/bn", r"\1.\2.downsample.1"),
)
AUDIO: Rules = (
    (r"stem/conv", r"conv1"),
    (r"stem/bn", r"bn1"),
    (rf"{UNIT}/(conv\d)/conv", r"\1.\2.\3"),
    (rf"{UNIT}/conv(\d)/bn", r"\1.\2.bn\3"),
    (rf"{UNIT}/shortcut/conv", r"\1.\2.downsample.0"),
    (rf"{UNIT}/shortcut/bn", r"\1.\2.downsample.1"),
)
TEXT: Rules = (
    (r"embedding", r"word_embd"),
    (r"base/conv1d", r"fc1"),
)
HEAD: Rules = (
    (r"hidden", r"block_forward.2"),
    (r"norm", r"block_forward.4"),
    (r"output", r"block_forward.8"),
    (r"linear", r""),  # the whole head
)
POOLING: Rules = (
    (r"positions", r"pos_embs.0"),
    (r"encoder/layer_(\d+)/attention/([qkv])", r"transformer.\1.mha.\2_lin"),
    (r"encoder/layer_(\d+)/attention/o", r"transformer.\1.mha.out_lin"),
    (r"encoder/layer_(\d+)/attention_norm", r"transformer.\1.norm1"),
    (r"encoder/layer_(\d+)/feed_forward/wi", r"transformer.\1.ffn.lin1"),
    (r"encoder/layer_(\d+)/feed_forward/wo", r"transformer.\1.ffn.lin2"),
    (r"encoder/layer_(\d+)/feed_forward_norm", r"transformer.\1.norm2"),
)
# Published axis of each of our axes, of kernels by their number of axes: (out, in) of dense layers,
# (out, in, filter, time) of sound, whose time comes first here, (out, in, time, height, width).
AXES = {2: (1, 0), 4: (3, 2, 1, 0), 5: (2, 3, 4, 1, 0)}
WORD_BY_WORD = "/conv1d/kernel"  # a dense layer that is a convolution over one word here


@dataclass(frozen=True)
class Part:
    """A part of a model: where the published one stands, and the rules for what is in it."""

    root: str
    rules: Rules


# By the name of the part, the first in its paths below the model.
PARTS = {
    "video": Part("video_network.base", VIDEO),
    "audio": Part("audio_network.base", AUDIO),
    "text": Part("text_network", TEXT),
    "pooling": Part("video_pooling.2", POOLING),
    "video_head": Part("mlp_v", HEAD),
    "audio_head": Part("mlp_a", HEAD),
    "text_head": Part("mlp_t", HEAD),
}
# What a published model has and ours has not, and why, by pattern of the name.
NOT_NEEDED = TORCH_NOT_NEEDED | {
    r".*\.pos_ids": "positions 0 to 63, which are counted here",
    r"audio_network\.base\.fc\..*": "classifier of the audio network, which nothing uses",
    r"(final_bn|linear_layer)\..*": "the classifier once more, under another name",
}
SKIPPED = re.compile("|".join(NOT_NEEDED))


def model_names(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published name} of a whole model.

    Raises:
      UnmappedVariableError: a variable that the published models do not have.
    """
    groups: dict[str, list[str]] = {}
    for variable in model.variables:
        groups.setdefault(variable.path.split("/")[1], []).append(variable.path)
    names: dict[str, str] = {}
    for name, paths in groups.items():
        if name not in PARTS:
            raise UnmappedVariableError(f"no published name for {paths[0]}")
        names |= _names(paths, f"{model.name}/{name}", PARTS[name].rules, PARTS[name].root)
    return one_each(names)


def layer_names(layer: keras.layers.Layer, rules: Rules, root: str = "") -> dict[str, str]:
    """Returns {variable path: published name} of one part, whose published names begin at `root`.

    Raises:
      UnmappedVariableError: a variable that no rule fits.
    """
    return one_each(_names((v.path for v in layer.variables), layer.path, rules, root))


def from_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns a published tensor in the layout of our variable at `path`."""
    axes = _axes(path, value)
    if axes is not None:
        value = np.ascontiguousarray(value.transpose(axes))
    return value[None] if path.endswith(WORD_BY_WORD) else value


def to_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns the value of our variable at `path` in the published layout."""
    value = value[0] if path.endswith(WORD_BY_WORD) else value
    axes = _axes(path, value)
    return value if axes is None else np.ascontiguousarray(value.transpose(np.argsort(axes)))


def _axes(path: str, value: np.ndarray) -> tuple[int, ...] | None:
    return AXES[value.ndim] if path.endswith("/kernel") else None


def _names(paths: Iterable[str], prefix: str, rules: Rules, root: str) -> dict[str, str]:
    start = f"{root}." if root else ""
    return {path: start + torch_name(path, rules, f"{prefix}/") for path in paths}
