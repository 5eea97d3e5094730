"""Locks between processes: one holder, told by name; a crash and a copy leave nothing locked."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vatt import locks

REPOSITORY = Path(locks.__file__).resolve().parents[1]
HOLD = """
import sys
from vatt import locks
with locks.held(sys.argv[1], "another training"):
    print("held", flush=True)
    sys.stdin.read()
"""
APPEND = """
import sys
from vatt import locks
for number in range(300):
    locks.append_line(sys.argv[1], sys.argv[2] * 3000 + str(number))
"""


def python(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = python(HOLD, tmp_path / "lock")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(locks.HeldError) as caught, locks.held(tmp_path / "lock", "another run"):
        pass
    told = str(caught.value)
    assert told.startswith(f"{tmp_path}: another run is at work there (")
    for part in (getpass.getuser(), socket.gethostname(), f"process {holder.pid}", "since 20"):
        assert part in told
    assert re.search(r", for \d+ s\)$", told)


@pytest.mark.parametrize(
    ("lasting", "told"), [(50, "50 s"), (700, "12 min"), (11_000, "3 h"), (690_000, "8 days")]
)
def test_how_long_it_has_been_there_is_told(tmp_path, holder, lasting, told):
    now = time.time()
    os.utime(tmp_path / "lock", (now, now - lasting))
    with (
        pytest.raises(locks.HeldError, match=f", for {told}\\)$"),
        locks.held(tmp_path / "lock", "another run"),
    ):
        pass


def test_nothing_is_left_of_a_lock_and_it_can_be_taken_again(tmp_path, holder):
    holder.communicate()
    assert holder.returncode == 0 and not (tmp_path / "lock").exists()
    for _ in range(2):
        with locks.held(tmp_path / "lock", "another"):
            assert (tmp_path / "lock").exists()
        assert not (tmp_path / "lock").exists()


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with locks.held(tmp_path / "lock", "another"):
        pass


def test_a_copied_folder_is_free(tmp_path, holder):
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    with locks.held(tmp_path.parent / "copy" / "lock", "another"):
        pass


def test_one_that_waits_says_so_and_goes_on_when_the_other_ends(tmp_path, monkeypatch):
    ends, order = threading.Event(), []
    monkeypatch.setattr(locks.logging, "info", lambda *told: ends.set())

    def other():
        with locks.held(tmp_path / "lock", "another"):
            ready.set()
            ends.wait()
            order.append("first")

    ready = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    ready.wait()
    with locks.held(tmp_path / "lock", "another", wait=True):
        order.append("second")
        with pytest.raises(locks.HeldError), locks.held(tmp_path / "lock", "another"):
            pass
    thread.join()
    assert order == ["first", "second"]


def test_lines_of_two_processes_stay_whole(tmp_path):
    file = tmp_path / "rows"
    processes = [python(APPEND, file, letter) for letter in "ab"]
    for process in processes:
        process.communicate()
    expected = {letter * 3000 + str(number) for letter in "ab" for number in range(300)}
    lines = file.read_text().splitlines()
    assert len(lines) == 600 and set(lines) == expected


def test_a_line_does_not_join_half_a_one(tmp_path):
    file = tmp_path / "rows"
    locks.append_line(file, "one")
    with open(file, "a") as opened:
        opened.write("half a li")
    locks.append_line(file, "two")
    locks.append_line(file, "three")
    assert file.read_text() == "one\nhalf a li\ntwo\nthree\n"
