"""Whole models, small: `model_*.npz`, `audio_pooling_strategies.npz`, `avlnet_baseline.npz`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.av_mae.pretraining import EXACT, near
from tests.golden.checks import Arrays, Check, Checks, Golden
from vatt import methods
from vatt.methods.eao import published
from vatt.methods.eao.config import (
    BASELINE,
    COMPARED,
    FUSION,
    MODALITIES,
    FusionConfig,
    LossConfig,
    ModelConfig,
)
from vatt.methods.eao.model import ComparedModalities

EMBEDDING = (1e-5, 1e-4)  # absolute, relative
_SAME = ("use_positional_emb", "video_max_tokens", "text_max_tokens", "strategy_audio_pooling")
_SAME += ("individual_projections", "cross_modal", "token_projection", "projection")
# Every comparison, so that nothing is refused for not being trained; only losses read it.
ALL = LossConfig(**{f"{name}_weight": 1.0 for name in COMPARED})


def weights_of(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name[2:]: x for name, x in arrays.items() if name.startswith("w/")}


def configured(
    weights: Mapping[str, np.ndarray], meta: Mapping[str, Any], **changes: Any
) -> ModelConfig:
    """Returns the configuration of a small model, by what `meta` says and its weights' shapes."""
    blocks = {m[1] for name in weights if (m := re.match(r"fusion\.blocks\.(\d+)\.", name))}
    width, inner = len(weights["fusion.masking_token"]), weights.get("fusion.blocks.0.mlp.fc1.bias")
    fusion = FusionConfig(
        embed_dim=width,
        depth=len(blocks),
        num_heads=meta.get("heads", 4),
        mlp_ratio=1.0 if inner is None else len(inner) / width,
        use_cls_token=meta.get("use_cls_token", False),
    )
    return ModelConfig(
        type=meta.get("cls", FUSION),
        video_embed_dim=_width(weights, "video_token_proj", width),
        text_embed_dim=_width(weights, "text_token_proj", width),
        projection_dim=_outputs(weights, width),
        davenet_widths=davenet(weights, "davenet.")[0],
        davenet_blocks=davenet(weights, "davenet.")[1],
        audio_max_num_stft_frames=meta.get("audio_max_num_STFT_frames"),
        fusion_params=fusion,
        loss_config=ALL,
        **{name: meta[name] for name in _SAME if name in meta},
        **changes,
    )


def _outputs(weights: Mapping[str, np.ndarray], width: int) -> int:
    """Returns the width that a projection ends with, of a modality or of all; without one `width`.

    It may be gated or minimal.
    """
    ends = (f"{name}.{end}" for name in ("text_proj", "proj") for end in ("fc.bias", "bias"))
    return next((len(weights[end]) for end in ends if end in weights), width)


def _width(weights: Mapping[str, np.ndarray], name: str, width: int = 0) -> int:
    """Returns the width that a projection takes; without one `width`."""
    ends = (f"{name}.fc.weight", f"{name}.weight")
    return next((weights[end].shape[1] for end in ends if end in weights), width)


