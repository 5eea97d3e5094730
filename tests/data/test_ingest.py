from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media_files import grey_frames, tone, write
from PIL import Image

from vatt.data import cards, records
from vatt.data.ingest import command as ingest
from vatt.errors import DataError
from vatt.files import sha256

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--min_side=32", "--sample_rate=16000", "--workers=1"]


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def run(manifest: Path, output: Path, *options: str) -> int:
    return ingest.main([f"--manifest={manifest}", f"--output_dir={output}", *OPTIONS, *options])


def clips(output: Path, split: str = "train") -> dict[str, records.ClipRecord]:
    """Stored clips by "path@start"."""
    shards = cards.read(output / "card.yaml").shards(split)
    found = [records.decode(r) for shard in shards for r in records.read_shard(shard)]
    return {f"{clip.source}@{clip.start:g}": clip for clip in found}


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """Videos a, b (4 s), a sound only, a silent video, and captions of a."""
    folder = tmp_path_factory.mktemp("media")
    write(folder / "a.mp4", grey_frames(20 + 2 * np.arange(100)), tone(440, 4))
    write(folder / "b.mp4", grey_frames(220 - 2 * np.arange(100)), tone(880, 4))
    write(folder / "sound.m4a", sound=tone(440, 2))
    write(folder / "silent.mp4", grey_frames(np.full(50, 99)))
    (folder / "a.vtt").write_text(
        "WEBVTT\n\n00:00.500 --> 00:01.500\nfirst <b>one</b> &amp; two\n\n"
        "id\n00:00:02.000 --> 00:00:03.000 align:left\nsecond\nline\n"
    )
    (folder / "a.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nin srt\n")
    (folder / "a.csv").write_text("start,end,text\n0.5,1.5,in csv\n")
    return folder


def test_what_is_stored(media, tmp_path):
    manifest = table(
        media / "clips.csv",
        "path,start,end,split,label,caption,captions",
        "a.mp4,0,1.6,train,dog;cat,,a.vtt",
        "a.mp4,2,3.6,train,cat,,a.srt",
        "b.mp4,1,2.6,train;test,ant,a sentence,a.csv",
        "sound.m4a,,,test,ant,,",
        "silent.mp4,0,1,test,,,",
    )
    assert run(manifest, tmp_path / "set", "--caption_context=0.5") == 0
    card = cards.load("set", tmp_path)
    assert card.labels == ["ant", "cat", "dog"]
    assert card.multi_label
    assert (card.records("train"), card.records("test")) == (3, 3)
    assert (card.video.fps, card.video.height, card.video.width) == (10, 32, 48)
    assert card.audio.sample_rate == 16000
    train, test = clips(tmp_path / "set"), clips(tmp_path / "set", "test")
    assert sorted(train) == ["a.mp4@0", "a.mp4@2", "b.mp4@1"]
    assert sorted(test) == ["b.mp4@1", "silent.mp4@0", "sound.m4a@0"]

    clip = train["a.mp4@0"]
    assert (clip.labels, clip.label_indices) == (["dog", "cat"], [2, 1])
    assert [text for _, _, text in clip.captions] == ["first one & two", "second line"]
    np.testing.assert_allclose([c[:2] for c in clip.captions], [(0.5, 1.5), (2.0, 3.0)])
    frame = np.asarray(Image.open(io.BytesIO(clip.frames[5])), int)
    assert abs(frame.mean() - (20 + 2 * 13)) < 1.5  # frame 13 is shown at 0.55 s
    assert len(clip.frames) == 16
    assert clip.waveform.shape == (25600,)

    assert train["a.mp4@2"].captions == []  # the caption ends 0.5 s before the clip
    spoken = train["b.mp4@1"].captions
    assert [text for _, _, text in spoken] == ["a sentence", "in csv"]
    np.testing.assert_allclose([c[:2] for c in spoken], [(0, 1.6), (-0.5, 0.5)], atol=1e-6)
    assert test["sound.m4a@0"].frames is None
    assert test["silent.mp4@0"].waveform is None


