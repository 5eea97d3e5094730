"""The guard of a run's folder: what may change when a run goes on, and what may not."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

import pytest
import small_disk
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

import vatt
from vatt import configs, locks
from vatt.errors import UserError, WriteError
from vatt.locks import HeldError
from vatt.training.curves import Curves
from vatt.training.rundir import RunDir

TOY = {"config_file": "configs/pretrain/toy.yaml"}
LOSS = "model_config.loss_config.bridge.0.temperature"


@pytest.mark.parametrize(
    ("override", "path"),
    [
        (f"{LOSS}=0.5", LOSS),
        ("model_config.backbone_config.video_model_kwargs={d_ff: 96}", "model_config."),
        ("seed=3", "seed: 0 -> 3"),
        ("train.input.batch_size=16", "train.input.batch_size: 32 -> 16"),
        ("train.optimizer.name=AdamW", "train.optimizer.name"),
    ],
)
def test_another_configuration_is_refused_by_its_keys(tmp_path, override, path, caplog):
    folder = RunDir(tmp_path)
    folder.claim(configs.resolve(**TOY))
    before = (tmp_path / "config.yaml").read_text()
    changed = configs.resolve(**TOY, params_override=override)
    with pytest.raises(UserError, match="another configuration") as caught:
        folder.claim(changed)
    assert path in str(caught.value)
    assert (tmp_path / "config.yaml").read_text() == before
    with caplog.at_level("WARNING", logger="absl"):
        folder.claim(changed, allow_change=True)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("configuration changed on resume: ") and path in said
    assert configs.from_yaml(tmp_path / "config.yaml") == changed


def test_another_architecture_is_refused(tmp_path):
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    with pytest.raises(UserError, match="model_arch: 'tx_fac_tiny' -> 'tx_fac'"):
        RunDir(tmp_path).claim(configs.resolve(model_arch="tx_fac"))


@pytest.mark.parametrize(
    "override",
    [
        "mode=train_and_eval",
        "data_dir=elsewhere",
        "strategy_config.num_devices=2",
        "train.max_checkpoints=2",
        "train.log_every_steps=10",
        "eval.input.batch_size=16,eval.poll_interval_s=5",
    ],
)
def test_what_does_not_make_another_run_may_change(tmp_path, override):
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    changed = configs.resolve(**TOY, params_override=override)
    RunDir(tmp_path).claim(changed)
    assert configs.from_yaml(tmp_path / "config.yaml") == changed


NONSENSE = ["", "[" * 100_000, "9" * 5000, "[1, 2]", '{"launches": 3}', "&a [*a]", "\x00", "{"]


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_damaged_files_of_a_run_are_told_and_not_believed(tmp_path, text, caplog):
    folder = RunDir(tmp_path)
    cfg = configs.resolve(**TOY)
    (tmp_path / "config.yaml").write_text(text)
    if text:  # an empty one says nothing, so that everything differs
        with pytest.raises(UserError, match=r"config\.yaml|another configuration"):
            folder.claim(cfg)
    (tmp_path / "config.yaml").unlink()
    folder.claim(cfg)
    (tmp_path / "run.json").write_text(text)
    with caplog.at_level("WARNING", "absl"):
        folder.record_launch(cfg, ["ü"])
    assert "run.json: cannot be read" in caplog.text
    folder.record_launch(cfg, ["b"])
    launches = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["launches"]
    assert [launch["command"] for launch in launches] == [["ü"], ["b"]]
    good = '{"step": 2, "split": "train", "metrics": {}}'
    late = good.replace("2", "3")
    odd = [good.replace("2", '"2"'), late.replace('"train"', '["train"]'), '{"step": 3}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([good, text, *odd, late, ""]))
    folder.forget_after(2)
    assert (tmp_path / "metrics.jsonl").read_text() == f"{good}\n"


@pytest.mark.parametrize("content", [b"other words\n", b"\xff\n", b""])
def test_a_file_beside_the_configuration_that_is_another_one(tmp_path, content):
    RunDir(tmp_path).claim(configs.resolve(**TOY), {"vocabulary.txt": "a\r\nü\n"})
    RunDir(tmp_path).claim(configs.resolve(**TOY), {"vocabulary.txt": "a\r\nü\n"})
    (tmp_path / "vocabulary.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"vocabulary\.txt: differs from what this run would write"):
        RunDir(tmp_path).claim(configs.resolve(**TOY), {"vocabulary.txt": "a\r\nü\n"})


def test_every_launch_is_recorded_with_what_it_takes_to_repeat_it(tmp_path):
    """R36: configuration, command, versions, commit, devices."""
    cfg, run = configs.resolve(**TOY, params_override="seed=5"), RunDir(tmp_path)
    commands = [["vatt", "pretrain", "--seed=5"], ["vatt", "pretrain", "--allow_config_change"]]
    for command in commands:
        run.claim(cfg)
        run.record_launch(cfg, command)
    assert configs.from_yaml(tmp_path / "config.yaml") == cfg
    launches = json.loads((tmp_path / "run.json").read_text())["launches"]
    assert [launch["command"] for launch in launches] == commands
    for launch in launches:
        assert launch["vatt"] == vatt.__version__ and launch["mode"] == cfg.mode
        assert launch["python"] == platform.python_version()
        for name in ("tensorflow", "keras", "numpy", "av"):
            assert launch["versions"][name] == importlib.metadata.version(name)
        devices = [device.name for device in tf.config.list_logical_devices()]
        assert launch["devices"] == devices and "/device:CPU:0" in devices
        assert abs(time.time() - _seconds(launch["started"])) < 600
        assert f"{os.cpu_count()} cores" in launch["machine"]
    root = Path(vatt.__file__).parents[1]
    if (root / ".git").exists():
        asked = ["git", "-C", str(root), "rev-parse", "HEAD"]
        head = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        assert {launch["git_commit"].removesuffix("-dirty") for launch in launches} == {head}


def _seconds(stamp):
    return datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z").timestamp()


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    """Its file lacks what came since; the defaults are what it was trained with."""
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    file = tmp_path / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "horizontal_flip" not in line))
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    file.write_text("".join(line for line in lines if "horizontal_flip" not in line))
    published = configs.resolve(**TOY, params_override="train.input.fps=null")
    RunDir(tmp_path).claim(published)  # an earlier file says 10, which was the published rule
    file.write_text("".join(line for line in lines if "horizontal_flip" not in line))
    changed = configs.resolve(**TOY, params_override="train.input.horizontal_flip=false")
    with pytest.raises(UserError, match=r"input\.horizontal_flip: True -> False"):
        RunDir(tmp_path).claim(changed)


def test_a_configuration_that_was_cut_off_is_another_one(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="another configuration"):
        RunDir(tmp_path).claim(configs.resolve(**TOY))


# What is logged, and who may ---------------------------------------------------------------------


def curve(folder, tag):
    """Steps and values as a reader of event files sees them, by step.

    Files that a process begins within one second are read by their number as text: 10 before 9.
    """
    reader = event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    reader.Reload()
    events = reader.Tensors(tag)
    values = [float(tensor_util.make_ndarray(event.tensor_proto)) for event in events]
    return sorted((e.step, round(value, 4)) for e, value in zip(events, values, strict=True))


def logged(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(row["split"], row["step"]) for row in rows]


def test_what_was_not_saved_is_forgotten_everywhere(tmp_path):
    killed = RunDir(tmp_path)
    for step in (10, 20, 30):
        killed.write_metrics("train", step, {"total_loss": step / 100, "steps_per_second": 1.0})
    for step in (10, 30):
        killed.write_metrics("eval", step, {"R1": step / 10}, curves={"retrieval/R1": step / 10})
    killed.write_metrics("eval", 500, {"R1": 50.0}, curves={"retrieval/R1": 50.0})  # another's
    killed.set_evaluated([500, 30, 10])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "spl')
    resumed = RunDir(tmp_path)
    assert resumed.last_trained() == 30
    resumed.forget_after(20)
    assert logged(tmp_path) == [*(("train", 10), ("train", 20), ("eval", 10), ("eval", 500))]
    assert resumed.evaluated() == [10, 500]
    resumed.write_metrics("train", 30, {"total_loss": 0.7, "steps_per_second": 2.0})
    resumed.write_metrics("eval", 30, {"R1": 0.5}, curves={"retrieval/R1": 0.5})
    assert curve(tmp_path / "train", "loss/total_loss") == [(10, 0.1), (20, 0.2), (30, 0.7)]
    assert [step for step, _ in curve(tmp_path / "train", "speed/steps_per_second")] == [10, 20, 30]
    assert curve(tmp_path / "eval", "retrieval/R1") == [(10, 1.0), (30, 0.5), (500, 50.0)]


def test_a_second_training_is_refused_and_leaves_all_as_it_is(tmp_path):
    first, second = RunDir(tmp_path / "run"), RunDir(tmp_path / "run")
    with first.training():
        first.claim(configs.resolve(**TOY))
        before = sorted(path.name for path in first.path.iterdir())
        with pytest.raises(HeldError, match="another training is at work"), second.training():
            pass
        assert sorted(path.name for path in first.path.iterdir()) == before
        assert first.move_aside() == first.path / "previous-1"
        with pytest.raises(HeldError), second.training():
            pass
    with second.training():
        pass
    assert [path.name for path in first.path.iterdir()] == ["previous-1"]


def test_a_training_that_writes_nothing_leaves_no_folder(tmp_path):
    with RunDir(tmp_path / "a" / "run").training():
        pass
    assert not (tmp_path / "a" / "run").exists()
    (tmp_path / "mine").mkdir()
    with RunDir(tmp_path / "mine").training():
        pass
    assert (tmp_path / "mine").exists()


def test_a_run_in_the_place_of_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with (
        pytest.raises(WriteError, match="run: cannot be written"),
        RunDir(tmp_path / "run").training(),
    ):
        pass


@pytest.mark.parametrize("log", ["rows", "curves"])
def test_what_is_logged_on_a_full_disk_is_told_in_a_line(tmp_path, log):
    disk = tmp_path / "disk"
    with small_disk.mounted(disk, "size=64k"):
        folder = RunDir(disk)
        folder.write_metrics("train", 0, {"loss": 1.0})
        with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        write = {
            "rows": lambda step: locks.append_line(disk / "metrics.jsonl", f"{step:100}"),
            "curves": lambda step: Curves(disk / "train").add(step, {"loss": 1.0}),
        }[log]
        with pytest.raises(WriteError) as caught:
            for step in range(1000):
                write(step)
    name = "metrics.jsonl" if log == "rows" else "train"
    assert re.fullmatch(
        rf"\S+/{name}: cannot be written \(No space left on device\); 0 MiB are free there\. Make "
        "room, then start the same command again",
        str(caught.value),
    )
