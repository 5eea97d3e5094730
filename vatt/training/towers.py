"""Backbones of several modalities, and where their variables stand in towers of one modality each.

    found = keys_of(layout, classifier.backbone)
    found.keys[path], found.left_out[path]

A backbone that has `within_towers` can be taken from a pre-trained model whose towers are of other
layers than its own: each of its variables says in which tower it stands, and under which name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import keras

from vatt.training.layouts import PRETRAIN, Layout

_NORM = "encoder/final_norm/"
_LAYER = re.compile(r"/(?:layer|encoderblock)_\d+/")


@dataclass
class Found:
    """What a checkpoint has for the variables of a backbone.

    Attributes:
      keys: by path of a variable; None for what no pre-trained model has.
      left_out: by path, why what a checkpoint has is not taken.
      modalities: whose layers are looked for.
    """

    keys: dict[str, str | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    modalities: set[str] = field(default_factory=set)

    def left(self, layout: Layout, unused: Iterable[str]) -> tuple[str, ...]:
        """Returns keys of layers that the backbone lacks: without them it computes other things."""
        layers = (key for key in unused if _LAYER.search(key))
        return tuple(
            key for key in layers if any(layout.of_backbone(key, m) for m in self.modalities)
        )


@dataclass(frozen=True)
class _Named:
    path: str


@dataclass(frozen=True)
class _Tower:
    """What a layout asks of a backbone of one modality: a path, and variables below it."""

    path: str
    variables: tuple[_Named, ...]


def are_sought(backbone: keras.layers.Layer, layout: Layout) -> bool:
    """Returns whether a backbone is to be looked for in towers of one modality each."""
    return layout.kind == PRETRAIN and hasattr(backbone, "within_towers")


def keys_of(layout: Layout, backbone: keras.layers.Layer) -> Found:
    """Returns where in a pre-training checkpoint the variables of a backbone stand.

    The norm after the last layer is taken where modalities share it: as published, one of a
    modality alone is not.
    """
    found, places = Found(), backbone.within_towers()
    for path, place in places.items():
        found.keys[path] = None
        if isinstance(place, str):
            found.left_out[path] = place
    for modality in backbone.modalities:
        below = {p: name for p, (m, name) in _towers(places) if m == modality}
        tower = _Tower(modality, tuple(_Named(f"{modality}/{name}") for name in below.values()))
        keys = layout.backbone_keys(tower, modality) if below else {}
        for path, name in below.items():
            key = keys.get(f"{modality}/{name}")
            if _LAYER.search(f"/{name}"):
                found.modalities.add(modality)
            if name.startswith(_NORM) and key and layout.of_one_modality(key, modality):
                found.left_out[path] = "there each modality has its own"
            elif key is None:
                del found.keys[path]  # looked for, and not there
            else:
                found.keys[path] = key
    return found


def _towers(places: dict[str, tuple[str, str] | str | None]) -> Iterable[tuple[str, tuple]]:
    return ((path, place) for path, place in places.items() if isinstance(place, tuple))
