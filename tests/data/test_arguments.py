"""Numbers on command lines are refused with the flag and what is accepted."""

from __future__ import annotations

import pytest

from vatt.data import vocabulary
from vatt.data.check import command as check
from vatt.data.ingest import command as ingest
from vatt.data.toy import command as toy

COMMANDS = {
    toy.main: (["--output_dir=x"], ("scale", "seed", "workers")),
    check.main: (["x"], ("samples", "workers")),
    vocabulary.main: (["--captions", "x", "--output=y"], ("min_count", "max_size")),
    ingest.main: (
        ["--input", "x", "--output_dir=y"],
        ("workers", "fps", "min_side", "sample_rate", "test_share", "clip_step"),
    ),
}
FLAGS = [(main, given, flag) for main, (given, flags) in COMMANDS.items() for flag in flags]


@pytest.mark.parametrize("value", ["-1", "1" + 30 * "0", "nan", "inf", "-1e300", "9" * 5000, "x"])
@pytest.mark.parametrize(
    ("main", "given", "flag"), FLAGS, ids=[f"{m.__module__}-{f}" for m, _, f in FLAGS]
)
def test_a_number_that_cannot_be(tmp_path, monkeypatch, capsys, main, given, flag, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*given, f"--{flag}={value}"])
    assert stop.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"argument --{flag}: " in told and " number from " in told and " to " in told
    assert len(told) < 300
    assert not list(tmp_path.iterdir())
