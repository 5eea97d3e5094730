"""The combinatorial loss and its gradients: `combinatorial_loss.npz`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tests.golden.av_mae.pretraining import near
from tests.golden.checks import Check, Checks, Golden
from tests.golden.replicas import simulate
from vatt.methods.eao.config import BASELINE, COMPARED, MODALITIES, TV_ONLY, LossConfig, ModelConfig
from vatt.methods.eao.objective import MARGIN, CombinatorialLoss
from vatt.methods.eao.parts import unit
from vatt.objectives.replica import ALONE

LOSS = (1e-6, 1e-5)
GRADIENT = (1e-6, 1e-3)


def loss_file(arrays: Golden) -> Checks:
    """Losses of every set of weights, with and without empty inputs, on one replica and several."""
    meta = json.loads(str(arrays["meta"]))
    for masks in sorted({name.split("/")[0] for name in arrays if "/nonempty_" in name}):
        for weights, values in meta["weights"].items():
            for kind in ("NormSoftmax", "MMS"):
                if (case := f"{masks}/{weights}/{kind}") + "/loss" in arrays:
                    yield from _case(arrays, case, masks, values, kind, meta["temperature"])
    yield from _matrix(arrays, meta)


def objective(weights: Mapping[str, float], kind: str, temperature: float) -> CombinatorialLoss:
    """Returns the loss of these weights, of a model that has the embeddings they need."""
    pairs = any(weights.get(f"{name}_weight") for name in COMPARED if "_" in name)
    alone = not any(weights.get(f"{name}_weight") for name in ("ta", "va"))
    return CombinatorialLoss(
        ModelConfig(
            type=TV_ONLY if alone else ModelConfig().type if pairs else BASELINE,
            loss_config=LossConfig(
                contrastive_loss=kind,
                temperature=temperature,
                **{name: float(weight) for name, weight in weights.items()},
            ),
        )
    )


def _case(
    arrays: Golden,
    case: str,
    masks: str,
    weights: Mapping[str, float],
    kind: str,
    temperature: float,
) -> Checks:
    loss = objective(weights, kind, temperature)
    given = {n[3:]: tf.Variable(x) for n, x in arrays.items() if n.startswith("in/")}
    present = {
        f"{m}_nonempty_input_mask": tf.cast(arrays[f"{masks}/nonempty_{m}"], tf.float32)
        for m in MODALITIES
    }
    with tf.GradientTape() as tape:
        found = loss({**given, **present})
    gradients = tape.gradient(found["total_loss"], given)
    yield near(f"{case}/loss", found["total_loss"], arrays[f"{case}/loss"], LOSS)
    terms = {n.rpartition("/")[2] for n in arrays if n.startswith(f"{case}/term/")}
    for term in sorted(terms - {"Retrieval"}):
        ours = found.get(f"combinatorial/{term}_loss", np.nan)
        yield near(f"{case}/term/{term}", ours, arrays[f"{case}/term/{term}"], LOSS)
    extra = {n for n in found if n.startswith("combinatorial/")}
    extra -= {f"combinatorial/{term}_loss" for term in terms}
    yield Check(f"{case} terms too many", float(len(extra)), 0.0)
    stored = any(name.startswith(f"{case}/grad/") for name in arrays)
    for name, gradient in gradients.items() if stored else ():
        if (key := f"{case}/grad/{name}") in arrays:
            yield near(key, tf.convert_to_tensor(gradient), arrays[key], GRADIENT)
        else:
            yield Check(f"{key}, of what is not used", float(gradient is not None), 0.0)
    rows = next(iter(given.values())).shape[0]
    if rows > 1:  # uneven parts are none of ours: all but the last row that two share
        yield from _replicas(case, loss, {**given, **present}, rows - rows % 2)


def _replicas(
    case: str, loss: CombinatorialLoss, outputs: Mapping[str, tf.Tensor], rows: int
) -> Checks:
    """On two replicas the mean is the loss of all rows."""
    whole = loss({name: tf.convert_to_tensor(x)[:rows] for name, x in outputs.items()}, {}, ALONE)
    half = rows // 2
    parts = simulate(
        lambda index, replica: loss(
            {n: tf.convert_to_tensor(x)[index * half :][:half] for n, x in outputs.items()},
            {},
            replica,
        )["total_loss"],
        2,
    )
    ours = tf.reduce_mean(parts)
    yield near(f"{case}/loss of two replicas", ours, np.asarray(whole["total_loss"]), LOSS)


def _matrix(arrays: Golden, meta: Mapping[str, float]) -> Checks:
    """Losses of a matrix of similarities; cosines and what has length 1."""
    scores, count = tf.Variable(arrays["sim/in"]), len(arrays["sim/in"])
    ones, rows = tf.ones(count), tf.eye(count)

    def value(kind: str, temperature: float) -> tuple[tf.Tensor, tf.Tensor]:
        loss = objective({"tv_weight": 1.0}, kind, temperature)
        with tf.GradientTape() as tape:
            forward = loss.direction(tf.identity(scores), rows, ones, ones, ALONE)
            backward = loss.direction(tf.transpose(scores), rows, ones, ones, ALONE)
            total = (forward + backward) / count
        return total, tape.gradient(total, scores)

    start = "sim/normsoftmax_tau"
    temperatures = [
        n.removeprefix(start) for n in arrays if n.startswith(start) and not n.endswith("_grad")
    ]
    cases: dict[str, Callable[[], tuple[tf.Tensor, tf.Tensor]]] = {
        f"{start}{t}": (lambda t=t: value("NormSoftmax", float(t))) for t in temperatures
    }
    if meta["mms_margin"] == MARGIN:
        cases["sim/mms"] = lambda: value("MMS", 0.05)
    for name, run in cases.items():
        total, gradient = run()
        yield near(name, total, arrays[name], LOSS)
        yield near(f"{name}_grad", gradient, arrays[f"{name}_grad"], GRADIENT)
    text, video = (unit(tf.constant(arrays[f"in/{m}_embed"])) for m in ("text", "video"))
    yield near("sim/normalized_text", text, arrays["sim/normalized_text"], GRADIENT)
    ours = tf.matmul(text, video, transpose_b=True)
    yield near("sim/cosine_text_video", ours, arrays["sim/cosine_text_video"], GRADIENT)


HANDLERS = {"combinatorial_loss.npz": loss_file}
