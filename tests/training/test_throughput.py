"""The progress line: the time that is left, and what the loss is made of."""

from __future__ import annotations

import types

import pytest

from vatt.training import throughput

LOSS = {"total_loss": 0.5, "learning_rate": 1e-3}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(throughput, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return now


def line(progress, clock, step, seconds, capsys, **metrics):
    clock[0] += seconds
    progress.show(LOSS | metrics | progress.update(step, 0.0))
    return capsys.readouterr().err


def test_the_first_call_says_nothing_of_the_time_left(clock, capsys):
    progress = throughput.Progress(1001, 0, 32, 1e9)
    assert "ETA" not in line(progress, clock, 1, 60.0, capsys)  # tracing, for the most part
    assert line(progress, clock, 11, 5.0, capsys).endswith("ETA 8:15\n")
    assert line(progress, clock, 21, 15.0, capsys).endswith("ETA 16:20\n")
    clock[0] += 1000.0
    progress.resume()  # after an evaluation
    assert line(progress, clock, 501, 480.0, capsys).endswith("ETA 8:20\n")


def test_a_run_that_goes_on(clock, capsys):
    progress = throughput.Progress(1000, 900, 32, 1e9)
    assert "ETA" not in line(progress, clock, 901, 60.0, capsys)
    assert line(progress, clock, 911, 10.0, capsys).endswith("ETA 1:29\n")


def test_what_the_loss_is_made_of(clock, capsys):
    progress = throughput.Progress(10, 0, 32, 1e9)
    parts = {"model_loss": 0.4, "regularization_loss": 0.1, "binary_cross_entropy": 0.325}
    said = "(model 0.400, regularization 0.100, binary cross entropy 0.325)"
    assert said in line(progress, clock, 1, 1.0, capsys, **parts)
    parts = {"model_loss": 0.5, "regularization_loss": 0.0, "top_1_accuracy": 0.25}
    assert "loss 0.500 (top 1 accuracy 0.250)" in line(progress, clock, 2, 1.0, capsys, **parts)
    parts = {"bridge_losses/nce/vidtxt_loss": 0.5, "bridge_losses/total_loss": 0.5}
    assert "loss 0.500 (vidtxt 0.500)" in line(progress, clock, 3, 1.0, capsys, **parts)


def test_the_share_of_what_the_machine_can_do(clock, capsys):
    progress = throughput.Progress(10, 0, 32, 1e9, peak=4e9)
    assert "GFLOP/s (MFU 12%)" in line(progress, clock, 1, 2.0, capsys)
    assert "MFU" not in line(throughput.Progress(10, 0, 32, 1e9), clock, 1, 2.0, capsys)


def test_the_peak_of_a_cpu_is_that_of_its_cores_however_it_is_split(monkeypatch, two_replicas):
    ticks = iter(range(100))
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks) ** 2 / 4)  # ever slower
    monkeypatch.setattr(throughput, "time", clock)
    assert throughput.matmul_peak(two_replicas, "float32") == 2 * 1536**3 / 0.25
