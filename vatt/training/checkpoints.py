"""Checkpoints: an explicit map {stable name: variable}, complete or invisible.

    store = CheckpointStore(model_dir, keep=10)
    store.save(step, tensors)                 # ckpt-<step>.{index,data-...,json}
    step = store.restore_newest(tensors)      # newest valid one, None in an empty folder

The files are TensorFlow's own V2 bundle (checksummed, readable by `tf.train.load_checkpoint`), but
the names are ours: object-graph checkpoints of Keras models silently lose the layers kept in Python
lists and every dropout seed. A checkpoint counts only with its manifest `ckpt-<step>.json`, which
is written last, by rename; until then a note of the files being written lets the next start
remove what a kill left behind, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from vatt import __version__
from vatt.errors import CheckpointError, WriteError, nearest
from vatt.files import cannot_write, read_json, replace_text, sha256, writing
from vatt.training import checkpoint_files
from vatt.training.checkpoint_files import Retention

_PENDING = "pending.json"
_STATE_FILE = "checkpoint"
_PATTERN = re.compile(r"[*?\[\]\\]")  # what TensorFlow takes for a pattern in a name to be opened
_STEP = "step"
BEGIN_AGAIN = (
    "Training does not begin again at step 0 unasked: bring the files back, give another "
    "--model_dir, or pass --fresh_start (the old files are moved aside)"
)
_SHOWN = 8  # differing variables in a message


@dataclass(frozen=True)
class Damage:
    """Why a checkpoint cannot be used."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: str | os.PathLike, keep: int | Retention = 0) -> None:
        """Opens `folder`; `keep` > 0 keeps that many of the newest checkpoints."""
        self.folder = Path(folder)
        self._keep = keep if isinstance(keep, Retention) else Retention(keep)

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, oldest first (not verified)."""
        return checkpoint_files.committed(self.folder)

    def path(self, step: int) -> Path:
        """Prefix of the checkpoint of `step`, as `--override_checkpoint` takes it."""
        return self.folder / f"ckpt-{step}"

    # -- writing ---------------------------------------------------------------------------

    def save(self, step: int, tensors: Mapping[str, object], **metadata: object) -> Path:
        """Writes `ckpt-<step>` and prunes old ones; `metadata` go into the manifest."""
        prefix = self.path(step)
        try:
            return self._save(prefix, step, tensors, metadata)
        except (OSError, WriteError, tf.errors.OpError) as error:
            with contextlib.suppress(WriteError):
                self.clean()
            if isinstance(error, WriteError):
                raise CheckpointError(f"{error}; earlier checkpoints are intact") from error
            about = f"; this one has {_size(tensors) / 2**20:.1f} MiB, earlier ones are intact"
            raise CheckpointError(str(cannot_write(prefix, error, about))) from error

    def _save(
        self, prefix: Path, step: int, tensors: Mapping[str, object], metadata: Mapping[str, object]
    ) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        values = {name: _value(tensor) for name, tensor in tensors.items()}
        values[_STEP] = np.int64(step)
        names = sorted(values)
        scratch = self._note(prefix.name)
        scratch.mkdir(exist_ok=True)
        tf.raw_ops.SaveV2(
            prefix=str(scratch / prefix.name),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.convert_to_tensor(values[name]) for name in names],
        )
        files = {}
        for file in sorted(scratch.iterdir()):
            files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
            os.replace(file, self.folder / file.name)
        manifest = {"step": step, "files": files, "vatt": __version__, "tensorflow": tf.__version__}
        _write_json(self._manifest(step), manifest | metadata)
        self.clean()
        _write_state_file(self.folder, self.steps())
        self._prune()
        return prefix

    def _note(self, name: str) -> Path:
        """Notes down what `clean` removes if it has no manifest; returns where to write it."""
        scratch = self.folder / f".writing-{name}"
        _write_json(self.folder / _PENDING, {"scratch": scratch.name, "prefix": name})
        return scratch

    def clean(self) -> None:
        """Removes what an interrupted save left behind: only files it noted down itself.

        Raises:
          WriteError: nothing can be changed on that disk.
        """
        with writing(self.folder):
            self._clean()

    def _clean(self) -> None:
        pending = self.folder / _PENDING
        _temporary(pending).unlink(missing_ok=True)
        if not pending.exists():
            return
        try:
            note = read_json(pending)
            scratch, prefix = str(note["scratch"]), str(note["prefix"])
        except (ValueError, KeyError, TypeError):
            pending.unlink()  # the note itself was not finished, so nothing else was started
            return
        if re.fullmatch(r"\.writing-ckpt-\d{1,18}", scratch):
            shutil.rmtree(self.folder / scratch, ignore_errors=True)
        if re.fullmatch(r"ckpt-\d{1,18}", prefix) and not (self.folder / f"{prefix}.json").exists():
            self._remove_bundle(prefix)
            _temporary(self.folder / f"{prefix}.json").unlink(missing_ok=True)
        pending.unlink()

    def _prune(self) -> None:
        for step in self._keep.superfluous(self.steps()):
            self._note(f"ckpt-{step}")  # what a kill leaves of it is removed by the next start
            self._manifest(step).unlink()
            self._clean()

    def _remove_bundle(self, name: str) -> None:
        ours = re.compile(re.escape(name) + r"\.(index|data-\d{5}-of-\d{5})$")
        for entry in [entry for entry in os.scandir(self.folder) if ours.match(entry.name)]:
            os.unlink(entry)

    def _manifest(self, step: int) -> Path:
        return self.folder / f"ckpt-{step}.json"

    # -- reading ---------------------------------------------------------------------------

    def verify(self, step: int) -> Damage | None:
        """Compares the files of `ckpt-<step>` with its manifest."""
        manifest = self._manifest(step)
        try:
            files = {
                name: (saved["bytes"], saved["sha256"])
                for name, saved in read_json(manifest)["files"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return Damage(manifest, f"unreadable manifest ({_first_line(error)})")
        if not files:
            return Damage(manifest, "lists no files")
        for name, (size, checksum) in files.items():
            file = self.folder / name
            try:
                found = file.stat().st_size
                if found != size:
                    return Damage(file, f"{found} bytes instead of {size}")
                if sha256(file) != checksum:
                    return Damage(file, "checksum differs from the manifest")
            except FileNotFoundError:
                return Damage(file, "missing")
            except (OSError, ValueError) as error:  # no name of a file
                return Damage(manifest, f"a file in it cannot be read ({_first_line(error)[:80]})")
        return None

    def newest_valid(self) -> int | None:
        """Step of the newest undamaged checkpoint, None where none was ever written.

        Raises:
          CheckpointError: there are checkpoints, and every one is damaged.
        """
        damages = []
        for step in reversed(self.steps()):
            damage = self.verify(step)
            if damage is None:
                return step
            logging.warning("checkpoint ckpt-%d is damaged, trying an older one: %s", step, damage)
            damages.append(damage)
        if damages:
            tried = "\n  ".join(map(str, damages))
            raise CheckpointError(
                f"{self.folder}: every checkpoint is damaged, tried\n  {tried}\n{BEGIN_AGAIN}"
            )
        return None

    def has_begun(self, clean: bool = True) -> bool:
        """Whether there is a checkpoint to go on from; removes what an interrupted save left.

        Without `clean` nothing is changed in the folder, which is another process's.

        Raises:
          CheckpointError: there have been checkpoints, but none that counts.
        """
        if clean:
            self.clean()
        if self.steps():
            return True
        lost = [f"ckpt-{step}" for step in checkpoint_files.without_manifest(self.folder)]
        if lost or (self.folder / _STATE_FILE).exists():
            files = f"the files of {', '.join(lost[-_SHOWN:])} are there" if lost else ""
            raise CheckpointError(
                f"{self.folder}: there have been checkpoints, but none has its manifest "
                f"ckpt-<step>.json{files and f'; {files}'}. {BEGIN_AGAIN}"
            )
        return False

    def restore_newest(self, variables: Mapping[str, object], clean: bool = True) -> int | None:
        """Restores the newest valid checkpoint completely; returns its step or None.

        Raises:
          CheckpointError: there have been checkpoints, but none can be used.
        """
        if not self.has_begun(clean):
            return None
        step = self.newest_valid()
        lost = [
            f"ckpt-{later}"
            for later in checkpoint_files.without_manifest(self.folder)
            if later > step
        ]
        if lost:
            logging.warning(
                "%s: no manifest of %s, going on from ckpt-%d", self.folder, ", ".join(lost), step
            )
        restore(self.path(step), variables)
        return step


def variable_map(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> dict[str, keras.Variable]:
    """Stable name -> variable, for all variables of `model` and `optimizer`."""
    named = [(f"model/{v.path}", v) for v in model.variables]
    if optimizer is not None:
        named += [(f"optimizer/{v.path}", v) for v in optimizer.variables]
    names = [name for name, _ in named]
    repeated = sorted({name for name in names if names.count(name) > 1})
    assert not repeated, f"variables that share a name: {repeated}"
    return dict(named)


def restore(prefix: str | os.PathLike, variables: Mapping[str, object]) -> int:
    """Assigns every variable from the checkpoint `prefix`; returns its step.

    Raises:
      CheckpointError: not a checkpoint, or its names and shapes are not those of `variables`.
    """
    reader = open_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    problems = []
    for name, variable in variables.items():
        if name not in shapes:
            hint = nearest(name, shapes) if len(problems) < _SHOWN else ""  # slow for many
            problems.append(f"{name}: not in the checkpoint.{hint}")
        elif tuple(shapes[name]) != tuple(variable.shape):
            problems.append(f"{name}: {tuple(shapes[name])} there, {tuple(variable.shape)} here")
    extra = sorted(set(shapes) - set(variables) - {_STEP})
    if set(name.split("/")[0] for name in variables) == {"model"}:
        extra = [name for name in extra if name.startswith("model/")]  # evaluation: no optimizer
    problems += [f"{name}: in the checkpoint only" for name in extra]
    if problems:
        shown = "\n  ".join(problems[:_SHOWN])
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"{prefix}: written by another model, {len(problems)} variables differ:\n"
            f"  {shown}{more}"
        )
    try:
        values = {name: reader.get_tensor(name) for name in variables}  # all, then assign
        step = int(reader.get_tensor(_STEP))
    except (IndexError, tf.errors.OpError) as error:
        raise CheckpointError(f"{prefix}: damaged ({_first_line(error)})") from error
    for name, variable in variables.items():
        variable.assign(values[name])
    return step


def newest_in(folder: str | os.PathLike) -> Path:
    """Returns the newest checkpoint of a folder, valid if it is one of ours.

    Raises:
      CheckpointError: no checkpoint there, or only damaged ones.
    """
    folder = Path(folder)
    store = CheckpointStore(folder)
    if (step := store.newest_valid()) is not None:
        return store.path(step)
    return checkpoint_files.newest_published(folder)


def manifest_metadata(prefix: str | os.PathLike) -> dict[str, object]:
    """Returns what a checkpoint's manifest says beside its files; nothing without a manifest."""
    try:
        content = read_json(f"{prefix}.json")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fingerprint(prefix: str | os.PathLike) -> str:
    """Returns what tells a checkpoint from others: SHA-256 of its index, which has checksums of
    all tensors, or of a file of PyTorch or Flax.

    Raises:
      CheckpointError: no such checkpoint.
    """
    if checkpoint_files.is_single(prefix):
        return sha256(prefix)
    open_checkpoint(prefix)
    return sha256(Path(f"{prefix}.index"))


