"""Golden files of whole models at full size, whose weights are drawn and not stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.checks import Arrays, Checks, Golden, absolute
from tests.golden.gdt import procedural
from vatt.configs.model import ProjectionConfig
from vatt.methods.gdt import published
from vatt.methods.gdt.config import CaptionModel, SoundModel
from vatt.methods.gdt.model import TransformedClips
from vatt.methods.stica import crops
from vatt.methods.stica.config import SPACE, TIME, ModelConfig
from vatt.methods.stica.model import CroppedViews
from vatt.modeling.pretraining import PretrainingModel

OUTPUTS = 1e-4  # absolute
Shapes = Mapping[str, Sequence[int]]


def procedural_file(arrays: Golden) -> Checks:
    """`full_size_procedural.npz`: GDT; STiCA without and with pooling layers."""
    salt = json.loads(str(arrays["meta"]))["salt"]
    every = json.loads((arrays.path.parent / "state_dict_shapes.json").read_text())
    inputs = _inputs(salt, {"video": (2, 3, 16, 64, 64), "spec": (2, 1, 40, 99)})
    yield from _gdt(arrays, "gdt", SoundModel(), salt, every["av_gdt"], inputs)
    inputs = _inputs(salt, {"stica_video": (2, 3, 30, 112, 112), "stica_spec": (2, 1, 257, 99)})
    for layers in (0, 2):
        case, config = f"stica_layers{layers}", ModelConfig(num_layer=layers)
        boxes = json.loads(str(arrays[f"{case}/crop_params"]))
        yield from _stica(arrays, case, config, salt, every[case], inputs, boxes)


def variants_file(arrays: Golden) -> Checks:
    """`full_size_variants.npz`: captions; deeper backbones; longer clips."""
    meta = json.loads(str(arrays["meta"]))
    salt, every = meta["salt"], meta["shapes"]
    inputs = _inputs(salt, {"video": (2, 3, 16, 64, 64), "spec": (2, 1, 40, 99)})
    deep = SoundModel(
        video_backbone="r2plus1d_34",
        audio_backbone="resnet18",
        head_config=ProjectionConfig(use_mlp=False),
    )
    yield from _gdt(arrays, "gdt34", deep, salt, every["av_gdt_34_resnet18_linear"], inputs)
    words = {"video": inputs["video"], "text": tf.constant(arrays["vid_text/ids"], tf.int32)}
    captions = CaptionModel(text_model_kwargs={"vocab_size": meta["vocab_rows"]})
    yield from _gdt(arrays, "vid_text", captions, salt, every["vid_text_gdt"], words)
    inputs = _inputs(
        salt, {"stica60_video": (2, 3, 60, 112, 112), "stica60_spec": (2, 1, 257, 199)}
    )
    longer = ModelConfig(positional_emb=True, qkv_mha=True, transformer_time_dim=8)
    shapes = every["stica_2s_layers2_pos_qkv"]
    yield from _stica(arrays, "stica60", longer, salt, shapes, inputs, meta["crop_params"])


def _inputs(salt: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Returns inputs in our layout, by modality: channels last, sound by time, then band."""
    found = {}
    for name, shape in shapes.items():
        x = procedural.sample(salt, f"input/{name}", shape)
        if len(shape) == 5:
            found["video"] = x.transpose(0, 2, 3, 4, 1)
        else:
            found["audio"] = x.transpose(0, 3, 2, 1)
    return found


def _fill(
    model: PretrainingModel, inputs: Mapping[str, Any], salt: str, shapes: Shapes
) -> PretrainingModel:
    model.build({modality: tuple(x.shape[1:]) for modality, x in inputs.items()})
    procedural.fill(
        model.variables,
        published.model_names(model),
        lambda name: procedural.value(salt, name, shapes[name]),
        list(shapes),
    )
    return model


def _gdt(
    arrays: Arrays,
    case: str,
    config: SoundModel | CaptionModel,
    salt: str,
    shapes: Shapes,
    inputs: Mapping[str, Any],
) -> Checks:
    model = _fill(TransformedClips(config), inputs, salt, shapes)
    features = model.towers(inputs)
    embeddings = model.embed(features)
    for modality in inputs:
        pooled = features[modality]["features_pooled"]
        for name, ours in (
            (f"{modality}_features", pooled),
            (f"nce_{modality}", embeddings[modality]),
        ):
            if f"{case}/{name}" in arrays:
                yield absolute(f"{case}/{name}", ours, arrays[f"{case}/{name}"], OUTPUTS)
    if (name := f"{case}/nce_text_reversed_ids") in arrays:
        backwards = model.embed(model.towers({"text": inputs["text"][:, ::-1]}))["text"]
        yield absolute(name, backwards, arrays[name], OUTPUTS)


def _stica(
    arrays: Arrays,
    case: str,
    config: ModelConfig,
    salt: str,
    shapes: Shapes,
    inputs: Mapping[str, Any],
    boxes: Sequence[Any],
) -> Checks:
    model = _fill(CroppedViews(config), inputs, salt, shapes)
    features = model.towers(inputs)
    for modality, ours in model.embed(features).items():
        yield absolute(f"{case}/nce_{modality}", ours, arrays[f"{case}/nce_{modality}"], OUTPUTS)
    found = features["video"]["features"]
    if (name := f"{case}/feature_map") in arrays:
        yield absolute(name, tf.transpose(found, (0, 4, 1, 2, 3)), arrays[name], OUTPUTS)
    for kind, (large, small) in zip((SPACE, TIME), boxes, strict=True):
        for size, some in (("large", large), ("small", small * len(large))):
            pieces = [_cut(found, config, kind, box, size == "small") for box in some]
            ours = [model.video_head(model.pooling(piece)) for piece in pieces]
            name = f"{case}/{kind}_{size}"
            yield absolute(name, np.stack(ours), arrays[name], OUTPUTS)


def _cut(
    x: tf.Tensor, config: ModelConfig, kind: str, box: Sequence[int], small: bool
) -> tf.Tensor:
    """Cuts a map to a box, first and end along each axis.

    Raises:
        ValueError: crops of that size are not ours.
    """
    cut = config.crops()[kind]
    sides = [end - first for first, end in zip(box[::2], box[1::2], strict=True)]
    if sides != [cut.size(x.shape[axis], small) for axis in cut.axes]:
        raise ValueError(f"{box} is no {'small' if small else 'large'} crop in {kind}")
    return crops.cut(x, cut, tuple(box[::2]), small)


HANDLERS = {
    "full_size_procedural.npz": procedural_file,
    "full_size_variants.npz": variants_file,
}
