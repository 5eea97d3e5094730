"""Ingest into a folder that cannot be written, is full, or in which another ingest works."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import small_disk

from vatt import locks
from vatt.data.ingest import command as ingest

RATE = 16000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Half a second of sound in split a, eight in b: shards of 32 and of 512 kB, in this order."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for split, seconds in (("a", 0.5), ("b", 8.0)):
        with wave.open(str(folder / f"{split}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(rng.integers(-9000, 9000, int(RATE * seconds), np.int16).tobytes())
    (folder / "clips.csv").write_text("path,split\na.wav,a\nb.wav,b\n")
    return folder / "clips.csv"


def run(manifest, output):
    arguments = [f"--manifest={manifest}", f"--output_dir={output}", "--workers=1"]
    return ingest.main([*arguments, f"--sample_rate={RATE}"])


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord*")}


@pytest.mark.parametrize("disk", ["limit", "mount"])
def test_a_full_disk_is_told_and_the_same_command_goes_on(manifest, tmp_path, capsys, disk):
    output = tmp_path / "disk" / "set"
    if disk == "limit":
        output.parent.mkdir()
        full = small_disk.files_of_at_most(200_000)
    else:
        full = small_disk.mounted(output.parent, "size=300k")
    with full:
        assert run(manifest, output) == 3
        told = capsys.readouterr().err
        assert "Traceback" not in told
        reason = "File too large" if disk == "limit" else "No space left on device"
        line = f"error: {output}/b-00000-of-00001.tfrecord: cannot be written ({reason}); "
        assert line in told and "MiB are free there" in told
        assert list(shards(output)) == ["a-00000-of-00001.tfrecord"]
        if disk == "mount":
            return
    kept = output / "a-00000-of-00001.tfrecord"
    before = kept.stat().st_mtime_ns
    assert run(manifest, output) == 0
    assert kept.stat().st_mtime_ns == before
    assert run(manifest, tmp_path / "whole") == 0
    assert shards(output) == shards(tmp_path / "whole")


def test_a_read_only_disk_and_a_file_in_the_place_of_the_folder(manifest, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(manifest, tmp_path / "file" / "set") == 3
    assert "file/set: cannot be written (Not a directory)" in capsys.readouterr().err
    with small_disk.mounted(tmp_path / "disk", "ro"):
        assert run(manifest, tmp_path / "disk" / "set") == 3
    assert "disk/set: cannot be written (Read-only file system)" in capsys.readouterr().err


def test_a_second_ingest_is_refused(manifest, tmp_path, capsys):
    output = tmp_path / "set"
    output.mkdir()
    with locks.held(output / ".ingest.lock", "another"):
        assert run(manifest, output) == 2
    assert f"error: {output}: another ingest is at work there (" in capsys.readouterr().err
    assert not shards(output)
    assert run(manifest, output) == 0 and len(shards(output)) == 2
    assert not (output / ".ingest.lock").exists()
