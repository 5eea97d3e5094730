"""A training that is asked to stop again and again; one that hangs; what its manifests say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import test_loop

from vatt import configs
from vatt.errors import EXIT_PREEMPTED
from vatt.files import sha256
from vatt.training.checkpoints import CheckpointStore, manifest_metadata

STEPS, STOPS = 120, 10


@pytest.mark.slow
def test_ten_requests_over_a_training_lose_and_repeat_no_step(tmp_path):
    """R10: a SIGTERM comes while the batch of a step drawn at random is read, ten times.

    R9: what was asked is done before the step after that one.
    """
    cfg = test_loop.experiment(
        total_steps=STEPS, save_every=1000, log_every_steps=1, iterations_per_loop=1
    )
    stops = np.random.default_rng(0).choice(np.arange(5, STEPS - 5), STOPS, replace=False)
    run, left, seen = tmp_path / "run", sorted(map(int, stops)), []
    before = 0

    def ask(step):
        if left and step >= left[0] and len(seen) == before:  # once in a launch, which reads ahead
            seen.append(left.pop(0))
            os.kill(os.getpid(), signal.SIGTERM)

    codes = []
    while not codes or codes[-1] == EXIT_PREEMPTED:
        before = len(seen)
        recipe, code = test_loop.train(run, cfg, on_batch=ask)
        codes.append(code)
        assert len(seen) - before == (code == EXIT_PREEMPTED)
        if code == EXIT_PREEMPTED:
            assert CheckpointStore(run).steps()[-1] <= seen[-1] + 1
    assert codes == [EXIT_PREEMPTED] * STOPS + [0]
    assert [row["step"] for row in test_loop.rows(run)] == list(range(1, STEPS + 1))
    undisturbed, _ = test_loop.train(tmp_path / "whole", cfg)
    for name, value in test_loop.values(undisturbed).items():
        np.testing.assert_array_equal(value, test_loop.values(recipe)[name], err_msg=name)
    losses = [[r["metrics"]["total_loss"] for r in test_loop.rows(tmp_path / n)]
              for n in ("run", "whole")]  # fmt: skip
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_training_on_two_replicas_goes_on_exactly(tmp_path, two_replicas):
    """R18 on two replicas: same losses and weights, bit for bit."""
    cfg = test_loop.experiment(total_steps=20, log_every_steps=1)
    whole, _ = test_loop.train(tmp_path / "whole", cfg, strategy=two_replicas)
    half = test_loop.experiment(total_steps=10, log_every_steps=1)
    test_loop.train(tmp_path / "parts", half, strategy=two_replicas)
    resumed, _ = test_loop.train(tmp_path / "parts", cfg, strategy=two_replicas)
    for name, value in test_loop.values(whole).items():
        np.testing.assert_array_equal(value, test_loop.values(resumed)[name], err_msg=name)
    losses = [[row["metrics"]["total_loss"] for row in test_loop.rows(tmp_path / name)]
              for name in ("whole", "parts")]  # fmt: skip
    assert losses[0] == losses[1] and len(losses[0]) == 20


def test_a_manifest_says_by_which_configuration_it_was_trained(tmp_path):
    """R8: its hash is that of the file config.yaml of the run, as `sha256sum` prints it."""
    found = {}
    for seed in (0, 1):
        cfg = test_loop.experiment(total_steps=4, save_every=2)
        cfg.seed = seed
        run = tmp_path / str(seed)
        test_loop.train(run, cfg)
        (run / "config.yaml").write_text(configs.to_yaml(cfg))
        for step in (2, 4):
            manifest = manifest_metadata(CheckpointStore(run).path(step))
            assert manifest["config_sha256"] == sha256(run / "config.yaml")
            assert manifest["step"] == step and manifest["vatt"] and manifest["tensorflow"]
            for name, facts in manifest["files"].items():
                assert facts["sha256"] == sha256(run / name)
                assert facts["bytes"] == (run / name).stat().st_size
        found[seed] = manifest["config_sha256"]
    assert found[0] != found[1]


HANGS = """
import threading
from vatt.training import signals

def the_reader_waits():
    waiting.set()
    threading.Event().wait()

waiting = threading.Event()

with signals.watchdog(float({seconds})) as dog:
    for _ in range(3):
        dog.alive()
    threading.Thread(target=the_reader_waits, daemon=True).start()
    waiting.wait()
    threading.Event().wait()  # the training
"""


@pytest.mark.slow
def test_a_training_that_hangs_is_ended_with_the_stacks_of_all_threads():
    """R12, with the five seconds of its threshold; a process of its own, which really hangs."""
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", HANGS.format(seconds=5)], capture_output=True, text=True, timeout=60
    )
    assert 5 <= time.monotonic() - start < 30
    assert ended.returncode == 1 and "Timeout (0:00:05)!" in ended.stderr
    assert ended.stderr.count("(most recent call first)") == 2
    assert "in the_reader_waits" in ended.stderr and "line 16 in <module>" in ended.stderr
