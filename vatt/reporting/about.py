"""What a run's folder says of the run itself: the header of the page, and where it came from.

    run = about.read(model_dir)
    about.title(run), about.header(run, history), about.provenance(run)

Everything but the folder may be absent; what is missing is said on the page.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from vatt import pages
from vatt.configs import yaml_text
from vatt.errors import UserError
from vatt.files import read_json
from vatt.pages import Markup
from vatt.reporting.history import History

html = pages.Macros("about.html")

# What YAML and JSON hold: texts, numbers, lists and trees of such.
Tree = Mapping[str, object]

METRICS = "metrics.jsonl"
_SHOWN = 8  # runs that are named in an error
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


def folder(path: Path | str) -> Path:
    """The folder of a run.

    Raises:
      UserError: there is no such folder, or none that anything was logged in.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"model_dir {path} is not a folder.{_nearest_folder(path)}")
    if not (path / METRICS).exists() and (inside := sorted(path.glob(f"*/{METRICS}"))):
        runs = ", ".join(str(file.parent) for file in inside[:_SHOWN])
        raise UserError(f"{path} is not the folder of a run (no {METRICS}); there is {runs}")
    return path


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


def facts(run: Run, history: History) -> dict[str, str]:
    """What one wants to know first of a run; what is not known is left out."""
    every = {"Run": lead(run)} | _items(run, history)
    return {name: str(value) for name, value in every.items() if value not in (None, "")}


def header(run: Run, history: History) -> Markup:
    """Title, method and a list of what one wants to know first."""
    shown = {name: value for name, value in facts(run, history).items() if name != "Run"}
    return html.header(title(run), lead(run), shown)


def provenance(run: Run) -> Markup:
    """Every launch of the run, and its configuration."""
    launches = [list(flatten(launch)) for launch in run.launches]
    return html.provenance(launches, run.problems, run.config_text)


def _nearest_folder(model_dir: Path) -> str:
    try:
        names = [path.name for path in model_dir.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    match = difflib.get_close_matches(model_dir.name, names, n=1, cutoff=0.5)
    return f" Did you mean '{model_dir.parent / match[0]}'?" if match else ""


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
    last, total = progress(run, history)
    done = f"{last:,}" if last is not None else None
    if done and total is not None:
        done += f" of {total:,}"
    first = _find(run.launches[0], "started") if run.launches else None
    return {
        "Architecture": _architecture(run),
        "Training data": _listed(_dig(run.config, "train", "input", "name")),
        "Initialised from": _source(run),
        "Checkpoints": run.config.get("checkpoint_path")
        if run.config.get("mode") == "eval"
        else "",
        "Evaluated on": _evaluated(run, history),
        "Steps": done,
        "Batch": _dig(run.config, "train", "input", "batch_size"),
        "Parameters": _count(_find(run.launch, "parameters")),
        "Started": _date(first or _first_time(history)),
        "Duration": _duration(run.launches, history),
        "Machine": _machine(_find(run.launch, "machine")),
    }


def progress(run: Run, history: History) -> tuple[int | None, int | None]:
    """The last step that was logged in training, and how many there are to be."""
    steps = history.steps("train")
    total = _dig(run.config, "train", "optimizer", "learning_rate", "total_steps")
    return steps[-1] if steps else None, total if isinstance(total, int) else None


def _evaluated(run: Run, history: History) -> str | None:
    """The sets that figures are of, and those that the configuration names but none is of yet."""
    measured = history.measures.each("set")
    named = _dig(run.config, "eval", "input", "name") or []
    named = named if isinstance(named, list) else [named]
    waiting = [str(name) for name in named if name not in measured]
    return _listed([*measured, *(f"{name} (no figures yet)" for name in waiting)] or None)


def method(run: Run) -> str:
    """The name of the method, empty if it is not known."""
    named = (source.get("method") for source in (run.launch, run.config, run.manifest))
    return next((name for name in named if name and isinstance(name, str)), "")


def lead(run: Run) -> str:
    """Method and task in words: "VATT, pretraining run"."""
    task = _task(run)
    parts = [_method_title(method(run))] if method(run) else []
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


def flatten(tree: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the values of a tree as text, each with its "dotted.path"."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
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
        return ", ".join(f"{key} {text}" for key, text in flatten(value))
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
