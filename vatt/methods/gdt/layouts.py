"""Checkpoints of the published PyTorch code: GDT and STiCA, which name their parts alike."""

from __future__ import annotations

import keras
import numpy as np

from vatt.methods.gdt import published
from vatt.training.layouts import FINETUNE, PRETRAIN, TORCH, Layout, Shapes
from vatt.training.published_names import TORCH_LEAVES, UnmappedVariableError, reason

ROOTS = {
    PRETRAIN: {modality: published.PARTS[modality].root for modality in ("video", "audio")},
    FINETUNE: {"video": "base"},
}
POOLING = {PRETRAIN: "video_pooling.2", FINETUNE: "pooling_arch.2"}
CLASSIFIER = "classifier"


class Published(Layout):
    """A published checkpoint: pre-training, or a fine-tuned video network.

    Args:
      kind: of `vatt.training.layouts`.
      shapes: by key.
    """

    published = True
    trained = True  # the files have epochs, not updates

    def __init__(self, kind: str, shapes: Shapes) -> None:
        """Takes what was recognised."""
        self.kind, self._shapes = kind, shapes

    @property
    def description(self) -> str:
        """The kind of checkpoint in words."""
        kind = "fine-tuned" if self.kind == FINETUNE else "pre-training"
        return f"published GDT or STiCA {kind} checkpoint"

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model; empty where it is of another kind."""
        if self.kind == PRETRAIN:
            try:
                return published.model_names(model)
            except UnmappedVariableError:
                return {}
        backbone = getattr(model, "backbone", None)
        keys = {} if backbone is None else self.backbone_keys(backbone, "video")
        if not keys:
            return {}
        head = (v for v in model.variables if v.path not in keys)
        return keys | {v.path: self.classifier_key(v.name) for v in head}

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns {variable path: key} of a backbone; empty where there is none for it."""
        if modality not in ROOTS[self.kind]:
            return {}
        root, rules = ROOTS[self.kind][modality], published.PARTS[modality].rules
        below = [(pattern, f"{root}.{module}") for pattern, module in rules]
        below += [(f"pooling/{p}", f"{POOLING[self.kind]}.{m}") for p, m in published.POOLING]
        try:
            return published.layer_names(backbone, below)
        except UnmappedVariableError:  # another backbone
            return {}

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is part of the backbone of a modality."""
        roots = [
            ROOTS[self.kind].get(modality),
            POOLING[self.kind] if modality == "video" else None,
        ]
        return key.startswith(tuple(f"{root}." for root in roots if root))

    def part(self, key: str) -> str:
        """Returns which part of the published model a tensor belongs to."""
        return key.partition(".")[0]

    def classifier_key(self, leaf: str) -> str:
        """Returns the key of the classifier's "kernel" or "bias", or of the batch norm before."""
        last = f"{CLASSIFIER}.1" if f"{CLASSIFIER}.1.weight" in self._shapes else CLASSIFIER
        module = last if leaf in ("kernel", "bias") else f"{CLASSIFIER}.0"
        return f"{module}.{TORCH_LEAVES[leaf]}"

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""
        if self.kind == FINETUNE:
            return "pass --task=finetune and the --model_arch of its backbone, such as r2plus1d_18"
        return "pass the --model_arch that it is of, such as gdt_av or stica"

    def arranged(self, path: str, value: np.ndarray) -> np.ndarray:
        """Returns a tensor of the checkpoint with its axes as the variable at `path` has them."""
        try:
            return published.from_published(path, value)
        except KeyError:  # so many axes has no kernel: told as another shape
            return value

    def not_needed(self, key: str) -> str | None:
        """Returns why no model here has a place for a tensor, None where one may have."""
        return reason(key, published.NOT_NEEDED)


def _published(shapes: Shapes, naming: str) -> Layout | None:
    if naming != TORCH:
        return None
    for begin, kind in (("video_network.base.", PRETRAIN), ("base.stem.", FINETUNE)):
        if any(key.startswith(begin) for key in shapes):
            return Published(kind, shapes)
    return None


RECOGNISE = (_published,)
