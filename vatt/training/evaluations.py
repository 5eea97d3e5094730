"""Where the figures of an evaluation go: a run's own into its folder, all others into one beside.

    place = evaluations.place(RunDir(cfg.model_dir), cfg)     # model_dir, or
    evaluations.claim(place, cfg, command)                    # model_dir/evaluations/<sets>

A run's own figures are those that `eval` of its config.yaml asks for, of its own checkpoints. With
other sets, other splits or anything else that changes a figure, or with checkpoints from elsewhere,
metrics.json, metrics.jsonl, the report and all that it shows stand in a folder of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from vatt import configs
from vatt.errors import UserError
from vatt.files import make_folder, replace_text
from vatt.training.rundir import RunDir

FOLDER, CONFIG, FIGURES = "evaluations", "config.yaml", "metrics.json"
# What of `eval` changes no figure.
_FREE = (
    "poll_interval_s",
    "timeout_s",
    "report",
    "batch_size",
    "shuffle_buffer",
    "num_parallel_calls",
    "data_service",
    "max_bad_fraction",
)


def place(run: RunDir, cfg: configs.ExperimentConfig) -> RunDir:
    """Returns the folder for the figures that `cfg` asks for; makes none.

    A run that goes on and has no figures yet may be given another evaluation of its own.
    """
    if cfg.mode != "eval" and not (run.path / FIGURES).exists():
        return run
    asked = _asked(cfg.as_dict(), run.path)
    for folder in itertools.chain([run.path], _others(run.path, cfg)):
        tree = _recorded(folder)
        if tree is None or _alike(_asked(tree, run.path), asked):
            break
    if folder == run.path:
        return run
    logging.info(
        "%s is evaluated on something else than its config.yaml says: figures and report go to %s",
        run.path,
        folder,
    )
    return RunDir(folder, checkpoints=run.checkpoints)


def claim(place: RunDir, cfg: configs.ExperimentConfig, command: Sequence[str]) -> None:
    """Leaves in a folder for figures alone what they are of: config.yaml and run.json."""
    make_folder(place.path)
    source = cfg.checkpoint_path if cfg.mode == "eval" else None
    for_figures = source or place.path != place.checkpoints
    if for_figures and _recorded(place.path) is None:
        source = source and str(Path(source).absolute())
        recorded = cfg.model_copy(update={"mode": "eval", "checkpoint_path": source})
        replace_text(place.path / CONFIG, configs.to_yaml(recorded))
        place.record_launch(cfg, command)


def own(run: RunDir, cfg: configs.ExperimentConfig) -> configs.ExperimentConfig:
    """Returns `cfg` with the evaluation that the run's config.yaml says."""
    file = run.path / CONFIG
    return cfg.model_copy(update={"eval": configs.from_yaml(file).eval})


def _others(folder: Path, cfg: configs.ExperimentConfig) -> Iterator[Path]:
    """Yields folders called by sets and split, with numbers from the second one on."""
    names, split = cfg.eval.input.name, cfg.eval.input.split
    name = names if isinstance(names, str) else "+".join(names)
    usual = type(cfg.eval.input)().split
    name = name if split == usual else f"{name}-{split}"
    yield folder / FOLDER / name[:200]
    for number in itertools.count(2):
        yield folder / FOLDER / f"{name[:200]}-{number}"


def _asked(tree: Mapping, folder: Path) -> dict[str, object]:
    """What decides the figures of a configuration: sets, settings, whose checkpoints."""
    source = tree.get("checkpoint_path") if tree.get("mode") == "eval" else None
    if source:
        path = Path(source)
        path = (path if path.is_dir() else path.parent).resolve()
        source = None if path == folder.resolve() else str(path)
    return {key: tree[key] for key in ("eval", "precision") if key in tree} | {"source": source}


def _alike(before: object, after: object) -> bool:
    """Whether two trees say the same; what only one of them has, versions differ in."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return before == after
    common = (before.keys() & after.keys()).difference(_FREE)
    return all(_alike(before[key], after[key]) for key in common)


def _recorded(folder: Path) -> Mapping | None:
    """What the figures in a folder are of; None where it is free to be used.

    An evaluation that was refused leaves no figures, and so may be mended.
    """
    file = folder / CONFIG
    if not file.exists():
        return None
    try:
        tree = configs.read(file)
    except configs.ConfigError as error:
        raise UserError(f"{file}: cannot be read as YAML ({error})") from error
    return None if tree.get("mode") == "eval" and not (folder / FIGURES).exists() else tree
