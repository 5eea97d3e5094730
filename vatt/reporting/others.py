"""Report sections of what no other section knows: other measures, figures by name alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vatt import pages
from vatt.evaluation.measures import Measure
from vatt.pages import Markup, flush, head
from vatt.reporting import figures
from vatt.reporting.history import History
from vatt.reporting.pieces import html
from vatt.reporting.plots import number

Shows = Callable[[Measure], bool]

# Title of a column -> its text; columns without any text are left out.
TEXTS: dict[str, Callable[[Measure], str]] = {
    "set": lambda measure: measure.set,
    "split": lambda measure: measure.split,
    "fold": lambda measure: measure.fold,
    "task": lambda measure: measure.task,
    "of": lambda measure: figures.pair_title(measure.query, measure.target),
    "variant": lambda measure: measure.variant,
    "measure": lambda measure: figures.of(measure.name).title,
}
NUMBERS: dict[str, Callable[[Measure], str]] = {
    "value": figures.text,
    "chance": lambda measure: (
        "" if figures.chance(measure) is None else figures.chance_text(measure)
    ),
    "clips": lambda measure: "" if measure.samples is None else f"{measure.samples:,.0f}",
}


def measures(history: History, shown: Sequence[Shows]) -> Markup:
    """Table of the latest measures that no section shows; empty if there are none.

    Args:
      history: the run.
      shown: one for each section, whether it shows a measure.
    """
    found = list(history.measures.where(lambda measure: not any(own(measure) for own in shown)))
    if not found:
        return Markup()
    columns = {
        title: [text(measure) for _, measure in found] for title, text in (TEXTS | NUMBERS).items()
    }
    columns = {title: texts for title, texts in columns.items() if any(texts)}
    columns["step"] = [f"{step:,}" for step, _ in found]
    left = [title for title in columns if title in TEXTS]
    titles = [*left, "step", *(title for title in columns if title in NUMBERS)]
    rows = [
        [(flush if title in left else str)(columns[title][place]) for title in titles]
        for place in range(len(found))
    ]
    table = html.table(titles, rows, "data classes", left=left, tall=True)
    return pages.join([html.heading(2, "Other measures"), table])


def metrics(history: History) -> Markup:
    """Table of the latest figures of evaluations that have a name only; empty without such."""
    rows = [
        [head(name), f"{max(points):,}", number(points[max(points)])]
        for name, points in history.unmeasured.items()
        if points
    ]
    if not rows:
        return Markup()
    parts = [html.heading(2, "Other metrics")]
    if history.earlier:
        one = history.earlier == 1
        why = (
            f"{history.earlier:,} evaluation{'' if one else 's'} of this run "
            f"{'was' if one else 'were'} written by an earlier version, which logged names only: "
            f"{'its' if one else 'their'} figures are listed by name."
        )
        parts.append(html.paragraph(why))
    table = html.table(["metric", "step", "value"], rows, "data", left=("metric",), tall=True)
    return pages.join([*parts, table])
