"""Report sections made of training metrics: losses, learning rate, norms, throughput."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from vatt.pages import Markup
from vatt.reporting.history import History
from vatt.reporting.plots import COLORS, Series, line_chart, number, percent, short_percent

TOTAL, LOSS = "total_loss", "_loss"
TRAINING_SHARES = {
    "top_1_accuracy": "top-1",
    "top_5_accuracy": "top-5",
    "mAP": "mAP",
    "AUC": "AUC",
}
ENTROPIES = ("categorical_cross_entropy", "binary_cross_entropy")
GRADIENT_NORM = "gradient_norm"


def loss_charts(history: History) -> list[Markup]:
    """All losses that were logged, and how well a classifier does on what it is trained on.

    A loss is what is called `..._loss`; those with the same name before the last "/" share a chart.
    One that is 0 throughout or equals the total is named but not drawn.
    """
    names = history.names("train")
    losses = [name for name in names if name.endswith(LOSS) and name != TOTAL]
    total = history.series("train", TOTAL)
    same = [
        name for name in losses if all(map(np.array_equal, history.series("train", name), total))
    ]
    groups: dict[str, list[str]] = {"": [TOTAL]}
    for name in losses:
        if name not in same:
            groups.setdefault(name.rpartition("/")[0], []).append(name)
    unit = "nats" if {*TRAINING_SHARES, *ENTROPIES} & set(names) else ""
    notes = {"": [unit, f"the same, not drawn: {', '.join(same)}" if same else ""]}
    charts = []
    for group, members in groups.items():
        charts += _losses(history, group, members, notes.get(group, [group]))
    return charts + _accuracy_charts(history)


def _losses(history: History, group: str, names: list[str], notes: list[str]) -> list[Markup]:
    """Charts of the losses of a group, as many as its curves need colours."""
    zero = [name for name in names if not history.series("train", name)[1].any()]
    drawn = [name for name in names if name not in zero]
    if not drawn:
        drawn, zero = names, []
    if zero:
        notes = [*notes, f"0 throughout, not drawn: {', '.join(map(_label, zero))}"]
    note, charts = "; ".join(filter(None, notes)), []
    size = math.ceil(len(drawn) / math.ceil(len(drawn) / COLORS))
    for start in range(0, len(drawn), size):
        labels = {name: _label(name) for name in drawn[start : start + size]}
        title = "Losses" if group else "Loss"
        if len(labels) == 1:  # a single curve has no legend
            title = "Total loss" if TOTAL in labels else f"Loss: {labels[drawn[start]]}"
        charts.append(line_chart(_several(history, labels), title, note=note))
    return charts


def _label(loss: str) -> str:
    return loss.rpartition("/")[2].removesuffix(LOSS).replace("_", " ")


def _accuracy_charts(history: History) -> list[Markup]:
    """What a classifier makes of the augmented clips that it is trained on."""
    charts = []
    if shares := _several(history, TRAINING_SHARES):
        charts.append(
            line_chart(
                shares,
                "Accuracy in training" if "AUC" not in history.names("train") else "mAP and AUC",
                lower=0.0,
                upper=1.0,
                form=short_percent,
                note="augmented clips, with dropout",
            )
        )
    for metric in ENTROPIES:
        if series := _one(history, metric, "cross-entropy"):
            charts.append(line_chart(series, "Cross-entropy in training", note="nats"))
    return charts


def optimization_charts(history: History) -> list[Markup]:
    """Learning rate and the three norms that show a run going astray."""
    charts = [
        line_chart(_one(history, "learning_rate", "learning rate"), "Learning rate", lower=0.0)
    ]
    groups = {
        name: name.removeprefix(f"{GRADIENT_NORM}/")
        for name in history.names("train")
        if name.startswith(f"{GRADIENT_NORM}/")
    }
    gradients = {GRADIENT_NORM: "all"} | (groups if len(groups) > 1 else {})
    for labels, title in (
        (gradients, "Gradient norm"),
        ({"parameter_norm": "parameter norm"}, "Parameter norm"),
        ({"update_norm": "update norm"}, "Update norm"),
    ):
        series = _several(history, labels)
        log = any(_spread(s.values) > 20 for s in series)
        note = "logarithmic" if log else ""
        charts.append(line_chart(series, title, log=log, note=note))
    return charts


def throughput_charts(history: History) -> list[Markup]:
    """Clips per second, share of time waiting for data, model FLOP/s."""
    flops = _one(history, "model_flops_per_second", "model FLOP/s")
    scale, unit = _flops_unit(_peak(flops))
    flops = [dataclasses.replace(s, values=s.values / scale) for s in flops]
    return [
        line_chart(
            _one(history, "clips_per_second", "clips/s"), "Throughput", lower=0.0, note="clips/s"
        ),
        line_chart(
            _one(history, "data_wait_share", "waiting"),
            "Waiting for data",
            lower=0.0,
            upper=0.1,
            form=short_percent,
            note="share of time",
        ),
        line_chart(flops, "Model operations", lower=0.0, note=unit),
    ]


def throughput_summary(history: History) -> str:
    """One sentence of medians, which the slow first steps (compilation) do not move."""
    parts = []
    for metric, text in (
        ("clips_per_second", lambda v: f"{number(v)} clips/s"),
        ("model_flops_per_second", lambda v: f"{flops_text(v)} in the model"),
        ("model_flops_utilization", lambda v: f"{percent(v)} of the peak of matrix products (MFU)"),
        ("data_wait_share", lambda v: f"{percent(v)} of the time waiting for data"),
    ):
        if (middle := median(history, metric)) is not None:
            parts.append(text(middle))
    return f"Median over the run: {', '.join(parts)}." if parts else ""


def median(history: History, metric: str) -> float | None:
    """The median of what training logged; None if that is nothing."""
    values = history.series("train", metric)[1]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def flops_text(value: float) -> str:
    """Operations per second with a unit: 12.5 GFLOP/s."""
    if not math.isfinite(value):
        return "not finite"
    scale, unit = _flops_unit(value)
    return f"{value / scale:.3g} {unit}"


def _flops_unit(value: float) -> tuple[float, str]:
    for prefix, scale in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= scale:
            return scale, f"{prefix}FLOP/s"
    return 1.0, "FLOP/s"


def _one(history: History, metric: str, label: str) -> list[Series]:
    return _several(history, {metric: label})


def _several(history: History, labels: Mapping[str, str]) -> list[Series]:
    logged = [(label, *history.series("train", metric)) for metric, label in labels.items()]
    logged = [(label, steps, values) for label, steps, values in logged if len(steps)]
    return [Series(label, steps, values, i) for i, (label, steps, values) in enumerate(logged)]


def _peak(series: list[Series]) -> float:
    return max((float(v) for s in series for v in s.values if math.isfinite(v)), default=0.0)


def _spread(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.max() / values.min()) if len(values) and values.min() > 0 else 0.0
