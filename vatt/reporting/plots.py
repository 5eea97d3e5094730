"""Small charts as inline SVG, drawn by the templates of `vatt.pages`; no script.

    line_chart([Series("total", steps, values)], title="Loss")  # -> "<figure>...</figure>"

Series take the colours s0, s1, ... of the style sheet, so a chart follows light and dark. Hovering
over a chart shows a cursor and the values there (an SVG title per column of the chart).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vatt import pages
from vatt.pages import Markup

WIDTH, HEIGHT = 520, 230  # user units; the page scales the whole chart
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 26
COLORS = 6  # s0, s1, ... of the style sheet; series beyond them begin again, dotted
MAX_POINTS = 240  # more are averaged in groups, with the range of each group as a band
HOVER_COLUMNS = 64

# Colours of runs, those that look much alike far apart; a second round is dotted.
_APART = [color + again for again in (0, COLORS) for color in (0, 1, 2, 4, 5, 3)]

Formatter = Callable[[float], str]

html = pages.Macros("chart.html")
_pieces = pages.Macros("pieces.html")
_BOX = {
    "left": LEFT,
    "right": WIDTH - RIGHT,
    "top": TOP,
    "bottom": HEIGHT - BOTTOM,
    "width": WIDTH,
    "height": HEIGHT,
}


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve: values [n] over steps [n]. Values that are not finite are gaps."""

    label: str
    steps: np.ndarray
    values: np.ndarray
    color: int = 0
    dashed: bool = False  # reference levels


def number(value: float) -> str:
    """A number as short as it can be read: 12,000, 0.25, 3.1e-5."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"
    if abs(value) >= 0.01:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "not finite"


def short_percent(value: float) -> str:
    """As `percent`, without a figure behind the point that says nothing: for axes."""
    return f"{100 * value:.3g} %" if math.isfinite(value) else "not finite"


def overlaid(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Series]:
    """A curve (steps, values) of each of several runs; one without points keeps its colour free."""
    numbered = enumerate(curves.items())
    shown = ((label, points, _APART[i % len(_APART)]) for i, (label, points) in numbered)
    return [Series(label, *points, color) for label, points, color in shown if len(points[0])]


def line_chart(
    series: Sequence[Series],
    title: str,
    *,
    log: bool = False,
    lower: float | None = None,
    upper: float | None = None,
    form: Formatter = number,
    note: str = "",
    named: bool = False,
) -> Markup:
    """Figure with the curves that have at least one finite value, or a sentence if none has.

    Args:
      series: the curves.
      title: heading of the figure.
      log: logarithmic axis, used if all values are positive.
      lower: bound the axis must include at least.
      upper: likewise.
      form: writes the values of axis and hover titles.
      note: small text under the heading.
      named: a single curve has a legend, too.
    """
    broken = sum(int(np.sum(~np.isfinite(s.values))) for s in series)
    drawn = [s for s in series if np.isfinite(s.values).any()]
    if not drawn:
        reason = "No finite value was logged." if broken else "Nothing logged yet."
        return html.figure(title, note, _pieces.missing(reason))
    axis = _Axis.fit(drawn, log, lower, upper)
    rows = [(round(float(axis.y(tick)), 1), form(tick)) for tick in axis.ticks]
    curves = [_curve(s, axis) for s in drawn]
    parts = [html.lines(title, _BOX, rows, axis.columns(), curves, _hover(drawn, axis, form))]
    if named or len(drawn) > 1 or drawn[0].dashed:
        parts.append(html.legend([(_style(s), s.label) for s in drawn]))
    if broken:
        gaps = f"{broken:,} value{'s' * (broken != 1)} not finite, shown as gaps"
        parts.append(_pieces.note(gaps))
    return html.figure(title, note, pages.join(parts))


def waveform(outline: np.ndarray) -> Markup:
    """Picture of a sound from its lowest and highest values, [bins, 2], scaled to its peak."""
    outline = np.nan_to_num(np.asarray(outline, np.float64))
    peak = max(float(np.abs(outline).max(initial=0.0)), 1e-6)
    bars = []
    for column, (low, high) in enumerate(outline / peak):
        top, bottom = 24 - 22 * high, 24 - 22 * low
        bars.append(f"M{column * 2 + 1} {top:.1f}V{max(bottom, top + 0.8):.1f}")
    return html.waveform(2 * len(outline), "".join(bars))


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Mapping from steps and values to the drawing, with round tick marks."""

    first: float
    last: float
    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def fit(
        cls, series: Sequence[Series], log: bool, lower: float | None, upper: float | None
    ) -> _Axis:
        steps = np.concatenate([s.steps for s in series])
        values = np.concatenate([s.values[np.isfinite(s.values)] for s in series])
        low, high = float(values.min()), float(values.max())
        log = log and low > 0
        if lower is not None and not log:
            low = min(low, lower)
        if upper is not None and not log:
            high = max(high, upper)
        first, last = float(steps.min()), float(steps.max())
        if first == last:  # a single point stands in the middle
            first, last = first - 1, last + 1
        elif 0 < first <= 0.5 * last:
            first = 0.0
        if log:
            low, high = math.log10(low), math.log10(high)
            low, high = (low - 0.5, high + 0.5) if high - low < 0.5 else (low, high)
            return cls(first, last, low, high, True, _log_ticks(low, high))
        if high - low <= 1e-9 * max(abs(high), 1e-30):
            pad = abs(high) * 0.5 or 1.0
            low, high = low - pad, high + pad
        ticks = _ticks(low, high, 5)
        gap = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
        # Half-used bands at the rim are completed, so that the rim has a label.
        low = ticks[0] - gap if low < ticks[0] - 1e-9 * gap else low
        high = ticks[-1] + gap if high > ticks[-1] + 1e-9 * gap else high
        return cls(first, last, low, high, False, tuple(_ticks(low, high, 6, step=gap or None)))

    def x(self, step: np.ndarray | float) -> np.ndarray:
        share = (np.asarray(step, np.float64) - self.first) / (self.last - self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: np.ndarray | float) -> np.ndarray:
        value = np.asarray(value, np.float64)
        value = np.log10(np.maximum(value, 1e-300)) if self.log else value
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def columns(self) -> list[tuple[float, str, str]]:
        """Place, side and text of the marks along the steps."""
        found = []
        for tick in (t for t in _ticks(self.first, self.last, 5, smallest=1.0) if t >= 0):
            x = round(float(self.x(tick)), 1)
            side = "end" if x > WIDTH - 30 else "middle"
            text = f"{tick:,.0f}" if tick < 1e6 else f"{tick / 1e6:g} M"
            found.append((min(x, WIDTH - 2) if side == "end" else x, side, text))
        return found


