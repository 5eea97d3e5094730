"""How tensors of a checkpoint are named: ours by what its manifest says, others by their method.

    layout = Own({"kind": "pretrain", "towers": {"video": {"": "vatt/video/"}}, ...}, "vatt")
    layout.backbone_keys(classifier.backbone, "video")      # {variable path: key in the checkpoint}

A method lists functions that recognise checkpoints of others from the keys in them
(`Method.layouts`); what they return is a `Layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import keras
import numpy as np

Shapes = Mapping[str, tuple[int, ...]]

PRETRAIN, FINETUNE = "pretrain", "finetune"  # kinds of checkpoints
# How keys came about: paths of variables, an object graph of TensorFlow, modules of PyTorch, of
# Flax.
PATHS, OBJECT_GRAPH, TORCH, FLAX = "paths", "object graph", "torch", "flax"


class Checkpointed(Protocol):
    """A model that says where the variables of its backbones stand."""

    def tower_paths(self) -> dict[str, dict[str, str]]:
        """Returns them as `PretrainingModel.tower_paths` does."""


def metadata(
    model: Checkpointed, kind: str, architecture: str, method: str | None = None
) -> dict[str, object]:
    """Returns what the manifest of a checkpoint says of the model in it; `Own` reads it."""
    known = {} if method is None else {"method": method}
    return {"kind": kind, **known, "architecture": architecture, "towers": model.tower_paths()}


class Layout(Protocol):
    """Names of a checkpoint's tensors.

    Attributes:
      description: the kind of checkpoint in words, for messages.
      kind: `PRETRAIN` or `FINETUNE`.
      published: written by the published code of a method, else by this project.
      step_key: key of the number of updates, where there may be one.
      trained: whatever the number of updates, the weights are not those of a beginning.
    """

    description: str
    kind: str
    published: bool
    step_key: str = ""
    trained: bool = False

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model."""

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns {variable path: key} of a backbone; empty where there is none for it."""

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is part of the backbone of a modality."""

    def of_one_modality(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is of a modality's tower alone, not of what others share."""
        return False

    def part(self, key: str) -> str | None:
        """Returns which part of the model a tensor belongs to, None where that is not told."""
        return None

    def classifier_key(self, leaf: str) -> str:
        """Returns the key of the classifier's "kernel" or "bias", or of the batch norm before."""

    def representation_key(self, leaf: str) -> str | None:
        """Returns the key of the "kernel" or "bias" of the layer before the classifier's last."""
        return None

    def fits(self, model: keras.Model) -> bool:
        """Returns whether a whole model is of the kind that is in the checkpoint."""
        return bool(self.model_keys(model))

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""

    def arranged(self, path: str, value: np.ndarray) -> np.ndarray:
        """Returns a tensor of the checkpoint with its axes as the variable at `path` has them."""
        return value

    def not_needed(self, key: str) -> str | None:
        """Returns why no model here has a place for a tensor, None where one may have."""
        return None


# (shapes by key, how keys came about) -> layout, None where it is another's
Recognise = Callable[[Shapes, str], Layout | None]


class Own(Layout):
    """A checkpoint of this project, from what its manifest says.

    Args:
      metadata: `kind`, `towers` (see `PretrainingModel.tower_paths`), and for descriptions
        `method` and `architecture`.
      model_name: first part of the variables' paths.
    """

    published = False
    step_key = "step"

    def __init__(self, metadata: Mapping[str, object], model_name: str) -> None:
        """Takes the manifest's metadata."""
        self.kind, self._towers = str(metadata["kind"]), metadata["towers"]
        self._metadata, self.model_name = metadata, model_name

    @property
    def description(self) -> str:
        """The kind of checkpoint in words."""
        if self.kind == FINETUNE:
            return "vatt fine-tuned checkpoint"
        places = [place for paths in self._towers.values() for place in paths.values()]
        shared = len(set(places)) < len(places)
        return f"vatt {'modality-agnostic ' * shared}pre-training checkpoint"

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model."""
        return {v.path: f"model/{v.path}" for v in model.variables}

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns {variable path: key} of a backbone; empty where there is none for it."""
        paths, keys = self._towers.get(modality, {}), {}
        for variable in backbone.variables if paths else ():
            local = variable.path.removeprefix(f"{backbone.path}/")
            start = max((s for s in paths if local.startswith(s)), key=len)
            keys[variable.path] = f"model/{paths[start]}{local[len(start) :]}"
        return keys

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is part of the backbone of a modality."""
        return key.startswith(tuple(f"model/{p}" for p in self._towers.get(modality, {}).values()))

    def of_one_modality(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is of a modality's tower alone, not of what others share."""
        return key.startswith(f"model/{self._towers[modality]['']}")

    def classifier_key(self, leaf: str) -> str:
        """Returns the key of the classifier's "kernel" or "bias", or of the batch norm before."""
        layer = "classification" if leaf in ("kernel", "bias") else "classification_norm"
        return f"model/{self.model_name}/{layer}/{leaf}"

    def representation_key(self, leaf: str) -> str:
        """Returns the key of the "kernel" or "bias" of the layer before the classifier's last."""
        return f"model/{self.model_name}/representation/{leaf}"

    def fits(self, model: keras.Model) -> bool:
        """Returns True: what differs is told variable by variable."""
        return True

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""
        arch = self._metadata.get("architecture")
        return f"--task={self.kind}" + (f" --model_arch={arch}" if arch else "")
