"""Report sections made of evaluation metrics: headline figures, curves over steps, tables."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from html import escape

from vatt.reporting.history import History
from vatt.reporting.pieces import NONE, table
from vatt.reporting.plots import Series, bar_rows, line_chart, number, percent, short_percent

DIRECTIONS = {
    "txt2vid": "Text → video",
    "vid2txt": "Video → text",
    "audio2vid": "Audio → video",
    "vid2audio": "Video → audio",
    "txt2audio": "Text → audio",
    "audio2txt": "Audio → text",
}
FORTH = {name: DIRECTIONS[name] for name in ("txt2vid", "audio2vid", "txt2audio")}
MEASURES = {
    "R1": "R@1",
    "R5": "R@5",
    "R10": "R@10",
    "MedianRank": "Median rank",
    "MeanRank": "Mean rank",
}
RANKS = ("MedianRank", "MeanRank")
VARIANTS = {"embd": "windows averaged, then compared", "cosine": "window similarities averaged"}
_NAME = re.compile(
    rf"(?P<set>.+)_(?P<direction>{'|'.join(DIRECTIONS)})_(?P<variant>embd|cosine)_"
    rf"(?P<measure>{'|'.join(MEASURES)}|top1_.+)"
)
_FACT = re.compile(rf"(?P<set>.+)_(num_clips|chance_({'|'.join(MEASURES)}|top1_.+))")


def retrieval_sets(history: History) -> list[str]:
    """Data sets that have retrieval metrics, in the order of their first evaluation."""
    found = (_NAME.fullmatch(name) for name in history.names("eval"))
    return list(dict.fromkeys(match["set"] for match in found if match))


def scored_steps(history: History, name: str) -> list[int]:
    """Steps at which the retrieval set `name` was evaluated, ascending."""
    steps = set()
    for metric in history.names("eval"):
        match = _NAME.fullmatch(metric)
        if match and match["set"] == name:
            steps |= set(history.series("eval", metric)[0].tolist())
    return sorted(steps)


def headline(history: History, name: str) -> str:
    """Latest figures of a retrieval set beside chance, with what its best matches get right."""
    step = scored_steps(history, name)[-1]
    clips = history.value("eval", f"{name}_num_clips", step)
    facts = [f"step {step:,}"] + ([f"{clips:,.0f} clips"] if clips else [])
    measures = _measures(history, name, step)
    rows, bars = [], []
    for direction, title in DIRECTIONS.items():
        cells = _headline_cells(history, name, direction, measures, step)
        if cells:
            rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
            bars += [_attribute_bars(history, name, direction, step)] if direction in FORTH else []
    head = "".join(f'<th scope="col">{MEASURES[measure]}</th>' for measure in measures)
    grid = f'<div class="grid">{"".join(bars)}</div>' if any(bars) else ""
    return (
        f'<section class="card"><h3>{escape(name)}<span class="note">{", ".join(facts)}</span></h3>'
        f'<div class="scroll"><table class="headline"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{grid}</section>"
    )


def curves(history: History, name: str) -> str:
    """Charts of recall and of attributes over training steps, one pair per direction of FORTH.

    Empty with one evaluation only.
    """
    if len(scored_steps(history, name)) < 2:
        return ""
    charts = []
    for direction, title in FORTH.items():
        prefix = f"{name}_{direction}_embd_"
        recalls = _series(history, prefix, {k: MEASURES[k] for k in ("R10", "R5", "R1")})
        if not recalls:
            continue
        chance = _chance(history, name, "R10", scored_steps(history, name)[-1])
        if chance is not None:
            recalls.append(
                Series("chance R@10", recalls[0].steps, recalls[0].values * 0 + chance, 3, True)
            )
        note = "share of queries"
        charts.append(
            line_chart(recalls, f"{title}: recall", lower=0, upper=1, form=short_percent, note=note)
        )
        labels = {f"top1_{a}": a for a in _attributes(history, name, direction)}
        known = _series(history, prefix, labels)
        if known:
            charts.append(
                line_chart(
                    known,
                    f"{title}: attributes of the best match",
                    lower=0,
                    upper=1,
                    form=short_percent,
                    note="share right",
                )
            )
    return f'<div class="grid">{"".join(charts)}</div>'


def evaluations(history: History, name: str) -> str:
    """All evaluations of a retrieval set: one row per step, the best of each column in bold."""
    steps = scored_steps(history, name)
    columns = [
        (direction, measure)
        for direction in FORTH
        for measure in MEASURES
        if f"{name}_{direction}_embd_{measure}" in history.names("eval")
    ]
    groups = {d: sum(direction == d for direction, _ in columns) for d in FORTH}
    top = "".join(
        f'<th colspan="{count}" scope="colgroup">{DIRECTIONS[d]}</th>'
        for d, count in groups.items()
        if count
    )
    best = {}
    for direction, measure in columns:
        values = history.series("eval", f"{name}_{direction}_embd_{measure}")[1]
        values = [value for value in values if math.isfinite(value)]
        pick = min if measure in RANKS else max
        best[direction, measure] = pick(values) if values else None
    rows = []
    for step in reversed(steps):
        cells = []
        for direction, measure in columns:
            value = history.value("eval", f"{name}_{direction}_embd_{measure}", step)
            bold = value is not None and value == best[direction, measure] and len(steps) > 1
            text = _cell(measure, value)
            cells.append(f"<td>{f'<b>{text}</b>' if bold else text}</td>")
        rows.append(f'<tr><th scope="row">{step:,}</th>{"".join(cells)}</tr>')
    head = ["step", *(MEASURES[measure] for _, measure in columns)]
    above = f"<tr><td></td>{top}</tr>"
    return (
        f"<h3>{escape(name)}</h3>{table(head, rows, 'data', above=above, tall=True)}"
        f"{_both_variants(history, name, steps[-1])}"
    )


def other_metrics(history: History, known: Collection[str] = ()) -> str:
    """Latest value of evaluation metrics that are neither retrieval nor `known`, or nothing."""
    rows = []
    for metric in history.names("eval"):
        latest = history.latest("eval", metric)
        shown = metric in known or _NAME.fullmatch(metric) or _FACT.fullmatch(metric)
        if latest is None or shown:
            continue
        rows.append(
            f'<tr><th scope="row">{escape(metric)}</th><td>{latest[0]:,}</td>'
            f"<td>{escape(number(latest[1]))}</td></tr>"
        )
    if not rows:
        return ""
    return f"<h2>Other metrics</h2>{table(['metric', 'step', 'value'], rows, 'data left')}"


def _both_variants(history: History, name: str, step: int) -> str:
    rows = []
    for direction, title in DIRECTIONS.items():
        for variant, meaning in VARIANTS.items():
            values = [
                history.value("eval", f"{name}_{direction}_{variant}_{measure}", step)
                for measure in MEASURES
            ]
            if any(value is not None for value in values):
                cells = "".join(
                    f"<td>{_cell(m, v)}</td>" for m, v in zip(MEASURES, values, strict=True)
                )
                rows.append(f'<tr><th scope="row">{title}, {meaning}</th>{cells}</tr>')
    return (
        f"<details><summary>All directions, both ways of averaging windows, step {step:,}</summary>"
        f"{table(['', *MEASURES.values()], rows, 'data left')}</details>"
    )


def _measures(history: History, name: str, step: int) -> list[str]:
    """The measures that were logged, in any direction."""
    return [
        measure
        for measure in MEASURES
        if any(
            history.value("eval", f"{name}_{direction}_embd_{measure}", step) is not None
            for direction in DIRECTIONS
        )
    ]


def _headline_cells(
    history: History, name: str, direction: str, measures: list[str], step: int
) -> str:
    cells, found = [], False
    for measure in measures:
        value = history.value("eval", f"{name}_{direction}_embd_{measure}", step)
        found |= value is not None
        chance = _chance(history, name, measure, step)
        told = f"chance {_cell(measure, chance)}".replace(" %", "&nbsp;%")
        below = f'<span class="note">{told}</span>' if chance else ""
        cells.append(f"<td><b>{_cell(measure, value)}</b>{below}</td>")
    return "".join(cells) if found else ""


def _attribute_bars(history: History, name: str, direction: str, step: int) -> str:
    rows = []
    wanted = {"R1": "the very clip"}
    wanted |= {f"top1_{a}": f"its {a}" for a in _attributes(history, name, direction)}
    for measure, label in wanted.items():
        value = history.value("eval", f"{name}_{direction}_embd_{measure}", step)
        if value is not None:
            rows.append((label, value, _chance(history, name, measure, step), percent(value)))
    if len(rows) < 2:  # nothing beyond R@1, which stands above already
        return ""
    return (
        f"<figure><figcaption><b>{DIRECTIONS[direction]}: what the best match gets right</b>"
        f'<span class="note">tick: chance</span></figcaption>{bar_rows(rows)}</figure>'
    )


def _attributes(history: History, name: str, direction: str) -> list[str]:
    prefix = f"{name}_{direction}_embd_top1_"
    return [n.removeprefix(prefix) for n in history.names("eval") if n.startswith(prefix)]


def _chance(history: History, name: str, measure: str, step: int) -> float | None:
    value = history.value("eval", f"{name}_chance_{measure}", step)
    clips = history.value("eval", f"{name}_num_clips", step)
    if value is None and clips and measure in MEASURES:
        value = (clips + 1) / 2 if measure in RANKS else min(1.0, int(measure[1:]) / clips)
    return value if value is not None and math.isfinite(value) else None


def _series(history: History, prefix: str, labels: dict[str, str]) -> list[Series]:
    found = []
    for color, (measure, label) in enumerate(labels.items()):
        steps, values = history.series("eval", prefix + measure)
        if len(steps):
            found.append(Series(label, steps, values, color))
    return found


def _cell(measure: str, value: float | None) -> str:
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.4g}" if measure in RANKS else percent(value)