def test_bad_files_are_listed_and_the_rest_is_stored(media, tmp_path, capsys):
    (media / "text.mp4").write_text("not a video\n" * 50)
    (media / "empty.mp4").touch()
    (media / "cut.mp4").write_bytes((media / "a.mp4").read_bytes()[:4000])
    (media / "outside.mp4").unlink(missing_ok=True)
    (media / "outside.mp4").symlink_to(write(tmp_path / "x.mp4", grey_frames(np.full(9, 9))))
    bad = {
        "text.mp4": "not a media file",
        "empty.mp4": "empty",
        "cut.mp4": "damaged",
        "absent.mp4": "no such file",
        "../x.mp4": "leads out of",
        "/etc/passwd": "leads out of",
        "outside.mp4": "leads out of",
        "http://127.0.0.1/x.mp4": "not a path",
        "C:x.mp4": "not a path",
        "concat:a.mp4|b.mp4": "not a path",
    }
    manifest = table(
        media / "bad.csv",
        "path,start,end,captions",
        *(f'"{name}",0,1,' for name in bad),
        "a.mp4,0,1,none.vtt",
        "a.mp4,3,9,",
        "a.mp4,0,1,",
    )
    assert run(manifest, tmp_path / "set") == 3
    with (tmp_path / "set" / "failures.csv").open() as file:
        failures = list(csv.DictReader(file))
    reasons = {row["path"]: row["reason"] for row in failures}
    assert len(failures) == len(bad) + 2
    for name, reason in bad.items():
        assert reason in reasons[name]
    assert list(clips(tmp_path / "set")) == ["a.mp4@0"]
    assert "12 clips failed" in capsys.readouterr().out
    assert run(manifest, tmp_path / "set") == 3  # failures are tried again, not forgotten


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,start,end", "a.mp4,0,1"], ["'path' is missing", "file, start, end"]),
        (["path,start,end,captoin", "a.mp4,0,1,x"], ["'captoin'", "Did you mean 'caption'"]),
        (["path,start,end"], ["no rows"]),
        (["path,start,end", "a.mp4,2,1"], ["line 2", "start 2.0 and end 1.0"]),
        (["path,start,end", "a.mp4,zwei,3"], ["line 2", "start 'zwei'"]),
        (["path,start,end,split", "a.mp4,0,1,../x"], ["split '../x'"]),
        (["path,start,end", "a.mp4,0,1,9,9"], ["line 2", "2 values more"]),
        (["path,start,end", "text.mp4,0,1"], ["none of the 1 clips", "failures.csv"]),
    ],
)
def test_manifests_that_cannot_be_used(media, tmp_path, capsys, lines, message):
    (media / "text.mp4").write_text("not a video\n" * 50)
    assert run(table(media / "wrong.csv", *lines), tmp_path / "set") == 3
    error = capsys.readouterr().err
    assert "error: " in error
    for part in message:
        assert part in error


def hashes(output: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in output.glob("*.tfrecord")}


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_or_the_order_of_rows(media, tmp_path):
    rows = [
        f"{name}.mp4,{0.1 * k:.1f},{0.1 * k + 1:.1f},l{k % 3}" for name in "ab" for k in range(12)
    ]
    head = "path,start,end,label"
    one = table(media / "one.csv", head, *rows)
    two = table(media / "two.csv", head, *rows[::-1])
    for manifest, workers, hash_seed in ((one, 1, "1"), (two, 2, "77")):
        output = tmp_path / manifest.stem
        command = [sys.executable, "-m", "vatt.data.ingest", f"--manifest={manifest}"]
        command += [f"--output_dir={output}", *OPTIONS, "--num_shards=3", f"--workers={workers}"]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    cards_of = [cards.read(tmp_path / name / "card.yaml") for name in ("one", "two")]
    assert [card.labels for card in cards_of] == [["l0", "l1", "l2"]] * 2
    ids = [{source: clip.label_indices for source, clip in clips(tmp_path / name).items()}
           for name in ("one", "two")]  # fmt: skip
    assert ids[0] == ids[1] and len(ids[0]) == 24
    assert len(hashes(tmp_path / "one")) == 3
    summary = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert {s["file"]: s["sha256"] for s in summary["shards"]} == hashes(tmp_path / "one")
    assert summary["records"] == 24


def test_finished_shards_are_kept_and_changed_settings_make_new_ones(media, tmp_path):
    rows = [f"a.mp4,{0.1 * k:.1f},{0.1 * k + 1:.1f}" for k in range(9)]
    manifest = table(media / "again.csv", "path,start,end", *rows)
    output = tmp_path / "set"
    assert run(manifest, output, "--num_shards=3") == 0
    first, before = sorted(output.glob("*.tfrecord")), hashes(output)
    (output / "train-00001-of-00003.tfrecord").unlink()
    (output / "train-00002-of-00003.tfrecord.partial").write_text("left over")
    times = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tfrecord")}
    assert run(manifest, output, "--num_shards=3") == 0
    assert hashes(output) == before
    assert {name: (output / name).stat().st_mtime_ns for name in times} == times
    assert not list(output.glob("*.partial"))
    assert run(manifest, output, "--num_shards=3", "--fps=5") == 0
    assert not set(hashes(output).values()) & set(before.values())
    assert run(manifest, output, "--num_shards=2") == 0
    assert sorted(output.glob("*.tfrecord")) != first
    assert len(hashes(output)) == 2  # those of the other number are gone


