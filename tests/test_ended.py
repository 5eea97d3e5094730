"""How commands end: the exit code, and one line on the error stream."""

from __future__ import annotations

import pytest

from vatt.ended import ended
from vatt.errors import EXIT_CHECKPOINT, EXIT_DATA, EXIT_INTERRUPTED, EXIT_USAGE, CheckpointError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CheckpointError("no ckpt-3"), EXIT_CHECKPOINT, "error: no ckpt-3"),
        (PermissionError(13, "Permission denied", "a"), EXIT_DATA, "error: [Errno 13] Permission"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "stopped; go on"),
    ],
)
def test_what_goes_wrong_is_one_line_with_an_exit_code(capsys, error, code, line):
    def run():
        raise error

    kept = []
    assert ended(run, "stopped; go on", kept.append) == code
    told = capsys.readouterr().err.strip()
    assert told.startswith(line) and "\n" not in told and kept == [told]


def test_a_command_that_works_gives_its_own_code(capsys):
    kept = []
    assert ended(lambda: 3, "stopped", kept.append) == 3
    assert not kept and not capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 // 0, "stopped")


@pytest.mark.parametrize(
    "argument", ["gs://bucket/a", "--output_dir=s3://bucket/a", "S3A://a", "--data=gs:/a/b"]
)
def test_addresses_of_object_stores_are_no_paths(capsys, monkeypatch, argument):
    monkeypatch.setattr("sys.argv", ["vatt", "--fps=10", argument])
    assert ended(lambda: 0, "stopped") == EXIT_USAGE
    told = capsys.readouterr().err
    assert told.startswith(f"error: {argument}: expected a folder of this machine")


def test_addresses_are_left_to_flags_that_take_them(monkeypatch):
    flags = ["--model=gs://bucket/a", "--data_dir", "s3://bucket/a", "--fps=10"]
    monkeypatch.setattr("sys.argv", ["vatt", *flags])
    assert ended(lambda: 0, "stopped") == 0


def test_other_addresses_are_left_alone(monkeypatch):
    monkeypatch.setattr("sys.argv", ["vatt", "--tpu=grpc://10.0.0.2:8470", "a gs:// video", "gs:a"])
    assert ended(lambda: 0, "stopped") == 0
