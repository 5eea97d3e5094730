"""One self-contained page about a run: `<model_dir>/report.html`.

    python -m vatt.reporting.report MODEL_DIR

Reads what a run leaves behind and makes do with what is there, saying what is missing:

    metrics.jsonl   required; metrics of training and measures of evaluations, one JSON object per
                    line (`vatt.reporting.history`)
    eval/*.npz      retrieval examples (`vatt.evaluation.retrieval`), or classes, confusions and
                    mistakes of a classifier (`vatt.evaluation.classification`)
    eval/projections/*.npz, eval/attention/*.npz
                    features in the plane, attention maps (`vatt.evaluation.attention`)
    ckpt-*.json     manifests of checkpoints: method and architecture, where no other file says them
    config.yaml     the resolved configuration
    run.json        provenance: {"launches": [{...}, ...]}, one entry per start of the run; the
                    header shows the `started` (ISO 8601) and `machine` of a launch

The page holds its pictures and styles itself and loads nothing: it can be mailed and read offline.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from vatt.errors import UserError
from vatt.files import replace_text
from vatt.printing import escape_what_cannot_be_shown
from vatt.reporting import (
    about,
    attention,
    classification,
    geometry,
    grids,
    others,
    pieces,
    probes,
    projections,
    scores,
    training,
)
from vatt.reporting.history import History, read

FILE_NAME = "report.html"
# Which measures the sections show; those of other tasks stand in a table of their own.
SHOWN = (scores.shows, probes.shows, geometry.shows, classification.shows)
NOT_YET = (
    '<p class="missing">No evaluation has been logged yet: <code>--mode=eval</code> evaluates the '
    "checkpoints of this run.</p>"
)


def write(model_dir: Path | str) -> Path:
    """Writes the report of a run and returns its path; an older report is replaced at once.

    Raises:
      UserError: the folder or its metrics.jsonl does not exist.
    """
    model_dir = Path(model_dir)
    if not model_dir.is_dir():
        raise UserError(f"model_dir {model_dir} is not a folder.{_nearest_folder(model_dir)}")
    page = _page(about.read(model_dir), read(model_dir / "metrics.jsonl"))
    path = model_dir / FILE_NAME
    replace_text(path, page)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: prints the path of the report; returns the exit code."""
    escape_what_cannot_be_shown()
    parser = argparse.ArgumentParser(
        prog="python -m vatt.reporting.report",
        description="Write report.html, one self-contained page, from the files of a run.",
    )
    parser.add_argument("model_dir", help="folder of the run: the one with metrics.jsonl")
    try:
        print(write(parser.parse_args(arguments).model_dir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _page(run: about.Run, history: History) -> str:
    body = [
        about.header(run, history),
        _warnings(history),
        _evaluation(run, history),
        _training(run, history),
        about.provenance(run),
    ]
    return pieces.page(about.title(run), body)


def _warnings(history: History) -> str:
    parts = []
    if history.skipped:
        parts.append(
            f"{history.skipped} of {history.lines:,} lines of metrics.jsonl could not be read and "
            f"{'is' if history.skipped == 1 else 'are'} left out (a run that is killed often "
            "leaves its last line cut short)."
        )
    if history.unread:
        one = history.unread == 1
        parts.append(
            f"{history.unread:,} measure{'' if one else 's'} in metrics.jsonl could not be read "
            f"and {'is' if one else 'are'} left out."
        )
    return "".join(f'<p class="warning">{part}</p>' for part in parts)


def _evaluation(run: about.Run, history: History) -> str:
    finetuning = bool(classification.sets(history)) or about.is_finetuning(run)
    classified, retrieved = {}, {}
    for name, path in pieces.newest(run.folder / "eval").items():
        ours = classification.holds(path)
        (classified if ours or (ours is None and finetuning) else retrieved)[name] = path
    parts = [
        _classification(history, classified) if finetuning or classified else "",
        _retrieval(history),
        probes.probes(history),
        probes.zero_shot(history),
        geometry.section(history),
        others.measures(history, SHOWN),
        others.metrics(history),
        _examples(history, retrieved),
        _pictures(run.folder),
    ]
    return "".join(parts) or f"<h2>Evaluation</h2>{NOT_YET}"


def _pictures(folder: Path) -> str:
    body = []
    for title, kind, section in (
        ("Features in the plane", "projections", projections.section),
        ("Attention", "attention", attention.section),
    ):
        shown = [section(path) for path in pieces.newest(folder / "eval" / kind).values()]
        body += [f"<h2>{title}</h2>", *shown] if shown else []
    return "".join(body)


def _classification(history: History, pictures: dict[str, Path]) -> str:
    parts, sets = ["<h2>Classification</h2>"], classification.sets(history)
    for title, measures in sets.items():
        parts += [classification.headline(title, measures), classification.curves(measures)]
    parts.append(by_fold := classification.folds(history))
    parts += ["<h2>All evaluations</h2>"] if sets else [NOT_YET]
    for title, measures in sets.items():
        parts += [f"<h3>{escape(title)}</h3>"] if len(sets) > 1 else []
        parts.append(classification.evaluations(measures))
    if pictures:
        parts.append("<h2>Classes</h2>")
        parts += [classification.classes(path) for path in pictures.values()]
        parts.append("<h2>Mistakes</h2>")
        parts += [classification.mistakes(path) for path in pictures.values()]
    elif sets and not by_fold:
        parts.append(
            '<p class="missing">There are no classes and mistakes to show: nothing was saved in '
            "<code>eval/</code>.</p>"
        )
    return "".join(parts)


def _retrieval(history: History) -> str:
    sets = scores.sets(history)
    if not sets:
        return ""
    parts = ["<h2>Zero-shot retrieval</h2>"]
    for title, measures in sets.items():
        parts += [scores.headline(title, measures), scores.curves(measures)]
    parts.append("<h2>All evaluations</h2>")
    parts += [scores.evaluations(title, measures) for title, measures in sets.items()]
    return "".join(parts)


def _examples(history: History, pictures: dict[str, Path]) -> str:
    sets = history.measures.where(scores.shows).each("set")
    if not (sets or pictures):
        return ""
    parts = ["<h2>Retrieval examples</h2>"]
    parts += [grids.section(path) for path in pictures.values()]
    for name in [name for name in sets if name not in pictures]:
        parts.append(
            f'<p class="missing">{escape(name)}: no examples were saved in '
            f"<code>eval/{escape(name)}-*.npz</code>.</p>"
        )
    return "".join(parts)


def _training(run: about.Run, history: History) -> str:
    if not history.steps("train"):
        if run.config.get("mode") == "eval" or any(run.folder.glob("fold_*")):
            return ""  # a folder for figures alone
        return '<h2>Training</h2><p class="missing">No training step has been logged yet.</p>'
    summary = training.throughput_summary(history)
    return (
        f'<h2>Training</h2><div class="grid">{"".join(training.loss_charts(history))}'
        f"{''.join(training.optimization_charts(history))}</div>"
        f'<h2>Speed</h2><p>{escape(summary)}</p><div class="grid three">'
        f"{''.join(training.throughput_charts(history))}</div>"
    )


def _nearest_folder(model_dir: Path) -> str:
    try:
        names = [path.name for path in model_dir.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    match = difflib.get_close_matches(model_dir.name, names, n=1, cutoff=0.5)
    return f" Did you mean '{model_dir.parent / match[0]}'?" if match else ""


if __name__ == "__main__":
    sys.exit(main())
