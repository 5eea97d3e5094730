"""Published checkpoints: names and shapes at full size, and one small file, read and written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tests.golden.av_mae.pretraining import EXACT, near
from tests.golden.checks import Check, Checks, Golden
from tests.golden.eao.models import EMBEDDING, built, configured, inputs_of, weights_of
from vatt import configs, methods
from vatt.methods.eao import published
from vatt.training import transfer
from vatt.training.torch_checkpoints import TorchCheckpoint

SMALL = "tiny_checkpoint.pth"
MAIN = "everything_at_once_tva"
# Presets by the names of the files' entries, and what else their configuration says.
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    MAIN: ("eao", {}),
    "s3d": ("eao_s3d", {}),
    "clip": ("eao_clip", {}),
    "cls_token": ("eao_cls_token", {}),
    "shared_final_proj": ("eao_shared_final_proj", {}),
    "no_transformers": ("eao_no_transformers", {}),
    "per_modality": ("eao_transformer_per_modality", {}),
    "positional": (
        "eao",
        {"use_positional_emb": True, "video_max_tokens": 12, "text_max_tokens": 20}
        | {"audio_max_num_stft_frames": 768},
    ),
    "4blocks_1024": ("eao_4blocks_16heads_1024", {}),
    "2blocks_2048": ("eao_2blocks_32heads_2048", {}),
    "2blocks_4096": ("eao_2blocks_64heads_4096_112_10bs", {}),
    "davenet_v1": ("eao", {"davenet_v2": False}),
    "avlnet_baseline": ("avlnet_baseline", {}),
}
Shapes = Mapping[str, list[int]]


def shapes_file(content: Golden) -> Checks:
    """`state_dict_shapes.json`: names and shapes of the three published kinds of weights."""
    for name, shapes in content.items():
        if isinstance(shapes, Mapping):
            yield from _compared(name, shapes.get("shapes", shapes))


def variants_file(content: Golden) -> Checks:
    """`state_dict_variants.json`: those of other models, and numbers of their parameters."""
    main = json.loads((content.path.parent / "state_dict_shapes.json").read_text())[MAIN]
    main = main.get("shapes", main)
    for name, entry in content.items():
        if isinstance(entry, Mapping):
            kept = {
                key: shape for key, shape in main.items() if key not in entry.get("removed", ())
            }
            shapes = entry["full"] if "full" in entry else {**kept, **entry["set"]}
            yield Check(f"{name} entries", abs(len(shapes) - entry["n_entries"]), 0.0)
            yield from _compared(name, shapes, entry["params"])


def _compared(name: str, shapes: Shapes, parameters: int | None = None) -> Checks:
    preset, changes = PRESETS[name]
    config = configs.resolve(task="pretrain", model_arch=preset).model
    for field, value in changes.items():
        setattr(config, field, value)
    with keras.StatelessScope(initialize_variables=False):  # variables without values
        model = methods.named("eao").model(config, {}, "float32")
    names = published.model_names(model)
    skipped = re.compile("|".join(published.NOT_NEEDED))
    theirs = {key for key in shapes if not skipped.fullmatch(key)}
    differing = sorted(theirs ^ set(names.values()))
    yield Check(f"{name} names, such as {differing[:2]}", float(len(differing)), 0.0)
    for variable in model.variables:
        there = np.broadcast_to(np.uint8(0), shapes[names[variable.path]])
        same = published.from_published(variable.path, there).shape == tuple(variable.shape)
        yield Check(f"{name} {variable.path}", float(not same), 0.0)
    if parameters is not None:
        statistics = ("moving_mean", "moving_variance")
        ours = sum(int(np.prod(v.shape)) for v in model.variables if v.name not in statistics)
        yield Check(f"{name} parameters, {ours:,}", abs(ours - parameters), 0.0)


def small_file(arrays: Golden) -> Checks:
    """`tiny_checkpoint.pth`: read into a model of its own, which computes the same, and written."""
    path = arrays.path.with_name(SMALL)
    if arrays.path.name != "model_main.npz" or not path.exists():  # whose weights these are
        return
    weights = weights_of(arrays)
    blank = {name: np.zeros_like(value) for name, value in weights.items()}
    model = built(configured(weights, json.loads(str(arrays["meta"]))), blank)
    transfer.load(path, model)
    inputs = inputs_of(arrays, "b/in/")
    for name, ours in model.embed(model.towers(inputs)).items():
        yield near(f"{SMALL} {name}", ours, arrays[f"b/out/{name}"], EMBEDDING)
    file, again = TorchCheckpoint(path), published.state_dict(model)
    kept = {key for key in file.shapes if not key.endswith("num_batches_tracked")}
    differing = sorted(kept ^ set(again))
    yield Check(f"{SMALL} names, such as {differing[:2]}", float(len(differing)), 0.0)
    for key in sorted(kept & set(again)):
        yield near(f"{SMALL} {key} again", again[key], file.get_tensor(key), EXACT)


HANDLERS = {
    "state_dict_shapes.json": shapes_file,
    "state_dict_variants.json": variants_file,
    "model_*.npz": small_file,
}
