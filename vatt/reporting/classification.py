"""Report sections of a classifier: headline figures, curves, classes, confusions, mistakes.

The figures come from the measures, the rest from the artefact of the newest evaluation
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
from vatt.evaluation import artefacts, summary
from vatt.evaluation.measures import CLASSIFICATION, Measure
from vatt.reporting import figures, matrices
from vatt.reporting.history import History, Measures
from vatt.reporting.pieces import NONE, Arrays, image, of_artefact, table
from vatt.reporting.plots import line_chart, percent, waveform

# Groups of figures that stand together.
ONE_LABEL = (
    "top_1_accuracy",
    "top_5_accuracy",
    "mean_class_accuracy",
    "categorical_cross_entropy",
)
RANKING = ("sklearn_mAP", "sklearn_AUC", "sklearn_d-prime", "binary_cross_entropy")
# Numbers that explain the figures, in words.
REMARKS = {
    "classes_left_out": "Classes left out of the means, with no clip or with all: {:,.0f}.",
    "clips_without_label": "Clips without label, not part of the accuracies: {:,.0f}.",
}
CHANCE = {
    "top_1_accuracy": "Chance: always answering the largest class, or the five largest.",
    "sklearn_mAP": "Chance of mAP: mean share of clips with a class.",
}
ROWS = 20  # of the class table that are not folded away
CONFUSIONS = 10
NAMED = ("class", "most often taken for", "true class", "taken for")  # columns of class names

# The palette of spectrograms: lightness rises all the way, which any eye can tell.
_ANCHORS = ((10, 12, 28), (34, 44, 110), (47, 98, 201), (120, 175, 240), (255, 250, 225))


def shows(measure: Measure) -> bool:
    """Whether a measure is among those of this section."""
    return measure.task == CLASSIFICATION and measure.name in (*ONE_LABEL, *RANKING, *REMARKS)


def sets(history: History) -> dict[str, Measures]:
    """The measures of each data set that a trained classifier was evaluated on.

    Of a set whose folds were all run these are the means; `folds` shows the rest.
    """
    averaged = _averaged(history)
    return history.measures.where(
        lambda m: shows(m) and not (m.fold and (m.set, m.target) in averaged)
    ).by_set("target")


def folds(history: History) -> str:
    """Tables of the newest figures of each fold, of sets whose folds were all run."""
    parts = []
    for data, target in _averaged(history):
        own = history.measures.where(shows).select(set=data, target=target)
        names = [name for group in _groups(own) for name in group]
        rows = []
        for fold, split in own.combinations("fold", "split"):
            found = own.select(fold=fold, split=split)
            cells = "".join(
                f"<td>{figures.text((found.select(name=name).latest() or (0, None))[1])}</td>"
                for name in names
            )
            which = f'fold {escape(fold)} <code class="note">fold_{escape(fold)}/report.html</code>'
            clips = next(figures.clips(m.samples) for _, m in found if m.samples is not None)
            head = which if fold else "mean"
            rows.append(
                f'<tr><th scope="row" class="name">{head}</th><td class="name">{escape(split)}</td>'
                f"<td>{clips}</td>{cells}</tr>"
            )
        head = ["", "split", "", *(figures.of(name).title for name in names)]
        parts.append(f"<h3>{escape(data)}</h3>{table(head, rows, 'data', left=('split',))}")
    return f"<h2>Folds</h2>{''.join(parts)}" if parts else ""


def _averaged(history: History) -> dict[tuple[str, str], None]:
    """Set and target of the means over folds that were logged."""
    found = (m for _, m in history.measures if shows(m) and m.spread is not None)
    return {(measure.set, measure.target): None for measure in found}


def holds(path: Path) -> bool | None:
    """Whether an artefact is that of a classifier; None if it cannot be read."""
    try:
        return "classes/name" in artefacts.load(path)
    except DataError:
        return None


def headline(title: str, measures: Measures) -> str:
    """Latest figures of a set beside chance."""
    step = measures.steps()[-1]
    newest = {name: measures.select(name=name).at(step) for name in measures.each("name")}
    counts = [found.samples for found in newest.values() if found and found.samples]
    measured = next(iter(found for found in newest.values() if found))
    notes = [f"step {step:,}", summary.fold_of(measured), *map(figures.clips, counts[:1])]
    tables = []
    for group in _groups(measures):
        cells = "".join(figures.headline_cell(newest[name]) for name in group)
        head = [figures.of(name).title for name in group]
        tables.append(figures.headline(head, [f"<tr>{cells}</tr>"]))
    remarks = [
        text for name, text in CHANCE.items() if figures.chance(newest.get(name)) is not None
    ]
    remarks += [
        text.format(known.value)
        for name, text in REMARKS.items()
        if (known := newest.get(name)) and known.value
    ]
    remark = f'<p class="note">{" ".join(remarks)}</p>'
    remark += figures.warnings(summary.too_small(filter(None, newest.values())))
    return figures.card(title, list(filter(None, notes)), "".join(tables) + remark)


def curves(measures: Measures) -> str:
    """Charts of the figures over training steps; empty with one evaluation only."""
    if len(measures.steps()) < 2:
        return ""
    charts = []
    for names, title, note in (
        (("top_1_accuracy", "top_5_accuracy"), "Accuracy", "share of clips"),
        (("sklearn_mAP", "sklearn_AUC"), "mAP and AUC", "means over classes"),
    ):
        if shares := figures.curves(measures, names):
            label = f"chance, {figures.of(names[0]).title}"
            shares += figures.chance_curve(measures.select(name=names[0]), label)
            charts.append(figures.share_chart(shares, title, note))
    for name, note in (
        ("sklearn_d-prime", ""),
        ("categorical_cross_entropy", "nats"),
        ("binary_cross_entropy", "nats, mean over classes"),
    ):
        if series := figures.curves(measures, [name]):
            charts.append(line_chart(series, figures.of(name).title, lower=0.0, note=note))
    return f'<div class="grid">{"".join(charts)}</div>'


def evaluations(measures: Measures) -> str:
    """All evaluations: one row per step, the best of each column in bold."""
    names = [name for group in _groups(measures) for name in group]
    return figures.by_step([measures.select(name=name) for name in names])


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
            f'<p class="warning">The logits of {figures.clips(broken)} are not '
            "finite: no answer, and metrics that are no number.</p>"
        )
    note = f"step {step:,}, {figures.clips(clips)}"
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
    return [f"<td>{_share(value)}</td>", figures.share_cell(value)]


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
    several = '<p class="note">A clip can have several of the classes: each has a probability of '
    several += "its own, and those of a clip do not add up to 100&nbsp;%.</p>"
    if parts and bool(arrays["multi_label"]):
        parts.insert(0, several)
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
        beside = f"true: {listed(labels)}"
    elif kind == "false alarm":
        beside = f"labels: {listed(labels) or 'none'}"
    else:
        best = np.argsort(-shares, kind="stable")[:3]
        beside = f"most probable: {listed(best)}"
    index, source = int(arrays["mistakes/index"][row]), str(arrays["mistakes/source"][row])
    title = escape(f"{source or 'clip'} (record {index})")
    return (
        f'<figure class="result" title="{title}">{_picture(arrays, row, title)}'
        f"<figcaption><b>{listed([which])}</b>{beside}</figcaption></figure>"
    )


def _picture(arrays: Arrays, row: int, alt: str) -> str:
    """Frames and sound of a mistake, as far as the classifier was given them; `alt` is HTML."""
    jpeg, sound = artefacts.clip_jpeg(arrays, row), []
    if "mistakes/envelope" in arrays:
        sound.append(waveform(arrays["mistakes/envelope"][row]))
    if "mistakes/spectrogram" in arrays:
        sound.append(image("png", spectrogram_png(arrays["mistakes/spectrogram"][row]), alt))
    if sound and "mistakes/silent" in arrays and arrays["mistakes/silent"][row]:
        sound = ['<span class="blank">this record has no sound</span>']
    shown = (image("jpeg", jpeg, alt) if jpeg else "") + "".join(sound)
    return shown or f'<span class="blank">{alt}</span>'


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


def _groups(measures: Measures) -> list[list[str]]:
    """The names of the figures that were measured, group by group."""
    found = measures.each("name")
    groups = [[name for name in group if name in found] for group in (ONE_LABEL, RANKING)]
    return [group for group in groups if group]


def _share(value: float) -> str:
    return percent(float(value)) if math.isfinite(value) else NONE


def _figure(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"  # noqa: RUF001
    return NONE if math.isnan(value) else f"{value:.2f}"
