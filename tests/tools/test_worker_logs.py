"""Lines of several processes as one log: names, order, what all say, what one says at its end."""

from __future__ import annotations

import pytest

from vatt.tools import worker_logs
from vatt.tools.worker_logs import ERROR_S, SAME_S, Log


@pytest.fixture
def shown():
    return []


@pytest.fixture
def log(shown):
    return Log(["0", "1", "2"], ["eval"], shown.append)


def test_a_line_has_its_name_once_the_others_have_had_their_time(log, shown):
    log.add("1", b"step 50\nstep 1", 0.0)
    log.flush(SAME_S - 0.1)
    assert shown == []
    log.flush(SAME_S)
    assert shown == ["[1] step 50"]
    log.add("1", b"00\n", SAME_S)
    log.flush(2 * SAME_S)
    assert shown == ["[1] step 50", "[1] step 100"]


def test_what_all_say_is_shown_once_and_at_once(log, shown):
    for name in ("2", "0", "1"):
        log.add(name, b"saved\n", 0.0)
    log.flush(0.0)
    assert shown == ["[all] saved"]
    log.add("0", b"saved\n", 0.0)  # once more
    log.flush(SAME_S)
    assert shown == ["[all] saved", "[0] saved"]


def test_what_some_say_has_their_names(log, shown):
    log.add("2", b"waiting\n", 0.0)
    log.add("0", b"waiting\n", 1.0)
    log.flush(SAME_S)
    assert shown == ["[0,2] waiting"]


def test_the_order_of_each_process_is_kept(log, shown):
    log.add("0", b"a\nb\na\n", 0.0)
    log.add("1", b"b\na\n", 0.0)
    log.add("2", b"a\nc\n", 0.0)
    log.close()
    assert shown == ["[0,2] a", "[0,1] b", "[0,1] a", "[2] c"]


def test_lines_of_their_own_keep_nobody_from_saying_the_same(log, shown):
    for name in ("0", "1", "2"):
        log.add(name, f"worker {name}\nready\nstep {name}\n".encode(), 0.0)
        log.add(name, b"saved\n", 0.0)
    log.close()
    assert [line for line in shown if "all" in line] == ["[all] ready", "[all] saved"]
    for name in ("0", "1", "2"):
        own = [line.partition("] ")[2] for line in shown if line.startswith((f"[{name}]", "[all]"))]
        assert own == [f"worker {name}", "ready", f"step {name}", "saved"]


def test_the_process_beside_speaks_for_itself(log, shown):
    for name in ("0", "1", "2", "eval"):
        log.add(name, b"hello\n", 0.0)
    log.add("eval", b"hello\n", 0.0)
    log.close()
    assert shown == ["[all] hello", "[eval] hello", "[eval] hello"]


def test_one_process_is_not_all(shown):
    log = Log(["0"], [], shown.append)
    log.add("0", b"x\n", 0.0)
    log.flush(0.0)
    assert shown == ["[0] x"]


def test_progress_bars_blanks_and_bytes_that_are_no_text(log, shown):
    log.add("0", b"10%\r20%\r\n\n \xff\n" + b"x" * (worker_logs._LONGEST + 1), 0.0)
    log.close()
    *lines, longest = shown
    assert lines == ["[0] 10%", "[0] 20%", "[0]  \ufffd"]
    assert longest == "[0] " + "x" * (worker_logs._LONGEST + 1)


def test_an_error_is_held_back_until_the_process_ends(log, shown):
    log.add("0", b"a\nerror: no such file\n  more", 0.0)
    log.ended("0", 0.1)
    log.flush(ERROR_S + SAME_S)
    assert shown == ["[0] a"]
    assert log.close(but="0") == ["error: no such file", "  more"]
    assert shown == ["[0] a"]


def test_an_error_that_a_process_survives_is_shown(log, shown):
    log.add("0", b"Traceback (most recent call last):\n  File\nValueError: x\n", 0.0)
    log.add("1", b"b\n", 0.0)
    log.flush(ERROR_S - 0.1)
    assert shown == ["[1] b"]
    log.flush(ERROR_S)
    log.add("0", b"on\n", ERROR_S)
    log.ended("0", ERROR_S)
    assert log.close(but="0") == []
    error = ["[0] Traceback (most recent call last):", "[0]   File", "[0] ValueError: x"]
    assert shown == ["[1] b", *error, "[0] on"]


def test_an_error_of_several_is_shown_once(log, shown):
    for name in ("0", "1", "2"):
        log.add(name, b"error: refused\n", 0.0)
        log.ended(name, 0.0)
    assert log.close(but="1") == ["error: refused"]
    assert shown == []
    log = Log(["0", "1", "2"], [], shown.append)
    for name, text in (("0", b"error: a\n"), ("1", b"error: b\n"), ("2", b"error: b\n")):
        log.add(name, text, 0.0)
        log.ended(name, 0.0)
    assert log.close(but="0") == ["error: a"]
    assert shown == ["[1,2] error: b"]
