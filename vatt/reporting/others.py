"""Report sections of what no other section knows: other measures, figures by name alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from vatt.evaluation.measures import Measure
from vatt.reporting import figures
from vatt.reporting.history import History
from vatt.reporting.pieces import table
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


def measures(history: History, shown: Sequence[Shows]) -> str:
    """Table of the latest measures that no section shows; empty if there are none.

    Args:
      history: the run.
      shown: one for each section, whether it shows a measure.
    """
    found = list(history.measures.where(lambda measure: not any(own(measure) for own in shown)))
    if not found:
        return ""
    columns = {
        title: [text(measure) for _, measure in found] for title, text in (TEXTS | NUMBERS).items()
    }
    columns = {title: texts for title, texts in columns.items() if any(texts)}
    columns["step"] = [f"{step:,}" for step, _ in found]
    left = [title for title in columns if title in TEXTS]
    head = [*left, "step", *(title for title in columns if title in NUMBERS)]
    rows = []
    for place in range(len(found)):
        cells = (
            f"<td{' class=name' if title in left else ''}>{escape(columns[title][place])}</td>"
            for title in head
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<h2>Other measures</h2>{table(head, rows, 'data classes', left=left, tall=True)}"


def metrics(history: History) -> str:
    """Table of the latest figures of evaluations that have a name only; empty without such."""
    rows = []
    for name, points in history.unmeasured.items():
        if points:
            step = max(points)
            rows.append(
                f'<tr><th scope="row">{escape(name)}</th><td>{step:,}</td>'
                f"<td>{escape(number(points[step]))}</td></tr>"
            )
    if not rows:
        return ""
    why = ""
    if history.earlier:
        one = history.earlier == 1
        why = (
            f"<p>{history.earlier:,} evaluation{'' if one else 's'} of this run "
            f"{'was' if one else 'were'} written by an earlier version, which logged names only: "
            f"{'its' if one else 'their'} figures are listed by name.</p>"
        )
    shown = table(["metric", "step", "value"], rows, "data", left=("metric",), tall=True)
    return f"<h2>Other metrics</h2>{why}{shown}"
