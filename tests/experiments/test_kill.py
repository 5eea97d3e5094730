"""A training process that is killed, or asked to stop, loses nothing that was saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import test_pretrain

from vatt import configs
from vatt.errors import EXIT_PREEMPTED
from vatt.training.checkpoints import CheckpointStore

REPOSITORY = Path(__file__).resolve().parents[2]
data_dir = test_pretrain.data_dir
STEPS, DEADLINE_S, STOPPED_S = 60, 240, 30


def start(tmp_path, data_dir, name, *flags, program=("-m", "vatt.main"), mode="train", every=6):
    """Starts `python -m vatt.main` on the small corpus; 60 steps, a checkpoint every so many."""
    cfg = test_pretrain.config(data_dir, tmp_path / name, steps=STEPS, mode=mode)
    cfg.train.save_checkpoint_freq = every
    file = tmp_path / f"{name}.yaml"
    file.write_text(configs.to_yaml(cfg))
    command = [sys.executable, *program, f"--config_file={file}"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [*command, f"--model_dir={tmp_path / name}", *flags],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, condition):
    """Polls until `condition()`, while the process runs."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "no progress"
        time.sleep(0.005)


def finish(process, deadline=DEADLINE_S):
    try:
        _, errors = process.communicate(timeout=deadline)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.slow
def test_killed_and_stopped_runs_end_with_the_same_weights(tmp_path, data_dir):
    code, errors = finish(start(tmp_path, data_dir, "whole"))
    assert code == 0, errors
    store = CheckpointStore(tmp_path / "run")

    killed = start(tmp_path, data_dir, "run")  # once a checkpoint is there, during a later save
    writing = tmp_path / "run" / ".writing-ckpt-18"
    wait_for(killed, lambda: writing.exists() or 18 in store.steps())
    killed.send_signal(signal.SIGKILL)
    finish(killed)
    assert store.newest_valid() in (12, 18)

    asked = start(tmp_path, data_dir, "run")
    wait_for(asked, lambda: 24 in store.steps())
    asked.send_signal(signal.SIGTERM)
    code, errors = finish(asked)
    assert code == EXIT_PREEMPTED, errors
    assert "Traceback" not in errors

    code, errors = finish(start(tmp_path, data_dir, "run"))
    assert code == 0, errors
    whole = test_pretrain.values(tmp_path / "whole", STEPS)
    for name, value in test_pretrain.values(tmp_path / "run", STEPS).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
    steps = [row["step"] for row in test_pretrain.rows(tmp_path / "run", "train")]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS
    assert not list((tmp_path / "run").glob(".writing*"))


ENDLESS_SAVE = """
import pathlib, sys, threading
from vatt import main, quiet
quiet.import_tensorflow_quietly()
from vatt.training import checkpoints, signals
whole = checkpoints.sha256

def slow(path):
    if signals.asked_to_stop():
        pathlib.Path(__file__).with_suffix(".saving").touch()
        threading.Event().wait()
    return whole(path)

checkpoints.sha256 = slow
sys.exit(main.main(sys.argv))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notice", "end", "code"),
    [("SIGUSR1", "SIGKILL", -signal.SIGKILL)],
)
def test_a_save_that_takes_longer_than_the_notice_is_not_left_half(
    tmp_path, data_dir, notice, end, code
):
    """What was saved before counts; the same command goes on and ends with the very weights."""
    program, run = tmp_path / "endless.py", tmp_path / "run"
    program.write_text(ENDLESS_SAVE)
    store = CheckpointStore(run)
    asked = start(tmp_path, data_dir, "run", program=[program], every=30)
    log = run / "metrics.jsonl"  # its next row tells that the save before is over
    wait_for(asked, lambda: log.exists() and test_pretrain.rows(run, "train")[-1]["step"] > 30)
    asked.send_signal(getattr(signal, notice))
    wait_for(asked, program.with_suffix(".saving").exists)
    (scratch,) = run.glob(".writing-ckpt-*")
    asked.send_signal(getattr(signal, end))
    assert finish(asked, STOPPED_S)[0] == code
    assert list(scratch.iterdir()) and store.newest_valid() == 30

    for name in ("run", "whole"):
        code, errors = finish(start(tmp_path, data_dir, name, every=30))
        assert code == 0, errors
        assert ("the newest checkpoint of this run" in errors) == (name == "run")
    whole = test_pretrain.values(tmp_path / "whole", STEPS)
    for name, value in test_pretrain.values(run, STEPS).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
    assert not list(run.glob(".writing*")) and not list(run.glob("*pending*"))


TELLING_EVALUATION = """
import pathlib, sys
from vatt import main, quiet
quiet.import_tensorflow_quietly()
from vatt.experiments.evaluator import Evaluator
whole, calls = Evaluator.on_replicas, 0

def telling(*arguments):
    global calls
    calls += 1
    pathlib.Path(__file__).with_suffix(f".call{calls}").touch()
    return whole(*arguments)

Evaluator.on_replicas = telling
sys.exit(main.main(sys.argv))
"""


@pytest.mark.slow
def test_a_run_that_is_stopped_in_an_evaluation_stops_within_30_s(tmp_path, data_dir):
    """Nothing of that evaluation is kept, all that was saved is; another one makes good for it."""
    program, run = tmp_path / "telling.py", tmp_path / "run"
    program.write_text(TELLING_EVALUATION)
    store = CheckpointStore(run)

    def stopped_in(mode, call):
        asked = start(tmp_path, data_dir, "run", program=[program], mode=mode, every=30)
        told = program.with_suffix(f".call{call}")
        wait_for(asked, told.exists)
        asked.send_signal(signal.SIGTERM)
        code, errors = finish(asked, STOPPED_S)
        assert code == EXIT_PREEMPTED and "Traceback" not in errors, errors
        assert not (run / "evaluated.json").exists()
        for marker in tmp_path.glob("telling.call*"):
            marker.unlink()

    stopped_in("train_and_eval", call=1)  # while the graph is built
    assert store.steps() == [30]
    code, errors = finish(start(tmp_path, data_dir, "run", every=30))
    assert code == 0, errors
    stopped_in("eval", call=2)
    code, errors = finish(start(tmp_path, data_dir, "run", mode="eval", every=30))
    assert code == 0, errors
    assert [row["step"] for row in test_pretrain.rows(run, "eval")] == [30, STEPS]
