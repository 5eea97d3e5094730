"""Names and layouts of variables in the published Flax checkpoints.

    names = model_names(model)                       # {path of our variable: published name}
    variable.assign(from_published(variable.path, tensors[names[variable.path]]))

Rules go from a variable's path below a model or layer to the published one; a path that no rule
fits is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import keras
import numpy as np

from vatt.training.published_names import Rules, UnmappedVariableError, one_each

_BLOCK = r"layer_(\d+)"
_PARTS = {"q": "query", "k": "key", "v": "value", "o": "out"}
# Of `vatt.modeling.layers.encoder.Encoder`.
ENCODER: Rules = (
    *(
        (rf"{_BLOCK}/attention/{ours}/(kernel|bias)",
         rf"encoderblock_\1/MultiHeadDotProductAttention_0/{theirs}/\2")
        for ours, theirs in _PARTS.items()
    ),
    (rf"{_BLOCK}/attention_norm/(gamma|beta)", r"encoderblock_\1/LayerNorm_0/\2"),
    (rf"{_BLOCK}/feed_forward_norm/(gamma|beta)", r"encoderblock_\1/LayerNorm_1/\2"),
    (rf"{_BLOCK}/feed_forward/wi/(kernel|bias)", r"encoderblock_\1/MlpBlock_0/Dense_0/\2"),
    (rf"{_BLOCK}/feed_forward/wo/(kernel|bias)", r"encoderblock_\1/MlpBlock_0/Dense_1/\2"),
    (r"final_norm/(gamma|beta)", r"encoder_norm/\1"),
)  # fmt: skip
_LEAVES = {"gamma": "scale", "beta": "bias"}
VECTORS, TABLE = ("/modality", "/mask_token"), "/embeddings"


MODALITIES = {"video": "rgb", "audio": "spectrogram"}


def within(rules: Rules, ours: str, theirs: str) -> Rules:
    """Returns the rules of a layer that stands at a path here, and there."""
    return tuple((f"{ours}/{pattern}", f"{theirs}/{name}") for pattern, name in rules)


def _of_modality(ours: str, theirs: str) -> Rules:
    table, dense = "positions/embeddings", "(kernel|bias)"
    place = f"posembed_input_{theirs}/pos_embedding"
    return (
        (rf"{ours}/patches/{dense}", rf"embedding_{theirs}/\1"),
        (rf"{ours}/{table}", place),
        (rf"{ours}/modality", f"Encoder_modality_token_{theirs}"),
        *within(ENCODER, f"{ours}/encoder", f"Transformer_{theirs}"),
        (rf"{ours}_decoder/projection/{dense}", rf"decoder_projection_{theirs}/\1"),
        (rf"{ours}_decoder/mask_token", f"mask_token_{theirs}"),
        (rf"{ours}_decoder/{table}", place),  # by the same name there: not both can be learned
        (rf"{ours}_decoder/modality", f"Decoder_modality_token_{theirs}"),
        (rf"{ours}_decoder/output/{dense}", rf"output_projection_{theirs}/\1"),
        *within(ENCODER, f"{ours}_decoder/decoder", f"Decoder_{theirs}"),
    )


# Of a whole `MaskedAutoencoder`.
MODEL: Rules = (
    *(rule for names in MODALITIES.items() for rule in _of_modality(*names)),
    *within(ENCODER, "encoder", "Transformer"),
    *within(ENCODER, "fusion", "Transformer_concat"),
    *within(ENCODER, "decoder", "Decoder"),
)


def model_names(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published name} of a model for pretraining.

    Raises:
      UnmappedVariableError: a variable that the published models do not have.
    """
    return names(model.variables, f"{model.name}/", MODEL)


def names(variables: Iterable[keras.Variable], beginning: str, rules: Rules) -> dict[str, str]:
    """Returns {variable path: published name}; paths begin with `beginning`, which rules leave out.

    Raises:
      UnmappedVariableError: a variable that no rule fits, or two that share a name.
    """
    return one_each({v.path: name_of(v.path.removeprefix(beginning), rules) for v in variables})


def from_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns a published tensor in the layout of our variable at `path`.

    There, heads are an axis of their own, and vectors and tables have axes of one row in front.
    """
    if re.search(r"/attention/[qkv]/kernel$", path):
        return value.reshape(len(value), -1)
    if path.endswith("/attention/o/kernel"):
        return value.reshape(-1, value.shape[-1])
    if re.search(r"/attention/[qkv]/bias$", path) or path.endswith(VECTORS):
        return value.reshape(-1)
    return value.reshape(value.shape[1:]) if path.endswith(TABLE) else value


def name_of(local: str, rules: Rules) -> str:
    """Returns the published name of the variable at a path below what the rules are of.

    Raises:
      UnmappedVariableError: no rule fits.
    """
    for pattern, name in rules:
        if match := re.fullmatch(pattern, local):
            *above, leaf = match.expand(name).split("/")
            return "/".join((*above, _LEAVES.get(leaf, leaf)))
    raise UnmappedVariableError(f"no published name for {local}")
