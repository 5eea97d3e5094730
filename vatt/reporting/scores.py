"""Report sections made of evaluation metrics: headline figures, curves over steps, tables."""

from __future__ import annotations

import math
import re
from html import escape

from vatt.reporting.history import History
from vatt.reporting.plots import Series, bar_rows, line_chart, number, percent

DIRECTIONS = {"txt2vid": "Text → video", "audio2vid": "Audio → video"}
MEASURES = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "MedianRank": "Median rank"}
VARIANTS = {"embd": "windows averaged, then compared", "cosine": "window similarities averaged"}
_NAME = re.compile(
    r"(?P<set>.+)_(?P<direction>txt2vid|audio2vid)_(?P<variant>embd|cosine)_"
    r"(?P<measure>R1|R5|R10|MedianRank|top1_.+)"
)
_FACT = re.compile(r"(?P<set>.+)_(num_clips|chance_(R1|R5|R10|MedianRank|top1_.+))")


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
    rows, bars = [], []
    for direction, title in DIRECTIONS.items():
        cells = _headline_cells(history, name, direction, step)
        if cells:
            rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
            bars.append(_attribute_bars(history, name, direction, step))
    head = "".join(f'<th scope="col">{title}</th>' for title in MEASURES.values())
    grid = f'<div class="grid">{"".join(bars)}</div>' if any(bars) else ""
    return (
        f'<section class="card"><h3>{escape(name)}<span class="note">{", ".join(facts)}</span></h3>'
        f'<div class="scroll"><table class="headline"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{grid}</section>"
    )


def curves(history: History, name: str) -> str:
    """Charts of recall and of attributes over training steps, one pair per direction."""
    charts = []
    for direction, title in DIRECTIONS.items():
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
            line_chart(
                recalls, f"{title}: recall", lower=0, upper=1, form=_short_percent, note=note
            )
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
                    form=_short_percent,
                    note="share right",
                )
            )
    return f'<div class="grid">{"".join(charts)}</div>'


def table(history: History, name: str) -> str:
    """All evaluations of a retrieval set: one row per step, the best of each column in bold."""
    steps = scored_steps(history, name)
    columns = [
        (direction, measure)
        for direction in DIRECTIONS
        for measure in MEASURES
        if f"{name}_{direction}_embd_{measure}" in history.names("eval")
    ]
    groups = {d: sum(direction == d for direction, _ in columns) for d in DIRECTIONS}
    top = "".join(
        f'<th colspan="{count}" scope="colgroup">{DIRECTIONS[d]}</th>'
        for d, count in groups.items()
        if count
    )
    head = "".join(f'<th scope="col">{MEASURES[measure]}</th>' for _, measure in columns)
    best = {}
    for direction, measure in columns:
        values = history.series("eval", f"{name}_{direction}_embd_{measure}")[1]
        values = [value for value in values if math.isfinite(value)]
        pick = min if measure == "MedianRank" else max
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
    return (
        f'<h3>{escape(name)}</h3><div class="scroll tall"><table class="data"><thead>'
        f'<tr><td></td>{top}</tr><tr><th scope="col">step</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_both_variants(history, name, steps[-1])}"
    )


def other_metrics(history: History) -> str:
    """Evaluation metrics that are not retrieval, latest value each; empty if there are none."""
    rows = []
    for metric in history.names("eval"):
        latest = history.latest("eval", metric)
        if latest is None or _NAME.fullmatch(metric) or _FACT.fullmatch(metric):
            continue
        rows.append(
            f'<tr><th scope="row">{escape(metric)}</th><td>{latest[0]:,}</td>'
            f"<td>{escape(number(latest[1]))}</td></tr>"
        )
    if not rows:
        return ""
    head = '<tr><th scope="col">metric</th><th scope="col">step</th><th scope="col">value</th></tr>'
    return (
        '<h3>Other metrics</h3><div class="scroll"><table class="data left"><thead>'
        f"{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


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
    head = "".join(f'<th scope="col">{title}</th>' for title in MEASURES.values())
    return (
        f"<details><summary>Both ways of averaging windows, step {step:,}</summary>"
        f'<div class="scroll"><table class="data left"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _headline_cells(history: History, name: str, direction: str, step: int) -> str:
    cells, found = [], False
    for measure in MEASURES:
        value = history.value("eval", f"{name}_{direction}_embd_{measure}", step)
        found |= value is not None
        chance = _chance(history, name, measure, step)
        below = f'<span class="note">chance {_cell(measure, chance)}</span>' if chance else ""
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
        value = (clips + 1) / 2 if measure == "MedianRank" else min(1.0, int(measure[1:]) / clips)
    return value if value is not None and math.isfinite(value) else None


def _series(history: History, prefix: str, labels: dict[str, str]) -> list[Series]:
    found = []
    for color, (measure, label) in enumerate(labels.items()):
        steps, values = history.series("eval", prefix + measure)
        if len(steps):
            found.append(Series(label, steps, values, color))
    return found


def _short_percent(value: float) -> str:
    return f"{100 * value:.3g} %" if math.isfinite(value) else "not finite"


def _cell(measure: str, value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.4g}" if measure == "MedianRank" else percent(value)
