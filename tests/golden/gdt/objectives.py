"""Golden files of the objectives of GDT and STiCA, and of the places of STiCA's crops."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.checks import Arrays, Check, Checks, absolute
from tests.golden.replicas import simulate
from vatt.methods.gdt import hypotheses
from vatt.methods.gdt.objective import HypothesisLoss
from vatt.methods.stica import crops
from vatt.methods.stica.config import SPACE, TIME, Crops
from vatt.methods.stica.objective import LABELS, CropEmbeddings, CropLoss, Embeddings
from vatt.objectives.replica import Replica

TOLERANCE = 1e-5  # absolute, of losses and gradients
# Our names of the sets of clips by the published ones.
SETS = dict(zip(("", "R", "2", "2R"), hypotheses.SETS, strict=True))
MODALITIES = {"v": "video", "a": "audio"}

# GDT ---------------------------------------------------------------------------------------------


def gdt_losses(arrays: Arrays) -> Checks:
    """`gdt_losses_world*.npz`: all hypotheses on several replicas, with gradients."""
    meta = json.loads(str(arrays["meta"]))
    world = range(meta["world_size"])
    inputs = [
        {
            short + kind: tf.constant(arrays[f"in/rank{rank}/{short}{kind}"])
            for short in MODALITIES
            for kind in meta["kinds"]
        }
        for rank in world
    ]
    cases = sorted({name.split("/")[0] for name in arrays if name.startswith("h")})
    for case in cases:
        hypothesis = hypotheses.of(case.removeprefix("h"))
        for mode in ("distinct", "published"):
            loss = HypothesisLoss(hypothesis, meta["nce_t"], repeated=mode == "published")
            yield from _gdt_case(arrays, f"{case}/{mode}", loss, inputs, hypothesis.sets)


def _gdt_case(
    arrays: Arrays,
    prefix: str,
    loss: HypothesisLoss,
    inputs: list[dict[str, tf.Tensor]],
    sets: tuple[str, ...],
) -> Checks:
    def one(rank: int, replica: Replica) -> dict[str, Any]:
        outputs = {
            long: {SETS[k]: inputs[rank][short + k] for k in SETS if SETS[k] in sets}
            for short, long in MODALITIES.items()
        }
        with tf.GradientTape() as tape:
            tape.watch(inputs[rank])
            losses = loss(outputs, {}, replica)
        return {
            "losses": losses,
            "gradients": tape.gradient(losses["total_loss"], inputs[rank]),
        }

    for rank, found in enumerate(simulate(one, len(inputs))):
        at, losses = f"{prefix}/rank{rank}", found["losses"]
        yield absolute(f"{at}/loss", losses["total_loss"], arrays[f"{at}/loss"], TOLERANCE)
        terms = [losses[name] for name in loss.names[:-1]]
        yield absolute(f"{at}/term_losses", terms, arrays[f"{at}/term_losses"], TOLERANCE)
        if any(name.startswith(f"{at}/grad/") for name in arrays):
            yield from _gradients(arrays, f"{at}/grad", found["gradients"])


def _gradients(arrays: Arrays, prefix: str, gradients: Mapping[str, Any]) -> Checks:
    """Compares gradients by name; one that is not stored is zero."""
    for name, gradient in gradients.items():
        ours = np.zeros(()) if gradient is None else np.asarray(gradient)
        reference = arrays.get(f"{prefix}/{name}", np.zeros_like(ours))
        yield absolute(
            f"{prefix}/{name}", np.broadcast_to(ours, reference.shape), reference, TOLERANCE
        )


# STiCA -------------------------------------------------------------------------------------------


def stica_losses(arrays: Arrays) -> Checks:
    """`stica_losses.npz`: crops and sounds on two replicas, with gradients."""
    meta = json.loads(str(arrays["meta"]))
    for case, numbers in meta["configs"].items():
        cut = {
            SPACE: Crops(SPACE, numbers["num_large"], numbers["num_small"]),
            TIME: Crops(TIME, numbers["num_large_t"], numbers["num_small_t"]),
        }
        loss = CropLoss(cut, meta["within_modal_temp"], meta["cross_modal_alpha"])
        yield from _stica_case(arrays, case, loss, meta["world_size"])


def _stica_case(arrays: Arrays, case: str, loss: CropLoss, world: int) -> Checks:
    inputs = []
    for rank in range(world):
        start = f"{case}/in/rank{rank}/"
        names = [name.removeprefix(start) for name in arrays if name.startswith(start)]
        inputs.append({name: tf.constant(arrays[start + name]) for name in names})

    def one(rank: int, replica: Replica) -> tuple[dict[str, Any], Mapping[str, Any]]:
        with tf.GradientTape() as tape:
            tape.watch(inputs[rank])
            losses = loss(_embeddings(inputs[rank], loss.crops), {}, replica)
        return losses, tape.gradient(losses["total_loss"], inputs[rank])

    losses, gradients = simulate(one, world)[0]
    names = [f"crop_loss/{label}_loss" for labels in LABELS.values() for label in labels]
    for name, total, count in zip(
        names, arrays[f"{case}/crop_loss_sums"], arrays[f"{case}/crop_counts"], strict=True
    ):
        if count:
            yield absolute(f"{case}/{name}", losses[name], total / count, TOLERANCE)
        else:
            yield Check(f"{case}/{name}", np.inf if name in losses else 0.0, TOLERANCE)
    for ours, published in (("crop_loss", "loss_crops"), ("av_loss", "loss_av")):
        yield absolute(
            f"{case}/{published}", losses[ours], arrays[f"{case}/{published}"], TOLERANCE
        )
    yield absolute(f"{case}/loss", losses["total_loss"], arrays[f"{case}/loss"], TOLERANCE)
    yield from _gradients(arrays, f"{case}/grad", gradients)


def _embeddings(given: Mapping[str, tf.Tensor], cut: Mapping[str, Crops]) -> Embeddings:
    """Returns what is compared of the embeddings of one replica, `view{1,2}/{v,a,sl0,...}`."""
    found = {}
    for kind, letter in ((SPACE, "s"), (TIME, "t")):
        large, small = cut[kind].large, cut[kind].small
        found[kind] = CropEmbeddings(
            [given[f"view1/{letter}l{i}"] for i in range(large)],
            given[f"view2/{letter}l1"] if large > 1 else None,
            [given[f"view2/{letter}s{j}"] for j in range(small)],
        )
    video, audio = ([given[f"view{view}/{short}"] for view in (1, 2)] for short in MODALITIES)
    return Embeddings(video, audio, found)


def feature_crops(arrays: Arrays) -> Checks:
    """Part of `schedules_crops.npz`: boxes, drawn with NumPy's generator as they were."""
    for case in json.loads(str(arrays["meta"]))["feature_crops"]:
        draw = functools.partial(np.random.RandomState(case["numpy_seed"]).randint, 0)
        kinds = (
            (Crops(SPACE, case["s_large"], case["s_small"], True), (7, 7)),
            (Crops(TIME, case["t_large"], case["t_small"], True), (case["duration"],)),
        )
        for (kind, sides), published in zip(kinds, case["boxes"], strict=True):
            starts = crops.draw_starts(kind, sides, draw)
            ours = [
                [_box(kind, sides, start, small) for start in some]
                for small, some in ((False, starts.large), (True, starts.small))
            ]
            name = f"feature_crops/{case['numpy_seed']}/{kind.kind}"
            yield Check(name, 0.0 if ours == published else np.inf, 0.0)


def _box(kind: Crops, sides: tuple[int, ...], start: crops.Start, small: bool) -> list[int]:
    """Returns first and end along each axis."""
    pairs = zip(sides, start, strict=True)
    return [place for side, first in pairs for place in (first, first + kind.size(side, small))]


HANDLERS = {
    "gdt_losses_world*.npz": gdt_losses,
    "stica_losses.npz": stica_losses,
}
