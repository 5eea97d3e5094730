"""Report sections of what frozen features and class names are worth: probes, zero-shot classes.

Both show a table of data sets with chance beside each figure, a folded table with the details, and
a chart per set once there are several evaluations. A set that is classified in several modalities
has a row for each, those after the first with the modality behind the name of the set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vatt import pages
from vatt.evaluation.measures import KNN, LINEAR, PROBES, PUBLISHED_PROBE, ZERO_SHOT, Measure
from vatt.pages import Cell, Markup, Row, flush, head
from vatt.reporting import figures, scores
from vatt.reporting.history import History, Measures
from vatt.reporting.pieces import NONE, html
from vatt.reporting.plots import Series

SINGLE = ("top_1_accuracy", "top_5_accuracy")
SEVERAL = ("mAP", "AUC", "d-prime")
TITLES = {
    LINEAR: ("Linear probe", "logistic regression on frozen features"),
    KNN: ("k-NN", "votes of the most similar training clips"),
    PUBLISHED_PROBE: ("Published probe", "the classifier of the paper: 128 linear units"),
}
TRAIN = "train"
SPLITS = {TRAIN: "training", "test": "test"}

Rows = dict[str, Measures]  # the measures of a row by its title


def shows(measure: Measure) -> bool:
    """Whether a measure is among those of these sections."""
    known = measure.name in (*SINGLE, *SEVERAL)
    if measure.task in PROBES:
        return known and (measure.split in SPLITS if measure.fold else measure.split != TRAIN)
    return known and measure.task == ZERO_SHOT


def probes(history: History) -> Markup:
    """Section of the probes; empty if none was trained."""
    found = history.measures.where(lambda measure: measure.task in PROBES and shows(measure))
    kinds = [kind for kind in TITLES if found.select(task=kind)]
    if not kinds:
        return Markup()
    about = (
        "Classifiers trained on the features of the frozen model. Figures are means over the "
        "folds of a set; ticks in the bars are chance."
    )
    parts = [html.heading(2, "Probes"), html.paragraph(about)]
    for kind in kinds:
        parts.append(html.heading(3, *TITLES[kind]))
        own = _rows(history, found.select(task=kind))
        parts += [_tables({title: row.select(fold="") for title, row in own.items()}), _folds(own)]
    means = _rows(history, found.select(fold=""))
    return pages.join([*parts, _charts(means, {kind: TITLES[kind][0] for kind in kinds})])


def zero_shot(history: History) -> Markup:
    """Section of zero-shot classification; empty if there was none."""
    found = history.measures.where(lambda measure: measure.task == ZERO_SHOT and shows(measure))
    if not found:
        return Markup()
    rows = {_with_fold(title, row): row for title, row in _rows(history, found).items()}
    main = {title: scores.main_variant(row) for title, row in rows.items()}
    about = (
        "A clip gets the class whose name, as a sentence, is nearest to it in the common space; "
        "nothing is trained. Ticks in the bars are chance."
    )
    parts = [html.heading(2, "Zero-shot classification"), html.paragraph(about), _tables(main)]
    return pages.join([*parts, _variants(rows), _charts(main, {ZERO_SHOT: "zero-shot"})])


def _rows(history: History, measures: Measures) -> Rows:
    """The measures of each set and modality, and of each split if there are several of one kind."""
    classified = history.measures.where(shows)
    rows: Rows = {}
    for data in measures.each("set"):
        first = classified.select(set=data).each("target")[0]
        for target in measures.select(set=data).each("target"):
            own = measures.select(set=data, target=target)
            title = data if target == first else f"{data}, {target}"
            splits = own.select(fold="").each("split")
            if len(splits) < 2:
                rows[title] = own
            else:
                rows |= {f"{title}, {split}": own.select(split=split) for split in splits}
    return rows


def _tables(rows: Rows) -> Markup:
    """Latest figures beside chance; sets with one and with several labels per clip apart."""
    parts = []
    for names, found in _groups(rows):
        shown = []
        for title, own, step in found:
            row: Row = [head(title), f"{step:,}"]
            for figure in names:
                measure = own.select(name=figure).at(step)
                row.append(Cell(figures.text(measure), bold=True))
                if figure == names[0]:
                    value = measure.value if measure else 0.0
                    row.append(figures.share_cell(value, figures.chance(measure)))
                row.append(Cell(figures.chance_text(measure), style="chance"))
            shown.append(row)
        first, *rest = (figures.of(figure).title for figure in names)
        titles = ["set", "step", first, "", "chance"]
        titles += [column for title in rest for column in (title, "chance")]
        parts.append(html.table(titles, shown, "data classes", left=("set",)))
    return pages.join(parts)


def _folds(rows: Rows) -> Markup:
    """Folded tables of every fold, training beside test."""
    parts = []
    for names, found in _groups(rows):
        shown = []
        for title, own, step in found:
            for fold in sorted(filter(None, own.each("fold")), key=_fold_order):
                columns = [own.select(name=n, fold=fold, split=s) for n in names for s in SPLITS]
                which = "" if fold == "0" else fold  # 0: the set has no folds
                shown.append([head(title), which or NONE, *_texts(columns, step)])
        above = [("", 0), ("", 0), *((figures.of(figure).title, 2) for figure in names)]
        titles = ["set", "fold", *(split for _ in names for split in SPLITS.values())]
        if shown:
            parts.append(html.table(titles, shown, "data classes", left=("set",), above=above))
    return html.folded("Each fold, training and test", pages.join(parts)) if parts else Markup()


def _variants(rows: Rows) -> Markup:
    """Folded tables of all ways of averaging windows."""
    parts = []
    for names, found in _groups(rows):
        shown = []
        for title, own, step in found:
            for variant in own.each("variant"):
                columns = [own.select(name=figure, variant=variant) for figure in names]
                which = flush(scores.variant_title(variant) or NONE)
                shown.append([head(title), which, *_texts(columns, step)])
        titles = ["set", "windows", *(figures.of(figure).title for figure in names)]
        parts.append(html.table(titles, shown, "data classes", left=("set", "windows")))
    return html.folded("All ways of averaging windows", pages.join(parts)) if parts else Markup()


def _texts(columns: Sequence[Measures], step: int) -> list[str]:
    return [figures.text(column.at(step)) for column in columns]


def _groups(rows: Rows) -> Iterator[tuple[tuple[str, ...], list[tuple[str, Measures, int]]]]:
    """Yields the figures of each kind of set with its rows: title, measures, newest step."""
    for names in (SINGLE, SEVERAL):
        chosen = [(title, own.select(name=names)) for title, own in rows.items()]
        found = [(title, own, own.steps()[-1]) for title, own in chosen if own]
        if found:
            yield names, found


def _charts(rows: Rows, labels: Mapping[str, str]) -> Markup:
    """A chart per set that was evaluated more than once, with a curve per task of `labels`."""
    charts = []
    for title, own in rows.items():
        single = any(name in SINGLE for name in own.each("name"))
        measure = (SINGLE if single else SEVERAL)[0]
        shown = own.select(name=measure)
        if len(shown.steps()) < 2:
            continue
        drawn = [
            Series(label, *shown.select(task=task).series(), color)
            for color, (task, label) in enumerate(labels.items())
            if shown.select(task=task)
        ]
        drawn += figures.chance_curve(shown)
        charts.append(figures.share_chart(drawn, title, figures.of(measure).title))
    return figures.grid(charts)


def _with_fold(title: str, measures: Measures) -> str:
    """Title of a row, with the fold that was measured if the set has several."""
    fold = measures.each("fold")[-1]
    return f"{title}, fold {fold}" if fold else title


def _fold_order(fold: str) -> tuple[int, str]:
    return (int(fold) if fold.isdecimal() else 0, fold)
