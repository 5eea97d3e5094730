"""Report sections of what frozen features and class names are worth: probes, zero-shot classes.

Both show a table of data sets with chance beside each figure, a folded table with the details, and
a chart per set once there are several evaluations. Names of metrics (`vatt.evaluation.probe`,
`vatt.evaluation.zero_shot`), where <measure> is one of `MEASURES` and a set whose second modality
is meant is called <set>@audio:

    <set>_<fold>_<train|test>_<measure>, <set>_<measure>        linear probe; mean over folds
    <set>_<fold>_<train|test>_<probe>_<measure>, <set>_<probe>_<measure>      the other probes
    <set>_chance_<measure>
    <set>_zero_shot_<embd|cosine|chance>_<measure>
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from vatt.reporting import classification, scores
from vatt.reporting.history import History
from vatt.reporting.pieces import NONE, table
from vatt.reporting.plots import Series, line_chart, percent, short_percent

SINGLE = {"top_1_accuracy": "Top-1", "top_5_accuracy": "Top-5"}
SEVERAL = {"mAP": "mAP", "AUC": "AUC", "d-prime": "d′"}  # noqa: RUF001
MEASURES = SINGLE | SEVERAL
FIXED_CHANCE = {"AUC": 0.5, "d-prime": 0.0}
PROBES = {
    "linear": ("Linear probe", "logistic regression on frozen features"),
    "knn": ("k-NN", "votes of the most similar training clips"),
    "published_probe": ("Published probe", "the classifier of the paper: 128 linear units"),
}
AVERAGE = "average"
SPLITS = ("train", "test")

_MEASURE = rf"(?P<measure>{'|'.join(MEASURES)})"
_PROBE = "knn|published_probe"
_NAMES = (  # in this order: each would also match what those before it do
    re.compile(rf"(?P<set>.+)_(?P<kind>zero_shot)_(?P<part>embd|cosine|chance)_{_MEASURE}"),
    re.compile(rf"(?P<set>.+)_(?P<part>\d+_(train|test))_((?P<kind>{_PROBE})_)?{_MEASURE}"),
    re.compile(rf"(?P<set>.+)_(?P<part>chance)_{_MEASURE}"),
    re.compile(rf"(?P<set>.+?)_((?P<kind>{_PROBE})_)?{_MEASURE}"),
)


class Name(NamedTuple):
    """What a metric is of: a probe or "zero_shot", and its part: average, fold, variant, chance."""

    set: str
    kind: str
    part: str
    measure: str


class _Found:
    """The metrics of these sections in one history."""

    def __init__(self, history: History):
        self._history = history
        self.names = dict(_parsed(history))  # Name -> metric

    def sets(self, kind: str, part: str, measures: Iterable[str] = MEASURES) -> list[str]:
        """Data sets with any of these, in the order of their first evaluation."""
        wanted = set(measures)
        return list(
            dict.fromkeys(
                name.set
                for name in self.names
                if (name.kind, name.part) == (kind, part) and name.measure in wanted
            )
        )

    def series(self, name: Name) -> tuple[np.ndarray, np.ndarray]:
        return self._history.series("eval", self.names.get(name, ""))

    def value(self, name: Name, step: int) -> float | None:
        return self._history.value("eval", self.names.get(name, ""), step)

    def step(self, data: str, kind: str) -> int:
        """Of the newest evaluation of a set."""
        own = [name for name in self.names if (name.set, name.kind) == (data, kind)]
        return max(int(steps[-1]) for steps, _ in map(self.series, own) if len(steps))

    def chance(self, data: str, kind: str, measure: str, step: int) -> float | None:
        """Of a measure; linear probe and the others have the same one."""
        if measure in FIXED_CHANCE:
            return FIXED_CHANCE[measure]
        kind = "zero_shot" if kind == "zero_shot" else "linear"
        value = self.value(Name(data, kind, "chance", measure), step)
        return value if value is not None and math.isfinite(value) else None


def names(history: History) -> set[str]:
    """The metrics that these sections show."""
    return {metric for _, metric in _parsed(history)}


def probes(history: History) -> str:
    """Section of the probes; empty if none was trained."""
    found = _Found(history)
    kinds = [kind for kind in PROBES if any(name.kind == kind for name in found.names)]
    kinds = [kind for kind in kinds if found.sets(kind, AVERAGE)]
    if not kinds:
        return ""
    parts = ["<h2>Probes</h2><p>Classifiers trained on the features of the frozen model."]
    parts.append(" Figures are means over the folds of a set; ticks in the bars are chance.</p>")
    for kind in kinds:
        title, note = PROBES[kind]
        parts.append(f'<h3>{title}<span class="note">{note}</span></h3>')
        parts += [_tables(found, kind, AVERAGE), _folds(found, kind)]
    curves = {PROBES[kind][0]: (kind, AVERAGE) for kind in kinds}
    return "".join(parts) + _charts(found, curves)


def zero_shot(history: History) -> str:
    """Section of zero-shot classification; empty if there was none."""
    found = _Found(history)
    if not found.sets("zero_shot", "embd"):
        return ""
    curves = {"zero-shot": ("zero_shot", "embd")}
    return (
        "<h2>Zero-shot classification</h2><p>A clip gets the class whose name, as a sentence, is "
        "nearest to it in the common space; nothing is trained. Ticks in the bars are chance.</p>"
        f"{_tables(found, 'zero_shot', 'embd')}{_variants(found)}{_charts(found, curves)}"
    )


def _parsed(history: History) -> list[tuple[Name, str]]:
    parsed = []
    for metric in history.names("eval"):
        matches = (pattern.fullmatch(metric) for pattern in _NAMES)
        match = next(filter(None, matches), None)
        if match and metric not in classification.KNOWN:
            groups = match.groupdict()
            kind, part = groups.get("kind") or "linear", groups.get("part") or AVERAGE
            parsed.append((Name(groups["set"], kind, part, groups["measure"]), metric))
    return parsed


def _tables(found: _Found, kind: str, part: str) -> str:
    """Latest figures beside chance; sets with one and with several labels per clip apart."""
    parts = []
    for measures in (SINGLE, SEVERAL):
        rows = []
        for data in found.sets(kind, part, measures):
            step = found.step(data, kind)
            cells = []
            for place, measure in enumerate(measures):
                value = found.value(Name(data, kind, part, measure), step)
                chance = found.chance(data, kind, measure, step)
                cells.append(f"<td><b>{_text(measure, value)}</b></td>")
                cells += [_bar(value, chance)] if place == 0 else []
                cells.append(f'<td class="chance">{_text(measure, chance)}</td>')
            rows.append(f"<tr>{_row_head(data)}<td>{step:,}</td>{''.join(cells)}</tr>")
        if rows:
            first, *rest = measures.values()
            head = ["set", "step", first, "", "chance"]
            head += [title for measure in rest for title in (measure, "chance")]
            parts.append(table(head, rows, "data classes", left=("set",)))
    return "".join(parts)


def _folds(found: _Found, kind: str) -> str:
    """Folded tables of every fold, training beside test."""
    parts = []
    for measures in (SINGLE, SEVERAL):
        rows = []
        for data in found.sets(kind, AVERAGE, measures):
            step = found.step(data, kind)
            own = {n.part.split("_")[0] for n in found.names if (n.set, n.kind) == (data, kind)}
            for fold in sorted((part for part in own if part.isdecimal()), key=int):
                values = (
                    _text(m, found.value(Name(data, kind, f"{fold}_{split}", m), step))
                    for m in measures
                    for split in SPLITS
                )
                cells = "".join(f"<td>{text}</td>" for text in values)
                number = NONE if fold == "0" else fold
                rows.append(f"<tr>{_row_head(data)}<td>{number}</td>{cells}</tr>")
        if rows:
            groups = (f'<th colspan="2" scope="colgroup">{m}</th>' for m in measures.values())
            above = f"<tr><td></td><td></td>{''.join(groups)}</tr>"
            head = ["set", "fold", *(split for _ in measures for split in ("training", "test"))]
            parts.append(table(head, rows, "data classes", left=("set",), above=above))
    if not parts:
        return ""
    return f"<details><summary>Each fold, training and test</summary>{''.join(parts)}</details>"


def _variants(found: _Found) -> str:
    """Folded tables of both ways of averaging windows."""
    parts = []
    for measures in (SINGLE, SEVERAL):
        rows = []
        for data in found.sets("zero_shot", "embd", measures):
            step = found.step(data, "zero_shot")
            for variant, meaning in scores.VARIANTS.items():
                values = [found.value(Name(data, "zero_shot", variant, m), step) for m in measures]
                texts = (_text(m, value) for m, value in zip(measures, values, strict=True))
                cells = "".join(f"<td>{text}</td>" for text in texts)
                rows.append(f'<tr>{_row_head(data)}<td class="name">{meaning}</td>{cells}</tr>')
        if rows:
            head = ["set", "windows", *measures.values()]
            parts.append(table(head, rows, "data classes", left=("set", "windows")))
    return f"<details><summary>Both ways of averaging windows</summary>{''.join(parts)}</details>"


def _charts(found: _Found, curves: dict[str, tuple[str, str]]) -> str:
    """A chart per set that was evaluated more than once: `curves` is label -> kind and part."""
    charts = []
    sets = (data for kind, part in curves.values() for data in found.sets(kind, part))
    for data in dict.fromkeys(sets):
        single = any(data in found.sets(*which, SINGLE) for which in curves.values())
        measure = next(iter(SINGLE if single else SEVERAL))
        drawn = _series(found, data, measure, curves)
        if max((len(series.steps) for series in drawn), default=0) < 2:
            continue
        kind = next(iter(curves.values()))[0]
        steps = np.unique(np.concatenate([series.steps for series in drawn]))
        chance = found.chance(data, kind, measure, int(steps[-1]))
        if chance is not None:
            drawn.append(Series("chance", steps, np.full(len(steps), chance), 3, True))
        title, note = _plain(data), MEASURES[measure]
        charts.append(line_chart(drawn, title, lower=0, upper=1, form=short_percent, note=note))
    width = "grid three" if len(charts) > 2 else "grid"
    return f'<div class="{width}">{"".join(charts)}</div>' if charts else ""


def _series(
    found: _Found, data: str, measure: str, curves: dict[str, tuple[str, str]]
) -> list[Series]:
    logged: Sequence[tuple[int, str, tuple[np.ndarray, np.ndarray]]] = [
        (color, label, found.series(Name(data, kind, part, measure)))
        for color, (label, (kind, part)) in enumerate(curves.items())
    ]
    return [Series(label, *points, color) for color, label, points in logged if len(points[0])]


def _row_head(data: str) -> str:
    return f'<th scope="row" class="name">{escape(_plain(data))}</th>'


def _plain(data: str) -> str:
    """Name of a set to be read: "toy_actions, audio" for "toy_actions@audio"."""
    return data.replace("@", ", ")


def _bar(value: float | None, chance: float | None) -> str:
    width = 100 * value if value is not None and math.isfinite(value) else 0.0
    tick = "" if chance is None else f'<i style="left:{100 * chance:.1f}%"></i>'
    return (
        f'<td class="share"><div class="track"><b style="width:{width:.1f}%"></b>{tick}</div></td>'
    )


def _text(measure: str, value: float | None) -> str:
    if value is None:
        return NONE
    if measure == "d-prime" and math.isfinite(value):
        return f"{value:.2f}"
    return percent(value)
