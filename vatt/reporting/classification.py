"""Report sections of a classifier: headline figures, curves, classes, confusions, mistakes.

The figures come from metrics.jsonl, the rest from the artefact of the newest evaluation
(`vatt.evaluation.classification`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from vatt.errors import DataError
from vatt.evaluation import artefacts
from vatt.reporting import matrices
from vatt.reporting.history import History
from vatt.reporting.pieces import NONE, Arrays, image, of_artefact, table
from vatt.reporting.plots import Series, line_chart, number, percent, short_percent, waveform

# Metric -> title, how it is written. Groups of metrics that stand together.
ONE_LABEL = {
    "top_1_accuracy": "Top-1 accuracy",
    "top_5_accuracy": "Top-5 accuracy",
    "mean_class_accuracy": "Mean class accuracy",
    "categorical_cross_entropy": "Cross-entropy",
}
RANKING = {
    "sklearn_mAP": "mAP",
    "sklearn_AUC": "AUC",
    "sklearn_d-prime": "d′",  # noqa: RUF001
    "binary_cross_entropy": "Cross-entropy",
}
LOWER_IS_BETTER = ("categorical_cross_entropy", "binary_cross_entropy")
NUMBERS = (*LOWER_IS_BETTER, "sklearn_d-prime")
FACTS = {
    "num_clips",
    "classes_left_out",
    "clips_without_label",
    "chance_top_1_accuracy",
    "chance_top_5_accuracy",
    "chance_sklearn_mAP",
}
KNOWN = frozenset({*ONE_LABEL, *RANKING, *FACTS})
FIXED_CHANCE = {"sklearn_AUC": 0.5, "sklearn_d-prime": 0.0}
ROWS = 20  # of the class table that are not folded away
CONFUSIONS = 10
NAMED = ("class", "most often taken for", "true class", "taken for")  # columns of class names

# The palette of spectrograms: lightness rises all the way, which any eye can tell.
_ANCHORS = ((10, 12, 28), (34, 44, 110), (47, 98, 201), (120, 175, 240), (255, 250, 225))


def found(history: History) -> bool:
    """Whether a classifier has been evaluated in this run."""
    return any(name in ONE_LABEL or name in RANKING for name in history.names("eval"))


def holds(path: Path) -> bool | None:
    """Whether an artefact is that of a classifier; None if it cannot be read."""
    try:
        return "classes/name" in artefacts.load(path)
    except DataError:
        return None


def headline(history: History, name: str) -> str:
    """Latest figures beside chance; `name` is that of the data set, where known."""
    step = _steps(history)[-1]
    clips = history.value("eval", "num_clips", step)
    facts = [f"step {step:,}"] + ([_clips(clips)] if clips else [])
    tables, notes = [], []
    for group in _groups(history):
        cells = [_headline_cell(history, metric, step) for metric in group]
        head = "".join(f'<th scope="col">{title}</th>' for title in group.values())
        tables.append(
            f'<div class="scroll"><table class="headline"><thead><tr>{head}</tr></thead>'
            f"<tbody><tr>{''.join(cells)}</tr></tbody></table></div>"
        )
    if history.value("eval", "chance_top_1_accuracy", step) is not None:
        notes.append("Chance: always answering the largest class, or the five largest.")
    if history.value("eval", "chance_sklearn_mAP", step) is not None:
        notes.append("Chance of mAP: mean share of clips with a class.")
    if left_out := history.value("eval", "classes_left_out", step):
        notes.append(f"Classes left out of the means, with no clip or with all: {left_out:,.0f}.")
    if unlabelled := history.value("eval", "clips_without_label", step):
        notes.append(f"Clips without label, not part of the accuracies: {unlabelled:,.0f}.")
    return (
        f'<section class="card"><h3>{escape(name)}<span class="note">{", ".join(facts)}</span></h3>'
        f'{"".join(tables)}<p class="note">{" ".join(notes)}</p></section>'
    )


def curves(history: History) -> str:
    """Charts of the metrics over training steps; empty with one evaluation only."""
    if len(_steps(history)) < 2:
        return ""
    charts = []
    accuracies = _series(history, ["top_1_accuracy", "top_5_accuracy"])
    if accuracies:
        accuracies += _chance_series(history, "top_1_accuracy", accuracies[0])
        charts.append(_share_chart(accuracies, "Accuracy", "share of clips"))
    ranking = _series(history, ["sklearn_mAP", "sklearn_AUC"])
    if ranking:
        ranking += _chance_series(history, "sklearn_mAP", ranking[0])
        charts.append(_share_chart(ranking, "mAP and AUC", "means over classes"))
    if series := _series(history, ["sklearn_d-prime"]):
        charts.append(line_chart(series, "d′", lower=0.0))  # noqa: RUF001
    for metric, note in (
        ("categorical_cross_entropy", "nats"),
        ("binary_cross_entropy", "nats, mean over classes"),
    ):
        if series := _series(history, [metric]):
            charts.append(line_chart(series, "Cross-entropy", lower=0.0, note=note))
    return f'<div class="grid">{"".join(charts)}</div>'


def evaluations(history: History) -> str:
    """All evaluations: one row per step, the best of each column in bold."""
    columns = {metric: title for group in _groups(history) for metric, title in group.items()}
    steps, best = _steps(history), {}
    for metric in columns:
        values = history.series("eval", metric)[1]
        values = values[np.isfinite(values)]
        pick = np.min if metric in LOWER_IS_BETTER else np.max
        best[metric] = float(pick(values)) if len(values) else None
    rows = []
    for step in reversed(steps):
        cells = []
        for metric in columns:
            value = history.value("eval", metric, step)
            bold = value is not None and value == best[metric] and len(steps) > 1
            text = _text(metric, value)
            cells.append(f"<td>{f'<b>{text}</b>' if bold else text}</td>")
        rows.append(f'<tr><th scope="row">{step:,}</th>{"".join(cells)}</tr>')
    return table(["step", *columns.values()], rows, "data", tall=True)


def classes(path: Path) -> str:
    """Class table and confusion matrix of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "classes and mistakes", lambda arrays: _under_name(arrays, _classes))


