"""MLflow and Weights & Biases, as far as a run needs them; imported when a run is opened there.

Where they are and who asks, their own environment variables say (`MLFLOW_TRACKING_URI`,
`WANDB_MODE`, `WANDB_API_KEY`, ...); nothing of that stands in a configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vatt import __version__

PROJECT = "vatt"  # the experiment or project, where the environment names no other
DONE, STOPPED, FAILED = "done", "stopped", "failed"  # how a run ends
_MLFLOW_BATCH = 100  # parameters of one request
_MLFLOW_VALUE = 6000  # characters of one


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run when it begins.

    Attributes:
      name: of the run.
      folder: of the run.
      config: values by dotted path.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]


class Tracker(Protocol):
    """One tracked run. Whatever it raises is counted, and the training goes on.

    Attributes:
      place: where it can be seen, once it has begun.
    """

    place: str

    def begin(self, about: About, known: Mapping[str, Any]) -> dict[str, Any]:
        """Opens a run, or the one that is `known`; returns by what it is known."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Adds values by tag."""

    def note(self, name: str, text: str) -> None:
        """Says something in words."""

    def file(self, path: Path) -> None:
        """Keeps a file."""

    def end(self, status: str) -> None:
        """Ends it: `DONE`, `STOPPED` or `FAILED`."""


class MLflow:
    """A run of MLflow (https://mlflow.org), by its client, which has no global state."""

    place, _run = "", None

    def begin(self, about: About, known: Mapping[str, Any]) -> dict[str, Any]:
        """Opens a run, or the one that is `known`; returns by what it is known."""
        import mlflow
        from mlflow.entities import Param

        uri = os.environ.get("MLFLOW_TRACKING_URI") or known.get("uri")
        self._client = mlflow.MlflowClient(tracking_uri=uri or mlflow.get_tracking_uri())
        uri = self._client.tracking_uri
        self._run = known.get("id") or self._run  # an attempt before this one may have made it
        if self._run:
            experiment = self._client.get_run(self._run).info.experiment_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT)
            tags = {"vatt.version": __version__, "vatt.folder": str(about.folder.resolve())}
            run = self._client.create_run(experiment, run_name=about.name, tags=tags)
            self._run = run.info.run_id
            values = {key: str(x)[:_MLFLOW_VALUE] for key, x in about.config.items()}
            params = [Param(_mlflow_name(key), value) for key, value in values.items()]
            for start in range(0, len(params), _MLFLOW_BATCH):
                part = params[start : start + _MLFLOW_BATCH]
                self._client.log_batch(self._run, params=part)
        self.place = f"run {self._run} of experiment {experiment} in {uri}"
        return {"id": self._run, "uri": uri}

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Adds values by tag."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        found = [Metric(_mlflow_name(tag), value, now, step) for tag, value in values.items()]
        self._client.log_batch(self._run, metrics=found)

    def note(self, name: str, text: str) -> None:
        """Says something in words."""
        self._client.set_tag(self._run, _mlflow_name(name), text)

    def file(self, path: Path) -> None:
        """Keeps a file."""
        self._client.log_artifact(self._run, str(path))

    def end(self, status: str) -> None:
        """Ends it."""
        known = {DONE: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
        self._client.set_terminated(self._run, known[status])


class Wandb:
    """A run of Weights & Biases (https://wandb.ai)."""

    place = ""

    place = ""

    def begin(self, about: About, known: Mapping[str, Any]) -> dict[str, Any]:
        """Opens a run, or the one that is `known`; returns by what it is known."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=known.get("id"),
            resume="allow" if known.get("id") else None,
            name=about.name,
            dir=str(about.folder.resolve()),
            config=dict(about.config),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="step")
        offline = self._run.offline
        self.place = f"run {self._run.id} in {self._run.dir}" if offline else self._run.url
        return {"id": self._run.id}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Adds values by tag."""
        self._run.log({"step": step, **values})

    def note(self, name: str, text: str) -> None:
        """Says something in words."""
        self._run.summary[name] = text

    def file(self, path: Path) -> None:
        """Keeps a copy of a file beside those of W&B, which has a config.yaml of its own."""
        kept = Path(self._run.dir) / f"vatt_{path.name}"
        shutil.copyfile(path, kept)
        self._run.save(str(kept), base_path=self._run.dir, policy="now")

    def end(self, status: str) -> None:
        """Ends it."""
        self._run.finish(exit_code=0 if status == DONE else 1)


TRACKERS: dict[str, type[Tracker]] = {"mlflow": MLflow, "wandb": Wandb}


def _mlflow_name(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "_", name)