def open_checkpoint(prefix: str | os.PathLike) -> tf.train.CheckpointReader:
    """Opens a checkpoint prefix for reading.

    Raises:
      CheckpointError: no such checkpoint, an incomplete or damaged one.
    """
    prefix = Path(prefix)
    files = checkpoint_files.of_prefix(prefix)
    try:
        return _reader(prefix, files)
    except (IndexError, MemoryError, ValueError, tf.errors.OpError) as error:
        raise CheckpointError(f"{prefix}: damaged index ({_first_line(error)})") from error


def _reader(prefix: Path, files: Sequence[str]) -> tf.train.CheckpointReader:
    """Opens files; by links where TensorFlow would take their path for a pattern."""
    if not _PATTERN.search(str(prefix)):
        return tf.train.load_checkpoint(str(prefix))
    links = tempfile.TemporaryDirectory(prefix="vatt-")
    for name in files:
        ending = name.removeprefix(prefix.name)
        os.symlink((prefix.parent / name).absolute(), Path(links.name) / f"ckpt{ending}")
    reader = tf.train.load_checkpoint(str(Path(links.name) / "ckpt"))
    weakref.finalize(reader, links.cleanup)  # it opens the data when it is asked for
    return reader


def _value(tensor: object) -> object:
    return tensor.value if hasattr(tensor, "value") and not callable(tensor.value) else tensor


def _size(tensors: Mapping[str, object]) -> int:
    values = [tf.convert_to_tensor(_value(tensor)) for tensor in tensors.values()]
    return sum(value.shape.num_elements() * value.dtype.size for value in values)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    temporary = _temporary(path)
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _write_state_file(folder: Path, steps: list[int]) -> None:
    """TensorFlow's own `checkpoint` file, for its tools; we ourselves list the folder."""
    names = [f"ckpt-{step}" for step in steps]
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    replace_text(folder / _STATE_FILE, "\n".join(lines) + "\n")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
