"""A training that is killed and started again ends as one that was never stopped, of any method."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import every_method
import numpy as np
import pytest

from vatt import configs
from vatt.experiments import executor
from vatt.training.checkpoints import CheckpointStore

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS, DEADLINE_S = 12, 240


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return every_method.write(tmp_path_factory.mktemp("records"))


def killed(cfg, tmp_path) -> CheckpointStore:
    """Starts a run as a user does, and kills it once a checkpoint is there."""
    file, store = tmp_path / "run.yaml", CheckpointStore(cfg.model_dir)
    file.write_text(configs.to_yaml(cfg))
    process = subprocess.Popen(
        [sys.executable, "-m", "vatt.main", f"--config_file={file}"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + DEADLINE_S
    while not store.steps():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "no progress"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    return store


def assert_equal(found, expected):
    """All tensors of two checkpoints are equal to the last bit."""
    assert found.keys() == expected.keys() and len(expected) > 50
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.slow
@every_method.each
def test_a_training_goes_on_exactly(arch, data_dir, tmp_path):
    whole = every_method.config(arch, data_dir, tmp_path / "whole", steps=STEPS)
    assert executor.run(whole) == 0
    cfg = every_method.config(arch, data_dir, tmp_path / "parts", steps=STEPS)
    store = killed(cfg, tmp_path)
    begun = store.newest_valid()
    assert 0 < begun < STEPS
    first = every_method.values(tmp_path / "whole" / f"ckpt-{begun}")
    assert_equal(every_method.values(store.path(begun)), first)  # of another process
    assert executor.run(cfg) == 0
    expected = every_method.values(tmp_path / "whole" / f"ckpt-{STEPS}")
    assert_equal(every_method.values(store.path(STEPS)), expected)
    moved = [name for name, value in first.items() if not np.array_equal(value, expected[name])]
    assert len(moved) > len(expected) / 2