def davenet(
    weights: Mapping[str, np.ndarray], prefix: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns widths of the stem and stages of a DAVEnet, and blocks of each stage."""
    widths, blocks = [len(weights[f"{prefix}conv1.weight"])], []
    stage = 1
    while f"{prefix}layer{stage}.0.conv1.weight" in weights:
        pattern = re.compile(rf"{re.escape(prefix)}layer{stage}\.(\d+)\.conv1\.weight")
        blocks.append(sum(bool(pattern.fullmatch(name)) for name in weights))
        widths.append(len(weights[f"{prefix}layer{stage}.0.conv1.weight"]))
        stage += 1
    return tuple(widths), tuple(blocks)


def built(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> ComparedModalities:
    """Returns a model with the weights of a file.

    Raises:
        KeyError: a variable without weights, or weights without a variable.
    """
    model = methods.named("eao").model(config, {}, "float32")
    names = published.model_names(model)
    unused = [
        name
        for name in set(weights) - set(names.values())
        if not any(re.fullmatch(pattern, name) for pattern in published.NOT_NEEDED)
    ]
    if unused:
        raise KeyError(f"not in the model: {sorted(unused)[:3]}")
    for variable in model.variables:
        value = published.from_published(variable.path, weights[names[variable.path]])
        if tuple(variable.shape) != value.shape:
            raise KeyError(f"{variable.path}: {tuple(variable.shape)} instead of {value.shape}")
        variable.assign(value)
    return model


def inputs_of(arrays: Arrays, prefix: str) -> dict[str, tf.Tensor]:
    found = {name[len(prefix) :]: x for name, x in arrays.items() if name.startswith(prefix)}
    return {
        name: tf.constant(x.astype(np.int32) if x.dtype.kind == "i" else x)
        for name, x in found.items()
    }


def model_file(arrays: Golden) -> Checks:
    """Embeddings, which inputs are empty, and what comes before; weights as they were."""
    meta, weights = json.loads(str(arrays["meta"])), weights_of(arrays)
    model = built(configured(weights, meta), weights)
    yield from _compared(model, arrays, "b/")
    for name, ours in published.state_dict(model).items():
        yield near(f"w/{name} again", ours, weights[name], EXACT)


def pooling_file(arrays: Golden) -> Checks:
    """Long sounds in fewer tokens: every strategy."""
    weights = weights_of(arrays)
    for strategy in sorted({name.split("/")[0] for name in arrays if "/in/" in name}):
        tokens = arrays[f"{strategy}/mid/audio_tokens"].shape[1]
        frames = tokens * 2 ** len(davenet(weights, "davenet.")[1])
        most = {"audio_max_num_STFT_frames": frames, "strategy_audio_pooling": strategy}
        model = built(configured(weights, most), weights)
        yield from _compared(model, arrays, f"{strategy}/")


def _compared(model: ComparedModalities, arrays: Arrays, prefix: str) -> Iterator[Check]:
    inputs = inputs_of(arrays, f"{prefix}in/")
    found = model.towers(inputs)
    embeddings = model.embed(found)
    expected = {
        name.removeprefix(f"{prefix}out/")
        for name in arrays
        if name.startswith(f"{prefix}out/") and name.endswith("_embed")
    }
    differing = sorted(expected ^ set(embeddings))
    yield Check(f"names of embeddings, such as {differing[:1]}", float(len(differing)), 0.0)
    for name in sorted(expected & set(embeddings)):
        yield near(
            f"{prefix}out/{name}", embeddings[name], arrays[f"{prefix}out/{name}"], EMBEDDING
        )
    states = tf.transpose(model.audio.states(inputs["audio"]), (0, 2, 1))
    yield near(f"{prefix}mid/davenet_out", states, arrays[f"{prefix}mid/davenet_out"], EMBEDDING)
    for modality in MODALITIES:
        tokens, mask, full = model.tokens(inputs, modality)
        for name, ours, tolerance in (
            (f"mid/{modality}_tokens", tokens, EMBEDDING),
            (f"mid/{modality}_token_mask", mask, EXACT),
            (f"out/{modality}_nonempty_input_mask", full, EXACT),
        ):
            yield near(f"{prefix}{name}", ours, arrays[f"{prefix}{name}"], tolerance)


def baseline_file(arrays: Golden) -> Checks:
    """The AVLnet baseline, of videos as tokens and as vectors, with and without lengths."""
    weights = weights_of(arrays)
    widths, blocks = davenet(weights, "DAVEnet.")
    config = ModelConfig(
        type=BASELINE,
        video_embed_dim=_width(weights, "GU_video"),
        text_embed_dim=_width(weights, "text_pooling_caption"),
        projection_dim=len(weights["GU_video.fc.bias"]),
        davenet_widths=widths,
        davenet_blocks=blocks,
        loss_config=ALL,
    )
    model, inputs = built(config, weights), inputs_of(arrays, "in/")
    for lengths in sorted({n.split("/")[0] for n in arrays if n.endswith("/audio_STFT_nframes")}):
        frames = tf.constant(arrays[f"{lengths}/audio_STFT_nframes"], tf.int32)
        for kind, video in (("video3d", inputs["video"]), ("video2d", inputs["video"][:, 0])):
            given = {**inputs, "video": video, "audio_STFT_nframes": frames}
            outputs = model.train_outputs(model.towers(given))
            for name, ours in outputs.items():
                tolerance = EMBEDDING if name.endswith("_embed") else EXACT
                reference = arrays[f"{lengths}/{kind}/{name}"]
                yield near(f"{lengths}/{kind}/{name}", ours, reference, tolerance)


HANDLERS = {
    "model_*.npz": model_file,
    "audio_pooling_strategies.npz": pooling_file,
    "avlnet_baseline.npz": baseline_file,
}
