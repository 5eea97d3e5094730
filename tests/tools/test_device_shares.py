"""Cores and GPUs of a machine among workers."""

from __future__ import annotations

import os

import pytest

from vatt.errors import UserError
from vatt.tools import device_shares
from vatt.tools.device_shares import Share


@pytest.fixture
def machine(monkeypatch):
    """A machine with cores and GPUs."""

    def of(cores, gpus):
        monkeypatch.setattr(device_shares, "cores", lambda: list(range(cores)))
        monkeypatch.setenv(device_shares.VISIBLE, gpus)

    return of


def test_cores_and_gpus_are_shared_evenly(machine):
    machine(8, "0,1,2,3")
    shares, told = device_shares.shared(2)
    assert shares == [Share([0, 1, 2, 3], ["0", "1"]), Share([4, 5, 6, 7], ["2", "3"])]
    assert told == "2 workers, 4 cores each, 2 GPUs each"


def test_what_is_left_goes_to_the_first_the_process_beside_or_nobody(machine):
    machine(7, "GPU-a, GPU-b,GPU-c,GPU-d,GPU-e")
    shares, told = device_shares.shared(2, beside=True)
    assert [len(share.cores) for share in shares] == [3, 2, 2]
    gpus = [["GPU-a", "GPU-b"], ["GPU-c", "GPU-d"], ["GPU-e"]]
    assert [share.gpus for share in shares] == gpus
    assert told == "2 workers, 2 or 3 cores each, 2 GPUs each; evaluation with 2 cores and 1 GPU"
    assert (
        device_shares.shared(3)[1] == "3 workers, 2 or 3 cores each, 1 GPU each; not used: 2 GPUs"
    )


def test_fewer_cores_than_processes_are_not_shared_out(machine):
    machine(2, "")
    shares, told = device_shares.shared(2, beside=True)
    assert [share.cores for share in shares] == [()] * 3
    assert told == (
        "2 workers, all on the same 2 cores, no GPU; evaluation with the same cores and no GPU"
    )
    assert device_shares.shared(1)[1] == "1 worker, 2 cores each, no GPU"


def test_fewer_gpus_than_workers_are_refused(machine):
    machine(8, "0")
    with pytest.raises(
        UserError, match=r"--num_workers=2: .* 1 GPU can be seen; accepted: at most 1"
    ):
        device_shares.shared(2)


@pytest.mark.parametrize(
    ("value", "seen"),
    [("", []), ("-1", []), ("1, 0", ["1", "0"]), ("2,-1,0", ["2"]), ("GPU-1a", ["GPU-1a"])],
)
def test_the_variable_says_which_gpus_are_seen(value, seen, monkeypatch):
    monkeypatch.setenv(device_shares.VISIBLE, value)
    assert device_shares.gpus() == seen


@pytest.mark.parametrize(("code", "seen"), [(0, ["0", "1"]), (9, [])])
def test_without_it_the_driver_is_asked(code, seen, monkeypatch, tmp_path):
    monkeypatch.delenv(device_shares.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --query-gpu=index ] && printf "0\\n1\\n"; exit {code}\n'
    )
    program.chmod(0o755)
    assert device_shares.gpus() == seen


def test_without_a_driver_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.delenv(device_shares.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_shares.gpus() == []


def test_the_cores_are_those_of_this_process():
    assert set(device_shares.cores()) == os.sched_getaffinity(0)
