"""Checkpoints of the published Flax code: masked autoencoders."""

from __future__ import annotations

import re

import keras
import numpy as np

from vatt.methods.av_mae import fine_tuned_layout, published
from vatt.training.flax_checkpoints import STEP
from vatt.training.layouts import FLAX, PRETRAIN, Layout, Shapes
from vatt.training.published_names import UnmappedVariableError

# Published encoders of a modality alone.
_OF_MODALITY = {m: f"Transformer_{theirs}/" for m, theirs in published.MODALITIES.items()}
_LAYER = re.compile(r"encoder/layer_(\d+)/(.*)")


class Pretrained(Layout):
    """A published checkpoint of pretraining.

    Args:
      shapes: by key.
    """

    description = "published AV-MAE pre-training checkpoint"
    kind = PRETRAIN
    published = True
    step_key = STEP

    def __init__(self, shapes: Shapes) -> None:
        """Takes what was recognised."""
        self._shapes = shapes

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model; empty where it is of another kind."""
        try:
            return published.model_names(model)
        except UnmappedVariableError:
            return {}

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns {variable path: key} of an encoder of one modality; empty where there is none.

        Layers that modalities share follow those of the modality alone.
        """
        theirs = published.MODALITIES.get(modality)
        if theirs is None or f"embedding_{theirs}/kernel" not in self._shapes:
            return {}
        rules = published.within(published.ENCODER, "encoder", "encoder")
        local = {v.path: v.path.removeprefix(f"{backbone.path}/") for v in backbone.variables}
        found = {}
        for path, name in local.items():
            if name.startswith("patches/"):
                found[path] = f"embedding_{theirs}/{name.removeprefix('patches/')}"
                continue
            try:
                below = published.name_of(name, rules).removeprefix("encoder/")
            except UnmappedVariableError:  # another backbone
                return {}
            found[path] = self._key(below, modality)
        return found

    def _key(self, below: str, modality: str) -> str:
        """Returns the key of a variable of an encoder, by its name below the published one."""
        own = _OF_MODALITY[modality]
        if not any(key.startswith(own) for key in self._shapes):
            return f"Transformer/{below}"
        shared = any(key.startswith("Transformer_concat/") for key in self._shapes)
        if not shared or (f"{own}{below}" in self._shapes and below.startswith("encoderblock_")):
            return f"{own}{below}"
        block = re.match(r"encoderblock_(\d+)/", below)
        if block is None:
            return f"Transformer_concat/{below}"
        first = f"{own}encoderblock_"
        alone = len({key.split("/")[1] for key in self._shapes if key.startswith(first)})
        rest = below[block.end() :]
        return f"Transformer_concat/encoderblock_{int(block[1]) - alone}/{rest}"

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is part of the encoder of a modality."""
        theirs = published.MODALITIES.get(modality, "none")
        return key.startswith(
            (f"embedding_{theirs}/", f"Transformer_{theirs}/encoderblock", "Transformer/")
        ) or key.startswith("Transformer_concat/")

    def of_one_modality(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is of a modality's tower alone, not of what others share."""
        return key.startswith(_OF_MODALITY[modality])

    def part(self, key: str) -> str:
        """Returns which part of the published model a tensor belongs to."""
        return key.partition("/")[0]

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""
        return "pass the --model_arch that it is of, such as av_mae_large"

    def arranged(self, path: str, value: np.ndarray) -> np.ndarray:
        """Returns a tensor of the checkpoint with its axes as the variable at `path` has them."""
        try:
            return published.from_published(path, value)
        except (TypeError, ValueError):  # so many axes it has not: told as another shape
            return value


def _pretrained(shapes: Shapes, naming: str) -> Layout | None:
    begins = ("mask_token_", "decoder_projection_", "output_projection_")
    if naming == FLAX and any(key.startswith(begins) for key in shapes):
        return Pretrained(shapes)
    return None


RECOGNISE = (_pretrained, fine_tuned_layout.recognise)
