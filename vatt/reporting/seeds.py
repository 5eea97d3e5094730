"""What several seeds of one configuration reach: a table, `seeds.json`, `seeds.csv` and a page.

    found = read(folder, {0: folder / "seed0", 1: folder / "seed1"})
    print(found.table())
    write(found)

Of each seed the newest evaluation counts. Standard deviations are those of samples (n - 1). A
figure that one of the evaluated seeds lacks, or that is not finite there, has no mean.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vatt import configs, pages
from vatt.errors import UserError
from vatt.evaluation import measures, metrics, summary
from vatt.files import make_folder, replace_text
from vatt.pages import Markup, head
from vatt.reporting import about, figures, pieces
from vatt.reporting.history import History
from vatt.reporting.history import read as read_history
from vatt.reporting.pieces import FILE_NAME, NONE, html
from vatt.reporting.plots import Series, line_chart, overlaid
from vatt.reporting.training import TOTAL

JSON, CSV = "seeds.json", "seeds.csv"
COLUMNS = ("mean", "std", "min", "max")
# What seeds of one configuration may differ in.
_OWN = ("seed", "model_dir", "mode", "data_dir")
_SHOWN = 3  # differences that are told


@dataclasses.dataclass(frozen=True)
class Seeds:
    """What was found.

    Attributes:
      folder: of all of them.
      places: by seed, the folder of its figures.
      logged: what those with figures have logged.
      steps: of their newest evaluations.
      values: by name of a figure, that of each of them, NaN where it has none.
      telling: names of the figures that are shown first, and of what they are measures.
      remarks: what stands in the way of a comparison.
    """

    folder: Path
    places: Mapping[int, Path]
    logged: Mapping[int, History]
    steps: Mapping[int, int]
    values: Mapping[str, list[float]]
    telling: Mapping[str, str]
    remarks: list[str]

    @property
    def missing(self) -> list[int]:
        """The seeds without figures."""
        return [seed for seed in self.places if seed not in self.logged]

    def row(self, name: str) -> list[float]:
        """Mean, standard deviation, smallest and largest value, and that of each seed."""
        own = self.values[name]
        spread = metrics.spread(own)
        ends = (float(end(own)) for end in (np.mean, np.min, np.max))
        mean, low, high = (end if math.isfinite(end) else math.nan for end in ends)
        return [mean, math.nan if spread is None else spread, low, high, *own]

    def table(self) -> str:
        """The telling figures as text."""
        step = ", ".join(f"{step:,}" for step in dict.fromkeys(self.steps.values()))
        lines = [f"{self.folder}: seed {_listed(self.logged)} at step {step or '-'}"]
        rows = [["", *COLUMNS, *(f"seed {seed}" for seed in self.logged)]]
        rows += [[name, *map(_short, self.row(name))] for name in self.telling]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for first, *numbers in rows if self.telling else ():
            cells = map(str.rjust, numbers, widths[1:])
            lines.append("  ".join([first.ljust(widths[0]), *cells]))
        if self.missing:
            lines.append(f"missing, no figures yet: seed {_listed(self.missing)}")
        return "\n".join(lines)


def read(folder: Path, places: Mapping[int, Path]) -> Seeds:
    """Reads the newest figures of each seed.

    Args:
      folder: what they have in common is written there.
      places: by seed, the folder with its figures.
    """
    logged: dict[int, History] = {}
    for seed, place in places.items():
        try:
            history = read_history(place / "metrics.jsonl")
        except UserError:
            continue
        if history.steps("eval"):
            logged[seed] = history
    steps = {seed: history.steps("eval")[-1] for seed, history in logged.items()}
    newest = {
        seed: {
            name: at[steps[seed]]
            for name, at in history.values["eval"].items()
            if steps[seed] in at
        }
        for seed, history in logged.items()
    }
    names = dict.fromkeys(name for own in newest.values() for name in own)
    values = {name: [own.get(name, math.nan) for own in newest.values()] for name in names}
    telling: dict[str, str] = {}
    for seed, history in logged.items():
        found = [measure for _, measure in history.measures.at_step(steps[seed])]
        every = list(zip(measures.own_names(found), found, strict=True))
        chosen = {name: measure.name for name, measure in summary.telling(found) or every}
        telling |= {name: of for name, of in chosen.items() if name in values}
    remarks = [*_steps(steps), *_differences({seed: places[seed] for seed in logged})]
    return Seeds(folder, places, logged, steps, values, telling, remarks)


def _steps(steps: Mapping[int, int]) -> Iterator[str]:
    by_step: dict[int, list[int]] = {}
    for seed, step in steps.items():
        by_step.setdefault(step, []).append(seed)
    if len(by_step) > 1:
        told = (f"step {step:,} of seed {_listed(own)}" for step, own in sorted(by_step.items()))
        yield f"the newest figures are of different steps: {'; '.join(told)}"


def _differences(places: Mapping[int, Path]) -> Iterator[str]:
    """Says whose config.yaml is of another seed, or differs from that of the first in more."""
    trees = {seed: about.read(place).config for seed, place in places.items()}
    first = next(iter(trees), 0)
    for seed, tree in trees.items():
        if not tree:
            yield f"seed {seed}: {places[seed]} has no config.yaml that can be read"
            continue
        if tree.get("seed", seed) != seed:
            yield f"{places[seed]} is a run of seed {tree['seed']}, not {seed}"
        differing = [
            difference
            for difference in configs.diff(trees[first], tree)
            if difference.partition(":")[0] not in _OWN
        ]
        if differing:
            more = len(differing) - _SHOWN
            told = "; ".join(differing[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            yield f"seed {seed} has another configuration than seed {first}: {told}"


def write(found: Seeds, *, page: bool = True) -> None:
    """Writes all figures as JSON and as CSV, and a page if wanted."""
    make_folder(found.folder)
    rows = {name: found.row(name) for name in found.values}
    tree = {
        "seeds": list(found.places),
        "missing": found.missing,
        "steps": {str(seed): step for seed, step in found.steps.items()},
        "remarks": found.remarks,
        "headline": list(found.telling),
        "metrics": {
            name: dict(zip(COLUMNS, map(_json, row), strict=False))
            | {
                "values": dict(
                    zip(map(str, found.logged), map(_json, found.values[name]), strict=True)
                )
            }
            for name, row in rows.items()
        },
    }
    replace_text(found.folder / JSON, json.dumps(tree, indent=1, allow_nan=False) + "\n")
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["metric", *COLUMNS, *(f"seed{seed}" for seed in found.logged)])
    for name, row in rows.items():
        writer.writerow([name, *("" if _json(value) is None else value for value in row)])
    replace_text(found.folder / CSV, lines.getvalue())
    if page:
        replace_text(found.folder / FILE_NAME, _page(found))


def _page(found: Seeds) -> str:
    title = f"{found.folder.resolve().name}: seed {_listed(found.places)}"
    missing = f"no figures yet: seed {_listed(found.missing)}"
    warnings = [*found.remarks, *([missing] if found.missing else [])]
    charts = _charts(found)
    body = [
        html.title(title),
        html.warnings(warnings),
        html.heading(2, "Figures"),
        _rows(found, found.telling),
        html.heading(2, "Over training") if charts else Markup(),
        figures.grid(charts),
        html.folded("All figures", _rows(found, found.values)),
    ]
    return pages.render(title, body)


def _rows(found: Seeds, names: Mapping[str, object]) -> Markup:
    places = {seed: found.places[seed] for seed in found.logged}
    seeds = [pieces.linked(f"seed {s}", place, found.folder) for s, place in places.items()]
    rows = [[head("step"), "", "", "", "", *(f"{step:,}" for step in found.steps.values())]]
    for name in names:
        form = figures.of(found.telling.get(name, name)).form
        cells = (NONE if math.isnan(value) else form(value) for value in found.row(name))
        rows.append([head(name), *cells])
    return html.table(["", *COLUMNS, *seeds], rows, "data")


def _charts(found: Seeds) -> list[Markup]:
    def series(split: str, name: str) -> list[Series]:
        curves = {f"seed {seed}": own.series(split, name) for seed, own in found.logged.items()}
        return overlaid(curves)

    loss = series("train", TOTAL)
    charts = [line_chart(loss, "Total loss", named=True)] if loss else []
    for name, of in found.telling.items():
        charts.append(line_chart(series("eval", name), name, form=figures.of(of).form, named=True))
    return charts


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _listed(seeds: Mapping[int, object] | list[int]) -> str:
    return ", ".join(map(str, seeds)) or "-"
