"""One self-contained page about a run: `<model_dir>/report.html`.

    python -m vatt.reporting.report MODEL_DIR

Reads what a run leaves behind and makes do with what is there, saying what is missing:

    metrics.jsonl   required; training and evaluation metrics, one JSON object per line
    eval/*.npz      retrieval examples (`vatt.evaluation.retrieval`), or classes, confusions and
                    mistakes of a classifier (`vatt.evaluation.classification`)
    eval/projections/*.npz, eval/attention/*.npz
                    features in the plane, attention maps (`vatt.evaluation.attention`)
    config.yaml     the resolved configuration
    run.json        provenance: {"launches": [{...}, ...]}, one entry per start of the run; the
                    header shows the `started` (ISO 8601) and `machine` of a launch

The page holds its pictures and styles itself and loads nothing: it can be mailed and read offline.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vatt.errors import UserError
from vatt.files import replace_text
from vatt.reporting import (
    attention,
    classification,
    geometry,
    grids,
    pieces,
    probes,
    projections,
    scores,
    training,
)
from vatt.reporting.history import History, read
from vatt.reporting.style import CSS

FILE_NAME = "report.html"


def write(model_dir: Path | str) -> Path:
    """Writes the report of a run and returns its path; an older report is replaced at once.

    Raises:
        UserError: the folder or its metrics.jsonl does not exist.
    """
    model_dir = Path(model_dir)
    if not model_dir.is_dir():
        raise UserError(f"model_dir {model_dir} is not a folder.{_nearest_folder(model_dir)}")
    page = _page(model_dir, read(model_dir / "metrics.jsonl"))
    path = model_dir / FILE_NAME
    replace_text(path, page)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: prints the path of the report; returns the exit code."""
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


def _page(model_dir: Path, history: History) -> str:
    config, config_text, config_problem = _config(model_dir / "config.yaml")
    launches, run_problem = _launches(model_dir / "run.json")
    run = launches[-1] if launches else {}
    title = _title(config, run, model_dir)
    body = [
        _header(title, config, launches, history),
        _warnings(history),
        _evaluation(model_dir, history, config),
        _training(history),
        _provenance(launches, run_problem, config_text, config_problem),
    ]
    # The policy makes the browser hold the promise that nothing is loaded from anywhere.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - VATT report</title><style>{CSS}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in body if part)}\n</main></body></html>\n"
    )


def _header(title: str, config: dict, launches: list[dict], history: History) -> str:
    run = launches[-1] if launches else {}
    steps = history.steps("train")
    total = _dig(config, "train", "optimizer", "learning_rate", "total_steps")
    done = f"{steps[-1]:,}" if steps else None
    if done and isinstance(total, int):
        done += f" of {total:,}"
    facts = {
        "Architecture": _architecture(run, config),
        "Training data": _names(_dig(config, "train", "input", "name")),
        "Initialised from": _source(config),
        "Evaluated on": _names(_dig(config, "eval", "input", "name")),
        "Steps": done,
        "Batch": _dig(config, "train", "input", "batch_size"),
        "Parameters": _count(_find(run, "parameters")),
        "Started": _date(_find(launches[0] if launches else {}, "started") or _first_time(history)),
        "Duration": _duration(launches, history),
        "Machine": _machine(_find(run, "machine")),
    }
    items = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    task = _find(config, "task")
    lead = {"Pretrain": "pretraining", "Finetune": "fine-tuning"}.get(str(task), task or "training")
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead">VATT, {escape(str(lead))} run</p>'
        f'<dl class="facts">{items}</dl></header>'
    )


def _warnings(history: History) -> str:
    if not history.skipped:
        return ""
    one = history.skipped == 1
    return (
        f'<p class="warning">{history.skipped} of {history.lines:,} lines of metrics.jsonl '
        f"could not be read and {'is' if one else 'are'} left out (a run that is killed often "
        "leaves its last line cut short).</p>"
    )


