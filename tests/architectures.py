"""Every architecture of the registry, small: configuration, model, inputs, outputs.

    model = architectures.build("wat_base", "mixed_bfloat16")
    outputs = architectures.flat(model(architectures.inputs("wat_base")))

Needs no backend of its own, so that other processes may use it under any.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import keras
import numpy as np

from vatt import configs, methods
from vatt.configs.backbones import BACKBONES
from vatt.methods.vatt import model as multimodal
from vatt.methods.vatt import towers
from vatt.modeling import factory


def _kind(modalities: tuple[str, ...]) -> str:
    if len(modalities) == 1:
        return modalities[0]
    return "fused" if "text" not in modalities else "unified"


# Registry name -> modality of a backbone, or 'model' for a model of all three modalities; of
# several names for the same configuration the first.
_PRESETS = methods.named("vatt").presets
_CLASSES = {name: (_kind(c().modalities), c) for name, c in BACKBONES.items()}
_CLASSES |= {name: ("model", type(preset().model)) for name, preset in _PRESETS.items()}
_FIRST = {c: name for name, (_, c) in reversed(_CLASSES.items())}
KINDS = {name: kind for name, (kind, c) in _CLASSES.items() if _FIRST[c] == name}
# Alone they are tested as fine-tuning models only: mmv_fac consists of them, and they are slow.
EVERY = tuple(name for name in KINDS if name not in ("i3d", "resnet2d_50"))
# One of each kind of layers; the others differ in numbers only, or are large whatever is changed.
FAST = ("vit_large", "wat_large", "spt_large", "t5_base", "bert_base", "linear", "ut_fac")
FAST += ("r2plus1d_tiny", "resnet_tiny", "mbt_large")
FINE_TUNED = tuple(name for name, kind in KINDS.items() if kind in ("video", "audio", "fused"))

CONVOLUTIONAL = ("i3d", "r2plus1d", "resnet", "mmv")  # beginnings of names

CLASSES = 5
VOCABULARY = 40
WORDS = 6
CANDIDATES = 2  # rows of text for each clip
CLIP = (4, 8, 12, 3)  # frames, height, width, channels
CONVOLVED_CLIP = (8, 32, 32, 3)
WAVEFORM = (256, 1)  # samples
SPECTROGRAM = (12, 8, 1)  # time, mel
CONVOLVED_SPECTROGRAM = (32, 32, 1)

# What a backbone's configuration is changed to, where it has all these fields; the grids fit the
# inputs above. No two kinds are equally wide, and heads are not as wide as models.
WIDTHS = {"video": 16, "audio": 12, "text": 8, "unified": 20, "fused": 14}
SIZES: tuple[dict[str, Any], ...] = (
    {"num_heads": 3, "d_kv": 4, "d_ff": 24},
    {"d_embedding": 10, "vocab_size": VOCABULARY},
    {"txt_embedding_dim": 10, "txt_vocab_size": VOCABULARY, "max_txt_temporal_buckets": WORDS},
    {"temporal_patch_size": 2, "spatial_patch_size": 4}
    | {"max_temporal_buckets": 2, "max_vertical_buckets": 2, "max_horizontal_buckets": 3},
    {"temporal_patch_size": 2, "spatial_patch_size": 4, "fusion_layer": 0}
    | {"audio_temporal_patch_size": 4, "audio_spectral_patch_size": 2},
    {"temporal_patch_size": 32, "temporal_patch_stride": 32, "max_temporal_buckets": 8},
    {"temporal_patch_size": 4, "spectoral_patch_size": 2}
    | {"max_temporal_buckets": 3, "max_spectoral_buckets": 4},
    {"vid_temporal_patch_size": 2, "vid_spatial_patch_size": 4, "aud_temporal_patch_size": 32}
    | {"max_vid_temporal_buckets": 2, "max_vid_spatial_buckets": 3, "max_aud_temporal_buckets": 8},
    {"width_multiplier": 1 / 16, "cifar_stem": False},  # not of I3D, where it has no effect
    {"widths": (4, 5, 6, 7)},
    {"widths": (3, 4, 5, 9), "stem_channels": 6},
)


def sizes(name: str) -> dict[str, Any]:
    """Returns the changes that make a backbone small; the deepest keep two layers."""
    fields = configs.registry.backbone(name).as_dict()
    changes: dict[str, Any] = {}
    for group in SIZES:
        if group.keys() <= fields.keys():
            changes |= group
    for field in ("d_model", "d_pre_proj"):
        if fields.get(field) is not None:
            changes[field] = WIDTHS[KINDS[name]]
    if "num_layers" in fields:
        changes["num_layers"] = math.ceil(fields["num_layers"] / 12)
    return changes


def config(name: str, **changes: Any) -> Any:
    """Returns the small configuration of an architecture; `changes` are fields of a backbone."""
    if KINDS[name] != "model":
        return configs.registry.backbone(name, **{**sizes(name), **changes})
    assert not changes, changes
    result = configs.registry.model(name)
    stack = result.backbone_config
    if isinstance(stack, towers.UnifiedBackboneConfig):
        stack.unified_model_kwargs = sizes(stack.unified_backbone)
    else:
        for modality in towers.MODALITIES:
            backbone = getattr(stack, f"{modality}_backbone")
            kwargs = sizes(backbone)
            given = getattr(stack, f"{modality}_model_kwargs")
            if isinstance(given, dict):
                setattr(stack, f"{modality}_model_kwargs", {**given, **kwargs})
            elif modality == "audio":
                given.width_multiplier = kwargs["width_multiplier"]
    for bridge in result.head_config.bridge:
        bridge.vid_to_aud_txt_kwargs.d_model = bridge.aud_to_vid_txt_kwargs.d_model = 8
        bridge.txt_to_vid_aud_kwargs.d_model = 6
    return result


def build(name: str, dtype: Any = "float32", **changes: Any) -> Any:
    """Returns the built model of an architecture."""
    return ready(unbuilt(name, dtype, **changes), name)


def unbuilt(name: str, dtype: Any = "float32", **changes: Any) -> Any:
    """Returns the model of an architecture before it has variables."""
    small = config(name, **changes)
    if KINDS[name] == "model":
        return multimodal.build(small, dtype=dtype)
    return factory.build_backbone(small, dtype=dtype)


def ready(model: Any, name: str) -> Any:
    """Creates the variables of a model of this architecture, unless it has them."""
    if not model.built:
        shapes = keras.tree.map_structure(lambda x: (None, *x.shape[1:]), inputs(name, rows=1))
        model.build(shapes)
    return model


def classifier(name: str, dtype: Any = "float32", **changes: Any) -> Any:
    """Returns the built fine-tuning model of a video or audio backbone."""
    model = factory.build_classifier(config(name, **changes), num_classes=CLASSES, dtype=dtype)
    return ready(model, name)


def inputs(name: str, rows: int = 3, seed: int = 0) -> Any:
    """Returns an array, or for models of several modalities a dict of them."""
    kind, random = KINDS[name], np.random.default_rng(seed)
    convolved = name.startswith(CONVOLUTIONAL)
    arrays = {
        "video": random.uniform(size=(rows, *(CONVOLVED_CLIP if convolved else CLIP))),
        "audio": random.normal(size=(rows, *_sound(name))),
        "text": random.integers(1, VOCABULARY, (rows * CANDIDATES, WORDS)),
    }
    arrays = {m: a.astype("int32" if m == "text" else "float32") for m, a in arrays.items()}
    arrays["text"][:, -1] = 0  # padding
    arrays["text"][1, -3:] = 0
    if kind in ("unified", "model"):
        return arrays
    if kind == "fused":
        return {modality: arrays[modality] for modality in ("video", "audio")}
    return arrays[kind]


def _sound(name: str) -> tuple[int, ...]:
    if name.startswith(CONVOLUTIONAL):
        return CONVOLVED_SPECTROGRAM
    return SPECTROGRAM if name.startswith(("spt", "mbt")) else WAVEFORM


def flat(outputs: Any) -> dict[str, np.ndarray]:
    """Returns the arrays in nested outputs by path; half precision becomes float32."""
    if isinstance(outputs, dict):
        items = outputs.items()
    elif isinstance(outputs, (list, tuple)):
        items = enumerate(outputs)
    else:
        return {"": np.asarray(keras.ops.convert_to_numpy(outputs)).astype("float32")}
    return {
        f"{key}/{path}".rstrip("/"): array
        for key, value in items
        for path, array in flat(value).items()
    }


def fill(variables: Any, seed: int = 0) -> None:
    """Gives every variable numbers of its own, which depend on its path and `seed` only.

    They keep activations moderate; no scale is 1 or 0 and no offset 0; variances are positive.
    """
    for variable in variables:
        variable.assign(values(variable, seed))


def values(variable: Any, seed: int = 0) -> np.ndarray:
    """Returns what `fill` gives a variable."""
    random = np.random.default_rng([seed, zlib.crc32(variable.path.encode())])
    shape = tuple(variable.shape)
    if "int" in str(variable.dtype):
        return random.integers(1, 1000, shape)
    if len(shape) > 1:
        numbers = random.normal(size=shape) / math.sqrt(math.prod(shape[:-1]))
    elif variable.name in ("gamma", "weight", "moving_variance"):
        numbers = random.uniform(0.5, 1.5, shape)
    else:
        numbers = random.normal(size=shape) / 3
    return numbers.astype("float32")
