"""Names of variables in the published checkpoints.

The map is explicit and complete: every variable of a model has exactly one published key, and a
path segment that is not listed here is an error. Keys are those of TensorFlow's object graph
without the trailing `/.ATTRIBUTES/VARIABLE_VALUE`.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from vatt.methods.vatt import published_conv
from vatt.modeling.backbones.i3d import I3D
from vatt.modeling.backbones.patch_transformer import PatchTransformer
from vatt.modeling.backbones.resnet2d import ResNet2D
from vatt.modeling.backbones.text import TextModel
from vatt.modeling.backbones.unified import UnifiedTransformer, WordTransformer
from vatt.training.published_names import UnmappedVariableError, one_each

ROOT = "model/layer_with_weights-0"
BACKBONE_ROOT = f"{ROOT}/_base"  # single backbone, also of the fine-tuned models
TEXT_ROOT = ROOT  # text model by itself
CLASSIFIER_ROOT = f"{ROOT}/_ops/cls"
UNIFIED_ROOT = f"{ROOT}/unified_transformer"  # unified backbone by itself
PRETRAIN_ROOTS = {
    "video": f"{ROOT}/_base_layer/vid_backbone/_base",
    "audio": f"{ROOT}/_base_layer/aud_backbone/_base",
    "text": f"{ROOT}/_base_layer/txt_backbone",
    "unified": f"{ROOT}/_base_layer/unified_backbone/unified_transformer",
    "head": f"{ROOT}/_head_layer/_bridge_heads",
}

SHORT = {"video": "vid", "audio": "aud", "text": "txt"}
PATCHES = {1: "wave_to_patch", 2: "spectrum_to_patch", 3: "voxel_to_patch"}
POSITION_AXES = {"temporal": "temporal", "vertical": "vertical", "horizontal": "horizontal"}
POSITION_AXES |= {"spectral": "spectoral"}  # the published spelling
PROJECTIONS = {"pre_projection": "pre_proj", "post_projection": "post_proj"}
DENSE = ("kernel", "bias")
NORM = ("gamma", "beta")
BATCH_NORM = published_conv.BATCH_NORM

BACKBONES = (I3D, PatchTransformer, ResNet2D, TextModel, UnifiedTransformer, WordTransformer)
HEAD_BLOCKS = ("hid_to_va", "va_to_vat", "vid_to_vat", "aud_to_vat", "txt_to_vat")
HEAD_DENSE = ("vid_to_hid", "aud_to_va", "txt_to_vat")


def knows(part: keras.layers.Layer | None) -> bool:
    """Returns whether a whole model or a backbone is of a kind that the published code has."""
    if isinstance(part, keras.Model):
        return hasattr(part, "unified") or knows(getattr(part, "backbone", None))
    return isinstance(part, BACKBONES)


def backbone_keys(backbone: keras.layers.Layer, root: str = BACKBONE_ROOT) -> dict[str, str]:
    """Returns {variable path: published key} of a video or audio backbone."""
    if isinstance(backbone, I3D | ResNet2D):
        return _apply(backbone, published_conv.table(backbone), root)
    axes = len(backbone.patches.patch)
    table = {f"patches/{leaf}": f"{PATCHES[axes]}/{leaf}" for leaf in DENSE}
    table |= {"aggregation/embedding": "agg_embedding", "masking/embedding": "mask_embedding"}
    for ours, theirs in PROJECTIONS.items():
        table |= {f"{ours}/{leaf}": f"{theirs}/{leaf}" for leaf in DENSE}
    table |= _positions("positions", "pos_embedding_lookup")
    table |= _encoder(len(backbone.encoder.blocks), "encoder", "tx")
    return _apply(backbone, table, root)


def unified_keys(unified: keras.layers.Layer, root: str = UNIFIED_ROOT) -> dict[str, str]:
    """Returns {variable path: published key} of the modality-agnostic backbone."""
    table = {
        f"{modality}/{ours}": theirs
        for modality in ("video", "audio", "text")
        for ours, theirs in _unified(modality).items()
    }
    table |= _encoder(len(unified.encoder.blocks), "encoder", "tx")
    return _apply(unified, table, root)


def unified_tower_keys(backbone: keras.layers.Layer, modality: str) -> dict[str, str]:
    """Returns {variable path: key} of a single backbone in a modality-agnostic checkpoint."""
    root = PRETRAIN_ROOTS["unified"]
    rows = _unified(modality)
    rows |= _encoder(len(backbone.encoder.blocks), "encoder", "tx")
    rows |= {"masking/embedding": "mask_embedding"}  # never there
    return _apply(backbone, rows, root)


def text_keys(text: keras.layers.Layer, root: str = TEXT_ROOT) -> dict[str, str]:
    """Returns {variable path: published key} of a text model with any base."""
    table = {
        "embedding/embeddings": "embedding/embeddings",
        "aggregation/embedding": "agg_embedding",
        "pre_projection/kernel": "pre_proj/kernel",
        "post_projection/kernel": "post_proj/kernel",
        "base/aggregation/embedding": "base_lm/agg_embedding",
        "base/masking/embedding": "base_lm/mask_embedding",
    }
    table["base/relative_bias"] = (
        "base_lm/layers/0/self_attention/attention/relative_attention_bias/embeddings"
    )
    table |= {f"base/conv1d/{leaf}": f"base_lm/conv1d/{leaf}" for leaf in DENSE}
    table |= _positions("base/positions", "base_lm/pos_embedding_lookup")
    layers = len(text.base.encoder.blocks) if hasattr(text.base, "encoder") else 0
    if hasattr(text.base, "relative_bias"):
        table |= _encoder(layers, "base/encoder", "base_lm", attention="self_attention", rms=True)
    else:
        table |= _encoder(layers, "base/encoder", "base_lm/tx")
    return _apply(text, table, root)


def head_keys(head: keras.layers.Layer, root: str = PRETRAIN_ROOTS["head"]) -> dict[str, str]:
    """Returns {variable path: published key} of a head stack."""
    table = {f"{name}/{leaf}": f"{name}/{leaf}" for name in HEAD_DENSE for leaf in DENSE}
    for block in HEAD_BLOCKS:
        for part, leaves in (("dense", ("kernel",)), ("bn", BATCH_NORM), ("pre_bn", BATCH_NORM)):
            table |= {f"{block}/{part}/{leaf}": f"{block}/{part}/{leaf}" for leaf in leaves}
    stack = {
        f"{bridge.name}/{ours}": f"{index}/{theirs}"
        for index, bridge in enumerate(head.bridges)
        for ours, theirs in table.items()
    }
    return _apply(head, stack, root)


def multimodal_keys(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published key} of a pre-training model."""
    if model.unified is not None:
        keys = unified_keys(model.unified, PRETRAIN_ROOTS["unified"])
    else:
        keys = backbone_keys(model.video, PRETRAIN_ROOTS["video"])
        keys |= backbone_keys(model.audio, PRETRAIN_ROOTS["audio"])
        keys |= text_keys(model.text, PRETRAIN_ROOTS["text"])
    return _complete(model, keys | head_keys(model.head, PRETRAIN_ROOTS["head"]))


