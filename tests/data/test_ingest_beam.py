"""Ingest as an Apache Beam pipeline: the same bytes, the same lists, and a start in the middle."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from media_files import grey_frames, tone, write

from vatt.data.ingest import command as ingest

OPTIONS = ["--min_side=16", "--sample_rate=8000", "--fps=5", "--num_shards=3"]
HAS_BEAM = importlib.util.find_spec("apache_beam") is not None
needs_beam = pytest.mark.skipif(not HAS_BEAM, reason="Apache Beam is not installed (vatt[beam])")


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A manifest of 20 clips of two videos in two splits, and one of a file that is no video."""
    folder = tmp_path_factory.mktemp("media")
    for name, frequency in (("a b", 440), ("ü", 880)):
        frames = grey_frames(20 + 2 * np.arange(75), 16, 24)
        write(folder / f"{name}.mp4", frames, tone(frequency, 3))
    (folder / "bad.mp4").write_text("no video")
    rows = ["path,start,end,split,label", "bad.mp4,0,1,train,x"]
    for k in range(10):
        times = f"{0.1 * k:.1f},{0.1 * k + 1:.1f}"
        rows += [f"a b.mp4,{times},train,{'xyz'[k % 3]}", f"ü.mp4,{times},train;test,y"]
    (folder / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def run(media: Path, output: Path, *options: str) -> int:
    arguments = [f"--manifest={media / 'clips.csv'}", f"--output_dir={output}"]
    return ingest.main([*arguments, *OPTIONS, *options])


def files(output: Path) -> dict[str, bytes]:
    found = (path for path in output.iterdir() if path.is_file() and path.suffix != ".log")
    return {path.name: path.read_bytes() for path in found}


@needs_beam
def test_the_bytes_are_those_of_the_local_runner(media, tmp_path):
    outputs = {name: tmp_path / name / "set" for name in ("local", "beam", "two")}
    for output in outputs.values():
        output.parent.mkdir()
    assert run(media, outputs["local"], "--workers=1") == 3
    assert run(media, outputs["beam"], "--runner=beam") == 3
    two = ["--beam_args=--runner=DirectRunner --direct_num_workers=2"]
    assert run(media, outputs["two"], "--runner=beam", *two) == 3
    expected = files(outputs["local"])
    assert len([name for name in expected if name.endswith(".tfrecord")]) == 6
    assert b"bad.mp4" in expected["failures.csv"]
    assert files(outputs["beam"]) == expected
    assert files(outputs["two"]) == expected


@needs_beam
def test_only_missing_shards_are_made(media, tmp_path):
    output = tmp_path / "set"
    assert run(media, output, "--workers=1") == 3
    before = files(output)
    (output / "test-00001-of-00003.tfrecord").unlink()
    kept = {p.name: p.stat().st_mtime_ns for p in output.glob("test-*.tfrecord")}
    assert run(media, output, "--runner=beam", "--", "--runner=DirectRunner") == 3
    assert files(output) == before
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept


@pytest.mark.skipif(HAS_BEAM, reason="Apache Beam is installed")
def test_without_beam_the_message_says_how_to_get_it(media, tmp_path, capsys):
    assert run(media, tmp_path / "set", "--runner=beam") == 2
    assert "pip install 'vatt[beam]'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--beam_args=--x=1"], ["--", "--x=1"]])
def test_beam_options_need_the_beam_runner(media, tmp_path, capsys, options):
    with pytest.raises(SystemExit) as error:
        run(media, tmp_path / "set", *options)
    assert error.value.code == 2
    assert "options of Apache Beam (--x=1) need --runner beam" in capsys.readouterr().err
