"""What a run leaves in its folder besides checkpoints.

config.yaml    the resolved configuration; resuming with another one is refused
run.json       one entry per launch: command, versions, git commit, devices, time
metrics.jsonl  {"step", "split", "time", "metrics"} per line, of evaluations also "measures", what
               the metrics are; TensorBoard files beside it
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from absl import logging

from vatt import __version__, configs, locks
from vatt.errors import UserError
from vatt.files import make_folder, parse_json, read_json, replace_text
from vatt.training import tracking
from vatt.training.curves import Curves, of_training
from vatt.training.stored_runs import StoredRun

TRAIN, EVAL = "train", "eval"
METRICS = "metrics.jsonl"
TRAINING_LOCK, EVALUATION_LOCK = ".training.lock", ".evaluation.lock"

# What may change between two launches of one run without making it another run.
_FREE_KEYS = (
    "mode",
    "model_dir",
    "checkpoint_path",
    "data_dir",
    "strategy_config",
    "eval",
    "train.max_checkpoints",
    "train.keep_every_steps",
    "train.keep_best",
    "train.early_stop",
    "train.log_every_steps",
    "train.watchdog_s",
    "train.input.num_parallel_calls",
)


class RunDir:
    """The folder of one run, or of figures of its checkpoints.

    Attributes:
      path: where everything is written.
      checkpoints: the folder that holds the checkpoints; the same but for `training.evaluations`.
      tracking: what experiment trackers are told by.
      stored: the run in a store that the folder is a copy of, if it is one.
    """

    def __init__(
        self, path: str | os.PathLike, checkpoints: str | os.PathLike | None = None
    ) -> None:
        """Opens the folder `path`, creating nothing yet."""
        self.path = Path(path)
        self.checkpoints = self.path if checkpoints is None else Path(checkpoints)
        self.tracking = tracking.NONE
        self.stored: StoredRun | None = None
        self._curves = {split: Curves(self.path / split) for split in (TRAIN, EVAL)}

    # -- the store that it is a copy of, if there is one -------------------------------------

    def send(self) -> None:
        """Brings there what has been written here.

        Raises:
          HeldError: another process has taken the run over.
          StoreError: the store cannot be asked; what is here is whole.
        """
        if self.stored is not None:
            self.stored.send()

    def pull(self) -> None:
        """Brings here, for an evaluation, the checkpoints that have not been evaluated.

        Raises:
          StoreError: the store cannot be asked.
        """
        if self.stored is not None:
            self.stored.pull(without=self.evaluated())

    # -- who works here --------------------------------------------------------------------

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Keeps a second training out of the folder, which is made, while the block runs.

        Raises:
          HeldError: there is another one at work.
          WriteError: nothing can be written there.
        """
        fresh = not self.path.exists()
        try:
            with locks.held(self.path / TRAINING_LOCK, "another training"):
                yield
        finally:
            if fresh:
                with contextlib.suppress(OSError):  # something is in it
                    self.path.rmdir()

    def evaluating(self, *, wait: bool) -> contextlib.AbstractContextManager[None]:
        """Keeps a second evaluation out of the folder, so that each step is evaluated once.

        Raises:
          HeldError: there is one at work, and `wait` is false.
          WriteError: nothing can be written there.
        """
        return locks.held(self.path / EVALUATION_LOCK, "another evaluation", wait=wait)

    # -- configuration and provenance ------------------------------------------------------

    def claim(
        self,
        cfg: configs.ExperimentConfig,
        files: Mapping[str, str] | None = None,
        *,
        allow_change: bool = False,
    ) -> None:
        """Writes `config.yaml`, or checks that the one there belongs to the same run.

        Args:
          cfg: the resolved configuration.
          files: name -> text of other files that stay the same as long as the run does.
          allow_change: only warn where the configuration is another one.

        Raises:
          UserError: the folder holds a run with another configuration, or one of `files` differs.
        """
        for name, text in (files or {}).items():
            there = self.path / name
            if there.exists() and there.read_bytes() != text.encode(errors="backslashreplace"):
                raise UserError(
                    f"{there}: differs from what this run would write there, so that its "
                    "checkpoints do not belong to the same data. Give another --model_dir, or "
                    "--fresh_start to begin again"
                )
        make_folder(self.path)
        file = self.path / "config.yaml"
        if file.exists():
            before = configs.recorded(file, cfg)
            differing = [
                difference
                for difference in configs.diff(before, cfg)
                if not _is_free(difference.partition(":")[0])
            ]
            if differing and not allow_change:
                lines = "\n  ".join(differing)
                raise UserError(
                    f"{self.path} holds a run with another configuration (there -> asked for):\n"
                    f"  {lines}\nGive another --model_dir, pass --allow_config_change to go on "
                    "with the new values, or --fresh_start to begin again"
                )
            if differing:
                logging.warning("configuration changed on resume: %s", "; ".join(differing))
        replace_text(file, configs.to_yaml(cfg))
        for name, text in (files or {}).items():
            replace_text(self.path / name, text)

    def record_launch(self, cfg: configs.ExperimentConfig, command: Sequence[str]) -> None:
        """Appends command, versions, commit and devices of this launch to `run.json`."""
        file = self.path / "run.json"
        launches = []
        if file.exists():
            try:
                launches = [*launches, *read_json(file)["launches"]]
            except (OSError, ValueError, KeyError, TypeError) as error:
                logging.warning("%s: cannot be read (%s), earlier launches are lost", file, error)
        devices = tf.config.list_logical_devices()
        launches.append(
            {
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "command": list(command),
                "mode": cfg.mode,
                "vatt": __version__,
                "git_commit": _git_commit(),
                "python": platform.python_version(),
                "versions": _versions("tensorflow", "keras", "numpy", "av"),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "devices": [device.name for device in devices],
            }
        )
        replace_text(file, json.dumps({"launches": launches}, indent=1) + "\n")

    def move_aside(self) -> Path | None:
        """Moves everything of an earlier run into `previous-<n>/`; deletes nothing."""
        entries = [e for e in self.path.glob("*") if e.name not in (TRAINING_LOCK, EVALUATION_LOCK)]
        earlier = [entry for entry in entries if entry.name.startswith("previous-")]
        entries = [entry for entry in entries if entry not in earlier]
        if not entries:
            return None
        target = self.path / f"previous-{1 + len(earlier)}"
        make_folder(target)
        for entry in entries:
            os.replace(entry, target / entry.name)
        return target

    # -- metrics ---------------------------------------------------------------------------

    def write_metrics(
        self,
        split: str,
        step: int,
        metrics: Mapping[str, float],
        measures: Sequence[Mapping[str, str | float | None]] = (),
        curves: Mapping[str, float] | None = None,
    ) -> None:
        """Appends one line to `metrics.jsonl` and its values to TensorBoard and to trackers.

        Args:
          split: "train" or "eval".
          step: updates behind the values.
          metrics: values by name.
          measures: what the metrics are, as of `vatt.evaluation.measures.Measure.as_dict`.
          curves: values by tag of TensorBoard; None takes those of training.
        """
        row: dict[str, object] = {"step": step, "split": split, "time": round(time.time(), 3)}
        row["metrics"] = {name: _json_number(value) for name, value in metrics.items()}
        if measures:
            row["measures"] = [dict(measure) for measure in measures]
        locks.append_line(self.path / METRICS, json.dumps(row, allow_nan=False))
        curves = curves or of_training(metrics)
        self._curves[split].add(step, curves)
        self.tracking.metrics(split, step, curves)
        if split == EVAL:
            self._curves[split].close()  # a training that goes on may take the file apart

    def forget_after(self, step: int) -> None:
        """Drops what was logged after `step`: of steps that a killed run had not saved.

        Evaluations too, of checkpoints that are lost: those steps are evaluated again.
        """
        if not (self.path / METRICS).exists():
            return
        last = self.last_trained()

        def stays(at: int) -> bool:
            return at <= step or at > last  # what is later is of a checkpoint from elsewhere

        gone = {row["split"] for row in self._rows() if not stays(row["step"])}
        if TRAIN in gone:
            self._curves[TRAIN].keep(stays)
        if EVAL in gone:
            with self.evaluating(wait=True):
                self._curves[EVAL].keep(stays)
                self.set_evaluated(filter(stays, self.evaluated()))
        with locks.opened(self.path / METRICS) as file:
            lines = file.read().decode(errors="replace").splitlines()
            kept = [line for line in lines if (row := _parse(line)) and stays(row["step"])]
            if len(kept) < len(lines):
                replace_text(self.path / METRICS, "".join(f"{line}\n" for line in kept))
                dropped = len(lines) - len(kept)
                logging.info("metrics.jsonl: %d rows after step %d are dropped", dropped, step)

    def last_trained(self) -> int:
        """The last step that training has logged, 0 if it has not."""
        return max((row["step"] for row in self._rows() if row["split"] == TRAIN), default=0)

    def _rows(self) -> list[dict]:
        try:
            text = (self.path / METRICS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return [row for row in map(_parse, text.splitlines()) if row]

    def evaluated(self) -> list[int]:
        """The steps whose checkpoints have been evaluated, in order."""
        try:
            steps = read_json(self.path / "evaluated.json")
        except (FileNotFoundError, ValueError):  # damaged: what is listed there is evaluated again
            return []
        return [step for step in steps if isinstance(step, int)] if isinstance(steps, list) else []

    def set_evaluated(self, steps: Iterable[int]) -> None:
        """Says which steps have been."""
        replace_text(self.path / "evaluated.json", json.dumps(sorted(steps)))

    def write_final(self, metrics: Mapping[str, float]) -> None:
        """Writes `metrics.json`: the figures of the newest evaluation."""
        values = {name: _json_number(value) for name, value in sorted(metrics.items())}
        replace_text(self.path / "metrics.json", json.dumps(values, indent=1) + "\n")


def _is_free(path: str) -> bool:
    # Whole keys only: "mode" frees neither "model_config" nor "model_arch".
    return any(path == key or path.startswith(f"{key}.") for key in _FREE_KEYS)


def _parse(line: str) -> dict | None:
    try:
        row = parse_json(line)
        known = isinstance(row["step"], int) and isinstance(row["split"], str) and "metrics" in row
        return row if known else None
    except (ValueError, KeyError, TypeError):
        return None  # the last line of a killed run


def _json_number(value: float) -> float | int | None:
    value = float(value)
    if not math.isfinite(value):
        return None  # JSON has no NaN; readers show a gap
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _versions(*names: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names}


def _git_commit() -> str | None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
