"""Names and layouts of variables in the published PyTorch checkpoints.

    names = model_names(model)                       # {path of our variable: published name}
    variable.assign(from_published(variable.path, tensors[names[variable.path]]))
    tensors = state_dict(model)                      # {published name: array}, all of them

Queries, keys and values of attention are one tensor there; every other variable has a name of its
own. A path that no rule fits is an error.
"""

from __future__ import annotations

import re

import keras
import numpy as np

from vatt.training.published_names import TORCH_NOT_NEEDED, Rules, torch_name

_GATED = (("", ""), ("/fc", ".fc"), ("/gate", ".cg.fc"))
_BLOCK = r"encoder/layer_(\d+)"
_STAGE = r"(layer\d+)_(\d+)"


def _projection(ours: str, theirs: str) -> Rules:
    return tuple((f"{ours}{layer}", f"{theirs}{module}") for layer, module in _GATED)


def _davenet(ours: str, theirs: str) -> Rules:
    return (
        (rf"{ours}/input_norm", rf"{theirs}.batchnorm1"),
        (rf"{ours}/stem/conv", rf"{theirs}.conv1"),
        (rf"{ours}/stem/bn", rf"{theirs}.bn1"),
        (rf"{ours}/{_STAGE}/(conv\d)/conv", rf"{theirs}.\1.\2.\3"),
        (rf"{ours}/{_STAGE}/conv(\d)/bn", rf"{theirs}.\1.\2.bn\3"),
        (rf"{ours}/{_STAGE}/shortcut/conv", rf"{theirs}.\1.\2.downsample.0"),
        (rf"{ours}/{_STAGE}/shortcut/bn", rf"{theirs}.\1.\2.downsample.1"),
    )


_TRANSFORMER: Rules = (
    (rf"(fusion\w*)/{_BLOCK}/attention_norm", r"\1.blocks.\2.norm1"),
    (rf"(fusion\w*)/{_BLOCK}/attention/[qkv]", r"\1.blocks.\2.attn.qkv"),
    (rf"(fusion\w*)/{_BLOCK}/attention/o", r"\1.blocks.\2.attn.proj"),
    (rf"(fusion\w*)/{_BLOCK}/feed_forward_norm", r"\1.blocks.\2.norm2"),
    (rf"(fusion\w*)/{_BLOCK}/feed_forward/wi", r"\1.blocks.\2.mlp.fc1"),
    (rf"(fusion\w*)/{_BLOCK}/feed_forward/wo", r"\1.blocks.\2.mlp.fc2"),
    (r"(fusion\w*)/final_norm", r"\1.norm"),
    (r"(fusion\w*)", r"\1"),  # its vectors
)
FUSION: Rules = (
    *_davenet("audio/davenet", "davenet"),
    *_TRANSFORMER,
    *_projection(r"(text|video|audio)/token_projection", r"\1_token_proj"),
    *_projection(r"(text|video|audio)_projection", r"\1_proj"),
    *_projection("joint_projection", "proj"),
    (r"(text|video|audio)/norm", r"\1_norm_layer"),
)
BASELINE: Rules = (
    *_davenet("audio", "DAVEnet"),
    ("audio_projection", "DAVEnet_projection"),
    *_projection("audio_unit", "GU_audio"),
    *_projection("video_unit", "GU_video"),
    *_projection("text_unit", "GU_text_captions"),
    ("text/fc", "text_pooling_caption.fc"),
)
STEM = "/stem/conv/kernel"
POSITIONS = re.compile(r"(text|video|audio)/positions")
_JOINED = re.compile(r"/attention/([qkv])/(?:kernel|bias)$")
# What a published file has and our model has not, and why, by pattern of the name.
NOT_NEEDED = TORCH_NOT_NEEDED | {
    r"fusion_text\..*": "the transformer of text once more, under another name",
}


def model_names(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published name} of a whole model.

    Raises:
      UnmappedVariableError: a variable that the published models do not have.
    """
    baseline = any(v.path.startswith(f"{model.name}/text_unit/") for v in model.variables)
    rules = BASELINE if baseline else FUSION
    return {v.path: name_of(v.path.removeprefix(f"{model.name}/"), rules) for v in model.variables}


def name_of(local: str, rules: Rules) -> str:
    """Returns the published name of a variable, by its path below the model.

    Raises:
      UnmappedVariableError: no rule fits.
    """
    if match := POSITIONS.fullmatch(local):
        return f"{match[1]}_pos_embed"
    return torch_name(local, rules)


def from_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns a published tensor in the layout of our variable at `path`, or its part of it."""
    if match := _JOINED.search(path):
        value = np.split(value, 3)["qkv".index(match[1])]
    if path.endswith(("/positions", "/cls_token")):
        return value.reshape(value.shape[1:] if path.endswith("/positions") else -1)
    if not path.endswith("/kernel"):
        return value
    if value.ndim != 4:
        return np.ascontiguousarray(value.T)
    if path.endswith(STEM):  # (out, 1, bands, 1)
        return np.ascontiguousarray(value[..., 0].transpose(1, 2, 0))
    return np.ascontiguousarray(value[:, :, 0].transpose(2, 1, 0))  # (out, in, 1, times)


def to_published(path: str, value: np.ndarray) -> np.ndarray:
    """Returns the value of our variable at `path` in the published layout, or a part of it."""
    if path.endswith("/positions"):
        return value[None]
    if path.endswith("/cls_token"):
        return value.reshape(1, 1, -1)
    if not path.endswith("/kernel"):
        return value
    if value.ndim != 3:
        return np.ascontiguousarray(value.T)
    if path.endswith(STEM):
        return np.ascontiguousarray(value.transpose(2, 0, 1)[..., None])
    return np.ascontiguousarray(value.transpose(2, 1, 0)[:, :, None])


def state_dict(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns all that a published file holds of a model, but numbers of batches."""
    names, parts = model_names(model), {}
    for variable in model.variables:
        value = to_published(variable.path, keras.ops.convert_to_numpy(variable))
        parts.setdefault(names[variable.path], {})[variable.path] = value
    found = {name: joined(values) for name, values in parts.items()}
    if any(name.startswith("fusion_video.") for name in found):
        text = {n: x for n, x in found.items() if n.startswith("fusion.")}
        found |= {n.replace("fusion.", "fusion_text.", 1): x for n, x in text.items()}
    return found


def joined(values: dict[str, np.ndarray]) -> np.ndarray:
    """Returns one tensor of those of several variables, queries, keys and values in this order."""
    order = sorted(values, key=lambda path: "qkv".index((_JOINED.search(path) or "qq")[1]))
    return np.concatenate([values[path] for path in order])
