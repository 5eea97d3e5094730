"""Golden checkpoints: published containers of PyTorch, and what must come out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.checks import Arrays, Check, Checks, Golden, absolute
from tests.golden.gdt import procedural
from vatt import methods
from vatt.configs.model import ProjectionConfig
from vatt.methods.gdt.config import SoundModel
from vatt.training import transfer
from vatt.training.torch_checkpoints import TorchCheckpoint

SUM = 1e-9  # relative, in float64
OUTPUTS = 1e-4  # absolute


def containers(arrays: Golden) -> Checks:
    """`checkpoints/expected.npz`: every file of the folder that it names."""
    meta = json.loads(str(arrays["meta"]))
    for name in meta["files"]:
        checkpoint = TorchCheckpoint(arrays.path.parent / name)
        yield from _tensors(name, checkpoint, meta["tensors"])
        yield absolute(f"{name} epoch", checkpoint.beside["epoch"], np.array(meta["epoch"]), 0.0)
        yield from _outputs(checkpoint.path, meta, arrays)


def _tensors(name: str, checkpoint: TorchCheckpoint, expected: Mapping[str, Any]) -> Checks:
    """Compares names, shapes, types and sums of all tensors of a file."""
    differing = set(checkpoint.shapes) ^ set(expected)
    yield Check(f"{name} names, such as {min(differing, default='')}", len(differing), 0.0)
    for key, (shape, dtype, *sums) in expected.items():
        value = checkpoint.get_tensor(key)
        same = (list(value.shape), str(value.dtype)) == (shape, dtype)
        yield Check(f"{name} {key} {value.dtype} {value.shape}", float(not same), 0.0)
        numbers = value.astype(np.float64)
        for ours, theirs in zip((numbers.sum(), np.abs(numbers).sum()), sums, strict=True):
            yield absolute(f"{name} {key}", ours, np.array(theirs), SUM * max(sums[1], 1.0))


def _outputs(path: Path, meta: Mapping[str, Any], arrays: Arrays) -> Checks:
    """Compares what a model computes with the weights of a file."""
    video, sound = (
        procedural.sample(meta["salt"], f"input/{name}", shape)
        for name, shape in (("video", (2, 3, 8, 32, 32)), ("spec", (2, 1, 40, 99)))
    )
    inputs = {"video": video.transpose(0, 2, 3, 4, 1), "audio": sound.transpose(0, 3, 2, 1)}
    config = SoundModel(
        video_model_kwargs={"widths": meta["widths"], "stem_channels": meta["stem_mid"]},
        audio_model_kwargs={"widths": meta["widths"]},
        head_config=ProjectionConfig(d_model=meta["embedding"], d_hidden=meta["hidden"]),
    )
    shapes = {modality: x.shape[1:] for modality, x in inputs.items()}
    model = methods.named("gdt").model(config, shapes, "float32")
    transfer.load(path, model)
    features = model.towers(inputs)
    for modality, embedding in model.embed(features).items():
        for kind, ours in (
            (f"{modality}_features", features[modality]["features_pooled"]),
            (f"nce_{modality}", embedding),
        ):
            yield absolute(f"{path.name} {kind}", ours, arrays[kind], OUTPUTS)


HANDLERS: dict[str, Callable[[Golden], Checks]] = {"checkpoints/expected.npz": containers}
