"""What a run's folder says of the run itself: the header of the page, and where it came from.

    run = about.read(model_dir)
    about.title(run), about.header(run, history), about.provenance(run)

Everything but the folder may be absent; what is missing is said on the page.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from vatt.configs import yaml_text
from vatt.files import read_json
from vatt.reporting.history import History

# What YAML and JSON hold: texts, numbers, lists and trees of such.
Tree = Mapping[str, object]

TASKS = {"pretrain": "pretraining", "finetune": "fine-tuning"}


@dataclasses.dataclass(frozen=True)
class Run:
    """What was found in the folder of a run.

    Attributes:
      folder: of the run.
      config: config.yaml, the resolved configuration.
      config_text: the same as it is in the file.
      launches: of run.json, oldest first.
      manifest: of the newest checkpoint.
      problems: sentences about files that are missing or cannot be read.
    """

    folder: Path
    config: Tree
    config_text: str
    launches: list[Tree]
    manifest: Tree
    problems: list[str]

    @property
    def launch(self) -> Tree:
        """The newest launch."""
        return self.launches[-1] if self.launches else {}


def read(folder: Path) -> Run:
    """Reads what is known of a run."""
    launches, launches_problem = _launches(folder / "run.json")
    config, text, config_problem = _config(folder / "config.yaml")
    problems = list(filter(None, (launches_problem, config_problem)))
    return Run(folder, config, text, launches, _manifest(folder), problems)


def title(run: Run) -> str:
    """The heading of the page."""
    architecture = _architecture(run)
    if architecture is None:
        return f"Run {run.folder.resolve().name}"
    data = _listed(_dig(run.config, "train", "input", "name"))
    return f"{architecture} on {data}" if data else architecture


def is_finetuning(run: Run) -> bool:
    """Whether the run trains a classifier."""
    return _task(run) == "finetune"


def header(run: Run, history: History) -> str:
    """Title, method and a list of what one wants to know first."""
    items = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in _items(run, history).items()
        if value not in (None, "")
    )
    return (
        f'<header><h1>{escape(title(run))}</h1><p class="lead">{escape(_lead(run))}</p>'
        f'<dl class="facts">{items}</dl></header>'
    )


def provenance(run: Run) -> str:
    """Every launch of the run, and its configuration."""
    parts = ["<h2>Provenance</h2>"]
    tables = [_launch_table(launch) for launch in run.launches]
    if tables:
        parts.append(tables[-1])
    if len(tables) > 1:
        earlier = "".join(reversed(tables[:-1]))
        count = f"{len(tables) - 1} earlier launch{'es' * (len(tables) > 2)}"
        parts.append(f"<details><summary>{count} of this run</summary>{earlier}</details>")
    parts += [f'<p class="missing">{escape(problem)}</p>' for problem in run.problems]
    if run.config_text:
        parts.append(
            "<details><summary>Resolved configuration</summary>"
            f"<pre>{escape(run.config_text)}</pre></details>"
        )
    return "".join(parts)


# Files --------------------------------------------------------------------------------------------


def _config(path: Path) -> tuple[Tree, str, str]:
    """Parsed configuration, its text, and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, "", "There is no config.yaml in this folder: the configuration is not known."
    try:
        config = yaml_text.document(text)
    except ValueError as error:
        return {}, text, f"config.yaml is not valid YAML: {error}"
    return (config if isinstance(config, dict) else {}), text, ""


def _launches(path: Path) -> tuple[list[Tree], str]:
    """Launches of the run, oldest first, and what is wrong with the file."""
    try:
        run = read_json(path)
    except OSError:
        return [], "There is no run.json in this folder: the command and versions are not known."
    except ValueError as error:
        return [], f"run.json is not valid JSON: {error}"
    found = run.get("launches") if isinstance(run, dict) else None
    found = found if isinstance(found, list) else []
    launches = [launch for launch in found if isinstance(launch, dict)]
    return launches, "" if launches else "run.json lists no launch."


def _manifest(folder: Path) -> Tree:
    """Manifest of the newest checkpoint; empty if there is none that can be read."""
    manifests = [p for p in folder.glob("ckpt-*.json") if p.stem.removeprefix("ckpt-").isdecimal()]
    newest = max(manifests, key=lambda path: int(path.stem.removeprefix("ckpt-")), default=None)
    if newest is None:
        return {}
    try:
        manifest = read_json(newest)
    except (OSError, ValueError):  # training may just have removed it
        return {}
    return manifest if isinstance(manifest, dict) else {}


