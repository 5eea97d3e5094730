"""Golden files of fine-tuning losses and of metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.checks import (
    FEATURES,
    GRADIENT,
    LOSS,
    Arrays,
    Check,
    Checks,
    Note,
    absolute,
    relative,
)
from vatt.evaluation import metrics
from vatt.evaluation.measures import published_names
from vatt.evaluation.retrieval import Retrieval
from vatt.methods.vatt.model import PAIRS
from vatt.modeling import classifier
from vatt.objectives import classification

METRIC = 1e-9  # float64 in both, absolute
LOSSES = {"audio": classification.sigmoid_loss, "video": classification.softmax_loss}
LOSS_INPUTS, LOSS_OUTPUTS = ("logits", "labels"), ("out:loss", "grad:logits")
INITIAL_BIAS = "initial_cls_bias_"  # then modality and number of classes


def classification_losses_file(arrays: Arrays) -> Checks:
    """`classification_losses.npz`: both fine-tuning losses with gradients, and the first bias."""
    for name in (n for n in arrays if n.startswith(INITIAL_BIAS)):
        modality, classes = name.removeprefix(INITIAL_BIAS).split("_")
        ours = classifier.initial_bias(int(classes), multi_label=modality == "audio")
        yield relative(name, ours, arrays[name], LOSS)
    for case in arrays["case_names"]:
        loss = LOSSES[str(case).partition("_")[0]]
        logits, labels = (tf.convert_to_tensor(arrays[f"{case}/in:{x}"]) for x in LOSS_INPUTS)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(logits, labels)
        gradient = np.asarray(tape.gradient(value, logits))
        total, slope = arrays[f"{case}/out:loss"], arrays[f"{case}/grad:logits"]
        empty = np.asarray(labels).sum(axis=1) == 0
        if loss is classification.sigmoid_loss and empty.any():
            yield _finite_here_only(f"{case}/out:loss", value, total)
            yield _finite_here_only(f"{case}/grad:logits, empty", gradient[empty], slope[empty])
            yield Note(f"{case}: rows without labels are NaN as published and contribute 0 here")
            gradient, slope = gradient[~empty], slope[~empty]
        else:
            yield relative(f"{case}/out:loss", value, total, LOSS)
        yield relative(f"{case}/grad:logits", gradient, slope, GRADIENT)
    compared = {f"{case}/{x}" for case in arrays["case_names"] for x in LOSS_OUTPUTS}
    for name in (n for n in arrays if "/out:" in n or "/grad:" in n):
        if name not in compared:
            yield _not_recomputed(name)


def _finite_here_only(name: str, ours: Any, reference: np.ndarray) -> Check:
    """Passes if all numbers of ours are finite and all of the reference NaN."""
    passed = np.isfinite(ours).all() and np.isnan(reference).all()
    return Check(f"{name} finite", 0.0 if passed else np.inf, 0.0)


def _not_recomputed(name: str) -> Check:
    return Check(f"{name}: nothing recomputes it", np.inf, 0.0)


def metrics_file(arrays: Arrays) -> Checks:
    """`metrics.npz`: ranking, accuracy, retrieval, similarities, the evaluator end to end."""
    for case in dict.fromkeys(n.partition("/")[0] for n in arrays if "/out:" in n):
        prefix = f"{case}/"
        inside = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
        recompute = next((f for start, f in METRICS.items() if case.startswith(start)), None)
        ours = recompute(inside) if recompute else {}
        left_out = ours.get("out:sklearn_classes_left_out", 0)
        for name in (n for n in inside if n.startswith("out:")):
            if name not in ours:
                yield _not_recomputed(f"{prefix}{name}")
            elif left_out and np.isnan(inside[name]):
                yield _finite_here_only(f"{prefix}{name}", ours[name], inside[name])
                yield Note(f"{prefix}{name}: {left_out:.0f} classes that cannot be ranked left out")
            else:
                yield _compare(f"{prefix}{name}", ours[name], inside[name])


def _compare(name: str, ours: Any, reference: np.ndarray) -> Check:
    """Compares similarities, float32, or one metric, float64, which may be infinite."""
    if reference.ndim:
        return absolute(name, ours, reference, FEATURES)
    if np.isinf(reference):
        return Check(name, 0.0 if ours == reference else np.inf, METRIC)
    return absolute(name, ours, reference, METRIC)


def _ranking(arrays: Arrays) -> dict[str, Any]:
    ours = metrics.multilabel_metrics(arrays["in:pred"], arrays["in:gt"])
    return {f"out:sklearn_{name}": value for name, value in ours.items()}


def _accuracy(arrays: Arrays) -> dict[str, Any]:
    return {
        name: metrics.top_k_accuracy(arrays["in:pred"], arrays["in:gt"], int(k))
        for name, k in _split(arrays, "_top")
    }


def _retrieval(arrays: Arrays) -> dict[str, Any]:
    ours = metrics.retrieval_metrics(arrays["in:similarity"])
    return {name: ours[metric] for name, metric in _split(arrays, "_")}


def _split(arrays: Arrays, separator: str) -> Iterable[tuple[str, str]]:
    """Yields outputs and what follows the last `separator` in their names."""
    return ((n, n.rpartition(separator)[2]) for n in arrays if n.startswith("out:"))


# output -> which input, and the variant of `metrics.similarity` for it
SIMILARITIES = {
    "single": ("in:video_1", "embd"),
    "single_avgsim_flags": ("in:video_1", "cosine"),
    "avg_emb": ("in:video_W", "embd"),
    "avg_sim": ("in:video_W", "cosine"),
}


def _similarity(arrays: Arrays) -> dict[str, Any]:
    queries, ours = arrays["in:embd"], {}
    for name, (source, variant) in SIMILARITIES.items():
        windows = int(arrays["n_windows"]) if source == "in:video_W" else 1
        for normalized in (0, 1):
            ours[f"out:{name}_norm{normalized}"] = metrics.similarity(
                queries,
                _windowed(arrays[source], windows),
                variant,
                normalized=bool(normalized),
                published_single_window=True,
            )
    return ours


EMBEDDINGS = {
    "video_totxt": "in:test_vid2txt_embd",
    "video_toaud": "in:test_vid2aud_embd",
    "audio_tovid": "in:test_aud2vid_embd",
    "text_tovid": "in:test_txt2vid_embd",
}


def _evaluator(arrays: Arrays) -> dict[str, Any]:
    windows = int(arrays["n_windows"])
    outputs = {ours: arrays[name] for ours, name in EMBEDDINGS.items() if name in arrays}
    clips = next(len(x) for name, x in outputs.items() if name.startswith("video")) // windows
    for name in outputs.keys() - {"text_tovid"}:
        outputs[name] = _windowed(outputs[name], len(outputs[name]) // clips)
    pairs = [pair for pair in PAIRS if {pair.left, pair.right} <= outputs.keys()]
    evaluator = Retrieval("golden", pairs, published_single_window=True)
    evaluator.add({"valid": np.ones(clips)}, outputs)
    ours = published_names(evaluator.result().measures)
    return {name.replace("golden_", "out:", 1): value for name, value in ours.items()}


def _windowed(embeddings: np.ndarray, windows: int) -> np.ndarray:
    """Returns `[clips, windows, d]`: windows of a clip are neighbouring rows."""
    return embeddings.reshape(-1, windows, embeddings.shape[-1])


METRICS = {
    "ml": _ranking,
    "acc_": _accuracy,
    "ret_": _retrieval,
    "sim": _similarity,
    "modality_similarity": _evaluator,
}
