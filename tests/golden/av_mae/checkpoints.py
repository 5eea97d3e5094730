"""Names and shapes of whole published models, and files of Flax as the trainers leave them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tests.golden.checks import Check, Checks, Golden, absolute
from vatt import configs, methods
from vatt.methods.av_mae import published
from vatt.methods.av_mae.config import (
    MID,
    OWN_DECODERS,
    SAME_DECODER,
    SEPARATE,
    SHARED,
    DecoderConfig,
    LossConfig,
    ModelConfig,
)
from vatt.training import layouts
from vatt.training.flax_checkpoints import ENTRIES, FlaxCheckpoint

Shapes = Mapping[str, Sequence[int]]
THEIRS = published.MODALITIES  # {ours: published}
# Of the published models what trains them.
PUBLISHED = {
    "audioset": "configs/pretrain/av_mae_audioset.yaml",
    "vggsound": "configs/pretrain/av_mae_vggsound.yaml",
}


def shapes_file(content: Golden) -> Checks:
    """`param_shapes*.json`: names and shapes of the models of pretraining, and their totals."""
    for name, shapes in content.items():
        if not any(key.startswith("mask_token_") for key in shapes):
            continue  # of a classifier
        config = _configured(shapes)
        clip = {"video": (16, 224, 224, 3), "audio": (1000, 128, 1)}
        clip |= {m: _learned_clip(config, m, shapes, clip[m]) for m in config.modalities}
        with keras.StatelessScope(initialize_variables=False):
            model = methods.named("av_mae").model(config, clip, "float32")
        yield from _compared(name, model, shapes)
        if (preset := name.replace("_pretrain_L", "")) in PUBLISHED:
            cfg = configs.resolve(task="pretrain", config_file=PUBLISHED[preset])
            masks = {mask: getattr(config, mask) for mask in ("video_mask", "audio_mask")}
            differs = cfg.model.model_copy(update=masks) != config
            yield Check(f"{name}: {PUBLISHED[preset]}", float(differs), 0.0)


def _configured(shapes: Shapes) -> ModelConfig:
    """Returns the configuration of a model by the names and shapes of its parameters."""
    ours = [m for m, theirs in THEIRS.items() if f"embedding_{theirs}/kernel" in shapes]
    first, scopes = THEIRS[ours[0]], {key.split("/")[0] for key in shapes}
    own, fused = f"Transformer_{first}", "Transformer_concat" in scopes
    strategy = MID if fused else SEPARATE if own in scopes else SHARED
    decoder = "Decoder" if "Decoder" in scopes else f"Decoder_{first}"
    encoder = _sizes(shapes, "Transformer" if strategy == SHARED else own)
    fusion = _sizes(shapes, "Transformer_concat")["num_layers"] if fused else 0
    encoder["num_layers"] += fusion
    learned = [key for key in shapes if key.startswith("posembed_input_")]
    wide = [key for key in learned if shapes[key][-1] == encoder["d_model"]]
    patches = {}
    if "video" in ours:
        kernel = shapes["embedding_rgb/kernel"]
        patches = {"temporal_patch_size": kernel[0], "spatial_patch_size": kernel[1]}
        if kernel[2] != kernel[1]:
            patches["spatial_patch_width"] = kernel[2]
    if "audio" in ours:
        times, bands = shapes["embedding_spectrogram/kernel"][:2]
        patches |= {"audio_temporal_patch_size": times, "audio_spectral_patch_size": bands}
    return ModelConfig(
        modalities=ours,
        **encoder,
        **patches,
        encoder_strategy=strategy,
        **({"fusion_layers": fusion} if fused else {}),
        positional_embedding="learned_1d" if wide else "sinusoidal_1d",
        use_modality_tokens=f"Encoder_modality_token_{first}" in shapes,
        normalise_encoder_output=f"{decoder}/encoder_norm/scale" in shapes,
        decoder_strategy=SAME_DECODER if decoder == "Decoder" else OWN_DECODERS,
        use_projection_bias=f"decoder_projection_{first}/bias" in shapes,
        decoder_config=DecoderConfig(
            **_sizes(shapes, decoder),
            positional_embedding="learned_1d" if set(learned) - set(wide) else "sinusoidal_1d",
        ),
        loss_config=LossConfig(select_central_frame=_central(shapes)),
    )


def _central(shapes: Shapes) -> bool:
    """Whether fewer values are predicted of a patch of video than it has."""
    kernel, values = (shapes.get(f"{n}_rgb/{leaf}") for n, leaf in (
        ("embedding", "kernel"), ("output_projection", "bias")
    ))  # fmt: skip
    return kernel is not None and values[0] < math.prod(kernel[:-1])


def _sizes(shapes: Shapes, scope: str) -> dict[str, int]:
    block = f"{scope}/encoderblock_0"
    query = shapes[f"{block}/MultiHeadDotProductAttention_0/query/kernel"]
    blocks = {key.split("/")[1] for key in shapes if key.startswith(f"{scope}/encoderblock_")}
    return {
        "d_model": query[0],
        "num_heads": query[1],
        "d_kv": query[2],
        "d_ff": shapes[f"{block}/MlpBlock_0/Dense_0/bias"][0],
        "num_layers": len(blocks),
    }


def _learned_clip(
    config: ModelConfig, modality: str, shapes: Shapes, usual: tuple[int, ...]
) -> tuple[int, ...]:
    """Returns the shape of a clip with as many tokens as positions are learned, in one row."""
    table = shapes.get(f"posembed_input_{THEIRS[modality]}/pos_embedding")
    if table is None:
        return usual
    first, *rest = config.patch(modality)
    return (first * table[1], *rest, usual[-1])


def _compared(case: str, model: keras.Model, expected: Shapes) -> Checks:
    names = published.model_names(model)
    ours = {names[v.path]: v for v in model.variables}
    differing = sorted(set(ours) ^ set(expected))
    yield Check(f"{case} names, such as {min(differing, default='')}", len(differing), 0.0)
    for key in set(ours) & set(expected):
        there = np.broadcast_to(np.uint8(0), expected[key])
        arranged = published.from_published(ours[key].path, there).shape
        same = arranged == tuple(ours[key].shape)
        yield Check(f"{case} {key} {tuple(ours[key].shape)}", float(not same), 0.0)
    totals = [sum(map(math.prod, kind)) for kind in (
        (v.shape for v in model.variables), expected.values()
    )]  # fmt: skip
    yield absolute(f"{case} parameters", totals[0], np.array(totals[1]), 0.0)


def pretrain_layout(content: Golden) -> Checks:
    """`checkpoint_pretrain*.msgpack`: weights and step are found, and equal those beside it."""
    checkpoint = FlaxCheckpoint(content.path)
    recognise = (r for method in methods.known() for r in method.layouts())
    layout = next(filter(None, (r(checkpoint.shapes, layouts.FLAX) for r in recognise)), None)
    known = layout is not None and layout.kind == layouts.PRETRAIN
    yield Check("recognised as of pretraining", float(not known), 0.0)
    entry = next(e for e in ENTRIES if any(k.startswith(f"{e}/") for k in content))
    for name in checkpoint.shapes:
        value = checkpoint.get_tensor(name)
        yield absolute(name, value, content[f"{entry}/{name}"], 0.0)
    if "global_step" in content:
        step = checkpoint.get_tensor("global_step")
        yield absolute("global_step", step, np.asarray(content["global_step"]), 0.0)
    yield from weights_beside(content, "pretrain", checkpoint.shapes, checkpoint.get_tensor)


def weights_beside(
    content: Golden, part: str, shapes: Shapes, tensor: Callable[[str], np.ndarray]
) -> Checks:
    """The weights after the last step of the optimizer's file beside it, where it has those.

    Args:
      content: a checkpoint of a training.
      part: "pretrain" or "finetune".
      shapes: of its weights, by name.
      tensor: gives one of them by name.
    """
    steps = content.path.with_name("optimiser_steps.npz")
    if not steps.exists():
        return
    with np.load(steps) as arrays:
        last = max(int(n.split("/")[1][1:]) for n in arrays if n.startswith(f"{part}/w"))
        first = f"{part}/w{last}/"
        stored = {n.removeprefix(first): arrays[n] for n in arrays if n.startswith(first)}
    if set(stored) != set(shapes):
        return
    for name, value in stored.items():
        yield absolute(f"{name} after step {last}", tensor(name), value, 0.0)


HANDLERS = {
    "param_shapes*.json": shapes_file,
    "checkpoint_pretrain*.msgpack": pretrain_layout,
}
