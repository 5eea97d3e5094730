"""Names and layouts of the variables of MBT classifiers in the published Flax checkpoints.

names = classifier_names(model)                  # {path of our variable: published name}
variable.assign(from_published(variable.path, tensors[names[variable.path]]))
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
import numpy as np

from vatt.methods.av_mae import published
from vatt.methods.av_mae.published import ENCODER, MODALITIES, within
from vatt.training.published_names import Rules, UnmappedVariableError

EMBEDDING = {"video": "embedding", "audio": "embedding_spectrogram"}
HEAD = "ProjectionHeadAndClassifier_0"
LAYERS = {"classification": "output_projection", "representation": "pre_logits"}
_STACK = "Transformer"


def rules(modalities: Sequence[str]) -> Rules:
    """Returns the rules of a backbone: the layers of the second modality are called `_spec`."""
    found = [
        *within(ENCODER, "encoder", _STACK),
        (r"bottleneck", "bottleneck"),
        (r"final_norm/(gamma|beta)", rf"{_STACK}/encoder_norm/\1"),
    ]
    for place, modality in enumerate(modalities):
        theirs = MODALITIES[modality]
        found += [
            (pattern, re.sub(r"(encoderblock_\\1)", r"\1_spec", name) if place else name)
            for pattern, name in within(ENCODER, f"{modality}/encoder", _STACK)
        ]
        found += [
            (rf"{modality}/patches/(kernel|bias)", rf"{EMBEDDING[modality]}/\1"),
            (rf"{modality}/class_token", f"cls{theirs}" if place else "cls"),
            (rf"{modality}/modality", f"Encoder_modality_token_{theirs}"),
        ]
    return tuple(found)


def backbone_names(backbone: keras.layers.Layer) -> dict[str, str]:
    """Returns {variable path: published name} of a backbone.

    Raises:
      UnmappedVariableError: it is no bottleneck transformer.
    """
    found = rules(getattr(backbone, "modalities", ()))
    return published.names(backbone.variables, f"{backbone.path}/", found)


def head_name(layer: str, leaf: str) -> str:
    """Returns the published name of the classifier's last layer, or of the one before.

    Raises:
      UnmappedVariableError: another layer.
    """
    if layer not in LAYERS:
        raise UnmappedVariableError(f"no published name for {layer}/{leaf}")
    return f"{HEAD}/{LAYERS[layer]}/{leaf}"


def classifier_names(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published name} of a whole classifier.

    Raises:
      UnmappedVariableError: it has what the published one has not.
    """
    head = {
        v.path: head_name(x.name, v.name) for x in model.classifier_layers() for v in x.variables
    }
    return backbone_names(model.backbone) | head


def from_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns a published tensor in the layout of our variable at `path`."""
    if path.endswith("/bottleneck"):
        return value.reshape(value.shape[1:])
    if path.endswith("/class_token"):
        return value.reshape(-1)
    return published.from_published(path, value)
