"""Checkpoints of the published Flax code: MBT classifiers."""

from __future__ import annotations

import keras
import numpy as np

from vatt.methods.av_mae import fine_tuned
from vatt.methods.av_mae.fine_tuned import HEAD
from vatt.training.flax_checkpoints import STEP
from vatt.training.layouts import FINETUNE, FLAX, Layout, Shapes
from vatt.training.published_names import UnmappedVariableError


class FineTuned(Layout):
    """A published checkpoint of a fine-tuned classifier."""

    description = "published MBT fine-tuned checkpoint"
    kind = FINETUNE
    published = True
    step_key = STEP

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model; empty where it is of another kind."""
        if not hasattr(model, "classifier_layers"):
            return {}
        try:
            return fine_tuned.classifier_names(model)
        except UnmappedVariableError:
            return {}

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns {variable path: key} of a backbone; empty where there is none for it."""
        try:
            return fine_tuned.backbone_names(backbone)
        except UnmappedVariableError:  # another backbone
            return {}

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is part of the backbone."""
        return not key.startswith(HEAD)

    def part(self, key: str) -> str:
        """Returns which part of the published model a tensor belongs to."""
        return key.partition("/")[0]

    def classifier_key(self, leaf: str) -> str:
        """Returns the key of the classifier's "kernel" or "bias"; others do not exist."""
        return fine_tuned.head_name("classification", leaf)

    def representation_key(self, leaf: str) -> str:
        """Returns the key of the "kernel" or "bias" of the layer before the classifier's last."""
        return fine_tuned.head_name("representation", leaf)

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""
        return "pass --task=finetune and the --model_arch that it is of, such as mbt_large"

    def arranged(self, path: str, value: np.ndarray) -> np.ndarray:
        """Returns a tensor of the checkpoint with its axes as the variable at `path` has them."""
        try:
            return fine_tuned.from_published(path, value)
        except (TypeError, ValueError):  # so many axes it has not: told as another shape
            return value


def recognise(shapes: Shapes, naming: str) -> Layout | None:
    """Returns the layout of a classifier's checkpoint, None for others."""
    found = naming == FLAX and any(key.startswith(f"{HEAD}/") for key in shapes)
    return FineTuned() if found else None
