"""Report sections of a classifier: headline figures, curves, classes, confusions, mistakes.

The figures come from the measures, the rest from the artefact of the newest evaluation
(`vatt.evaluation.classification`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vatt import pages
from vatt.errors import DataError
from vatt.evaluation import artefacts, summary
from vatt.evaluation.measures import CLASSIFICATION, Measure
from vatt.pages import Cell, Markup, Row, flush, head
from vatt.reporting import figures, matrices
from vatt.reporting.history import History, Measures
from vatt.reporting.pieces import NONE, Arrays, html, image, of_artefact
from vatt.reporting.plots import line_chart, percent, waveform

clips = pages.Macros("clips.html")

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


def folds(history: History) -> Markup:
    """Tables of the newest figures of each fold, of sets whose folds were all run."""
    parts = []
    for data, target in _averaged(history):
        own = history.measures.where(shows).select(set=data, target=target)
        names = [figure for group in _groups(own) for figure in group]
        rows = []
        for fold, split in own.combinations("fold", "split"):
            found = own.select(fold=fold, split=split)
            latest = (found.select(name=figure).latest() or (0, None) for figure in names)
            heading = head(f"fold {fold}", f"fold_{fold}/report.html") if fold else head("mean")
            count = next(figures.clips(m.samples) for _, m in found if m.samples is not None)
            cells = (figures.text(measure) for _, measure in latest)
            rows.append([heading, flush(split), count, *cells])
        titles = ["", "split", "", *(figures.of(figure).title for figure in names)]
        parts += [html.heading(3, data), html.table(titles, rows, "data", left=("split",))]
    return pages.join([html.heading(2, "Folds"), *parts]) if parts else Markup()


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


def headline(title: str, measures: Measures) -> Markup:
    """Latest figures of a set beside chance."""
    step = measures.steps()[-1]
    newest = {figure: measures.select(name=figure).at(step) for figure in measures.each("name")}
    counts = [found.samples for found in newest.values() if found and found.samples]
    measured = next(iter(found for found in newest.values() if found))
    notes = [f"step {step:,}", summary.fold_of(measured), *map(figures.clips, counts[:1])]
    parts = []
    for group in _groups(measures):
        titles = [figures.of(figure).title for figure in group]
        cells = [figures.headline_cell(newest[figure]) for figure in group]
        parts.append(html.table(titles, [cells], "headline"))
    remarks = [
        text for figure, text in CHANCE.items() if figures.chance(newest.get(figure)) is not None
    ]
    remarks += [
        text.format(known.value)
        for figure, text in REMARKS.items()
        if (known := newest.get(figure)) and known.value
    ]
    parts.append(html.paragraph(" ".join(remarks), "note"))
    parts.append(html.warnings(summary.too_small(filter(None, newest.values()))))
    return html.card(title, ", ".join(filter(None, notes)), pages.join(parts))


def curves(measures: Measures) -> Markup:
    """Charts of the figures over training steps; empty with one evaluation only."""
    if len(measures.steps()) < 2:
        return Markup()
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
    return html.grid(charts)


def evaluations(measures: Measures) -> Markup:
    """All evaluations: one row per step, the best of each column in bold."""
    names = [name for group in _groups(measures) for name in group]
    return figures.by_step([measures.select(name=name) for name in names])


def classes(path: Path) -> Markup:
    """Class table and confusion matrix of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "classes and mistakes", lambda arrays: _under_name(arrays, _classes))


