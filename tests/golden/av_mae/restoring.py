"""From pre-training to fine-tuning: which parameter becomes which, whole models, files of Flax."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tests.golden.av_mae.checkpoints import weights_beside
from tests.golden.checks import Check, Checks, Golden, Note, absolute
from vatt import configs, methods
from vatt.configs.multimodal import MBTBase
from vatt.methods.av_mae import fine_tuned, published
from vatt.methods.av_mae.config import DecoderConfig, ModelConfig
from vatt.methods.av_mae.fine_tuned_layout import FineTuned
from vatt.methods.av_mae.layouts import Pretrained
from vatt.methods.av_mae.published import MODALITIES
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.factory import build_classifier
from vatt.training import sources, towers
from vatt.training.layouts import FINETUNE

Shapes = Mapping[str, Sequence[int]]
OURS = {theirs: ours for ours, theirs in MODALITIES.items()}
SOUND = "embedding_spectrogram/"
# Of the published models what fine-tunes them.
PUBLISHED = {
    "audioset_finetune_L": "configs/finetune/mbt_audioset.yaml",
    "vggsound_finetune_L": "configs/finetune/mbt_vggsound.yaml",
}
CLIP = {"video": (32, 224, 224, 3), "audio": (1000, 128, 1)}


# From pre-training -------------------------------------------------------------------------------


def mapping_file(content: Golden) -> Checks:
    """`restore_mapping*.json`: for every pre-training and fine-tuning, parameter by parameter."""
    layers = _layers(content)
    for case, expected in content.items():
        strategy, _, target = case.partition(" -> ")
        modalities = tuple(OURS[name] for name in target.split("+"))
        known = expected if isinstance(expected, Mapping) else None
        usual = next(iter(layers.values()))
        found = _restored(strategy, modalities, *layers.get(strategy, usual))
        if known is None:
            yield Note(f"{case}: the published code fails, {expected}; here all is restored")
            yield from _complete(case, found)
            continue
        differing = sorted(set(found) ^ set(known))
        yield Check(f"{case} names, such as {min(differing, default='')}", len(differing), 0.0)
        for name in sorted(set(found) & set(known)):
            theirs = known[name]
            if name.startswith(SOUND) and theirs is None:
                yield Note(f"{case}: {name} is restored, which the published code forgets")
                theirs = name
            yield Check(f"{case}: {name} <- {found[name]}", float(found[name] != theirs), 0.0)


def _layers(content: Golden) -> dict[str, tuple[int, int]]:
    """Returns of each strategy the layers of a fine-tuned model, and how many of them are fused."""
    found = {}
    for case, mapping in content.items():
        if not isinstance(mapping, Mapping):
            continue
        strategy = case.partition(" -> ")[0]
        numbers = [int(n) for n in re.findall(r"encoderblock_(\d+)", " ".join(mapping))]
        sources_ = " ".join(filter(None, mapping.values()))
        fused = set(re.findall(r"Transformer_concat/encoderblock_(\d+)/", sources_))
        found[strategy] = (max(numbers) + 1, len(fused))
    return found


def _restored(
    strategy: str, modalities: tuple[str, ...], layers: int, fused: int
) -> dict[str, str | None]:
    """Returns {parameter of a classifier: that of pre-training}, None where it stays as it is."""
    sizes = {"d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 8, "num_layers": layers}
    patches = {"audio_temporal_patch_size": 4, "audio_spectral_patch_size": 4}
    config = ModelConfig(
        **sizes,
        **patches,
        spatial_patch_size=4,
        encoder_strategy=strategy,
        fusion_layers=max(fused, 1),
        decoder_config=DecoderConfig(**sizes | {"num_layers": 1}),
    )
    clip = {"video": (4, 8, 8, 3), "audio": (12, 8, 1)}
    before = methods.named("av_mae").model(config, clip, "float32")
    names = published.model_names(before)
    layout = Pretrained({names[v.path]: tuple(v.shape) for v in before.variables})
    mbt = MBTBase(
        **sizes,
        **patches,
        spatial_patch_size=4,
        modality_fusion=modalities,
        fusion_layer=layers - 1,
    )
    model = _built(mbt, 3, clip)
    keys = towers.keys_of(layout, model.backbone).keys
    return {name: keys.get(path) for path, name in fine_tuned.classifier_names(model).items()}


def _complete(case: str, found: Mapping[str, str | None]) -> Checks:
    """All but what only a classifier has is restored."""
    new = {name for name, key in found.items() if key is None}
    own = {name for name in found if name.startswith((fine_tuned.HEAD, "bottleneck"))}
    yield Check(f"{case}: {sorted(new ^ own)[:3]}", len(new ^ own), 0.0)


def _built(
    config: MBTBase, classes: int, clip: Mapping[str, tuple[int, ...]]
) -> ClassificationModel:
    model = build_classifier(config, num_classes=classes, multi_label=True)
    shapes = {m: (None, *clip[m]) for m in config.modalities}
    model.build(shapes if len(shapes) > 1 else next(iter(shapes.values())))
    return model


# Whole models ------------------------------------------------------------------------------------


def shapes_file(content: Golden) -> Checks:
    """`param_shapes*.json`: names and shapes of classifiers, and their totals."""
    for name, shapes in content.items():
        if not any(key.startswith(fine_tuned.HEAD) for key in shapes):
            continue  # of pre-training
        config = _configured(shapes)
        classes = shapes[fine_tuned.head_name("classification", "bias")][0]
        with keras.StatelessScope(initialize_variables=False):
            model = _built(config, classes, CLIP)
        yield from _compared(name, model, shapes)
        if name in PUBLISHED:
            cfg = configs.resolve(task="finetune", config_file=PUBLISHED[name]).model
            sizes = ("d_model", "num_heads", "d_kv", "d_ff", "num_layers", "num_bottlenecks")
            sizes += ("modality_fusion", "temporal_patch_size", "spatial_patch_size")
            differing = [size for size in sizes if getattr(cfg, size) != getattr(config, size)]
            yield Check(f"{name}: {PUBLISHED[name]} {differing}", len(differing), 0.0)


def _configured(shapes: Shapes) -> MBTBase:
    """Returns the configuration of a classifier by the names and shapes of its parameters."""
    block = "Transformer/encoderblock_0"
    query = shapes[f"{block}/MultiHeadDotProductAttention_0/query/kernel"]
    numbers = [int(n) for n in re.findall(r"Transformer/encoderblock_(\d+)/", " ".join(shapes))]
    kernels = {m: shapes.get(f"{fine_tuned.EMBEDDING[m]}/kernel") for m in MODALITIES}
    patches = {}
    if kernels["video"]:
        names = ("temporal_patch_size", "spatial_patch_size", "spatial_patch_width")
        patches |= dict(zip(names, kernels["video"], strict=False))
    if kernels["audio"]:
        times, bands = kernels["audio"][:2]
        patches |= {"audio_temporal_patch_size": times, "audio_spectral_patch_size": bands}
    modalities = tuple(m for m in MODALITIES if kernels[m])
    token = "cls" in shapes
    layer = shapes.get(fine_tuned.head_name("representation", "bias"))
    return MBTBase(
        d_model=query[0],
        num_heads=query[1],
        d_kv=query[2],
        d_ff=shapes[f"{block}/MlpBlock_0/Dense_0/bias"][0],
        num_layers=max(numbers) + 1,
        fusion_layer=max(numbers),
        modality_fusion=modalities,
        **patches,
        use_bottleneck="bottleneck" in shapes,
        num_bottlenecks=shapes["bottleneck"][1] - token if "bottleneck" in shapes else 1,
        share_encoder=len(modalities) > 1 and not any("_spec/" in key for key in shapes),
        pooling="token" if token else "mean",
        modality_vectors=any(key.startswith("Encoder_modality_token") for key in shapes),
        cls_representation=layer and layer[0],
    )


def _compared(case: str, model: keras.Model, expected: Shapes) -> Checks:
    names = fine_tuned.classifier_names(model)
    ours = {names[v.path]: v for v in model.variables}
    differing = sorted(set(ours) ^ set(expected))
    yield Check(f"{case} names, such as {min(differing, default='')}", len(differing), 0.0)
    for key in set(ours) & set(expected):
        there = np.broadcast_to(np.uint8(0), expected[key])
        same = fine_tuned.from_published(ours[key].path, there).shape == tuple(ours[key].shape)
        yield Check(f"{case} {key} {tuple(ours[key].shape)}", float(not same), 0.0)
    total = sum(math.prod(v.shape) for v in model.variables)
    theirs = sum(map(math.prod, expected.values()))
    yield absolute(f"{case} parameters", total, np.array(theirs), 0.0)


# Files of Flax -----------------------------------------------------------------------------------


def layout_file(content: Golden) -> Checks:
    """`checkpoint_finetune*.msgpack`: recognised, weights and step as they are in the file.

    Names and axes are those of a classifier; its layers lack some of their weights in this file, so
    that no whole model is taken from it.
    """
    source = sources.open_source(content.path)
    known = source.layout.kind == FINETUNE and isinstance(source.layout, FineTuned)
    yield Check("recognised as fine-tuned", float(not known), 0.0)
    if "global_step" in content:
        yield absolute("global_step", source.step, np.asarray(content["global_step"]), 0.0)
    names = _every_name(source.shapes)
    for key in source.shapes:
        yield Check(f"{key}: of a classifier", float(key not in names), 0.0)
        value = source.tensor(key)
        yield absolute(key, value, content[f"{source.facts['entry']}/{key}"], 0.0)
        arranged = source.tensor(key, names.get(key))
        yield absolute(f"{key}, arranged", np.ravel(arranged), np.ravel(value), 0.0)
    yield from weights_beside(content, "finetune", source.shapes, source.tensor)


def _every_name(shapes: Shapes) -> dict[str, str]:
    """Returns {published name: path} of all that a classifier as deep as that may have."""
    numbers = [int(n) for n in re.findall(r"encoderblock_(\d+)", " ".join(shapes))]
    found: dict[str, str] = {}
    for pooling in ("token", "mean"):
        config = MBTBase(
            d_model=4,
            num_heads=1,
            d_kv=4,
            d_ff=4,
            num_layers=max(numbers) + 1,
            fusion_layer=0,
            pooling=pooling,
            modality_vectors=True,
            cls_representation=4,
        )
        clip = {"video": (2, 16, 16, 3), "audio": (16, 16, 1)}
        model = _built(config, 3, clip)
        found |= {name: path for path, name in fine_tuned.classifier_names(model).items()}
    return found


HANDLERS = {
    "restore_mapping*.json": mapping_file,
    "param_shapes*.json": shapes_file,
    "checkpoint_finetune*.msgpack": layout_file,
}
