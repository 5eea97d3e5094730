"""What can be known to be missing before TensorFlow starts: run, checkpoint, sets, workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from vatt import configs
from vatt.configs import dataset
from vatt.data import cards
from vatt.data.features import split_part
from vatt.errors import CheckpointError, UserError, WriteError, nearest
from vatt.files import in_a_store
from vatt.training import (
    checkpoint_files,
    cluster,
    flax_checkpoints,
    stored_checkpoints,
    stored_runs,
    torch_checkpoints,
)

CONFIG_FILE = "config.yaml"


def check(cfg: configs.ExperimentConfig, *, fresh_start: bool = False) -> None:
    """Refuses a run that lacks something it would ask for later.

    Raises:
      UserError: what is not there.
    """
    folder = stored_runs.folder(cfg)
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"model_dir: {folder} is a file; the folder of a run is needed")
    if cfg.mode == "eval":
        cluster.of_environment()
    else:
        cluster.of_training(cfg.strategy_config.distribution_strategy)
    goes_on = cfg.mode != "eval" and not fresh_start and bool(checkpoint_files.committed(folder))
    if cfg.mode != "eval" and cfg.train.early_stop and chooses_on_test(cfg):
        split = cfg.eval.input.split
        raise UserError(
            f"train.early_stop: {cfg.train.early_stop}, but eval.input.split is {split!r}, a split "
            "to test on: figures of what was chosen there are too good. Evaluate another one while "
            "training (eval.input.split=valid), and the checkpoint that was kept on the test split"
        )
    if cfg.checkpoint_path:
        if not goes_on:
            check_checkpoint(stored_checkpoints.fetched(cfg.checkpoint_path))
    elif cfg.mode == "eval" and not cfg.eval.wait_for_run:
        _check_run(folder, cfg.model_dir)
    check_sets(cfg)


def check_sets(cfg: configs.ExperimentConfig) -> None:
    """Refuses sets that are not there, or lack what the model takes.

    Raises:
      DataError: as it says.
    """
    for data, needed in _inputs(cfg):
        for name in data.name.split("+") if isinstance(data.name, str) else data.name or ():
            if _is_registered(name.strip()):
                continue
            card = cards.load(name.strip(), cfg.data_dir)
            for modality in needed:
                cards.check_modality(card, modality)


def chooses_on_test(cfg: configs.ExperimentConfig) -> bool:
    """Whether the split that is evaluated is one to test on, by its name or where none is given."""
    return split_part(cfg.eval.input.split or "test")[0] == "test"


def check_checkpoint(prefix: Path) -> None:
    """Refuses a checkpoint that is not there, and a file of PyTorch or Flax that holds none.

    Raises:
      CheckpointError: as it says.
    """
    if checkpoint_files.is_torch(prefix) and not prefix.is_dir():
        torch_checkpoints.TorchCheckpoint(prefix)
    elif flax := _flax_file(prefix):
        flax_checkpoints.FlaxCheckpoint(flax)
    elif not prefix.is_dir():
        checkpoint_files.of_prefix(prefix)
    elif not checkpoint_files.committed(prefix):
        checkpoint_files.newest_published(prefix)


def _flax_file(prefix: Path) -> Path | None:
    """A file of Flax: the given one, or the newest in a folder without other checkpoints."""
    if not prefix.is_dir():
        return prefix if checkpoint_files.is_flax(prefix) else None
    return None if checkpoint_files.committed(prefix) else checkpoint_files.newest_flax(prefix)


def _check_run(folder: Path, named: str) -> None:
    """Refuses to wait for the checkpoints of a run that nobody has begun.

    Raises:
      CheckpointError: there is none.
    """
    if (folder / CONFIG_FILE).is_file() or checkpoint_files.committed(folder):
        return
    if lost := checkpoint_files.without_manifest(folder):
        raise CheckpointError(
            f"{folder}: its checkpoints have no manifest ckpt-<step>.json; evaluate one of them by "
            f"--override_checkpoint={folder / f'ckpt-{lost[-1]}'}"
        )
    what = "no config.yaml, no checkpoint" if folder.is_dir() else "no such folder"
    place, runs, inside = named, [], []
    if not in_a_store(named):
        place, runs, inside = folder, runs_in(folder.parent), runs_in(folder)
    known = f" Runs beside it: {', '.join(runs[:8])}." if runs else ""
    if inside:
        known = f" Runs in it: {', '.join(inside[:8])}; those of seeds are evaluated with --seeds."
    raise CheckpointError(
        f"there is no run in {place} ({what}).{nearest(folder.name, runs)}{known} To wait for a "
        "training that begins later, pass --params_override=eval.wait_for_run=true"
    )


def runs_in(folder: Path) -> list[str]:
    """Returns the names of the runs in a folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in paths if (path / CONFIG_FILE).is_file())


def _inputs(cfg: configs.ExperimentConfig) -> Iterator[tuple[dataset.Dataset, tuple[str, ...]]]:
    """Yields what is read, and the modalities that its sets must have."""
    model, tuned = cfg.model, isinstance(cfg, configs.experiment.Finetune)
    if cfg.mode != "eval":
        yield cfg.train.input, model.modalities if tuned else model.required_modalities
    if cfg.mode != "train":
        yield cfg.eval.input, model.modalities if tuned else ()


def _is_registered(name: str) -> bool:
    """Whether a set is made in code, by a module that has been imported."""
    factories = sys.modules.get("vatt.data.factories")
    return factories is not None and factories.find(name) is not None