# Header -------------------------------------------------------------------------------------------


def _items(run: Run, history: History) -> dict[str, object]:
    steps = history.steps("train")
    total = _dig(run.config, "train", "optimizer", "learning_rate", "total_steps")
    done = f"{steps[-1]:,}" if steps else None
    if done and isinstance(total, int):
        done += f" of {total:,}"
    first = _find(run.launches[0], "started") if run.launches else None
    return {
        "Architecture": _architecture(run),
        "Training data": _listed(_dig(run.config, "train", "input", "name")),
        "Initialised from": _source(run),
        "Checkpoints": run.config.get("checkpoint_path")
        if run.config.get("mode") == "eval"
        else "",
        "Evaluated on": _listed(_dig(run.config, "eval", "input", "name")),
        "Steps": done,
        "Batch": _dig(run.config, "train", "input", "batch_size"),
        "Parameters": _count(_find(run.launch, "parameters")),
        "Started": _date(first or _first_time(history)),
        "Duration": _duration(run.launches, history),
        "Machine": _machine(_find(run.launch, "machine")),
    }


def _lead(run: Run) -> str:
    """Method and task in words: "VATT, pretraining run"."""
    method = next(
        (
            found
            for source in (run.launch, run.config, run.manifest)
            if (found := source.get("method"))
        ),
        None,
    )
    task = _task(run)
    parts = [_method_title(method)] if isinstance(method, str) else []
    lead = ", ".join([*parts, f"{TASKS.get(task, task or 'training')} run"])
    return lead[:1].upper() + lead[1:]


def _method_title(method: str) -> str:
    """A method as its papers write it, who all use capitals: "av_mae" is AV-MAE."""
    return method.upper().replace("_", "-")


def _task(run: Run) -> str:
    """What the run is for: "pretrain", "finetune", another task, or nothing if it is not known."""
    task = run.config.get("task") or run.manifest.get("kind") or ""
    return str(task).lower()


def _architecture(run: Run) -> str | None:
    found = _find(run.launch, "model_arch") or _find(run.config, "model_arch")
    found = found or _find(run.config, "model_name") or _find(run.manifest, "architecture")
    return None if found is None else str(found)


def _source(run: Run) -> str | None:
    """The checkpoint that a fine-tuning run began with."""
    if not is_finetuning(run) or run.config.get("mode") == "eval":
        return None
    return _listed(run.config.get("checkpoint_path")) or ("scratch" if run.config else None)


def _launch_table(launch: Tree) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(value)}</code></td></tr>'
        for name, value in _flatten(launch)
    )
    return f'<div class="scroll"><table class="data left prov">{rows}</table></div>'


# Values -------------------------------------------------------------------------------------------


def _dig(tree: object, *keys: str) -> object:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _find(tree: Tree, key: str) -> object:
    """First value of `key` in a nested dict, outermost first."""
    level = [tree]
    while level:
        for node in level:
            if node.get(key) not in (None, ""):
                return node[key]
        level = [child for node in level for child in node.values() if isinstance(child, dict)]
    return None


def _flatten(tree: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list):
        yield prefix, " ".join(map(str, tree))
    elif tree is not None:
        yield prefix, str(tree)


def _listed(value: object) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if value else None


def _machine(value: object) -> str | None:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in _flatten(value))
    return _listed(value)


def _count(value: object) -> str | None:
    if isinstance(value, int | float) and 0 < value < 1e18:
        return f"{value / 1e6:.3g} M" if value >= 1e5 else f"{value:,.0f}"
    return None


def _moment(value: object) -> datetime.datetime | None:
    try:
        if isinstance(value, int | float):
            return datetime.datetime.fromtimestamp(value, datetime.UTC)
        moment = datetime.datetime.fromisoformat(value)
        moment.timestamp()  # not all that can be written have one
        return moment
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _date(value: object) -> str | None:
    moment = _moment(value)
    if moment is None:
        return str(value) if value else None
    return f"{moment:%d %B %Y, %H:%M} {moment.tzname() or ''}".strip()


def _first_time(history: History) -> float | None:
    return min((t for times in history.times.values() for t in times.values()), default=None)


def _duration(launches: list[Tree], history: History) -> str | None:
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