def classifier_keys(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published key} of a fine-tuning model."""
    keys = backbone_keys(model.backbone, BACKBONE_ROOT)
    table = {f"classification/{leaf}": f"{CLASSIFIER_ROOT}/{leaf}" for leaf in DENSE}
    keys |= {f"{model.name}/{ours}": theirs for ours, theirs in table.items()}
    if model.classification_norm is not None:  # which no published checkpoint has
        norm = model.classification_norm.variables
        keys |= {v.path: f"{CLASSIFIER_ROOT}_norm/{v.name}" for v in norm}
    return _complete(model, keys)


def model_keys(model: keras.Model) -> dict[str, str]:
    """Returns {variable path: published key} of any whole model."""
    return multimodal_keys(model) if hasattr(model, "head") else classifier_keys(model)


def _complete(model: keras.Model, keys: dict[str, str]) -> dict[str, str]:
    missing = [v.path for v in model.variables if v.path not in keys]
    if missing:
        raise UnmappedVariableError(f"no published key for {missing}")
    return keys


def _unified(modality: str) -> dict[str, str]:
    """Returns the table of what the modality-agnostic backbone has of its own for a modality."""
    table = {"embedding/embeddings": f"raw_to_embeddings/{modality}/embeddings"}
    table["aggregation/embedding"] = f"{SHORT[modality]}_agg_embedding"
    for leaf in DENSE:
        table[f"patches/{leaf}"] = f"raw_to_embeddings/{modality}/{leaf}"
        for ours, theirs in PROJECTIONS.items():
            table[f"{ours}/{leaf}"] = f"{theirs}/{modality}/{leaf}"
    return table | _positions("positions", f"pos_embedding_lookup/{modality}")


def _positions(ours: str, theirs: str) -> dict[str, str]:
    table = {
        f"{ours}/{axis}": f"{theirs}/{name}_position_embeddings/embeddings"
        for axis, name in POSITION_AXES.items()
    }
    return table | {f"{ours}/layer_norm/{leaf}": f"{theirs}/layernorm/{leaf}" for leaf in NORM}


def _encoder(
    layers: int, ours: str, theirs: str, attention: str | None = None, rms: bool = False
) -> dict[str, str]:
    """Returns the table of an encoder; T5 has its attention in a `self_attention` group."""
    table = {}
    for n in range(layers):
        mine, published = f"{ours}/layer_{n}", f"{theirs}/layers/{n}"
        group = f"{published}/{attention}" if attention else published
        projections = f"{group}/attention" if attention else f"{group}/mha"
        table |= _norm(f"{mine}/attention_norm", f"{group}/layer_norm", rms)
        table |= _norm(f"{mine}/feed_forward_norm", f"{published}/feed_forward/layer_norm")
        for leaf in DENSE:
            for name in "qkvo":
                table[f"{mine}/attention/{name}/{leaf}"] = f"{projections}/{name}/{leaf}"
            for name in ("wi", "wi_0", "wi_1", "wo"):
                table[f"{mine}/feed_forward/{name}/{leaf}"] = (
                    f"{published}/feed_forward/mlp/{name}/{leaf}"
                )
    return table | _norm(f"{ours}/final_norm", f"{theirs}/final_layer_norm", rms)


def _norm(ours: str, theirs: str, rms: bool = False) -> dict[str, str]:
    leaves = ("weight",) if rms else NORM
    return {f"{ours}/{leaf}": f"{theirs}/{leaf}" for leaf in leaves}


def _apply(layer: keras.layers.Layer, table: Mapping[str, str], root: str) -> dict[str, str]:
    """Maps every variable of `layer` through `table`, whose paths start below the layer."""
    prefix = f"{layer.path}/"
    keys = {}
    for variable in layer.variables:
        local = variable.path.removeprefix(prefix)
        if local not in table:
            raise UnmappedVariableError(f"no published key for {variable.path}")
        keys[variable.path] = f"{root}/{table[local]}"
    return one_each(keys)
