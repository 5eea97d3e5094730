"""Checkpoints of the published PyTorch code of Everything at Once."""

from __future__ import annotations

import keras
import numpy as np

from vatt.methods.eao import published
from vatt.training.layouts import PRETRAIN, TORCH, Layout, Shapes
from vatt.training.published_names import UnmappedVariableError, reason

_MARKS = ("fusion.masking_token", "text_pooling_caption.fc.weight")


class Published(Layout):
    """A published checkpoint, of pre-training or of fine-tuning: they hold the same model."""

    description = "published Everything-at-Once checkpoint"
    kind = PRETRAIN
    published = True
    trained = True  # the files have epochs; updates stand beside the weights

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model; empty where it is of another kind."""
        try:
            return published.model_names(model)
        except UnmappedVariableError:
            return {}

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns nothing: these models have no backbone that others have."""
        return {}

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns False, as of `backbone_keys`."""
        return False

    def part(self, key: str) -> str:
        """Returns which part of the published model a tensor belongs to."""
        return key.partition(".")[0]

    def classifier_key(self, leaf: str) -> str:
        """Returns a key that there is not: nothing is classified."""
        return f"classifier.{leaf}"

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""
        return "pass the --model_arch that it is of, such as eao, eao_clip or eao_tv"

    def arranged(self, path: str, value: np.ndarray) -> np.ndarray:
        """Returns a tensor of the checkpoint with its axes as the variable at `path` has them."""
        try:
            return published.from_published(path, value)
        except (IndexError, ValueError):  # so many axes it has not: told as another shape
            return value

    def not_needed(self, key: str) -> str | None:
        """Returns why no model here has a place for a tensor, None where one may have."""
        return reason(key, published.NOT_NEEDED)


def _published(shapes: Shapes, naming: str) -> Layout | None:
    return Published() if naming == TORCH and any(mark in shapes for mark in _MARKS) else None


RECOGNISE = (_published,)
