"""From configuration to models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from vatt.errors import UserError, nearest
from vatt.modeling import heads
from vatt.modeling.backbones import audio, i3d, resnet2d, text, unified, video
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.multimodal import MODALITIES, MultimodalModel

# The backbone family is the prefix of the config's name: 'vit_base' -> 'vit'.
BACKBONES: dict[str, dict[str, Callable[..., keras.layers.Layer]]] = {
    "video": {"vit": video.vit, "i3d": i3d.i3d},
    "audio": {"wat": audio.wat, "spt": audio.spt, "resnet2d": resnet2d.resnet2d},
    "text": {"bert": text.bert, "linear": text.linear, "t5": text.t5},
    "unified": {"ut": unified.ut},
}


def build_backbone(
    modality: str, config: Any, *, dtype: Any = "float32", name: str | None = None
) -> keras.layers.Layer:
    """Returns the (unbuilt) backbone of one modality.

    Args:
        modality: 'video', 'audio', 'text' or 'unified'.
        config: backbone config; its `name` chooses the family.
        dtype: 'float32' or 'mixed_bfloat16'.
        name: layer name, by default the modality.

    Raises:
        UserError: the family is not known for this modality.
    """
    families = BACKBONES[modality]
    family = next((f for f in families if config.name.lower().startswith(f)), None)
    if family is None:
        raise UserError(
            f"{modality} backbone: {config.name!r} is none of the families {sorted(families)}."
            f"{nearest(config.name.split('_')[0], families)}"
        )
    policy = keras.dtype_policies.get(dtype)
    return families[family](config, name=name or modality, dtype=policy)


def build_multimodal(
    model_config: Any, *, dtype: Any = "float32", name: str | None = None
) -> MultimodalModel:
    """Returns the (unbuilt) pre-training model of a model config; see `MultimodalModel.build_from`.

    Args:
        model_config: has `backbone_config` (with `resolve(modality)`) and `head_config`.
        dtype: 'float32' or 'mixed_bfloat16'.
        name: model name and prefix of every variable path, by default `model_config.model_name`.

    Raises:
        UserError: unknown backbone family or head.
    """
    policy = keras.dtype_policies.get(dtype)
    config = model_config.backbone_config
    modalities = ("unified",) if is_unified(model_config) else MODALITIES
    towers = {m: build_backbone(m, config.resolve(m), dtype=policy) for m in modalities}
    head = heads.build(model_config.head_config)
    return MultimodalModel(head, **towers, name=name or model_config.model_name, dtype=policy)


def build_classifier(
    config: Any, *, num_classes: int | None = None, dtype: Any = "float32", name: str = "classifier"
) -> ClassificationModel:
    """Returns the (unbuilt) fine-tuning model of a video or audio backbone config.

    Args:
        config: backbone config; its `name` chooses family and modality.
        num_classes: by default that of the config.
        dtype: 'float32' or 'mixed_bfloat16'.
        name: model name and prefix of every variable path.

    Raises:
        UserError: not a video or audio backbone, or no number of classes.
    """
    modality = modality_of(config)
    classes = num_classes if num_classes is not None else config.num_classes
    if classes is None:
        raise UserError("model_config.num_classes: null; a classifier needs the number of classes")
    policy = keras.dtype_policies.get(dtype)
    return ClassificationModel(
        build_backbone(modality, config, dtype=policy),
        classes,
        modality,
        dropout_rate=config.cls_dropout_rate,
        num_test_samples=config.num_test_samples or 1,
        name=name,
        dtype=policy,
    )


def modality_of(config: Any) -> str:
    """Returns 'video' or 'audio', whichever the backbone of a config takes.

    Raises:
        UserError: a backbone of another kind.
    """
    families = {family: m for m in ("video", "audio") for family in BACKBONES[m]}
    for family, modality in families.items():
        if config.name.lower().startswith(family):
            return modality
    raise UserError(
        f"model_arch: {config.name!r} is none of the families that are fine-tuned, "
        f"{sorted(families)}."
        f"{nearest(config.name.split('_')[0], families)}"
    )


def is_unified(model_config: Any) -> bool:
    """Returns whether one backbone serves all modalities."""
    return model_config.backbone_config.name.startswith("unified_backbone")
