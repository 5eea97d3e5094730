"""Names of variables in published checkpoints: what the maps of all methods have in common.

torch_name("stem/conv/kernel", [(r"stem/conv", "conv1")])     # "conv1.weight"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Of each: a pattern of a path here, and the published one, which may refer to groups.
Rules = Sequence[tuple[str, str]]

# The last part of a variable's path here, and of its name in PyTorch.
TORCH_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "embeddings": "weight",
    "masking_token": "masking_token",
    "cls_token": "cls_token",
}
# What files of PyTorch have and no model here has, and why, by pattern of the name.
TORCH_NOT_NEEDED = {
    r".*\.num_batches_tracked": "number of batches, which moving averages here do not need",
}


class UnmappedVariableError(KeyError):
    """A variable path without a published name."""


def torch_name(path: str, rules: Rules, below: str = "") -> str:
    """Returns the name of a variable in PyTorch.

    Args:
      path: of the variable.
      rules: from paths of layers to modules; an empty module is the whole.
      below: a beginning of the path that the rules leave out.

    Raises:
      UnmappedVariableError: no rule fits.
    """
    layer, _, leaf = path.removeprefix(below).rpartition("/")
    for pattern, module in rules:
        if leaf in TORCH_LEAVES and (match := re.fullmatch(pattern, layer)):
            return f"{match.expand(module)}.{TORCH_LEAVES[leaf]}".lstrip(".")
    raise UnmappedVariableError(f"no published name for {path}")


def one_each(names: dict[str, str]) -> dict[str, str]:
    """Returns `names`, of variables by their paths, as they are.

    Raises:
      UnmappedVariableError: two variables share a name.
    """
    if len(set(names.values())) != len(names):
        raise UnmappedVariableError("two variables share a published name")
    return names


def reason(name: str, not_needed: Mapping[str, str]) -> str | None:
    """Returns why no model here needs a tensor, by patterns of names; None where one may."""
    return next((why for pattern, why in not_needed.items() if re.fullmatch(pattern, name)), None)