@pytest.mark.slow
def test_ctrl_c_keeps_finished_shards_and_the_same_command_continues(media, tmp_path):
    rows = [f"a.mp4,{0.01 * k:.2f},{0.01 * k + 1:.2f}" for k in range(300)]
    manifest = table(media / "long.csv", "path,start,end", *rows)
    command = [sys.executable, "-m", "vatt.data.ingest", f"--manifest={manifest}"]
    command += [f"--output_dir={tmp_path / 'set'}", *OPTIONS, "--num_shards=60", "--workers=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "set").glob("*.tfrecord"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"the same command continues" in error
    assert b"Traceback" not in error
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "set").glob("*.tfrecord")}
    assert 3 <= len(kept) < 60
    assert subprocess.run(command, env=environment, cwd=ROOT, capture_output=True).returncode == 0
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "set").glob("*.tfrecord")}
    states = {p.stem for p in (tmp_path / "set" / ".shards").glob("*.json")}
    assert len(times) == len(states) == 60
    remade = [name for name in kept if times[name] != kept[name]]
    assert len(remade) <= 2  # at most one per worker: named, but its facts not yet written


def test_help_is_quick_and_light():
    code = (
        "import sys, vatt.data.ingest.command as i\n"
        "try: i.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('tensorflow', 'av', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("[]")


FOLDS = (
    "path,start,end,split,label",
    "a.mp4,0,1,train_1;test_2;train_3,cat",
    "a.mp4,1,2,test_1;train_2;train_3,dog",
    "a.mp4,2,3,train_1,cat",
    *(f"b.mp4,0,1,{split},dog" for split in ("train_3", "train_1", "test_2")),  # a row each
    "b.mp4,1,2,train_1;train_3;test_2,cat",
)


def test_a_clip_of_several_folds_is_stored_once(media, tmp_path, capsys):
    manifest, output = table(media / "folds.csv", *FOLDS), tmp_path / "set"
    assert run(manifest, output, "--num_shards=2") == 0
    assert "set: 5 clips in" in capsys.readouterr().out
    names = sorted(path.name for path in output.glob("*.tfrecord"))
    assert names == [
        "test_1+train_2+train_3-00000-of-00001.tfrecord",
        "test_2+train_1+train_3-00000-of-00002.tfrecord",
        "test_2+train_1+train_3-00001-of-00002.tfrecord",
        "train_1-00000-of-00001.tfrecord",
    ]
    card = cards.read(output / "card.yaml")
    found = {split: sorted(clips(output, split)) for split in card.splits}
    assert found == {
        "test_1": ["a.mp4@1"],
        "test_2": ["a.mp4@0", "b.mp4@0", "b.mp4@1"],
        "train_1": ["a.mp4@0", "a.mp4@2", "b.mp4@0", "b.mp4@1"],
        "train_2": ["a.mp4@1"],
        "train_3": ["a.mp4@0", "a.mp4@1", "b.mp4@0", "b.mp4@1"],
    }
    assert {split: card.records(split) for split in card.splits} == {
        split: len(held) for split, held in found.items()
    }
    told = json.loads((output / "manifest.json").read_text())
    assert (told["records"], told["splits"]["train_3"]["classes"]) == (5, {"cat": 2, "dog": 2})

    # The same command again makes nothing new; one for fewer of the splits is refused.
    times = {name: (output / name).stat().st_mtime_ns for name in names}
    assert run(manifest, output, "--num_shards=2") == 0
    assert {name: (output / name).stat().st_mtime_ns for name in names} == times
    fewer = table(media / "fewer.csv", "path,start,end,split,label", "a.mp4,0,1,train_2,cat")
    assert run(fewer, output) == 3
    assert "several splits (test_1, train_2, train_3)" in capsys.readouterr().err
    assert sorted(path.name for path in output.glob("*.tfrecord")) == names
    (output / names[0]).unlink()
    with pytest.raises(DataError, match=r"2 of 3 shards .*train_1.*missing: test_1\+train_2"):
        cards.read(output / "card.yaml").shards("train_3")


def test_a_row_that_stands_twice_is_stored_twice(media, tmp_path):
    rows = ["path,start,end,split", "a.mp4,0,1,train;test", "a.mp4,0,1,train"]
    assert run(table(media / "twice.csv", *rows), tmp_path / "set") == 0
    card = cards.read(tmp_path / "set" / "card.yaml")
    assert (card.records("train"), card.records("test")) == (2, 1)


def test_too_many_folds_for_the_name_of_a_file(media, tmp_path):
    splits = [f"train_{number}" for number in range(40)]
    rows = ["path,start,end,split", f"a.mp4,0,1,{';'.join(splits)}"]
    assert run(table(media / "many.csv", *rows), tmp_path / "set") == 0
    card = cards.read(tmp_path / "set" / "card.yaml")
    assert [card.records(split) for split in splits] == [1] * 40
