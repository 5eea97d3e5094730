"""A published checkpoint as one of ours, with a certificate of where every value came from.

    source = sources.open_source("published/ckpt-500000")
    certificate = convert(source, cfg, "runs/vatt")   # runs/vatt/ckpt-500000
    print(certificate.summary())

Every tensor of ours has exactly one tensor of the source and the other way round, or the source is
refused. What was written is read again and compared byte by byte; the certificate comes last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vatt import __version__, configs, methods
from vatt.errors import CheckpointError
from vatt.files import replace_text, sha256
from vatt.modeling import factory
from vatt.training import checkpoints, layouts, optimizers, sources, transfer

NOT_NEEDED = {
    "_CHECKPOINTABLE_OBJECT_GRAPH": "structure of the saved objects; here names are explicit",
    "save_counter": "number of saves; here the file name has the step",
    "epoch": "passes over the data; how many updates they had is not in the file",
    "optimizer": "state of PyTorch's optimizer; a training from these weights begins a new one",
    "lr_scheduler": "state of PyTorch's schedule; the configuration says the schedule",
    "optimizer/state": "state of Flax's optimizer; a training from these weights begins a new one",
    "opt_state": "state of Flax's optimizer; a training from these weights begins a new one",
    "rng": "state of random numbers; here they follow from seed and step",
    "model_state": "variables that are not trained, of which there are none",
    "accum_train_time": "how long was trained",
    "metadata": "notes of the published program",
    "arch": "name of the published class; the configuration says the model",
    "step": "steps of an epoch that were counted; how many updates they are is not in the file",
    "monitor_best": "best figure of the published run",
    "config": "configuration of the published run; here --model_arch and --params_override say it",
    "args": "options of the published program, which are not evaluated",
}
HYPERPARAMETER = "hyper-parameter, compared with the configuration"
UNKNOWN = "neither model nor optimizer; not known here"
_HYPERPARAMETERS = ("beta_1", "beta_2", "momentum", "weight_decay")
_OPTIMIZERS = {frozenset("mv"): "Adam", frozenset({"momentum"}): "Momentum"}


@dataclass(frozen=True)
class Certificate:
    """What became of every tensor of a source; `content` is what the file says."""

    path: Path
    content: Mapping[str, Any]

    def summary(self) -> str:
        """Returns what was converted, in a few lines."""
        content, variables = self.content, len(self.content["variables"])
        source, slots = content["source"], [row for row in content["optimizer"] if row["source"]]
        unused = ", ".join(_few(content["unused"])) or "none"
        lines = [
            f"{source['prefix']} ({source['kind']}) -> {content['checkpoint']}",
            f"  {variables} variables and {len(slots)} of the optimizer, SHA-256 equal on both"
            f" sides; step {content['step']['value']}",
            f"  not needed: {unused}",
            *(f"  note: {note}" for note in content["notes"]),
            f"  certificate: {self.path}",
        ]
        return "\n".join(lines)


def _few(unused: Sequence[Mapping[str, str]], shown: int = 4) -> Iterator[str]:
    """Yields the keys of what was not needed; of many with one reason, one and how many."""
    by_reason: dict[str, list[str]] = {}
    for row in unused:
        by_reason.setdefault(row["reason"], []).append(row["key"])
    for keys in by_reason.values():
        yield from keys if len(keys) <= shown else (f"{keys[0]} and {len(keys) - 1} more",)


def convert(
    source: sources.Source, cfg: configs.ExperimentConfig, folder: str | Path
) -> Certificate:
    """Writes `folder`/ckpt-<step> for a training with `cfg`, and its certificate.

    The optimizer's slots come along. A source without them gives zeros at step 0, where they are
    zeros, and later a checkpoint of weights only.

    Raises:
      CheckpointError: not published, of another model or optimizer than that of `cfg`, damaged,
        or `folder` has such a checkpoint already; none is left behind then.
    """
    _check_kind(source, cfg)
    store = _free_place(folder, source.step)
    model = _build(cfg, source)
    if not source.layout.fits(model):
        raise _other_kind(source, cfg)
    keys = source.layout.model_keys(model)
    transfer.load(source, model)
    links: dict[str, str | None] = {f"model/{path}": key for path, key in keys.items()}
    optimizer = optimizers.build(cfg.train.optimizer, name="optimizer")
    optimizer.build(model.trainable_variables)
    slots = _load_optimizer(source, model, optimizer, keys)
    links |= {f"optimizer/{path}": key for path, key in (slots or {}).items()}
    tensors = checkpoints.variable_map(model, None if slots is None else optimizer)
    assert set(tensors) == set(links), sorted(set(tensors) ^ set(links))[:3]
    metadata = _metadata(model, cfg)
    prefix = store.save(source.step, tensors, converted_from=source.prefix, **metadata)
    try:
        certificate = _certificate(prefix, links, cfg, sources.open_source(source.prefix))
        replace_text(certificate.path, json.dumps(certificate.content, indent=1) + "\n")
    except BaseException:  # unproven is as good as wrong
        for file in _files(prefix):
            file.unlink()
        raise
    return certificate


# Before ------------------------------------------------------------------------------------------


def _check_kind(source: sources.Source, cfg: configs.ExperimentConfig) -> None:
    layout = source.layout
    if not layout.published:
        raise CheckpointError(f"{source.prefix}: a {layout.description}, nothing to convert")
    if layout.kind != cfg.task.lower():
        raise _other_kind(source, cfg)


def _other_kind(source: sources.Source, cfg: configs.ExperimentConfig) -> CheckpointError:
    return CheckpointError(
        f"{source.prefix}: a {source.layout.description}, but the configuration is that of task"
        f" {cfg.task.lower()}, model_arch {cfg.model_arch}: {source.layout.fix()}"
    )


def _files(prefix: Path) -> list[Path]:
    """Returns the files of a checkpoint, its certificate among them."""
    ours = re.compile(re.escape(prefix.name) + r"\.(index|json|certificate\.json|data-.*)")
    return [file for file in prefix.parent.iterdir() if ours.fullmatch(file.name)]


def _free_place(folder: str | Path, step: int) -> checkpoints.CheckpointStore:
    folder = Path(folder)
    store = checkpoints.CheckpointStore(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: a file, expected a folder to write to")
    store.clean()  # of a conversion that was killed
    if folder.is_dir() and (there := _files(store.path(step))):
        raise CheckpointError(
            f"{folder}: has {there[0].name} already, and nothing is overwritten: name another"
            " folder, or remove the files of that checkpoint"
        )
    return store


def _build(cfg: configs.ExperimentConfig, source: sources.Source) -> keras.Model:
    """Builds the model of a configuration; a fine-tuned source may say how many classes."""
    data = cfg.train.input
    clip = (data.num_frames, data.frame_size, data.frame_size, 3)
    shapes: dict[str, tuple[int | None, ...]] = {
        "video": (None, None, None, 24) if data.space_to_depth else clip,
        "audio": (None, 1) if data.raw_audio else (data.num_spectrogram_times, data.mel_bins, 1),
        "text": (None, None),
    }
    if isinstance(cfg, configs.experiment.Pretrain):
        return methods.of(cfg).model(cfg.model, shapes, cfg.precision)
    bias = source.shapes.get(source.layout.classifier_key("bias"))
    classes = cfg.model.num_classes or (bias[0] if bias else None)
    model = factory.build_classifier(cfg.model, num_classes=classes, dtype=cfg.precision)
    own = {modality: (None, *shapes[modality]) for modality in model.modalities}
    model.build(own if len(own) > 1 else next(iter(own.values())))
    return model


def _metadata(model: keras.Model, cfg: configs.ExperimentConfig) -> dict[str, object]:
    """Returns what the manifest of the new checkpoint says of the model."""
    if isinstance(cfg, configs.experiment.Pretrain):
        return layouts.metadata(model, layouts.PRETRAIN, cfg.model_arch, methods.of(cfg).name)
    return layouts.metadata(model, layouts.FINETUNE, cfg.model_arch)


def _load_optimizer(
    source: sources.Source, model: keras.Model, optimizer: Any, keys: Mapping[str, str]
) -> dict[str, str | None] | None:
    """Gives an optimizer the state in the source.

    Returns:
      The key behind each of its variables, None where it keeps the zero it begins with. Nothing
      at all for a trained model without slots, whose state is unknown.

    Raises:
      CheckpointError: slots of another optimizer, or of other variables.
    """
    stored = {key for key in source.slots if sources.SLOT in key}
    names = frozenset(key.rpartition("/")[2] for key in stored)
    if not stored and (source.step or source.layout.trained) and optimizer.slots:
        return None
    if stored and names != set(optimizer.slots):
        raise CheckpointError(_other_optimizer(source, names, optimizer))
    slots = transfer.slot_keys(optimizer, keys)
    wrong = [f"{key}: not in the checkpoint" for _, key in slots if key not in stored]
    wrong += [f"{k}: in the checkpoint only" for k in sorted(stored - {key for _, key in slots})]
    values = {key: source.tensor(key) for _, key in slots if key in stored}
    wrong += [
        f"{key}: {values[key].shape} there, {tuple(slot.shape)} here"
        for slot, key in slots
        if key in stored and values[key].shape != tuple(slot.shape)
    ]
    if stored and wrong:
        shown = "\n  ".join(wrong[:8])
        raise CheckpointError(
            f"{source.prefix}: not all variables have their optimizer slots, {len(wrong)} differ;"
            f" train what the source did (trainable_embeddings, freeze_backbone):\n  {shown}"
        )
    for slot, key in slots:
        if stored:
            slot.assign(values[key])
    optimizer.iterations.assign(source.step)
    counter = source.layout.step_key if source.has(source.layout.step_key) else None
    return {slot.path: key if stored else None for slot, key in slots} | {
        optimizer.iterations.path: counter
    }


def _other_optimizer(source: sources.Source, names: frozenset[str], optimizer: Any) -> str:
    found = _OPTIMIZERS.get(names)
    if found and source.has("optimizer/weight_decay"):
        found += "W"
    fix = f"set train.optimizer.name: {found}, or " if found else ""
    there, here = (", ".join(sorted(group)) or "none" for group in (names, optimizer.slots))
    return (
        f"{source.prefix}: optimizer slots {there}, but those of the configuration's optimizer are"
        f" {here}: {fix}start from its weights alone, --override_checkpoint={source.prefix}"
    )


# After -------------------------------------------------------------------------------------------


def _certificate(
    prefix: Path,
    links: Mapping[str, str | None],
    cfg: configs.ExperimentConfig,
    source: sources.Source,
) -> Certificate:
    """Reads what was written and compares it with the source.

    Raises:
      CheckpointError: a tensor differs, or one is missing or too many.
    """
    written = checkpoints.open_checkpoint(prefix)
    if differing := sorted(set(written.get_variable_to_shape_map()) ^ set(links) ^ {"step"}):
        raise CheckpointError(f"{prefix}: not written as intended: {differing[0]}")
    rows = {name: _compared(name, key, written, source) for name, key in links.items()}
    counter = source.layout.step_key if source.has(source.layout.step_key) else None
    step = _compared("step", counter, written, source)
    unused = [{"key": key, "reason": _reason(key, source)} for key in source.others]
    left = sorted(set(source.slots) - set(links.values()) - {source.layout.step_key})
    unused += [{"key": key, "reason": HYPERPARAMETER} for key in left]
    hyperparameters = _hyperparameters(source, left, cfg.train.optimizer)
    content = {
        "vatt": __version__,
        "source": {
            "prefix": source.prefix,
            "kind": source.layout.description,
            **source.facts,
            "files": {file.name: sha256(file) for file in source.files},
        },
        "checkpoint": str(prefix),
        "task": cfg.task,
        "model_arch": cfg.model_arch,
        "step": step | {"value": source.step},
        "variables": [row for name, row in rows.items() if name.startswith("model/")],
        "optimizer": [row for name, row in rows.items() if name.startswith("optimizer/")],
        "hyperparameters": hyperparameters,
        "unused": unused,
        "notes": [*_notes(prefix, links, cfg, source), *_differences(hyperparameters)],
    }
    return Certificate(prefix.with_name(f"{prefix.name}.certificate.json"), content)


def _compared(
    name: str, key: str | None, written: tf.train.CheckpointReader, source: sources.Source
) -> dict[str, Any]:
    """Returns the row of a tensor of ours, equal to that of the source, or 0 without one."""
    ours = np.asarray(written.get_tensor(name))
    path = name.removeprefix("model/")
    theirs = np.zeros_like(ours) if key is None else np.asarray(source.tensor(key, path))
    row = {"name": name, "source": key, "shape": list(ours.shape), "dtype": str(ours.dtype)}
    if key in source.shapes and source.shapes[key] != ours.shape:
        row["source_shape"] = list(source.shapes[key])
    row |= {"sha256": _digest(ours), "source_sha256": None if key is None else _digest(theirs)}
    if (ours.shape, ours.dtype, ours.tobytes()) != (theirs.shape, theirs.dtype, theirs.tobytes()):
        raise CheckpointError(
            f"{name}: {ours.dtype} {list(ours.shape)}, not equal to {key or 'zero'} of the source,"
            f" {theirs.dtype} {list(theirs.shape)}"
        )
    return row


def _hyperparameters(
    source: sources.Source, keys: list[str], config: configs.experiment.OptimizerConfig
) -> list[dict[str, Any]]:
    """Compares the optimizer's numbers; rates that follow a schedule are stored by neither side."""
    if not keys:
        return []
    values = {key.removeprefix("optimizer/"): source.tensor(key) for key in keys}
    theirs = {name: float(str(value)) for name, value in values.items() if np.ndim(value) == 0}
    ours = {name: getattr(config, name) for name in _HYPERPARAMETERS if hasattr(config, name)}
    ours["decay"] = 0.0  # of the rate over time: schedules do that
    if type(config.learning_rate) is configs.experiment.LearningRate:
        ours["learning_rate"] = config.learning_rate.learning_rate_base
    rows = []
    for name in sorted({*ours, *theirs}):
        pair = theirs.get(name), ours.get(name)
        equal = None not in pair and np.float32(pair[0]) == np.float32(pair[1])
        row = {"name": name, "source": pair[0], "configuration": pair[1], "equal": bool(equal)}
        rows.append(row)
    return rows


