"""What a run leaves in its folder besides checkpoints.

config.yaml    the resolved configuration; resuming with another one is refused
run.json       one entry per launch: command, versions, git commit, devices, time
metrics.jsonl  {"step", "split", "time", "metrics"} per line, of evaluations also "measures", what
               the metrics are; TensorBoard files beside it
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from absl import logging

from vatt import __version__, configs
from vatt.configs import yaml_text
from vatt.errors import UserError
from vatt.files import parse_json, read_json, replace_text

# What may change between two launches of one run without making it another run.
_FREE_KEYS = (
    "mode",
    "model_dir",
    "checkpoint_path",
    "data_dir",
    "strategy_config",
    "eval",
    "train.max_checkpoints",
    "train.log_every_steps",
    "train.watchdog_s",
    "train.input.num_parallel_calls",
)


class RunDir:
    """The folder of one run, or of figures of its checkpoints.

    Attributes:
      path: where everything is written.
      checkpoints: the folder that holds the checkpoints; the same but for `training.evaluations`.
    """

    def __init__(
        self, path: str | os.PathLike, checkpoints: str | os.PathLike | None = None
    ) -> None:
        """Opens the folder `path`, creating nothing yet."""
        self.path = Path(path)
        self.checkpoints = self.path if checkpoints is None else Path(checkpoints)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

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
            if there.exists() and there.read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{there}: differs from what this run would write there, so that its "
                    "checkpoints do not belong to the same data. Give another --model_dir, or "
                    "--fresh_start to begin again"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "config.yaml"
        if file.exists():
            before = _before(file)
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
        entries = [e for e in self.path.glob("*") if not e.name.startswith("previous-")]
        if not entries:
            return None
        number = 1 + len(list(self.path.glob("previous-*")))
        target = self.path / f"previous-{number}"
        target.mkdir()
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
    ) -> None:
        """Appends one line to `metrics.jsonl` and the same values to TensorBoard.

        Args:
          split: "train" or "eval".
          step: updates behind the values.
          metrics: values by name.
          measures: what the metrics are, as of `vatt.evaluation.measures.Measure.as_dict`.
        """
        row: dict[str, object] = {"step": step, "split": split, "time": round(time.time(), 3)}
        row["metrics"] = {name: _json_number(value) for name, value in metrics.items()}
        if measures:
            row["measures"] = [dict(measure) for measure in measures]
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        if split not in self._writers:
            self._writers[split] = tf.summary.create_file_writer(str(self.path / split))
        with self._writers[split].as_default(step=step):
            for name, value in metrics.items():
                tf.summary.scalar(name, value)
        self._writers[split].flush()

    def forget_after(self, step: int) -> None:
        """Drops training rows after `step`: steps a killed run had logged but not saved."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return
        kept, dropped = [], 0
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            row = _parse(line)
            if row is None or (row["split"] == "train" and row["step"] > step):
                dropped += 1
            else:
                kept.append(line + "\n")
        if dropped:
            logging.info(
                "metrics.jsonl: %d rows after step %d will be written again", dropped, step
            )
            replace_text(file, "".join(kept))

    def write_final(self, metrics: Mapping[str, float]) -> None:
        """Writes `metrics.json`: the figures of the newest evaluation."""
        values = {name: _json_number(value) for name, value in sorted(metrics.items())}
        replace_text(self.path / "metrics.json", json.dumps(values, indent=1) + "\n")


def _before(file: Path) -> configs.ExperimentConfig | Mapping:
    """The configuration of a run; fields that are newer than its file have their defaults."""
    try:
        return configs.from_yaml(file)
    except configs.ConfigError:  # with values that are no longer accepted
        return yaml_text.load(file)


def _is_free(path: str) -> bool:
    # Whole keys only: "mode" frees neither "model_config" nor "model_arch".
    return any(path == key or path.startswith(f"{key}.") for key in _FREE_KEYS)


def _parse(line: str) -> dict | None:
    try:
        row = parse_json(line)
        known = {"step", "split", "metrics"} <= row.keys() and isinstance(row["step"], int)
        return row if known else None
    except (ValueError, AttributeError):
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
