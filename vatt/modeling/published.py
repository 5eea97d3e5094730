"""Names of variables in the published checkpoints.

The map is explicit and complete: every variable of a model has exactly one published key, and a
path segment that is
not listed here is an error. Keys are those of TensorFlow's object graph without the trailing
`/.ATTRIBUTES/VARIABLE_VALUE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROOT = "model/layer_with_weights-0"
BACKBONE_ROOT = f"{ROOT}/_base"  # single backbone, also of the fine-tuned models
TEXT_ROOT = ROOT  # text model by itself
PRETRAIN_ROOTS = {
    "video": f"{ROOT}/_base_layer/vid_backbone/_base",
    "audio": f"{ROOT}/_base_layer/aud_backbone/_base",
    "text": f"{ROOT}/_base_layer/txt_backbone",
    "head": f"{ROOT}/_head_layer/_bridge_heads",
}

PATCHES = {1: "wave_to_patch", 2: "spectrum_to_patch", 3: "voxel_to_patch"}
POSITION_AXES = {"temporal": "temporal", "vertical": "vertical", "horizontal": "horizontal"}
POSITION_AXES |= {"spectral": "spectoral"}  # the published spelling
DENSE = ("kernel", "bias")
NORM = ("gamma", "beta")
BATCH_NORM = (*NORM, "moving_mean", "moving_variance")

HEAD_BLOCKS = ("hid_to_va", "va_to_vat", "vid_to_vat", "aud_to_vat", "txt_to_vat")
HEAD_DENSE = ("vid_to_hid", "aud_to_va", "txt_to_vat")


class UnmappedVariableError(KeyError):
    """A variable path without a published key."""


def backbone_keys(backbone: Any, root: str = BACKBONE_ROOT) -> dict[str, str]:
    """Returns {variable path: published key} of a ViT or WaT layer (or later SpT)."""
    axes = len(backbone.patches.patch)
    table = {f"patches/{leaf}": f"{PATCHES[axes]}/{leaf}" for leaf in DENSE}
    table |= {"aggregation/embedding": "agg_embedding", "masking/embedding": "mask_embedding"}
    table |= {f"pre_projection/{leaf}": f"pre_proj/{leaf}" for leaf in DENSE}
    table |= {f"post_projection/{leaf}": f"post_proj/{leaf}" for leaf in DENSE}
    for ours, theirs in POSITION_AXES.items():
        table[f"positions/{ours}"] = f"pos_embedding_lookup/{theirs}_position_embeddings/embeddings"
    table |= {
        f"positions/layer_norm/{leaf}": f"pos_embedding_lookup/layernorm/{leaf}" for leaf in NORM
    }
    table |= _encoder(len(backbone.encoder.blocks), "encoder", "tx")
    return _apply(backbone, table, root)


def text_keys(text: Any, root: str = TEXT_ROOT) -> dict[str, str]:
    """Returns {variable path: published key} of a text model with a T5 base."""
    table = {
        "embedding/embeddings": "embedding/embeddings",
        "aggregation/embedding": "agg_embedding",
    }
    table |= {
        "pre_projection/kernel": "pre_proj/kernel",
        "post_projection/kernel": "post_proj/kernel",
    }
    base = text.base.name
    table[f"{base}/relative_bias"] = (
        "base_lm/layers/0/self_attention/attention/relative_attention_bias/embeddings"
    )
    layers = len(text.base.encoder.blocks)
    table |= _encoder(layers, f"{base}/encoder", "base_lm", attention="self_attention", rms=True)
    return _apply(text, table, root)


def head_keys(head: Any, root: str = PRETRAIN_ROOTS["head"]) -> dict[str, str]:
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


def multimodal_keys(model: Any) -> dict[str, str]:
    """Returns {variable path: published key} of a modality-specific pre-training model."""
    keys = backbone_keys(model.video, PRETRAIN_ROOTS["video"])
    keys |= backbone_keys(model.audio, PRETRAIN_ROOTS["audio"])
    keys |= text_keys(model.text, PRETRAIN_ROOTS["text"])
    keys |= head_keys(model.head, PRETRAIN_ROOTS["head"])
    missing = [v.path for v in model.variables if v.path not in keys]
    if missing:
        raise UnmappedVariableError(f"no published key for {missing}")
    return keys


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


def _apply(layer: Any, table: Mapping[str, str], root: str) -> dict[str, str]:
    """Maps every variable of `layer` through `table`, whose paths start below the layer."""
    prefix = f"{layer.path}/"
    keys = {}
    for variable in layer.variables:
        local = variable.path.removeprefix(prefix)
        if local not in table:
            raise UnmappedVariableError(f"no published key for {variable.path}")
        keys[variable.path] = f"{root}/{table[local]}"
    if len(set(keys.values())) != len(keys):
        raise UnmappedVariableError(f"{layer.path}: two variables share a published key")
    return keys