def _notes(
    prefix: Path,
    links: Mapping[str, str | None],
    cfg: configs.ExperimentConfig,
    source: sources.Source,
) -> list[str]:
    notes = [f"{key}: {UNKNOWN}" for key in source.others if _reason(key, source) is UNKNOWN]
    if not any(name.startswith("optimizer/") for name in links):
        notes.append(
            "weights only, the source has no optimizer slots: a training starts from them in a"
            f" folder of its own with --override_checkpoint={prefix}"
        )
    elif source.step >= (total := cfg.train.optimizer.learning_rate.total_steps):
        notes.append(f"nothing left to train: step {source.step}, total_steps {total}")
    if not source.has(source.layout.step_key):
        counter = source.layout.step_key or "number of updates"
        notes.append(f"the source has no {counter}: step 0 was taken")
    return notes


def _reason(key: str, source: sources.Source) -> str:
    """Returns why something beside the tensors of ours was not needed."""
    return source.others[key] or NOT_NEEDED.get(key, UNKNOWN)


def _differences(hyperparameters: list[dict[str, Any]]) -> list[str]:
    def shown(value: float | None) -> str:
        return "nothing" if value is None else f"{value:g}"

    return [
        f"optimizer {row['name']}: {shown(row['source'])} in the source,"
        f" {shown(row['configuration'])} in the configuration"
        for row in hyperparameters
        if not row["equal"]
    ]


def _digest(value: np.ndarray) -> str:
    return hashlib.sha256(value.tobytes()).hexdigest()
