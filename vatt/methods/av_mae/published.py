"""Names and layouts of variables in the published Flax checkpoints.

    names = model_names(model)                       # {path of our variable: published name}
    variable.assign(from_published(variable.path, tensors[names[variable.path]]))

Rules go from a variable's path below a layer to the published one; a path that no rule fits is an
error. `layer_names` applies the rules of a stack of transformer blocks, or others, to any layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import keras
import numpy as np

# A pattern of our path below a layer, and the published path.
Rules = Sequence[tuple[str, str]]

_BLOCK = r"layer_(\d+)"
_PARTS = {"q": "query", "k": "key", "v": "value", "o": "out"}
# Of `vatt.modeling.layers.encoder.Encoder`.
ENCODER: Rules = (
    *(
        (rf"{_BLOCK}/attention/{ours}/(kernel|bias)",
         rf"encoderblock_\1/MultiHeadDotProductAttention_0/{theirs}/\2")
        for ours, theirs in _PARTS.items()
    ),
    (rf"{_BLOCK}/attention_norm/(gamma|beta)", r"encoderblock_\1/LayerNorm_0/\2"),
    (rf"{_BLOCK}/feed_forward_norm/(gamma|beta)", r"encoderblock_\1/LayerNorm_1/\2"),
    (rf"{_BLOCK}/feed_forward/wi/(kernel|bias)", r"encoderblock_\1/MlpBlock_0/Dense_0/\2"),
    (rf"{_BLOCK}/feed_forward/wo/(kernel|bias)", r"encoderblock_\1/MlpBlock_0/Dense_1/\2"),
    (r"final_norm/(gamma|beta)", r"encoder_norm/\1"),
)  # fmt: skip
_LEAVES = {"gamma": "scale", "beta": "bias"}


class UnmappedVariableError(KeyError):
    """A variable path without a published name."""


def layer_names(layer: keras.layers.Layer, rules: Rules) -> dict[str, str]:
    """Returns {variable path: published name} of one layer.

    Raises:
      UnmappedVariableError: a variable that no rule fits.
    """
    local = {v.path: v.path.removeprefix(f"{layer.path}/") for v in layer.variables}
    return unique({path: _name(path, name, rules) for path, name in local.items()})


def within(rules: Rules, ours: str, theirs: str) -> Rules:
    """Returns the rules of a layer that stands at a path: a pattern here, a plain name there."""
    groups = re.compile(ours).groups
    moved = (re.sub(r"\\(\d)", lambda m: rf"\{int(m[1]) + groups}", name) for _, name in rules)
    return tuple(
        (f"{ours}/{pattern}", f"{theirs}/{name}")
        for (pattern, _), name in zip(rules, moved, strict=True)
    )


def from_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns a published tensor in the layout of our variable at `path`.

    Heads are an axis of their own there; single vectors have axes of one row.
    """
    if re.search(r"/attention/[qkv]/kernel$", path):
        return value.reshape(len(value), -1)
    if path.endswith("/attention/o/kernel"):
        return value.reshape(-1, value.shape[-1])
    if path.endswith("/attention/o/bias") or not re.search(r"/attention/[qkv]/bias$", path):
        return value[0] if value.ndim > 1 and len(value) == 1 and _is_table(path) else value
    return value.reshape(-1)


def unique(names: dict[str, str]) -> dict[str, str]:
    """Returns the names.

    Raises:
      UnmappedVariableError: two variables share one.
    """
    if len(set(names.values())) != len(names):
        raise UnmappedVariableError("two variables share a published name")
    return names


def _is_table(path: str) -> bool:
    """Whether the published tensor has an axis for the batch in front."""
    return path.endswith(("/embeddings", "/vectors"))


def _name(path: str, local: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, name in rules:
        if match := re.fullmatch(pattern, local):
            *above, leaf = match.expand(name).split("/")
            return "/".join((*above, _LEAVES.get(leaf, leaf)))
    raise UnmappedVariableError(f"no published name for {path}")
