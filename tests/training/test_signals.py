"""Requests to stop: noted, or at once; which signals are requests."""

import os
import signal
import sys
import threading
import time

import pytest

from vatt.training import signals

DEADLINE_S = 60


@pytest.fixture
def left(monkeypatch):
    """Exit codes the process would have left with at once."""
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_request_is_noted_and_the_handlers_come_back(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with signals.stop_requests() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked() and signals.asked_to_stop()
    assert signal.getsignal(number) is before
    assert not signals.asked_to_stop()


def test_a_request_breaks_off_what_may_be_broken_off():
    with signals.stop_requests() as asked:
        with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
            signal.raise_signal(signal.SIGUSR1)
            pytest.fail("went on")
        assert asked()
        with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
            pytest.fail("began, although asked to stop before")


@pytest.mark.parametrize("chained", [True, False])
def test_a_request_that_a_library_makes_another_error_of_is_still_one(chained):
    """pybind11 gives RuntimeError with the names of both where one comes while another is made."""

    def call_library():
        try:
            signal.raise_signal(signal.SIGTERM)
        except signals.Interrupted as error:
            if chained:
                raise ValueError("lost") from error
        raise RuntimeError("ORIGINAL InvalidArgumentError REPLACED BY Interrupted: <EMPTY MESSAGE>")

    with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
        call_library()
    with pytest.raises(OSError, match="disk"), signals.stop_requests(at_once=True):
        with signals.stop_requests():
            signal.raise_signal(signal.SIGTERM)
        raise OSError("the disk is full")


def test_another_thread_wakes_the_main_one():
    with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
        asking = threading.Timer(0.1, signals.ask_to_stop)
        asking.start()
        time.sleep(DEADLINE_S)
        pytest.fail("slept on")


class Asking:
    """Asks for a stop while it is deleted, where Python drops what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_request_while_an_object_is_deleted_is_not_lost(capfd):
    hook = sys.unraisablehook
    with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
        Asking()
        threading.Event().wait(DEADLINE_S)
        pytest.fail("went on")
    assert "Traceback" not in capfd.readouterr().err
    with signals.stop_requests(at_once=True):
        Asking()  # nothing is left to break off
    assert sys.unraisablehook is hook and not signals.asked_to_stop()


def test_what_is_written_inside_is_finished_first():
    done = []
    with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
        with signals.stop_requests():
            signal.raise_signal(signal.SIGTERM)
            done.append("written")
        with signals.stop_requests(at_once=True):
            done.append("the next thing")
    assert done == ["written"]


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([signal.SIGTERM, signal.SIGTERM], [128 + signal.SIGTERM]),
        ([signal.SIGTERM, signal.SIGINT], [128 + signal.SIGINT]),
        ([signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM], []),  # announced, then meant
        ([signal.SIGTERM, signal.SIGHUP], []),  # as service managers send them
    ],
)
def test_only_the_second_order_to_end_ends_at_once(left, numbers, code):
    with signals.stop_requests():
        for number in numbers:
            signal.raise_signal(number)
    assert left == code


def test_under_nohup_the_end_of_the_terminal_is_none():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.stop_requests() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
