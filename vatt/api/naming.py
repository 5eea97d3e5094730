"""What a name stands for: a run, a checkpoint of ours or of others, a preset; no TensorFlow yet.

named = find("runs/toy")
named.cfg, named.checkpoint, named.folder
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vatt import assets, configs, methods, zoo
from vatt.configs.resolve import Override
from vatt.errors import CheckpointError, UserError, nearest, short
from vatt.experiments import beforehand
from vatt.files import read_json
from vatt.training import checkpoint_files
from vatt.training.stored_checkpoints import fetched
from vatt.zoo import cache

_SHOWN = 8


@dataclass(frozen=True)
class Named:
    """What is to be loaded.

    Attributes:
      name: as it was given.
      cfg: the configuration of the model and of what it reads.
      checkpoint: prefix, file or folder that weights are taken from; None: random ones.
      folder: of the run, which has its vocabulary and class names; None for a preset.
    """

    name: str
    cfg: configs.ExperimentConfig
    checkpoint: Path | None
    folder: Path | None


def find(
    name: str | os.PathLike,
    *,
    task: str | None = None,
    model_arch: str | None = None,
    config_file: str | os.PathLike | None = None,
    params_override: Override | Sequence[Override] | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Named:
    """Returns what `name` stands for, with its configuration.

    The configuration is that of `config_file`, else `config.yaml` beside the checkpoint, else the
    preset `model_arch`, else that of the architecture that the checkpoint's manifest names.

    Raises:
      UserError: there is no such thing, or its configuration is not known.
    """
    text = os.fspath(name)
    given = {
        "task": task,
        "model_arch": model_arch,
        "config_file": None if config_file is None else str(config_file),
    }
    overrides = [params_override] if isinstance(params_override, str | dict) else params_override
    others = {
        "mode": "eval",
        "params_override": ["checkpoint_path=null", *(overrides or ())],
        "data_dir": None if data_dir is None else str(data_dir),
    }
    checkpoint = _checkpoint(text)
    if checkpoint is None:
        if methods.with_architecture(text) is None:
            raise _unknown(text)
        return Named(text, configs.resolve(**given | others | {"model_arch": text}), None, None)
    beforehand.check_checkpoint(checkpoint)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if not any(given.values()):
        given, own = _known(text, checkpoint, folder)
        others["params_override"][1:1] = own
    return Named(text, configs.resolve(**given | others), checkpoint, folder)


def _checkpoint(text: str) -> Path | None:
    """The run, checkpoint, one that comes with the package or one of the zoo of that name, if any.

    Raises:
      UserError: a folder without a checkpoint, or a checkpoint of the zoo that is not here yet.
    """
    path = fetched(text)
    if path.is_dir():
        if not checkpoint_files.committed(path) and not any(path.glob("ckpt-*.index")):
            inside = [str(path / name) for name in beforehand.runs_in(path)]
            known = f"; there is {', '.join(inside[:_SHOWN])}" if inside else ""
            raise CheckpointError(f"{path}: no checkpoint (ckpt-<step>) in that folder{known}")
        return path
    single = checkpoint_files.is_single(path) and path.is_file()
    if single or path.suffix in (".index", ".json") or Path(f"{path}.index").is_file():
        return path
    if (own := assets.trained(text)) is not None:
        return own
    key = text.strip().lower().replace("-", "_")
    if key not in zoo.known() or methods.with_architecture(text):
        return None
    here = cache.fetched(key)
    if here is None:
        raise CheckpointError(
            f"{key} is a published checkpoint that is not here: python -m vatt.tools.download {key}"
        )
    return Path(here)


def _unknown(text: str) -> UserError:
    """The error of a name that is none, with the nearest one of runs, checkpoints and presets."""
    presets = [name for method in methods.known() for name in method.presets]
    beside = Path(text).parent
    runs = beforehand.runs_in(beside)
    steps = checkpoint_files.committed(beside)
    there = [*runs, *(f"ckpt-{step}" for step in steps), *checkpoint_files.single_files(beside)]
    paths = [str(beside / name) for name in there]
    hint = nearest(text, [*paths, *presets])
    folder = "" if beside.is_dir() else f" (no folder {beside})"
    known = f" There is {', '.join(paths[:_SHOWN])}." if paths else ""
    return CheckpointError(
        f"'{short(text, 200)}' is no run, checkpoint or preset{folder}.{hint}{known} Weights that"
        f" come with the package: toy. Presets, with random weights: {', '.join(presets)}"
    )


def _known(
    name: str, checkpoint: Path, folder: Path
) -> tuple[dict[str, str | None], list[Override]]:
    """What is known of the configuration of a checkpoint: from where it lies, or from itself.

    Returns task, preset or file, and overrides.

    Raises:
      UserError: nothing is.
    """
    file = folder / beforehand.CONFIG_FILE
    if file.is_file():
        return {"config_file": str(file)}, []
    if name.strip().lower().replace("-", "_") in zoo.known():
        row = zoo.find(name)
        given = {"task": row.task, "model_arch": row.architecture, "config_file": row.config}
        return given, [row.overrides] if row.overrides else []
    prefix = checkpoint
    if checkpoint.is_dir() and (steps := checkpoint_files.committed(checkpoint)):
        prefix = checkpoint / f"ckpt-{steps[-1]}"
    try:
        facts = read_json(f"{prefix}.json")
        if {"kind", "architecture"} <= facts.keys():
            return {"task": str(facts["kind"]), "model_arch": str(facts["architecture"])}, []
    except (OSError, ValueError, AttributeError):
        pass  # not one of ours
    raise UserError(
        f"{checkpoint}: neither it nor a config.yaml beside it says which model it is of: give"
        " model_arch, as for --model_arch, and task='finetune' for a fine-tuned one"
    )
