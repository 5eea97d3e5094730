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
STEPS, DEADLINE_S = 60, 240


def start(tmp_path, data_dir, name):
    """Starts `python -m vatt.main` on the small corpus; 60 steps, a checkpoint every 6."""
    cfg = test_pretrain.config(data_dir, tmp_path / name, steps=STEPS)
    cfg.train.save_checkpoint_freq = 6
    file = tmp_path / f"{name}.yaml"
    file.write_text(configs.to_yaml(cfg))
    command = [sys.executable, "-m", "vatt.main", f"--config_file={file}"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [*command, f"--model_dir={tmp_path / name}"],
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


def finish(process):
    _, errors = process.communicate(timeout=DEADLINE_S)
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
