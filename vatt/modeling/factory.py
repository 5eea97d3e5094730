"""From configuration to models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from vatt.errors import UserError, nearest
from vatt.modeling import heads
from vatt.modeling.backbones import audio, text, video
from vatt.modeling.multimodal import MultimodalModel

# The backbone family is the prefix of the config's name: 'vit_base' -> 'vit'.
BACKBONES: dict[str, dict[str, Callable[..., keras.layers.Layer]]] = {
    "video": {"vit": video.vit},
    "audio": {"wat": audio.wat},
    "text": {"t5": text.t5},
}


def build_backbone(
    modality: str, config: Any, *, dtype: Any = "float32", name: str | None = None
) -> keras.layers.Layer:
    """Returns the (unbuilt) backbone of one modality.

    Args:
        modality: 'video', 'audio' or 'text'.
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
    backbones = {
        modality: build_backbone(
            modality, model_config.backbone_config.resolve(modality), dtype=policy
        )
        for modality in BACKBONES
    }
    head = heads.build(model_config.head_config)
    return MultimodalModel(
        **backbones, head=head, name=name or model_config.model_name, dtype=policy
    )
