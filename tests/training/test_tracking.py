"""Experiment trackers: never in the way of a run, one tracked run for one run, the real ones."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from vatt.errors import EXIT_PREEMPTED, UserError
from vatt.training import trackers, tracking
from vatt.training.rundir import RunDir
from vatt.training.tracking import NONE, Tracking


class Recorded:
    """A tracker that keeps what it is told, by the folder of the run; it may break or hang."""

    place = "here"
    told: ClassVar[list[tuple]] = []
    broken: tuple[str, ...] = ()
    hang: threading.Event | None = None

    def _tell(self, *message):
        if self.hang is not None:
            self.hang.wait(30)
        if message[0] in self.broken:
            raise ConnectionError("nobody\nanswers")
        self.told.append(message)

    def begin(self, about, known):
        self._tell("begin", about.name, dict(about.config), known.get("id"))
        return {"id": known.get("id") or "run-1"}

    def metrics(self, step, values):
        self._tell("metrics", step, values)

    def note(self, name, text):
        self._tell("note", name, text)

    def file(self, path):
        self._tell("file", path.name)

    def end(self, status):
        self._tell("end", status)


@pytest.fixture
def recorded(monkeypatch):
    """Returns the class of a fresh tracker called "recorded"."""
    fresh = type("Fresh", (Recorded,), {"told": []})
    monkeypatch.setitem(trackers.TRACKERS, "recorded", fresh)
    return fresh


def test_a_run_is_told_in_order(recorded, tmp_path):
    folder = tmp_path / "seed3"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 3\n")
    run = RunDir(folder)
    run.tracking = Tracking(folder, ["recorded"], {"seed": 3})
    run.write_metrics("train", 10, {"total_loss": 2.0, "learning_rate": 0.1})
    run.tracking.note("checkpoint", "ckpt-10")
    run.write_metrics("eval", 10, {"x": 1.0}, curves={"retrieval/x/txt2vid/R10": 0.5})
    run.tracking.file(folder / "report.html")
    run.tracking.end(0)
    assert recorded.told == [
        ("begin", f"{tmp_path.name}/seed3", {"seed": 3}, None),
        ("file", "config.yaml"),
        ("metrics", 10, {"loss/total_loss": 2.0, "optimizer/learning_rate": 0.1}),
        ("note", "checkpoint", "ckpt-10"),
        ("metrics", 10, {"retrieval/x/txt2vid/R10": 0.5}),
        ("file", "report.html"),
        ("end", trackers.DONE),
    ]


def test_a_run_that_goes_on_is_the_same_tracked_run_and_repeats_no_step(recorded, tmp_path):
    first = Tracking(tmp_path, ["recorded"], {})
    for step in (10, 20):
        first.metrics("train", step, {"loss": 1.0})
    first.end(EXIT_PREEMPTED)
    known = json.loads((tmp_path / "tracker-recorded.json").read_text())
    assert known == {"id": "run-1", "last": 20}
    del recorded.told[:]
    second = Tracking(tmp_path, ["recorded"], {})
    for step in (20, 30):
        second.metrics("train", step, {"loss": 1.0})
    second.metrics("eval", 20, {"R10": 0.5})
    second.end(None)
    assert recorded.told == [
        ("begin", tmp_path.name, {}, "run-1"),
        ("metrics", 30, {"loss": 1.0}),
        ("metrics", 20, {"R10": 0.5}),
        ("end", trackers.FAILED),
    ]


def test_figures_of_other_sets_have_names_of_their_own(recorded, tmp_path):
    whole = Tracking(tmp_path, ["recorded"], {})
    whole.below("msrvtt").metrics("eval", 5, {"retrieval/msrvtt/R1": 0.1})
    whole.end(0)
    assert ("metrics", 5, {"msrvtt/retrieval/msrvtt/R1": 0.1}) in recorded.told


@pytest.mark.parametrize("broken", [("begin",), ("metrics",), ("metrics", "note", "end")])
def test_a_tracker_that_fails_is_told_once_and_counted(recorded, tmp_path, caplog, broken):
    recorded.broken = broken
    run = RunDir(tmp_path)
    with caplog.at_level("WARNING", logger="absl"):
        run.tracking = Tracking(tmp_path, ["recorded"], {})
        for step in range(1, 6):
            run.write_metrics("train", step, {"total_loss": 1.0})
            run.tracking.note("checkpoint", f"ckpt-{step}")
        run.tracking.end(0)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "ConnectionError: nobody answers" in told[0]
    lost = {("begin",): 12, ("metrics",): 5, ("metrics", "note", "end"): 11}[broken]
    assert told[1] == f"tracker recorded: {lost} messages were lost"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_tracker_that_hangs_holds_nothing_up(recorded, tmp_path, caplog, monkeypatch):
    recorded.hang = threading.Event()
    monkeypatch.setattr(tracking, "_LITTLE_PATIENCE_S", 0.05)
    monkeypatch.setattr(tracking, "_WAITING", 3)
    with caplog.at_level("WARNING", logger="absl"):
        slow = Tracking(tmp_path, ["recorded"], {})
        for step in range(1, 9):
            slow.metrics("train", step, {"loss": 1.0})
        slow.end(EXIT_PREEMPTED)
    recorded.hang.set()
    assert "does not keep up" in caplog.text and "messages were lost" in caplog.text


def test_without_trackers_nothing_happens(tmp_path):
    NONE.metrics("train", 1, {"loss": 1.0})
    NONE.note("checkpoint", "ckpt-1")
    NONE.end(0)
    assert not [*tmp_path.iterdir()]


def test_names_of_trackers(monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: name == "wandb" or None)
    assert tracking.chosen(None) == tracking.chosen("") == ()
    assert tracking.chosen("wandb, wandb") == ("wandb",)
    with pytest.raises(UserError, match=r"'wandbd' is not known; accepted: mlflow, wandb.*wandb"):
        tracking.chosen("wandbd")
    with pytest.raises(UserError, match=r"mlflow is not installed: pip install 'vatt\[mlflow\]'"):
        tracking.chosen("mlflow")


# The real ones ------------------------------------------------------------------------------------


def tell_everything(folder: Path, name: str, steps=(5, 10)) -> None:
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "report.html").write_text("<p>report</p>")
    run = RunDir(folder)
    run.tracking = Tracking(folder, [name], {"seed": 0, "train.input.name": "talk+sounds"})
    for step in steps:
        run.write_metrics("train", step, {"total_loss": 1.0 / step})
        run.tracking.note("checkpoint", f"ckpt-{step}")
    tag = "retrieval/x/text+video2audio/R10"
    run.write_metrics("eval", steps[-1], {"x": 0.5}, curves={tag: 0.5, "nan": float("nan")})
    run.tracking.file(folder / "report.html")
    run.tracking.end(0)


@pytest.mark.slow
def test_mlflow_with_its_local_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (extra mlflow)")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    tell_everything(folder, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=uri)
    known = json.loads((folder / "tracker-mlflow.json").read_text())
    run = client.get_run(known["id"])
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert client.get_experiment(run.info.experiment_id).name == "vatt"
    assert run.data.params == {"seed": "0", "train.input.name": "talk+sounds"}
    assert run.data.tags["checkpoint"] == "ckpt-10"
    assert run.data.metrics["retrieval/x/text_video2audio/R10"] == 0.5
    points = client.get_metric_history(known["id"], "loss/total_loss")
    assert [(point.step, point.value) for point in points] == [(5, 0.2), (10, 0.1)]
    kept = {item.path for item in client.list_artifacts(known["id"])}
    assert kept == {"config.yaml", "report.html"}
    # going on: the same run, no step twice, the address known without the environment
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tell_everything(folder, "mlflow", steps=(10, 20))
    points = client.get_metric_history(known["id"], "loss/total_loss")
    assert [point.step for point in points] == [5, 10, 20]
    experiment = run.info.experiment_id
    assert len(client.search_runs([experiment])) == 1


@pytest.mark.slow
def test_mlflow_that_cannot_be_reached_ends_no_run(tmp_path, monkeypatch, caplog):
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra mlflow)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level("WARNING", logger="absl"):
        tell_everything(tmp_path, "mlflow")
    assert "tracker mlflow" in caplog.text and "messages were lost" in caplog.text
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (extra wandb)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tell_everything(tmp_path, "wandb")
    wandb.teardown()  # its own process has written all
    (offline,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = offline.glob("run-*.wandb")
    known = json.loads((tmp_path / "tracker-wandb.json").read_text())
    assert known["id"] in log.name and known["last"] == 10
    content = log.read_bytes()
    for text in (b"loss/total_loss", b"text+video2audio", b"ckpt-10", b"talk+sounds"):
        assert text in content, text
    kept = {path.name: path.read_text() for path in (offline / "files").glob("vatt_*")}
    assert kept == {"vatt_config.yaml": "seed: 0\n", "vatt_report.html": "<p>report</p>"}
    tell_everything(tmp_path, "wandb", steps=(10, 20))
    again = {path.stem.partition("-")[2] for path in (tmp_path / "wandb").glob("*/run-*.wandb")}
    assert again == {known["id"]}