def mistakes(path: Path) -> Markup:
    """The most confident mistakes of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "classes and mistakes", lambda arrays: _under_name(arrays, _mistakes))


def _under_name(arrays: Arrays, section: Callable[[Arrays], Markup]) -> Markup:
    title, step = str(arrays["dataset"]), int(arrays["step"])
    count, broken = int(arrays["num_clips"]), int(arrays["num_broken"])
    parts = [html.heading(3, title, f"step {step:,}, {figures.clips(count)}")]
    if broken:
        lost = (
            f"The logits of {figures.clips(broken)} are not finite: no answer, and metrics that "
            "are no number"
        )
        parts.append(html.warnings([lost]))
    return pages.join([*parts, section(arrays)])


# Classes -----------------------------------------------------------------------------------------


def _classes(arrays: Arrays) -> Markup:
    parts = [_class_table(arrays)]
    confusion = arrays.get("confusion")
    if confusion is not None:
        names = arrays["classes/name"].tolist()
        parts += _confusion(confusion, names)
    return html.beside(parts)


def _class_table(arrays: Arrays) -> Markup:
    names, counts = arrays["classes/name"].tolist(), arrays["classes/clips"]
    single = "classes/accuracy" in arrays
    score = arrays["classes/accuracy" if single else "classes/AP"]
    # Worst first; what has no figure comes last, and there the larger class first.
    order = sorted(
        range(len(names)),
        key=lambda c: (counts[c] == 0, np.isnan(score[c]), np.nan_to_num(score[c]), -counts[c], c),
    )
    titles = ["class", "clips"]
    titles += ["accuracy", "", "most often taken for"] if single else []
    titles += ["AP", *([] if single else [""]), "AUC", "d′"] if "classes/AP" in arrays else []  # noqa: RUF001
    rows = []
    for which in order:
        row: Row = [head(names[which]), f"{int(counts[which]):,}"]
        if single:
            other, count = (
                int(arrays[f"classes/confused_{part}"][which]) for part in ("with", "clips")
            )
            taken = "" if other < 0 else f"{names[other]} ({count:,})"
            row += [*_share_cells(score[which]), flush(taken)]
        if "classes/AP" in arrays:
            precision = _share_cells(arrays["classes/AP"][which])
            row += precision[:1] if single else precision
            row += [_share(arrays["classes/AUC"][which]), _figure(arrays["classes/d-prime"][which])]
        rows.append(row)
    parts = [html.heading(4, "Each class", "from worst to best" if len(rows) > 1 else "")]
    parts.append(html.table(titles, rows[:ROWS], "data classes", left=NAMED))
    if len(rows) > ROWS:
        rest = html.table(titles, rows[ROWS:], "data classes", left=NAMED, tall=True)
        parts.append(html.folded(f"{len(rows) - ROWS:,} more classes", rest))
    return pages.join(parts)


def _share_cells(value: float) -> list[str | Cell]:
    return [_share(value), figures.share_cell(value)]


def _confusion(confusion: np.ndarray, names: list[str]) -> list[Markup]:
    picture, pairs = matrices.svg(confusion, names), matrices.confusions(confusion)
    counts = confusion.sum(axis=1)
    note = "rows: true class, columns: predicted class"
    if len(names) > matrices.ALL_CLASSES:
        note += f"; the classes most often confused of {len(names):,}"
    heading = html.heading(4, "Confusion matrix", note)
    if not confusion.any():
        nothing = "There is no clip with a label and an answer."
        return [pages.join([heading, html.paragraph(nothing)])]
    matrix = pages.join([heading, html.scroll(picture)])
    if not pairs:
        return [matrix + html.paragraph("No class is taken for another.")]
    rows = [
        [
            flush(names[true]),
            flush(names[predicted]),
            f"{count:,}",
            percent(count / int(counts[true])),
        ]
        for true, predicted, count in pairs[:CONFUSIONS]
    ]
    titles = ["true class", "taken for", "clips", "of its clips"]
    table = html.table(titles, rows, "data classes", left=NAMED)
    return [matrix, html.heading(4, "Most frequent confusions") + table]


# Mistakes ----------------------------------------------------------------------------------------

_KINDS = {
    "wrong": ("Most confident wrong answers", "by probability of the answer"),
    "false alarm": ("Most probable classes that are not labels", "one per clip"),
    "miss": ("Least probable labels", "one per clip"),
}


def _mistakes(arrays: Arrays) -> Markup:
    kinds, parts = arrays["mistakes/kind"].tolist(), []
    for kind, (title, note) in _KINDS.items():
        rows = [row for row, own in enumerate(kinds) if own == kind]
        if rows:
            shown = [_mistake(arrays, row, kind) for row in rows]
            parts += [html.heading(4, title, note), clips.mistakes(shown)]
    several = (
        "A clip can have several of the classes: each has a probability of its own, and those of "
        "a clip do not add up to 100\N{NO-BREAK SPACE}%."
    )
    if parts and bool(arrays["multi_label"]):
        parts.insert(0, html.paragraph(several, "note"))
    return pages.join(parts) or html.paragraph("No clip was answered wrongly.")


def _mistake(arrays: Arrays, row: int, kind: str) -> dict[str, str]:
    names, shares = arrays["classes/name"].tolist(), arrays["mistakes/probability"][row]
    which = int(arrays["mistakes/class"][row])
    labels = np.flatnonzero(arrays["mistakes/label"][row])

    def listed(numbers: Sequence[int]) -> str:
        texts = (percent(float(shares[n])).replace(" ", "\N{NO-BREAK SPACE}") for n in numbers)
        return ", ".join(f"{names[n]} {text}" for n, text in zip(numbers, texts, strict=True))

    if kind == "wrong":
        beside = f"true: {listed(labels)}"
    elif kind == "false alarm":
        beside = f"labels: {listed(labels) or 'none'}"
    else:
        best = np.argsort(-shares, kind="stable")[:3]
        beside = f"most probable: {listed(best)}"
    index, source = int(arrays["mistakes/index"][row]), str(arrays["mistakes/source"][row])
    title = f"{source or 'clip'} (record {index})"
    picture = _picture(arrays, row, title)
    return {"title": title, "picture": picture, "label": listed([which]), "caption": beside}


def _picture(arrays: Arrays, row: int, alt: str) -> Markup:
    """Frames and sound of a mistake, as far as the classifier was given them."""
    jpeg, sound = artefacts.clip_jpeg(arrays, row), []
    if "mistakes/envelope" in arrays:
        sound.append(waveform(arrays["mistakes/envelope"][row]))
    if "mistakes/spectrogram" in arrays:
        sound.append(image("png", spectrogram_png(arrays["mistakes/spectrogram"][row]), alt))
    if sound and "mistakes/silent" in arrays and arrays["mistakes/silent"][row]:
        sound = [clips.blank("this record has no sound")]
    return pages.join([image("jpeg", jpeg, alt)] * bool(jpeg) + sound) or clips.blank(alt)


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
