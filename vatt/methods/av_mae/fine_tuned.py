"""Names and layouts of the variables of MBT classifiers in the published Flax checkpoints.

names = classifier_names(model)                  # {path of our variable: published name}
variable.assign(from_published(variable.path, tensors[names[variable.path]]))
"""

from __future__ import annotations

import re

import keras
import numpy as np

from vatt.methods.av_mae import published
from vatt.methods.av_mae.published import ENCODER, Rules, within

NAMES = {"video": "rgb", "audio": "spectrogram"}
EMBEDDING = {"video": "embedding", "audio": "embedding_spectrogram"}
HEAD = "ProjectionHeadAndClassifier_0"
_STACK = "Transformer"
_SHARED_BLOCK = re.compile(r"(encoderblock_(\d+|\\\d))")
_TABLES = ("/bottleneck", "/class_token", "/modality_vector")  # with axes of one row in front


def rules(modalities: tuple[str, ...]) -> Rules:
    """Returns the rules of a backbone: the layers of the second modality are called `_spec`."""
    found = [
        *_blocks(r"encoder", ""),
        (r"bottleneck", "bottleneck"),
        (r"final_norm/(gamma|beta)", rf"{_STACK}/encoder_norm/\1"),
    ]
    for place, modality in enumerate(modalities):
        suffix = "_spec" if place else ""
        found += _blocks(f"{modality}/encoder", suffix)
        token = f"cls{NAMES[modality]}" if place else "cls"
        found += [
            (rf"{modality}/patches/(kernel|bias)", rf"{EMBEDDING[modality]}/\1"),
            (f"{modality}/class_token", token),
            (f"{modality}/modality_vector", f"Encoder_modality_token_{NAMES[modality]}"),
        ]
    return tuple(found)


def _blocks(ours: str, suffix: str) -> Rules:
    return [
        (pattern, _SHARED_BLOCK.sub(rf"\1{suffix}", name))
        for pattern, name in within(ENCODER, ours, _STACK)
    ]


def backbone_names(backbone: keras.layers.Layer) -> dict[str, str]:
    """Returns {variable path: published name} of a backbone.

    Raises:
      UnmappedVariableError: it is no bottleneck transformer.
    """
    modalities = getattr(backbone, "modalities", ())
    return published.layer_names(backbone, rules(modalities))


def head_name(layer: str, leaf: str) -> str:
    """Returns the published name of the classifier's last layer, or of the one before."""
    kind = {"classification": "output_projection", "representation": "pre_logits"}[layer]
    return f"{HEAD}/{kind}/{leaf}"


def classifier_names(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published name} of a whole classifier.

    Raises:
      UnmappedVariableError: it has what the published one has not.
    """
    names = backbone_names(model.backbone)
    for layer in model.classifier_layers():
        for variable in layer.variables:
            try:
                names[variable.path] = head_name(layer.name, variable.name)
            except KeyError:
                message = f"no published name for {variable.path}"
                raise published.UnmappedVariableError(message) from None
    return published.unique(names)


def from_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns a published tensor in the layout of our variable at `path`."""
    if path.endswith("/bottleneck"):
        return value.reshape(value.shape[-2:])
    if path.endswith(_TABLES):
        return value.reshape(value.shape[-1:])
    return published.from_published(path, value)