def _evaluation(model_dir: Path, history: History, config: dict) -> str:
    finetuning = classification.found(history) or _find(config, "task") == "Finetune"
    classified, retrieved = {}, {}
    for name, path in pieces.newest(model_dir / "eval").items():
        ours = classification.holds(path)
        (classified if ours or (ours is None and finetuning) else retrieved)[name] = path
    known = classification.KNOWN | probes.names(history) | geometry.names(history)
    other = scores.other_metrics(history, known)
    body = []
    if finetuning or classified:
        body.append(_classification(history, config, classified))
    frozen = [probes.probes(history), probes.zero_shot(history), geometry.section(history)]
    shown = _pictures(model_dir)
    if scores.retrieval_sets(history) or retrieved or not any([*body, *frozen, shown]):
        body.append(_retrieval(history))
    return "".join([*body, *frozen, other, _examples(history, retrieved), shown])


def _pictures(model_dir: Path) -> str:
    body = []
    for title, folder, section in (
        ("Features in the plane", "projections", projections.section),
        ("Attention", "attention", attention.section),
    ):
        shown = [section(path) for path in pieces.newest(model_dir / "eval" / folder).values()]
        body += [f"<h2>{title}</h2>", *shown] if shown else []
    return "".join(body)


def _classification(history: History, config: dict, pictures: dict[str, Path]) -> str:
    parts = ["<h2>Classification</h2>"]
    if classification.found(history):
        name = _names(_dig(config, "eval", "input", "name")) or ", ".join(pictures) or "Evaluation"
        parts += [classification.headline(history, name), classification.curves(history)]
        parts += ["<h2>All evaluations</h2>", classification.evaluations(history)]
    else:
        parts.append(
            '<p class="missing">No evaluation has been logged yet: <code>--mode=eval</code> '
            "evaluates the checkpoints of this run.</p>"
        )
    if pictures:
        parts.append("<h2>Classes</h2>")
        parts += [classification.classes(path) for path in pictures.values()]
        parts.append("<h2>Mistakes</h2>")
        parts += [classification.mistakes(path) for path in pictures.values()]
    elif classification.found(history):
        parts.append(
            '<p class="missing">There are no classes and mistakes to show: nothing was saved in '
            "<code>eval/</code>.</p>"
        )
    return "".join(parts)


def _retrieval(history: History) -> str:
    sets = scores.retrieval_sets(history)
    parts = ["<h2>Zero-shot retrieval</h2>"]
    if not sets:
        parts.append(
            '<p class="missing">No retrieval evaluation has been logged yet: '
            "<code>--mode=eval</code> evaluates the checkpoints of this run.</p>"
        )
    parts += [scores.headline(history, name) + scores.curves(history, name) for name in sets]
    if sets:
        parts.append("<h2>All evaluations</h2>")
        parts += [scores.evaluations(history, name) for name in sets]
    return "".join(parts)


def _examples(history: History, pictures: dict[str, Path]) -> str:
    sets = scores.retrieval_sets(history)
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


def _training(history: History) -> str:
    if not history.steps("train"):
        return '<h2>Training</h2><p class="missing">No training step has been logged yet.</p>'
    summary = training.throughput_summary(history)
    return (
        f'<h2>Training</h2><div class="grid">{"".join(training.loss_charts(history))}'
        f"{''.join(training.optimization_charts(history))}</div>"
        f'<h2>Speed</h2><p>{escape(summary)}</p><div class="grid three">'
        f"{''.join(training.throughput_charts(history))}</div>"
    )


def _provenance(
    launches: list[dict], run_problem: str, config_text: str, config_problem: str
) -> str:
    parts = ["<h2>Provenance</h2>"]
    tables = [_launch_table(launch) for launch in launches]
    if tables:
        parts.append(tables[-1])
    if len(tables) > 1:
        earlier = "".join(reversed(tables[:-1]))
        count = f"{len(tables) - 1} earlier launch{'es' * (len(tables) > 2)}"
        parts.append(f"<details><summary>{count} of this run</summary>{earlier}</details>")
    if run_problem:
        parts.append(f'<p class="missing">{escape(run_problem)}</p>')
    if config_problem:
        parts.append(f'<p class="missing">{escape(config_problem)}</p>')
    if config_text:
        parts.append(
            "<details><summary>Resolved configuration</summary>"
            f"<pre>{escape(config_text)}</pre></details>"
        )
    return "".join(parts)