def mistakes(path: Path) -> str:
    """The most confident mistakes of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "classes and mistakes", lambda arrays: _under_name(arrays, _mistakes))


def _under_name(arrays: Arrays, section: Callable[[Arrays], str]) -> str:
    name, step = str(arrays["dataset"]), int(arrays["step"])
    clips, broken = int(arrays["num_clips"]), int(arrays["num_broken"])
    lost = ""
    if broken:
        lost = (
            f'<p class="warning">The logits of {_clips(broken)} are not '
            "finite: no answer, and metrics that are no number.</p>"
        )
    note = f"step {step:,}, {_clips(clips)}"
    heading = f'<h3>{escape(name)}<span class="note">{note}</span></h3>'
    return f"{heading}{lost}{section(arrays)}"


# Classes -----------------------------------------------------------------------------------------


def _classes(arrays: Arrays) -> str:
    parts = [_class_table(arrays)]
    confusion = arrays.get("confusion")
    if confusion is not None:
        names = arrays["classes/name"].tolist()
        parts += _confusion(confusion, names)
    return f'<div class="beside">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def _class_table(arrays: Arrays) -> str:
    names, clips = arrays["classes/name"].tolist(), arrays["classes/clips"]
    single = "classes/accuracy" in arrays
    score = arrays["classes/accuracy" if single else "classes/AP"]
    # Worst first; what has no figure comes last, and there the larger class first.
    order = sorted(
        range(len(names)),
        key=lambda c: (clips[c] == 0, np.isnan(score[c]), np.nan_to_num(score[c]), -clips[c], c),
    )
    head = ["class", "clips"]
    head += ["accuracy", "", "most often taken for"] if single else []
    head += ["AP", *([] if single else [""]), "AUC", "d′"] if "classes/AP" in arrays else []  # noqa: RUF001
    rows = []
    for which in order:
        cells = [f"<td>{int(clips[which]):,}</td>"]
        if single:
            cells += _share_cells(score[which])
            other, count = (
                int(arrays[f"classes/confused_{name}"][which]) for name in ("with", "clips")
            )
            text = "" if other < 0 else f"{escape(names[other])} ({count:,})"
            cells.append(f'<td class="name">{text}</td>')
        if "classes/AP" in arrays:
            precision = _share_cells(arrays["classes/AP"][which])
            cells += precision[:1] if single else precision
            cells.append(f"<td>{_share(arrays['classes/AUC'][which])}</td>")
            cells.append(f"<td>{_figure(arrays['classes/d-prime'][which])}</td>")
        name = f'<th scope="row" class="name">{escape(names[which])}</th>'
        rows.append(f"<tr>{name}{''.join(cells)}</tr>")
    note = '<span class="note">from worst to best</span>' if len(rows) > 1 else ""
    shown = f"<h4>Each class{note}</h4>" + table(head, rows[:ROWS], "data classes", left=NAMED)
    if len(rows) > ROWS:
        rest = table(head, rows[ROWS:], "data classes", left=NAMED, tall=True)
        shown += f"<details><summary>{len(rows) - ROWS:,} more classes</summary>{rest}</details>"
    return shown


def _share_cells(value: float) -> list[str]:
    width = 100 * value if math.isfinite(value) else 0.0
    bar = f'<div class="track"><b style="width:{width:.1f}%"></b></div>'
    return [f"<td>{_share(value)}</td>", f'<td class="share">{bar}</td>']


def _confusion(confusion: np.ndarray, names: list[str]) -> list[str]:
    picture, pairs = matrices.svg(confusion, names), matrices.confusions(confusion)
    clips = confusion.sum(axis=1)
    note = "rows: true class, columns: predicted class"
    if len(names) > matrices.ALL_CLASSES:
        note += f"; the classes most often confused of {len(names):,}"
    heading = f'<h4>Confusion matrix<span class="note">{note}</span></h4>'
    if not confusion.any():
        return [f"{heading}<p>There is no clip with a label and an answer.</p>"]
    matrix = f'{heading}<div class="scroll s0">{picture}</div>'
    if not pairs:
        return [f"{matrix}<p>No class is taken for another.</p>"]
    rows = [
        f'<tr><td class="name">{escape(names[true])}</td>'
        f'<td class="name">{escape(names[predicted])}</td>'
        f"<td>{count:,}</td><td>{percent(count / int(clips[true]))}</td></tr>"
        for true, predicted, count in pairs[:CONFUSIONS]
    ]
    head = ["true class", "taken for", "clips", "of its clips"]
    return [
        matrix,
        f"<h4>Most frequent confusions</h4>{table(head, rows, 'data classes', left=NAMED)}",
    ]


# Mistakes ----------------------------------------------------------------------------------------

_KINDS = {
    "wrong": ("Most confident wrong answers", "by probability of the answer"),
    "false alarm": ("Most probable classes that are not labels", "one per clip"),
    "miss": ("Least probable labels", "one per clip"),
}


def _mistakes(arrays: Arrays) -> str:
    kinds, parts = arrays["mistakes/kind"].tolist(), []
    for kind, (title, note) in _KINDS.items():
        rows = [row for row, own in enumerate(kinds) if own == kind]
        if rows:
            figures = "".join(_mistake(arrays, row, kind) for row in rows)
            parts.append(f'<h4>{title}<span class="note">{note}</span></h4>')
            parts.append(f'<div class="mistakes">{figures}</div>')
    return "".join(parts) or "<p>No clip was answered wrongly.</p>"


def _mistake(arrays: Arrays, row: int, kind: str) -> str:
    names, shares = arrays["classes/name"].tolist(), arrays["mistakes/probability"][row]
    which = int(arrays["mistakes/class"][row])
    labels = np.flatnonzero(arrays["mistakes/label"][row])

    def listed(numbers: Sequence[int]) -> str:
        texts = (percent(float(shares[n])).replace(" ", "&nbsp;") for n in numbers)
        return ", ".join(
            f"{escape(names[n])} {text}" for n, text in zip(numbers, texts, strict=True)
        )

    if kind == "wrong":
        told = f"<b>{listed([which])}</b>true: {listed(labels)}"
    elif kind == "false alarm":
        told = f"<b>{listed([which])}</b>labels: {listed(labels) or 'none'}"
    else:
        best = np.argsort(-shares, kind="stable")[:3]
        told = f"<b>{listed([which])}</b>most probable: {listed(best)}"
    index, source = int(arrays["mistakes/index"][row]), str(arrays["mistakes/source"][row])
    title = escape(f"{source or 'clip'} (record {index})")
    return (
        f'<figure class="result" title="{title}">{_picture(arrays, row, title)}'
        f"<figcaption>{told}</figcaption></figure>"
    )


def _picture(arrays: Arrays, row: int, alt: str) -> str:
    if jpeg := artefacts.clip_jpeg(arrays, row):
        return image("jpeg", jpeg, alt)
    parts = []
    if "mistakes/envelope" in arrays:
        parts.append(waveform(arrays["mistakes/envelope"][row]))
    if "mistakes/spectrogram" in arrays:
        parts.append(image("png", spectrogram_png(arrays["mistakes/spectrogram"][row]), alt))
    if parts and "mistakes/silent" in arrays and arrays["mistakes/silent"][row]:
        parts = ['<span class="blank">this record has no sound</span>']
    return "".join(parts) or f'<span class="blank">{alt}</span>'


def spectrogram_png(picture: np.ndarray) -> bytes:
    """A picture uint8 [frequency, time] as a PNG in colours, the lowest frequency at the bottom."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture[::-1]))
    at = np.linspace(0, 255, len(_ANCHORS))
    palette = [np.interp(np.arange(256), at, channel) for channel in np.transpose(_ANCHORS)]
    image.putpalette(np.round(np.transpose(palette)).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# Pieces ------------------------------------------------------------------------------------------


def _groups(history: History) -> list[dict[str, str]]:
    """The metrics that were logged, with their titles, group by group."""
    names = history.names("eval")
    groups = [{m: t for m, t in group.items() if m in names} for group in (ONE_LABEL, RANKING)]
    return [group for group in groups if group]


def _steps(history: History) -> list[int]:
    metrics = [metric for group in _groups(history) for metric in group]
    return sorted({int(step) for m in metrics for step in history.series("eval", m)[0]})


def _chance(history: History, metric: str, step: int) -> float | None:
    if metric in FIXED_CHANCE:
        return FIXED_CHANCE[metric]
    value = history.value("eval", f"chance_{metric}", step)
    return value if value is not None and math.isfinite(value) else None


def _headline_cell(history: History, metric: str, step: int) -> str:
    chance = _chance(history, metric, step)
    below = "" if chance is None else f'<span class="note">chance {_text(metric, chance)}</span>'
    return f"<td><b>{_text(metric, history.value('eval', metric, step))}</b>{below}</td>"


def _series(history: History, metrics: Sequence[str]) -> list[Series]:
    titles = ONE_LABEL | RANKING
    logged = [(m, *history.series("eval", m)) for m in metrics]
    logged = [(m, steps, values) for m, steps, values in logged if len(steps)]
    return [Series(titles[m], steps, values, i) for i, (m, steps, values) in enumerate(logged)]


def _chance_series(history: History, metric: str, like: Series) -> list[Series]:
    chance = _chance(history, metric, _steps(history)[-1])
    if chance is None:
        return []
    title = f"chance, {like.label}"
    return [Series(title, like.steps, np.full(len(like.steps), chance), 3, True)]


def _share_chart(series: list[Series], title: str, note: str) -> str:
    return line_chart(series, title, lower=0, upper=1, form=short_percent, note=note)


def _text(metric: str, value: float | None) -> str:
    if value is None:
        return NONE
    return number(value) if metric in NUMBERS else percent(value)


def _clips(count: float) -> str:
    return f"{count:,.0f} clip{'s' * (count != 1)}"


def _share(value: float) -> str:
    return percent(float(value)) if math.isfinite(value) else NONE


def _figure(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"  # noqa: RUF001
    return NONE if math.isnan(value) else f"{value:.2f}"
