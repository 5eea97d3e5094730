"""Backbone configurations by registry name (in upper or lower case), per modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vatt.configs import audio, base, text, unified, video
from vatt.configs.merge import merge
from vatt.configs.problems import ConfigError, Problem
from vatt.errors import nearest

VID_MODELS: dict[str, type[base.Config]] = {
    "I3D": video.I3D,
    "VIT_BASE": video.ViTBase,
    "VIT_MEDIUM": video.ViTMedium,
    "VIT_LARGE": video.ViTLarge,
    "VIT_XLARGE": video.ViTXLarge,
    "VIT_TINY": video.ViTTiny,
}
AUD_MODELS: dict[str, type[base.Config]] = {
    "RESNET2D_50": audio.Resnet2D50,
    "RESNET2D_101": audio.Resnet2D101,
    "WAT_BASE": audio.WaTBase,
    "WAT_MEDIUM": audio.WaTMedium,
    "WAT_LARGE": audio.WaTLarge,
    "WAT_TINY": audio.WaTTiny,
    "SPT_BASE": audio.SpTBase,
    "SPT_MEDIUM": audio.SpTMedium,
    "SPT_LARGE": audio.SpTLarge,
}
TXT_MODELS: dict[str, type[base.Config]] = {
    "LINEAR": text.LinearModel,
    "T5_SMALL": text.T5Small,
    "T5_BASE": text.T5Base,
    "T5_TINY": text.T5Tiny,
    "BERT_SMALL": text.BertSmall,
    "BERT_BASE": text.BertBase,
}
UNIFIED_MODELS: dict[str, type[base.Config]] = {
    "UT_BASE": unified.UniTBase,
    "UT_MEDIUM": unified.UniTMedium,
    "UT_LARGE": unified.UniTLarge,
    "UT_TINY": unified.UniTTiny,
}
BY_MODALITY = {
    "video": VID_MODELS,
    "audio": AUD_MODELS,
    "text": TXT_MODELS,
    "unified": UNIFIED_MODELS,
}


def lookup(
    table: Mapping[str, type[base.Config]], name: str, path: str, extra: str = ""
) -> type[base.Config]:
    """Returns the class called `name`; a ConfigError at `path` names choices and the nearest."""
    found = table.get(name.upper()) if isinstance(name, str) else None
    if found is None:
        choices = [key.lower() for key in table]
        accepted = f"expected one of {', '.join(choices)}{extra}"
        raise ConfigError([Problem(path, name, accepted, nearest(name, choices))])
    return found


def build(
    name: str, modality: str, kwargs: Mapping[str, Any], *, name_path: str, kwargs_path: str
) -> base.Config:
    """Returns the configuration of the backbone `name` of one modality with `kwargs` applied.

    Raises:
      ConfigError: listing an unknown name or every refused kwarg, at the given paths.
    """
    config = lookup(BY_MODALITY[modality], name, name_path)()
    problems: list[Problem] = []
    config = merge(config, kwargs, problems, kwargs_path)
    if problems:
        raise ConfigError(problems)
    return config