def _ticks(
    low: float, high: float, count: int, *, smallest: float = 0.0, step: float | None = None
) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them, at least `smallest` apart."""
    if step is None:
        rough = max((high - low) / max(count - 1, 1), smallest, 1e-300)
        scale = 10.0 ** math.floor(math.log10(rough))
        step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= rough * 0.999)
        if smallest == 1.0:
            step = max(1.0, round(step))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Round numbers between 10^low and 10^high, at most about eight."""
    span = high - low
    leads = (1, 2, 5) if span < 2 else (1, 3) if span < 3.5 else (1,)
    every = max(1, round(span / 7))
    decades = range(math.floor(low), math.ceil(high) + 1, every)
    ticks = [lead * 10.0**decade for decade in decades for lead in leads]
    return tuple(tick for tick in ticks if low <= math.log10(tick) <= high)


def _curve(series: Series, axis: _Axis) -> tuple[str, str, str, list[tuple[float, float]]]:
    """Class, paths of the band and of the line, and dots."""
    steps, middle, low, high = _thin(series.steps, series.values)
    x, y = axis.x(steps).round(1), axis.y(middle).round(1)
    finite = np.flatnonzero(np.isfinite(middle))
    runs = np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1)
    band = path = ""
    dots: list[tuple[float, float]] = []
    y_low, y_high = axis.y(low), axis.y(high)
    for run in filter(len, runs):
        points = [(float(x[i]), float(y[i])) for i in run]
        path += "M" + "L".join(f"{a} {b}" for a, b in points)
        if len(series.values) > MAX_POINTS and len(run) > 1:
            edge = [(x[i], y_high[i]) for i in run] + [(x[i], y_low[i]) for i in reversed(run)]
            band += "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in edge) + "Z"
        if (len(run) == 1 or len(steps) <= 20) and not series.dashed:
            dots += points
    return _style(series), band, path, dots


def _style(series: Series) -> str:
    """Classes of the style sheet."""
    again = " dots" if series.color >= COLORS else ""
    return f"s{series.color % COLORS}{' dash' if series.dashed else again}"


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Steps, means, minima and maxima of at most MAX_POINTS groups; a NaN in a group is a gap."""
    if len(steps) <= MAX_POINTS:
        return steps, values, values, values
    size = math.ceil(len(steps) / MAX_POINTS)
    groups = np.array_split(np.arange(len(steps)), len(steps) // size)
    take = lambda reduce, array: np.array([reduce(array[g]) for g in groups])  # noqa: E731
    values = np.where(np.isfinite(values), values, np.nan)
    return (
        take(np.mean, steps),
        take(np.mean, values),
        take(np.min, values),
        take(np.max, values),
    )


def _hover(
    series: Sequence[Series], axis: _Axis, form: Formatter
) -> list[tuple[float, float, float, str]]:
    """Invisible columns with a title each: the values at the step nearest to the column."""
    curves = [s for s in series if not s.dashed] or list(series)
    steps = np.unique(np.concatenate([s.steps for s in curves]))
    if len(steps) > HOVER_COLUMNS:
        steps = steps[np.linspace(0, len(steps) - 1, HOVER_COLUMNS).astype(int)]
    x = axis.x(steps)
    edges = np.concatenate([[LEFT], (x[1:] + x[:-1]) / 2, [WIDTH - RIGHT]])
    columns = np.stack([x, edges[:-1], np.diff(edges)], axis=1).round(1).tolist()
    texts = []
    for step in steps:
        lines = [f"step {step:,}"]
        for s in curves:
            at = np.flatnonzero(s.steps == step)
            if len(at):
                lines.append(f"{s.label}: {form(float(s.values[at[0]]))}")
        texts.append("\n".join(lines))
    return [(*column, text) for column, text in zip(columns, texts, strict=True)]
