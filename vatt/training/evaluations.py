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

from vatt import configs, methods, stores
from vatt.configs import evaluators
from vatt.errors import UserError
from vatt.files import make_folder, replace_text
from vatt.training.rundir import RunDir

FOLDER, CONFIG, FIGURES = "evaluations", "config.yaml", "metrics.json"
_TOLD = 4  # settings that are named where an evaluation is another one
_CHOOSING = ("evaluators", "probes", "zero_shot")  # what says which evaluators are run
# What of `eval` changes no figure.
_FREE = (
    "poll_interval_s",
    "timeout_s",
    "wait_for_run",
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
    own = None
    beside = cfg.mode == "eval" and run.stored is not None  # where only a training writes
    for folder in itertools.chain([] if beside else [run.path], _others(run.path, cfg)):
        recorded = _recorded(folder, cfg)
        differing = [] if recorded is None else _differing(recorded, cfg, run.path)
        own = differing if own is None else own
        if not differing:
            break
    if folder == run.path:
        return run
    figures = RunDir(folder, checkpoints=run.checkpoints)
    figures.stored = run.stored
    if beside:
        return figures
    more = f"; and {len(own) - _TOLD} more" if len(own) > _TOLD else ""
    logging.info(
        "%s: its config.yaml says another evaluation (there -> asked for: %s%s): figures and "
        "report go to %s",
        run.path,
        "; ".join(own[:_TOLD]),
        more,
        folder,
    )
    return figures


def claim(place: RunDir, cfg: configs.ExperimentConfig, command: Sequence[str]) -> None:
    """Leaves in a folder for figures alone what they are of: config.yaml and run.json."""
    make_folder(place.path)
    source = cfg.checkpoint_path if cfg.mode == "eval" else None
    for_figures = source or place.path != place.checkpoints
    if for_figures and _recorded(place.path, cfg) is None:
        if source and not stores.is_address(source):
            source = str(Path(source).absolute())
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


def _differing(
    before: configs.ExperimentConfig | Mapping, asked: configs.ExperimentConfig, folder: Path
) -> list[str]:
    """What of the settings that decide figures is not as before, one "name: old -> new" each."""
    if isinstance(before, Mapping):  # of another version: what only one of them has says nothing
        old, new = _deciding(before, folder), _deciding(asked.as_dict(), folder)
        old, new = _common(old, new), _common(new, old)
    else:
        old, new = _deciding(before.as_dict(), folder), _deciding(asked.as_dict(), folder)
        if _evaluators(before) == _evaluators(asked):  # by whichever fields they are chosen
            for tree in (old, new):
                tree["eval"] = _without(tree["eval"], _CHOOSING)
    return configs.diff(old, new)


def _deciding(tree: Mapping, folder: Path) -> dict[str, object]:
    """What decides the figures of a configuration: sets, settings, whose checkpoints."""
    source = tree.get("checkpoint_path") if tree.get("mode") == "eval" else None
    if source and not stores.is_address(source):
        path = Path(source)
        path = (path if path.is_dir() else path.parent).resolve()
        source = None if path == folder.resolve() else str(path)
    kept = {key: _without(tree[key], _FREE) for key in ("eval", "precision") if key in tree}
    return kept | {"checkpoint_path": source}


def _evaluators(cfg: configs.ExperimentConfig) -> set[str]:
    """What is run; the report, with what it shows beside figures, is left out."""
    if not isinstance(cfg, configs.experiment.Pretrain):
        return set()
    asked = cfg.eval.model_copy(update={"report": False})
    return set(evaluators.chosen(asked, methods.of(cfg).evaluators))


def _without(tree: object, names: Sequence[str]) -> object:
    if not isinstance(tree, Mapping):
        return tree
    return {key: _without(value, names) for key, value in tree.items() if key not in names}


def _common(tree: object, other: object) -> object:
    if not (isinstance(tree, Mapping) and isinstance(other, Mapping)):
        return tree
    return {key: _common(value, other[key]) for key, value in tree.items() if key in other}


def _recorded(
    folder: Path, asked: configs.ExperimentConfig
) -> configs.ExperimentConfig | Mapping | None:
    """What the figures in a folder are of; None where it is free to be used.

    An evaluation that was refused leaves no figures, and so may be mended.
    """
    file = folder / CONFIG
    if not file.exists():
        return None
    try:
        found = configs.recorded(file, asked)
    except configs.ConfigError as error:
        raise UserError(f"{file}: cannot be read as YAML ({error})") from error
    mode = found.get("mode") if isinstance(found, Mapping) else found.mode
    return None if mode == "eval" and not (folder / FIGURES).exists() else found
