"""Small checkpoints in the published layout, written from the specification of its keys alone.

    shapes = published_files.pretrain()
    tensors = published_files.values(shapes, seed=0)
    published_files.write(tmp_path / "ckpt-7", tensors, step=7, slots=("m", "v"))
    model = published_files.model("pretrain")       # the model they belong to

Nothing here uses the map of names that is tested with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from vatt import configs
from vatt.methods.vatt import model as multimodal
from vatt.modeling import factory

Shapes = dict[str, tuple[int, ...]]

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
ROOT = "model/layer_with_weights-0"
D, HEADS, D_KV, D_FF, LAYERS = 8, 2, 3, 10, 2
EMBEDDING, WORDS, POST, FINE, COARSE, CLASSES = (11, 5), 6, 7, 6, 4, 5
CLIP, WAVEFORM = (4, 8, 8, 3), (256, 1)
ENCODER = {"d_model": D, "num_heads": HEADS, "d_kv": D_KV, "d_ff": D_FF, "num_layers": LAYERS}
VIDEO = {**ENCODER, "temporal_patch_size": 2, "spatial_patch_size": 4, "max_temporal_buckets": 2}
VIDEO |= {"max_vertical_buckets": 2, "max_horizontal_buckets": 3}
AUDIO = {**ENCODER, "temporal_patch_size": 32, "temporal_patch_stride": 32}
AUDIO |= {"max_temporal_buckets": 8}
TEXT = {**ENCODER, "vocab_size": EMBEDDING[0], "d_embedding": EMBEDDING[1], "d_pre_proj": D}
UNIFIED = {**ENCODER, "vid_temporal_patch_size": 2, "vid_spatial_patch_size": 4}
UNIFIED |= {"max_vid_temporal_buckets": 2, "max_vid_spatial_buckets": 3, "d_post_proj": POST}
UNIFIED |= {"aud_temporal_patch_size": 32, "max_aud_temporal_buckets": 8}
UNIFIED |= {"txt_vocab_size": EMBEDDING[0], "txt_embedding_dim": EMBEDDING[1]}
UNIFIED |= {"max_txt_temporal_buckets": WORDS}
HEAD = {
    "vid_to_aud_txt_kwargs": {"d_model": FINE},
    "aud_to_vid_txt_kwargs": {"d_model": FINE},
    "txt_to_vid_aud_kwargs": {"d_model": COARSE},
}
MODELS = {
    "pretrain": {
        "backbone_config": {
            "video_model_kwargs": VIDEO,
            "audio_model_kwargs": AUDIO,
            "text_model_kwargs": TEXT,
        },
        "head_config": {"bridge": {0: HEAD}},
    },
    "unified": {
        "backbone_config": {"unified_model_kwargs": UNIFIED},
        "head_config": {"bridge": {0: HEAD}},
    },
    "video": VIDEO,
    "audio": AUDIO,
}
ARCHITECTURES = {"pretrain": "tx_fac", "unified": "ut_fac", "video": "vit_base"}
ARCHITECTURES |= {"audio": "wat_base"}
# Clips that these models fit, for whole configurations.
INPUT = {"num_frames": 4, "frame_size": 8, "min_resize": 8, "sample_rate": 640, "audio_stride": 1}


def model(kind: str, name: str | None = None, **changes: Any) -> Any:
    """Returns the built model of 'pretrain', 'unified', or of fine-tuning 'video' or 'audio'.

    `changes` are fields of the backbone of a fine-tuning model.
    """
    shapes = {"video": (None, *CLIP), "audio": (None, *WAVEFORM), "text": (None, WORDS)}
    if kind in ("pretrain", "unified"):
        config = configs.registry.model(ARCHITECTURES[kind], **MODELS[kind])
        return multimodal.build(config, name=name).build_from(shapes)
    values = {"num_classes": CLASSES, **MODELS[kind], **changes}
    config = configs.registry.backbone(ARCHITECTURES[kind], **values)
    result = factory.build_classifier(config, name=name or "classifier")
    result.build(shapes[kind])
    return result


# Layouts -----------------------------------------------------------------------------------------


def pretrain() -> Shapes:
    """Returns {key: shape} of the modality-specific pre-training model."""
    base = f"{ROOT}/_base_layer"
    shapes = _video(f"{base}/vid_backbone/_base") | _audio(f"{base}/aud_backbone/_base")
    return shapes | _text(f"{base}/txt_backbone") | _head(D, D, D)


def unified() -> Shapes:
    """Returns {key: shape} of the modality-agnostic pre-training model."""
    root = f"{ROOT}/_base_layer/unified_backbone/unified_transformer"
    shapes = _encoder(f"{root}/tx") | _head(POST, POST, POST)
    shapes |= _dense(f"{root}/raw_to_embeddings/video", (2, 4, 4, 3), D)
    shapes |= _dense(f"{root}/raw_to_embeddings/audio", (32, 1), D)
    shapes[f"{root}/raw_to_embeddings/text/embeddings"] = EMBEDDING
    tables = {"video": (2, 3, 3), "audio": (8,), "text": (WORDS,)}
    for modality, short in (("video", "vid"), ("audio", "aud"), ("text", "txt")):
        shapes[f"{root}/{short}_agg_embedding"] = (D,)
        width = EMBEDDING[1] if modality == "text" else D
        shapes |= _dense(f"{root}/pre_proj/{modality}", (width,), D)
        shapes |= _dense(f"{root}/post_proj/{modality}", (D,), POST)
        shapes |= _positions(f"{root}/pos_embedding_lookup/{modality}", tables[modality])
    return shapes


def finetune(modality: str, classes: int = CLASSES) -> Shapes:
    """Returns {key: shape} of a fine-tuning model."""
    tower = {"video": _video, "audio": _audio}[modality](f"{ROOT}/_base")
    return tower | _dense(f"{ROOT}/_ops/cls", (D,), classes)


def _video(root: str) -> Shapes:
    shapes = _dense(f"{root}/voxel_to_patch", (2, 4, 4, 3), D) | _encoder(f"{root}/tx")
    return {f"{root}/agg_embedding": (D,)} | shapes | _positions(_lookup(root), (2, 2, 3))


def _audio(root: str) -> Shapes:
    shapes = _dense(f"{root}/wave_to_patch", (32, 1), D) | _encoder(f"{root}/tx")
    return {f"{root}/agg_embedding": (D,)} | shapes | _positions(_lookup(root), (8,))


def _lookup(root: str) -> str:
    return f"{root}/pos_embedding_lookup"


def _positions(root: str, rows: tuple[int, ...]) -> Shapes:
    names = ("temporal", "vertical", "horizontal")
    shapes = {
        f"{root}/{name}_position_embeddings/embeddings": (count, D)
        for name, count in zip(names, rows, strict=False)
    }
    return shapes | _norm(f"{root}/layernorm")


def _encoder(root: str) -> Shapes:
    shapes = _norm(f"{root}/final_layer_norm")
    for n in range(LAYERS):
        layer = f"{root}/layers/{n}"
        shapes |= _norm(f"{layer}/layer_norm") | _norm(f"{layer}/feed_forward/layer_norm")
        for name in "qkv":
            shapes |= _dense(f"{layer}/mha/{name}", (D,), HEADS * D_KV)
        shapes |= _dense(f"{layer}/mha/o", (HEADS * D_KV,), D)
        shapes |= _dense(f"{layer}/feed_forward/mlp/wi", (D,), D_FF)
        shapes |= _dense(f"{layer}/feed_forward/mlp/wo", (D_FF,), D)
    return shapes


def _text(root: str) -> Shapes:
    lm = f"{root}/base_lm"
    shapes = {f"{root}/embedding/embeddings": EMBEDDING, f"{root}/agg_embedding": EMBEDDING[1:]}
    shapes |= {f"{root}/pre_proj/kernel": (EMBEDDING[1], D), f"{lm}/final_layer_norm/weight": (D,)}
    bias = f"{lm}/layers/0/self_attention/attention/relative_attention_bias/embeddings"
    shapes[bias] = (32, HEADS)
    for n in range(LAYERS):
        attention, feed = f"{lm}/layers/{n}/self_attention", f"{lm}/layers/{n}/feed_forward"
        shapes |= {f"{attention}/layer_norm/weight": (D,)} | _norm(f"{feed}/layer_norm")
        shapes |= {f"{attention}/attention/{name}/kernel": (D, HEADS * D_KV) for name in "qkv"}
        shapes[f"{attention}/attention/o/kernel"] = (HEADS * D_KV, D)
        shapes |= {f"{feed}/mlp/wi/kernel": (D, D_FF), f"{feed}/mlp/wo/kernel": (D_FF, D)}
    return shapes


def _head(video: int, audio: int, text: int) -> Shapes:
    root = f"{ROOT}/_head_layer/_bridge_heads/0"
    shapes = {f"{root}/vid_to_hid/kernel": (video, FINE)}
    shapes |= {f"{root}/hid_to_va/dense/kernel": (FINE, FINE)}
    shapes |= {f"{root}/va_to_vat/dense/kernel": (FINE, COARSE)}
    norms = {"hid_to_va/pre_bn": FINE, "hid_to_va/bn": FINE, "va_to_vat/bn": COARSE}
    for norm, width in norms.items():
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{root}/{norm}/{leaf}"] = (width,)
    shapes |= _dense(f"{root}/aud_to_va", (audio,), FINE)
    return shapes | _dense(f"{root}/txt_to_vat", (text,), COARSE)


def _dense(root: str, inputs: tuple[int, ...], units: int) -> Shapes:
    return {f"{root}/kernel": (*inputs, units), f"{root}/bias": (units,)}


def _norm(root: str) -> Shapes:
    return {f"{root}/gamma": (D,), f"{root}/beta": (D,)}


# Files -------------------------------------------------------------------------------------------


def values(shapes: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random tensors, none like another."""
    random = np.random.default_rng(seed)
    return {key: random.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def slots_of(tensors: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns random optimizer slots of everything that is trained by default."""
    fixed = ("embedding/embeddings", "text/embeddings", "/moving_mean", "/moving_variance")
    trained = {key: value.shape for key, value in tensors.items() if not key.endswith(fixed)}
    slots = {f"{key}/.OPTIMIZER_SLOT/optimizer/{n}": s for key, s in trained.items() for n in names}
    return {key: np.abs(value) for key, value in values(slots, seed=99).items()}


def write(
    prefix: Path,
    tensors: dict[str, np.ndarray],
    step: int = 0,
    slots: tuple[str, ...] = (),
    scalars: dict[str, float] | None = None,
    **more: np.ndarray,
) -> Path:
    """Writes a checkpoint as the published code leaves it.

    `slots` are names of optimizer slots, `scalars` values such as `beta_1`, `more` other keys.
    """
    content = tensors | slots_of(tensors, slots) | more
    content |= {f"optimizer/{name}": np.float32(v) for name, v in (scalars or {}).items()}
    content |= {"optimizer/iter": np.int64(step), "save_counter": np.int64(1)}
    stored = {f"{key}{SUFFIX}": value for key, value in content.items()}
    return write_bundle(prefix, stored | {"_CHECKPOINTABLE_OBJECT_GRAPH": np.bytes_(b"x" * 300)})


def write_bundle(prefix: Path, tensors: dict[str, Any]) -> Path:
    """Writes tensors under exactly these names."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
    )
    return prefix


def data_file(prefix: Path) -> Path:
    """Returns the file that holds a checkpoint's values."""
    return prefix.with_name(f"{prefix.name}.data-00000-of-00001")