def _config(path: Path) -> tuple[dict, str, str]:
    """Parsed configuration, its text, and what is wrong with it."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, "", "There is no config.yaml in this folder: the configuration is not known."
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return {}, text, f"config.yaml is not valid YAML: {error}"
    return (config if isinstance(config, dict) else {}), text, ""


def _launch_table(launch: dict) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(value)}</code></td></tr>'
        for name, value in _flatten(launch)
    )
    return f'<div class="scroll"><table class="data left prov">{rows}</table></div>'


def _launches(path: Path) -> tuple[list[dict], str]:
    """Launches of the run, oldest first, and what is wrong with the file."""
    try:
        run = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return [], "There is no run.json in this folder: the command and versions are not known."
    except ValueError as error:
        return [], f"run.json is not valid JSON: {error}"
    found = run.get("launches") if isinstance(run, dict) else None
    launches = [launch for launch in found if isinstance(launch, dict)] if found else []
    return launches, "" if launches else "run.json lists no launch."


def _title(config: dict, run: dict, model_dir: Path) -> str:
    arch = _architecture(run, config)
    data = _names(_dig(config, "train", "input", "name"))
    if arch:
        return f"{arch} on {data}" if data else str(arch)
    return f"Run {model_dir.resolve().name}"


def _architecture(run: dict, config: dict) -> str | None:
    return _find(run, "model_arch") or _find(config, "model_arch") or _find(config, "model_name")


def _source(config: dict) -> str | None:
    """The checkpoint that a fine-tuning run began with."""
    if config.get("task") != "Finetune" or config.get("mode") == "eval":
        return None
    return _names(config.get("checkpoint_path")) or "scratch"


def _dig(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _find(tree: dict, key: str) -> Any:
    """First value of `key` in a nested dict, outermost first."""
    level = [tree]
    while level:
        for node in level:
            if node.get(key) not in (None, ""):
                return node[key]
        level = [child for node in level for child in node.values() if isinstance(child, dict)]
    return None


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list):
        yield prefix, " ".join(map(str, tree))
    elif tree is not None:
        yield prefix, str(tree)


def _names(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if value else None


def _machine(value: Any) -> str | None:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in _flatten(value))
    return _names(value)


def _count(value: Any) -> str | None:
    if isinstance(value, int | float) and value > 0:
        return f"{value / 1e6:.3g} M" if value >= 1e5 else f"{value:,.0f}"
    return None


def _moment(value: Any) -> datetime.datetime | None:
    try:
        if isinstance(value, int | float):
            return datetime.datetime.fromtimestamp(value, datetime.UTC)
        return datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _date(value: Any) -> str | None:
    moment = _moment(value)
    if moment is None:
        return str(value) if value else None
    return f"{moment:%d %B %Y, %H:%M} {moment.tzname() or ''}".strip()


def _first_time(history: History) -> float | None:
    return min((t for times in history.times.values() for t in times.values()), default=None)


def _duration(launches: list[dict], history: History) -> str | None:
    """Time between training log lines, without the pauses between launches."""
    starts = [_moment(launch.get("started")) for launch in launches]
    starts = sorted(start.timestamp() for start in starts if start is not None)
    times = sorted(history.times.get("train", {}).values())
    if not times:
        return None
    if starts and starts[0] < times[0]:
        times.insert(0, starts[0])
    total = 0.0
    for before, after in itertools.pairwise(times):
        inside = [start for start in starts if before < start <= after]
        total += after - (inside[-1] if inside else before)
    minutes, seconds = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
    return text if len(launches) < 2 else f"{text} in {len(launches)} launches"


def _nearest_folder(model_dir: Path) -> str:
    try:
        names = [path.name for path in model_dir.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    match = difflib.get_close_matches(model_dir.name, names, n=1, cutoff=0.5)
    return f" Did you mean '{model_dir.parent / match[0]}'?" if match else ""


if __name__ == "__main__":
    sys.exit(main())
