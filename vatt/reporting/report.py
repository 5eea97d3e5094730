"""One self-contained page about a run: `<model_dir>/report.html`.

    python -m vatt.reporting.report MODEL_DIR
    python -m vatt.reporting.report RUN_A RUN_B --output=comparison.html

With several folders the page shows the runs side by side (`vatt.reporting.comparison`).
Reads what a run leaves behind and makes do with what is there, saying what is missing:

    metrics.jsonl   required; metrics of training and measures of evaluations, one JSON object per
                    line (`vatt.reporting.history`)
    eval/*.npz      retrieval examples (`vatt.evaluation.retrieval`), or classes, confusions and
                    mistakes of a classifier (`vatt.evaluation.classification`)
    eval/projections/*.npz, eval/attention/*.npz, eval/reconstructions/*.npz
                    features in the plane, attention maps (`vatt.evaluation.attention`), masked
                    clips with what was predicted of them (`vatt.evaluation.reconstructions`)
    ckpt-*.json     manifests of checkpoints: method and architecture, where no other file says them
    config.yaml     the resolved configuration
    run.json        provenance: {"launches": [{...}, ...]}, one entry per start of the run; the
                    header shows the `started` (ISO 8601) and `machine` of a launch

The page holds its pictures and styles itself and loads nothing: it can be mailed and read offline.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vatt import pages
from vatt.ended import ended
from vatt.files import replace_text
from vatt.pages import Markup
from vatt.reporting import (
    about,
    attention,
    classification,
    comparison,
    geometry,
    grids,
    others,
    pieces,
    probes,
    projections,
    reconstructions,
    scores,
    training,
)
from vatt.reporting.history import History, read
from vatt.reporting.pieces import FILE_NAME, html

# Which measures the sections show; those of other tasks stand in a table of their own.
SHOWN = (scores.shows, probes.shows, geometry.shows, classification.shows)
NOT_YET = "No evaluation has been logged yet: --mode=eval evaluates the checkpoints of this run."


def write(model_dir: Path | str, output: Path | None = None) -> Path:
    """Writes the report of a run and returns its path; an older report is replaced at once.

    Args:
      model_dir: folder of the run.
      output: the page; `report.html` in the folder of the run if not given.

    Raises:
      UserError: the folder or its metrics.jsonl does not exist.
    """
    model_dir = about.folder(model_dir)
    page = _page(about.read(model_dir), read(model_dir / about.METRICS))
    path = output or model_dir / FILE_NAME
    replace_text(path, page)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: prints the path of the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.reporting.report",
        description="Write one self-contained page from the files of a run, or one that shows "
        "several runs side by side: measures, curves, differences of their configurations.",
    )
    parser.add_argument(
        "run", nargs="+", help="folder of a run, the one with metrics.jsonl; several to compare"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PAGE.html",
        help=f"default: {FILE_NAME} in the folder of the run, of several {comparison.FILE_NAME} "
        "in the working directory",
    )
    given = parser.parse_args(arguments)
    return ended(lambda: _run(given), "stopped")


def _run(given: argparse.Namespace) -> int:
    pieces.check_output(given.output)
    several = len(given.run) > 1
    print((comparison.write if several else write)(*given.run, output=given.output))
    return 0


def _page(run: about.Run, history: History) -> str:
    body = [
        about.header(run, history),
        _warnings(history),
        _evaluation(run, history),
        _training(run, history),
        about.provenance(run),
    ]
    return pages.render(about.title(run), body)


def _warnings(history: History) -> Markup:
    parts = []
    if history.skipped:
        parts.append(
            f"{history.skipped} of {history.lines:,} lines of metrics.jsonl could not be read and "
            f"{'is' if history.skipped == 1 else 'are'} left out (a run that is killed often "
            "leaves its last line cut short)"
        )
    if history.unread:
        one = history.unread == 1
        parts.append(
            f"{history.unread:,} measure{'' if one else 's'} in metrics.jsonl could not be read "
            f"and {'is' if one else 'are'} left out"
        )
    return html.warnings(parts)


def _evaluation(run: about.Run, history: History) -> Markup:
    finetuning = bool(classification.sets(history)) or about.is_finetuning(run)
    classified, retrieved = {}, {}
    for name, path in pieces.newest(run.folder / "eval").items():
        ours = classification.holds(path)
        (classified if ours or (ours is None and finetuning) else retrieved)[name] = path
    parts = [
        _classification(history, classified) if finetuning or classified else Markup(),
        _retrieval(history),
        probes.probes(history),
        probes.zero_shot(history),
        geometry.section(history),
        others.measures(history, SHOWN),
        others.metrics(history),
        _examples(history, retrieved),
        _pictures(run.folder),
    ]
    return pages.join(parts) or html.heading(2, "Evaluation") + html.missing(NOT_YET)


def _pictures(folder: Path) -> Markup:
    body = []
    for title, kind, section in (
        ("Features in the plane", "projections", projections.section),
        ("Attention", "attention", attention.section),
    ):
        shown = [section(path) for path in pieces.newest(folder / "eval" / kind).values()]
        body += [html.heading(2, title), *shown] if shown else []
    restored = pieces.by_step(folder / "eval" / "reconstructions").values()
    if shown := [reconstructions.section(paths) for paths in restored]:
        body += [html.heading(2, "Reconstructions"), *shown]
    return pages.join(body)


def _classification(history: History, pictures: dict[str, Path]) -> Markup:
    parts, sets = [html.heading(2, "Classification")], classification.sets(history)
    for title, measures in sets.items():
        parts += [classification.headline(title, measures), classification.curves(measures)]
    parts.append(by_fold := classification.folds(history))
    parts.append(html.heading(2, "All evaluations") if sets else html.missing(NOT_YET))
    for title, measures in sets.items():
        parts += [html.heading(3, title)] if len(sets) > 1 else []
        parts.append(classification.evaluations(measures))
    if pictures:
        parts.append(html.heading(2, "Classes"))
        parts += [classification.classes(path) for path in pictures.values()]
        parts.append(html.heading(2, "Mistakes"))
        parts += [classification.mistakes(path) for path in pictures.values()]
    elif sets and not by_fold:
        nothing = "There are no classes and mistakes to show: nothing was saved in eval/."
        parts.append(html.missing(nothing))
    return pages.join(parts)


def _retrieval(history: History) -> Markup:
    sets = scores.sets(history)
    if not sets:
        return Markup()
    parts = [html.heading(2, "Zero-shot retrieval")]
    for title, measures in sets.items():
        parts += [scores.headline(title, measures), scores.curves(measures)]
    parts.append(html.heading(2, "All evaluations"))
    parts += [scores.evaluations(title, measures) for title, measures in sets.items()]
    return pages.join(parts)


def _examples(history: History, pictures: dict[str, Path]) -> Markup:
    sets = history.measures.where(scores.shows).each("set")
    if not (sets or pictures):
        return Markup()
    parts = [html.heading(2, "Retrieval examples")]
    parts += [grids.section(path) for path in pictures.values()]
    for name in sets:
        if name not in pictures:
            nothing = f"{name}: no examples were saved in eval/{name}-*.npz."
            parts.append(html.missing(nothing))
    return pages.join(parts)


def _training(run: about.Run, history: History) -> Markup:
    if not history.steps("train"):
        if run.config.get("mode") == "eval" or any(run.folder.glob("fold_*")):
            return Markup()  # a folder for figures alone
        nothing = html.missing("No training step has been logged yet.")
        return html.heading(2, "Training") + nothing
    parts = [
        html.heading(2, "Training"),
        html.grid([*training.loss_charts(history), *training.optimization_charts(history)]),
        html.heading(2, "Speed"),
        html.paragraph(training.throughput_summary(history)),
        html.grid(training.throughput_charts(history), "three"),
    ]
    return pages.join(parts)


if __name__ == "__main__":
    sys.exit(main())
