"""Report sections of retrieval: headline figures, curves over steps, tables of all evaluations.

Every pair of what is given and what is looked for that was measured is shown, of embeddings of
several modalities also as a matrix. Where both directions
of a pair were, the one that was measured first stands open and the other is folded away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import starmap

from vatt import pages
from vatt.evaluation.measures import COMPLETE, MAIN, RETRIEVAL, Measure
from vatt.evaluation.summary import counts, too_small
from vatt.pages import Markup, head
from vatt.reporting import directions, figures
from vatt.reporting.figures import Pair
from vatt.reporting.history import History, Measures
from vatt.reporting.pieces import html
from vatt.reporting.plots import html as charts
from vatt.reporting.plots import percent

# The figures of the tables in their order; others that were measured stand behind them.
RANKINGS = ("R1", "R5", "R10", "R50", "GeometricMean", "MedianRank", "MeanRank")
RECALLS = ("R10", "R5", "R1")  # of the charts, in the order of their colours
VARIANTS = {
    "embd": "windows averaged, then compared",
    "cosine": "window similarities averaged",
    COMPLETE: "of the complete set: missing clips count as not found, equal scores share places",
}


def shows(measure: Measure) -> bool:
    """Whether a measure is among those of this section."""
    return measure.task == RETRIEVAL


def sets(history: History) -> dict[str, Measures]:
    """The measures of each data set, in the order of their first evaluation."""
    return history.measures.where(shows).by_set()


def main_variant(measures: Measures) -> Measures:
    """The measures of the way of averaging windows that is shown first."""
    variants = measures.each("variant")
    return measures.select(variant=MAIN if MAIN in variants else variants[:1])


def variant_title(variant: str) -> str:
    """A way of averaging windows in words."""
    return VARIANTS.get(variant, variant)


def headline(title: str, measures: Measures) -> Markup:
    """Latest figures of a retrieval set beside chance, with what its best matches get right."""
    step = measures.steps()[-1]
    newest = _pairs(measures.at_step(step))
    columns = _rankings(newest)
    clips = {pair: _samples(own) for pair, own in newest.items()}
    common = set(clips.values())
    rows = []
    for pair, own in newest.items():
        count = clips[pair] if len(common) > 1 else ""
        cells = (figures.headline_cell(own.select(name=name).at(step)) for name in columns)
        rows.append([head(figures.pair_title(*pair), count), *cells])
    notes = [f"step {step:,}", *(common if len(common) == 1 else ())]
    titles = ["", *(figures.of(name).title for name in columns)]
    table, bars = html.table(titles, rows, "headline"), _both_ways(newest, _all_bars)
    latest = measures.at_step(step)
    if matrices := directions.matrices(latest, main_variant(latest).each("variant")[0]):
        table = matrices + html.folded("All figures of all directions", table)
    small = html.warnings(too_small(measure for _, measure in latest))
    body = pages.join([table, small, bars])
    return html.card(title, ", ".join(filter(None, notes)), body)


def curves(measures: Measures) -> Markup:
    """Charts of recall and of attributes over training steps; empty with one evaluation only."""
    if len(measures.steps()) < 2:
        return Markup()
    return _both_ways(
        _pairs(measures),
        lambda pairs: html.grid([chart for pair in pairs.items() for chart in _charts(*pair)]),
    )


def evaluations(title: str, measures: Measures) -> Markup:
    """All evaluations of a retrieval set: one row per step, the best of each column in bold."""
    tables = _both_ways(_pairs(measures), _by_step)
    return pages.join([html.heading(3, title), tables, _variants(measures)])


def _by_step(pairs: Mapping[Pair, Measures]) -> Markup:
    columns: list[Measures] = []
    above = [("", 0)]
    for pair, own in pairs.items():
        names = _rankings({pair: own})
        columns += [own.select(name=name) for name in names]
        above += [(figures.pair_title(*pair), len(names))] if names else []
    return figures.by_step(columns, above) if columns else Markup()


def _variants(measures: Measures) -> Markup:
    """A folded table of the newest figures by way of averaging windows, where there are several."""
    if len(measures.each("variant")) < 2:
        return Markup()
    step = measures.steps()[-1]
    newest = measures.at_step(step)
    names = _rankings({("", ""): newest})
    rows = []
    for pair in _pairs(newest):
        own = newest.select(query=pair[0], target=pair[1])
        for variant in own.each("variant"):
            found = own.select(variant=variant)
            cells = (figures.text(found.select(name=name).at(step)) for name in names)
            label = ", ".join(filter(None, (figures.pair_title(*pair), variant_title(variant))))
            rows.append([head(label), *cells])
    titles = ["", *(figures.of(name).title for name in names)]
    return html.folded(
        f"All directions and ways of averaging windows, step {step:,}",
        html.table(titles, rows, "data"),
    )


# Pairs --------------------------------------------------------------------------------------------


def _pairs(measures: Measures) -> dict[Pair, Measures]:
    """The measures shown of each (query, target), each direction followed by its reverse."""
    found = measures.combinations("query", "target")
    both = (pair for first in found for pair in (first, first[::-1]) if pair in found)
    return {
        (query, target): main_variant(measures.select(query=query, target=target))
        for query, target in dict.fromkeys(both)
    }


def _both_ways(
    pairs: Mapping[Pair, Measures], show: Callable[[Mapping[Pair, Measures]], Markup]
) -> Markup:
    """What `show` makes of the pairs; those whose reverse stands before them are folded away."""
    order = list(pairs)
    back = {pair: pairs[pair] for n, pair in enumerate(order) if pair[::-1] in order[:n]}
    shown = show({pair: own for pair, own in pairs.items() if pair not in back})
    if folded := show(back):
        titles = "; ".join(figures.pair_title(*pair) for pair in back)
        shown += html.folded(f"The other way: {titles}", folded)
    return shown


def _all_bars(pairs: Mapping[Pair, Measures]) -> Markup:
    return html.grid([*filter(None, starmap(_bars, pairs.items()))])


def _bars(pair: Pair, newest: Measures) -> Markup:
    """What the best match gets right, beside chance; nothing beyond R@1, which stands above."""
    rows = []
    for name in ("R1", *_attributes(newest)):
        for _, measure in newest.select(name=name):
            label = "the very clip" if name == "R1" else f"its {figures.of(name).title}"
            bar = figures.bar(measure.value, figures.chance(measure))
            rows.append((label, *bar, percent(measure.value)))
    if len(rows) < 2:
        return Markup()
    title = f"{figures.pair_title(*pair)}: what the best match gets right"
    return charts.figure(title, "tick:\N{NO-BREAK SPACE}chance", html.bars(rows))


def _charts(pair: Pair, measures: Measures) -> list[Markup]:
    shown = []
    if recalls := figures.curves(measures, RECALLS):
        first = next(name for name in RECALLS if name in measures.each("name"))
        label = f"chance {figures.of(first).title}"
        recalls += figures.chance_curve(measures.select(name=first), label)
        title = f"{figures.pair_title(*pair)}: recall"
        shown.append(figures.share_chart(recalls, title, "share of queries"))
    if known := figures.curves(measures, _attributes(measures)):
        title = f"{figures.pair_title(*pair)}: attributes of the best match"
        shown.append(figures.share_chart(known, title, "share right"))
    return shown


def _rankings(pairs: Mapping[Pair, Measures]) -> list[str]:
    """The figures of the tables that were measured, of any pair."""
    found = dict.fromkeys(name for own in pairs.values() for name in own.each("name"))
    others = [n for n in found if n not in RANKINGS and not n.startswith(figures.ATTRIBUTE)]
    return [name for name in RANKINGS if name in found] + others


def _attributes(measures: Measures) -> list[str]:
    return [name for name in measures.each("name") if name.startswith(figures.ATTRIBUTE)]


def _samples(newest: Measures) -> str:
    """The number of clips that were searched, in words; empty if it is not known."""
    return next((counts(measure) for _, measure in newest if measure.samples is not None), "")
