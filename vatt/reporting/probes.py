"""Report sections of what frozen features and class names are worth: probes, zero-shot classes.

Both show a table of data sets with chance beside each figure, a folded table with the details, and
a chart per set once there are several evaluations. A set that is classified in several modalities
has a row for each, those after the first with the modality behind the name of the set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from vatt.evaluation.measures import KNN, LINEAR, PROBES, PUBLISHED_PROBE, ZERO_SHOT, Measure
from vatt.reporting import figures, scores
from vatt.reporting.history import History, Measures
from vatt.reporting.pieces import NONE, table
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


def probes(history: History) -> str:
    """Section of the probes; empty if none was trained."""
    found = history.measures.where(lambda measure: measure.task in PROBES and shows(measure))
    kinds = [kind for kind in TITLES if found.select(task=kind)]
    if not kinds:
        return ""
    parts = ["<h2>Probes</h2><p>Classifiers trained on the features of the frozen model."]
    parts.append(" Figures are means over the folds of a set; ticks in the bars are chance.</p>")
    for kind in kinds:
        title, note = TITLES[kind]
        parts.append(f'<h3>{title}<span class="note">{note}</span></h3>')
        own = _rows(history, found.select(task=kind))
        parts += [_tables({name: row.select(fold="") for name, row in own.items()}), _folds(own)]
    means = _rows(history, found.select(fold=""))
    return "".join(parts) + _charts(means, {kind: TITLES[kind][0] for kind in kinds})


def zero_shot(history: History) -> str:
    """Section of zero-shot classification; empty if there was none."""
    found = history.measures.where(lambda measure: measure.task == ZERO_SHOT and shows(measure))
    if not found:
        return ""
    rows = {_with_fold(name, row): row for name, row in _rows(history, found).items()}
    main = {name: scores.main_variant(row) for name, row in rows.items()}
    return (
        "<h2>Zero-shot classification</h2><p>A clip gets the class whose name, as a sentence, is "
        "nearest to it in the common space; nothing is trained. Ticks in the bars are chance.</p>"
        f"{_tables(main)}{_variants(rows)}{_charts(main, {ZERO_SHOT: 'zero-shot'})}"
    )


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


def _tables(rows: Rows) -> str:
    """Latest figures beside chance; sets with one and with several labels per clip apart."""
    parts = []
    for names, found in _groups(rows):
        shown = []
        for title, own, step in found:
            cells = []
            for name in names:
                measure = own.select(name=name).at(step)
                cells.append(f"<td><b>{figures.text(measure)}</b></td>")
                if name == names[0]:
                    value = measure.value if measure else 0.0
                    cells.append(figures.share_cell(value, figures.chance(measure)))
                cells.append(f'<td class="chance">{figures.chance_text(measure)}</td>')
            shown.append(f"<tr>{_row_head(title)}<td>{step:,}</td>{''.join(cells)}</tr>")
        first, *rest = (figures.of(name).title for name in names)
        head = ["set", "step", first, "", "chance"]
        head += [column for title in rest for column in (title, "chance")]
        parts.append(table(head, shown, "data classes", left=("set",)))
    return "".join(parts)


def _folds(rows: Rows) -> str:
    """Folded tables of every fold, training beside test."""
    parts = []
    for names, found in _groups(rows):
        shown = []
        for title, own, step in found:
            for fold in sorted(filter(None, own.each("fold")), key=_fold_order):
                columns = [own.select(name=n, fold=fold, split=s) for n in names for s in SPLITS]
                which = "" if fold == "0" else fold  # 0: the set has no folds
                shown.append(_detail(title, which, "", columns, step))
        titles = (figures.of(name).title for name in names)
        groups = (f'<th colspan="2" scope="colgroup">{title}</th>' for title in titles)
        above = f"<tr><td></td><td></td>{''.join(groups)}</tr>"
        head = ["set", "fold", *(split for _ in names for split in SPLITS.values())]
        parts += [table(head, shown, "data classes", left=("set",), above=above)] if shown else []
    return _folded("Each fold, training and test", parts)


def _variants(rows: Rows) -> str:
    """Folded tables of all ways of averaging windows."""
    parts = []
    for names, found in _groups(rows):
        shown = []
        for title, own, step in found:
            for variant in own.each("variant"):
                columns = [own.select(name=name, variant=variant) for name in names]
                which = scores.variant_title(variant)
                shown.append(_detail(title, which, "name", columns, step))
        head = ["set", "windows", *(figures.of(name).title for name in names)]
        parts.append(table(head, shown, "data classes", left=("set", "windows")))
    return _folded("All ways of averaging windows", parts)


def _detail(title: str, which: str, style: str, columns: Sequence[Measures], step: int) -> str:
    """A row of a folded table: which fold or the like, and the figures of one step."""
    cells = "".join(f"<td>{figures.text(column.at(step))}</td>" for column in columns)
    style = f' class="{style}"' if style else ""
    return f"<tr>{_row_head(title)}<td{style}>{escape(which) or NONE}</td>{cells}</tr>"


def _folded(summary: str, tables: Sequence[str]) -> str:
    if not tables:
        return ""
    return f"<details><summary>{summary}</summary>{''.join(tables)}</details>"


def _groups(rows: Rows) -> Iterator[tuple[tuple[str, ...], list[tuple[str, Measures, int]]]]:
    """Yields the figures of each kind of set with its rows: title, measures, newest step."""
    for names in (SINGLE, SEVERAL):
        chosen = [(title, own.select(name=names)) for title, own in rows.items()]
        found = [(title, own, own.steps()[-1]) for title, own in chosen if own]
        if found:
            yield names, found


def _charts(rows: Rows, labels: Mapping[str, str]) -> str:
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


def _row_head(title: str) -> str:
    return f'<th scope="row" class="name">{escape(title)}</th>'
