"""Checkpoints of the published code, and ours from before manifests said what they hold."""

from __future__ import annotations

import keras

from vatt.methods.vatt import published
from vatt.training.layouts import FINETUNE, OBJECT_GRAPH, PATHS, PRETRAIN, Layout, Own, Shapes

_VIDEO_ONLY = ("/voxel_to_patch/", "/conv3d_1a_7x7/")  # parts of published video backbones


class Published(Layout):
    """A published checkpoint: pre-training, modality-agnostic or not, or fine-tuned.

    Args:
      kind: of `vatt.training.layouts`.
      agnostic: one encoder for all modalities.
      shapes: by key; they tell a fine-tuned video model from an audio model.
    """

    published = True
    step_key = "optimizer/iter"

    def __init__(self, kind: str, agnostic: bool, shapes: Shapes) -> None:
        """Takes what was recognised."""
        self.kind, self.agnostic = kind, agnostic
        self._is_video = any(part in key for key in shapes for part in _VIDEO_ONLY)

    @property
    def description(self) -> str:
        """The kind of checkpoint in words."""
        if self.kind == FINETUNE:
            return "published fine-tuned checkpoint"
        return f"published {'modality-agnostic ' * self.agnostic}pre-training checkpoint"

    def model_keys(self, model: keras.Model) -> dict[str, str]:
        """Returns {variable path: key} of a whole model."""
        return published.model_keys(model) if published.knows(model) else {}

    def backbone_keys(self, backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
        """Returns {variable path: key} of a backbone; empty where there is none for it."""
        if not published.knows(backbone):
            return {}
        if self.agnostic:
            towers = hasattr(backbone, "encoder")  # else convolutional: nothing in common
            return published.unified_tower_keys(backbone, modality) if towers else {}
        if self.kind == PRETRAIN:
            root = published.PRETRAIN_ROOTS.get(modality)
            return {} if root is None else published.backbone_keys(backbone, root)
        # Video and audio share a root, and most names below it.
        fits = self._is_video == (modality == "video")
        return published.backbone_keys(backbone, published.BACKBONE_ROOT) if fits else {}

    def of_backbone(self, key: str, modality: str) -> bool:
        """Returns whether a tensor is part of the backbone of a modality."""
        if self.agnostic:
            token = f"{published.SHORT[modality]}_agg_embedding"
            parts = f"/{modality}/", f"/{token}", "/unified_transformer/tx/"
            return any(part in key for part in parts)
        finetuned = self.kind == FINETUNE
        root = published.BACKBONE_ROOT if finetuned else published.PRETRAIN_ROOTS[modality]
        return key.startswith(f"{root}/")

    def classifier_key(self, leaf: str) -> str:
        """Returns the key of the classifier's "kernel" or "bias"; others do not exist."""
        return f"{published.CLASSIFIER_ROOT}/{leaf}"

    def fits(self, model: keras.Model) -> bool:
        """Returns whether a pre-training model has one encoder for all, as the checkpoint has."""
        if not published.knows(model):
            return False
        unified = getattr(model, "unified", None)
        return self.kind == FINETUNE or (unified is not None) == self.agnostic

    def fix(self) -> str:
        """Returns the flags of a run that takes such a checkpoint."""
        if self.kind == FINETUNE:
            return "pass --task=finetune and the --model_arch of its backbone, such as vit_base"
        if self.agnostic:
            return "pass a modality-agnostic --model_arch, such as ut_fac"
        return "pass the --model_arch of three backbones, such as tx_fac or mmv_fac"


def _published(shapes: Shapes, naming: str) -> Layout | None:
    if naming != OBJECT_GRAPH or any("tsm_blocks" in key for key in shapes):
        return None
    for part, kind, agnostic in (
        ("/unified_backbone/", PRETRAIN, True),
        ("/_base_layer/", PRETRAIN, False),
        (f"{published.BACKBONE_ROOT}/", FINETUNE, False),
    ):
        if any(part in key for key in shapes):
            return Published(kind, agnostic, shapes)
    return None


def _earlier(shapes: Shapes, naming: str) -> Layout | None:
    """Ours without a word in the manifest, of the models that there were then."""
    if naming != PATHS or not shapes:
        return None
    places = [key.split("/") for key in shapes]  # model/<name>/<part>/...
    name = places[0][1]
    parts = {place[2] for place in places if len(place) > 2}
    if "unified" in parts:
        shared = {"encoder/": f"{name}/unified/encoder/"}
        towers = {m: {"": f"{name}/unified/{m}/", **shared} for m in published.SHORT}
        return Own({"kind": PRETRAIN, "towers": towers}, name)
    towers = {m: {"": f"{name}/{m}/"} for m in published.SHORT if m in parts}
    if "head" in parts:
        return Own({"kind": PRETRAIN, "towers": towers}, name)
    if "classification" in parts:
        return Own({"kind": FINETUNE, "towers": towers}, name)
    return None


RECOGNISE = (_published, _earlier)
