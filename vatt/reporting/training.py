"""Report sections made of training metrics: losses, learning rate, norms, throughput."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from vatt.reporting.history import History
from vatt.reporting.plots import Series, line_chart, number, percent

PAIRS = {
    "vidtxt_loss": ("video-text", 1),
    "vidaud_loss": ("video-audio", 2),
    "audtxt_loss": ("audio-text", 3),
}


def loss_charts(history: History) -> list[str]:
    """Total loss, and the loss of each pair of modalities that takes part."""
    total = _one(history, "total_loss", "total")
    pairs, silent = [], []
    stacks = {name.split("/")[1] for name in history.names("train") if name.count("/") == 2}
    for metric in history.names("train"):
        family, _, rest = metric.partition("/")
        stack, _, pair = rest.partition("/")
        if family != "bridge_losses" or pair not in PAIRS:
            continue
        label, color = PAIRS[pair]
        steps, values = history.series("train", metric)
        label = f"{label} ({stack})" if len(stacks) > 1 else label
        if np.all(values == 0):
            silent.append(label)
        else:
            pairs.append(Series(label, steps, values, color))
    note = f"weight 0, not drawn: {', '.join(silent)}" if silent else ""
    return [
        line_chart(total, "Total loss", note="nats"),
        line_chart(pairs, "Loss of each pair of modalities", note=note),
    ]


def optimization_charts(history: History) -> list[str]:
    """Learning rate and the three norms that show a run going astray."""
    charts = [
        line_chart(_one(history, "learning_rate", "learning rate"), "Learning rate", lower=0.0)
    ]
    for metric, title in (
        ("gradient_norm", "Gradient norm"),
        ("parameter_norm", "Parameter norm"),
        ("update_norm", "Update norm"),
    ):
        series = _one(history, metric, title.lower())
        log = any(_spread(s.values) > 20 for s in series)
        note = "logarithmic" if log else ""
        charts.append(line_chart(series, title, log=log, note=note))
    return charts


def throughput_charts(history: History) -> list[str]:
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
            form=lambda value: percent(value).replace(".0 ", " "),
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
        ("data_wait_share", lambda v: f"{percent(v)} of the time waiting for data"),
    ):
        values = history.series("train", metric)[1]
        values = values[np.isfinite(values)]
        if len(values):
            parts.append(text(float(np.median(values))))
    return f"Median over the run: {', '.join(parts)}." if parts else ""


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
    steps, values = history.series("train", metric)
    return [Series(label, steps, values, 0)] if len(steps) else []


def _peak(series: list[Series]) -> float:
    return max((float(v) for s in series for v in s.values if math.isfinite(v)), default=0.0)


def _spread(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.max() / values.min()) if len(values) and values.min() > 0 else 0.0
