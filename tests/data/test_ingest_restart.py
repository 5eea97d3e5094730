"""Ingest that is killed, interrupted, repeated or given files of which nothing can be stored."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media_files import grey_frames, tone, write

from vatt import configs
from vatt.data import cards, pipeline, records, workers
from vatt.data.ingest import command as ingest
from vatt.data.ingest import log as ingest_log

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--min_side=16", "--sample_rate=16000"]
CLIPS = 48


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A folder with two videos and a manifest of short clips of them."""
    folder = tmp_path_factory.mktemp("corpus")
    write(folder / "a b.mp4", grey_frames(20 + 2 * np.arange(100)), tone(440, 4))
    write(folder / "ü.mp4", grey_frames(220 - 2 * np.arange(100)), tone(880, 4))
    rows = [
        [name, f"{0.1 * k:.1f}", f"{0.1 * k + 1.2:.1f}", f"shape={'xyz'[k % 3]}", f"clip {k}"]
        for name in ("a b.mp4", "ü.mp4")
        for k in range(CLIPS // 2)
    ]
    save(folder / "clips.csv", rows)
    return folder


def save(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "start", "end", "label", "caption"], *rows])
    return path


def command(corpus: Path, output: Path, *options: str) -> list[str]:
    start = [sys.executable, "-m", "vatt.data.ingest", f"--manifest={corpus / 'clips.csv'}"]
    return [*start, f"--output_dir={output}", *OPTIONS, *options]


def run(manifest: Path, output: Path, *options: str) -> int:
    arguments = [f"--manifest={manifest}", f"--output_dir={output}", "--workers=1"]
    return ingest.main([*arguments, *OPTIONS, *options])


def files(output: Path) -> dict[str, bytes]:
    """Everything a reader may see; the log has times in it."""
    found = (path for path in output.iterdir() if path.is_file() and path.suffix != ".log")
    return {path.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed") / "set"
    assert run(corpus / "clips.csv", output, "--num_shards=24") == 0
    return files(output)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2], ids=["one worker", "two workers"])
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_stopped_and_started_again_gives_the_same_bytes(corpus, undisturbed, tmp_path, how, number):
    output = tmp_path / "set"
    order = command(corpus, output, "--num_shards=24", f"--workers={number}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        order, env=environment, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(output.glob(".shards/*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if how == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    else:
        process.kill()
    error = process.communicate(timeout=60)[1].decode()
    if process.returncode == 0:
        pytest.skip("it had finished already")
    assert process.returncode == (130 if how == "SIGINT" else -signal.SIGKILL)
    assert "Traceback" not in error
    assert ("the same command continues" in error) == (how == "SIGINT")
    assert not (output / "card.yaml").exists()  # the card comes last
    done = {path.stem for path in output.glob(".shards/*.json")}
    kept = {name: (output / name).stat().st_ino for name in done}
    again = subprocess.run(order, env=environment, cwd=ROOT, capture_output=True, timeout=120)
    assert again.returncode == 0
    assert {name: (output / name).stat().st_ino for name in done} == kept
    assert files(output) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.1])
def test_ctrl_c_while_workers_start_prints_one_line(corpus, tmp_path, delay):
    """The processes that are still importing then must stay silent."""
    order = command(corpus, tmp_path / "set", "--num_shards=24", "--workers=2")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        order, env=environment, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    if not children.exists():
        process.kill()
        pytest.skip("no /proc")
    while len(children.read_text().split()) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)  # one of them is Python's resource tracker
    time.sleep(delay)  # whatever they are doing by then
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "the same command continues" in error


def test_a_set_reads_through_the_pipeline(corpus, tmp_path):
    output = tmp_path / "set"
    assert run(corpus / "clips.csv", output, "--num_shards=2") == 0
    cfg = configs.dataset.Evaluation(
        name="set",
        num_frames=8,
        frame_size=16,
        min_resize=16,
        sample_rate=16000,
        max_num_words=4,
        vocabulary="toy_en",
        num_windows_test=1,
    )
    seen = []
    for batch in pipeline.evaluation_batches(cfg, "set", "train", data_dir=tmp_path, batch_size=20):
        valid = batch["valid"].numpy() > 0
        seen += list(batch["caption"].numpy()[valid])
        assert batch["video"].shape == (20, 1, 8, 16, 16, 3)
        assert batch["audio_mask"].numpy()[valid].all()
    expected = [f"clip {k}".encode() for k in range(CLIPS // 2)] * 2
    assert sorted(seen) == sorted(expected)


def test_shards_and_splits_without_any_clip_are_left_out(corpus, tmp_path):
    (corpus / "text.mp4").write_text("no video")
    manifest = corpus / "some.csv"
    manifest.write_text(
        "path,start,end,split\nü.mp4,0,1,train\ntext.mp4,0,1,train\ntext.mp4,1,2,test\n"
        "ü.mp4,1,2,train\n",
        encoding="utf-8",
    )
    output = tmp_path / "set"
    assert run(manifest, output, "--num_shards=3") == 3
    card = cards.read(output / "card.yaml")
    assert list(card.splits) == ["train"]
    shards = card.shards("train")
    assert len(shards) == card.splits["train"].num_shards == card.records("train") == 2
    assert sum(len(list(records.read_shard(path))) for path in shards) == 2

    inodes = {path.name: path.stat().st_ino for path in shards}
    write(corpus / "text.mp4", grey_frames(np.full(60, 50)))  # repaired: only this is made
    assert run(manifest, output, "--num_shards=3") == 0
    card = cards.read(output / "card.yaml")
    assert (card.records("train"), card.records("test")) == (3, 1)
    assert len(card.shards("train")) == 3
    assert {name: (output / name).stat().st_ino for name in inodes} == inodes
    assert (output / "failures.csv").read_text() == "path,start,end,reason\n"
    (corpus / "text.mp4").unlink()


def test_only_own_files_are_removed(corpus, tmp_path):
    output = tmp_path / "set"
    assert run(corpus / "clips.csv", output, "--num_shards=3") == 0
    foreign = {"notes.txt": "mine", "extra-00000-of-00001.tfrecord": "mine", "other.tfrecord": "x"}
    for name, text in foreign.items():
        (output / name).write_text(text)
    assert run(corpus / "clips.csv", output, "--num_shards=2") == 0
    assert sorted(path.name for path in output.glob("train-*")) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    for name, text in foreign.items():
        assert (output / name).read_text() == text
    assert len(cards.read(output / "card.yaml").shards("train")) == 2


def test_a_changed_file_of_the_same_size_is_read_again(tmp_path):
    write(tmp_path / "a.wav", sound=tone(440, 2), audio_codec="pcm_s16le")
    write(tmp_path / "b.wav", sound=tone(880, 2), audio_codec="pcm_s16le")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path,start,end\na.wav,0,1\n")
    assert run(manifest, tmp_path / "set") == 0
    before = files(tmp_path / "set")
    assert (tmp_path / "a.wav").stat().st_size == (tmp_path / "b.wav").stat().st_size
    os.replace(tmp_path / "b.wav", tmp_path / "a.wav")
    assert run(manifest, tmp_path / "set") == 0
    name = "train-00000-of-00001.tfrecord"
    assert files(tmp_path / "set")[name] != before[name]


def test_nonsense_in_the_state_is_not_believed(corpus, tmp_path):
    output = tmp_path / "set"
    assert run(corpus / "clips.csv", output) == 0
    before = files(output)
    names = [
        *(f"{name}.json" for name in files(output) if name.endswith(".tfrecord")),
        "unused.json",
    ]
    for text in ("[" * 100_000, "9" * 5000, "[]", '{"file": 1, "records": 1, "bytes": 1}', "{"):
        for name in names:
            (output / ".shards" / name).write_text(text)
        assert run(corpus / "clips.csv", output) == 0
        assert files(output) == before


def test_impossible_paths_are_failures_too(corpus, tmp_path):
    (corpus / "loop.mp4").unlink(missing_ok=True)
    (corpus / "loop.mp4").symlink_to("loop.mp4")
    (corpus / "folder.vtt").mkdir(exist_ok=True)
    long = "x" * 300 + ".mp4"
    manifest = corpus / "odd.csv"
    rows = [f'"{name}",0,1,' for name in ("loop.mp4", long, "nul\0.mp4", "")[:3]]
    text = "\n".join(["path,start,end,captions", *rows, "ü.mp4,0,1,folder.vtt", "ü.mp4,1,2,"])
    manifest.write_text(text, encoding="utf-8")
    assert run(manifest, tmp_path / "set") == 3
    with (tmp_path / "set" / "failures.csv").open(newline="", encoding="utf-8") as file:
        failed = [row["path"] for row in csv.DictReader(file)]
    assert sorted(failed) == sorted(["loop.mp4", long, "nul\0.mp4", "ü.mp4"])
    assert cards.read(tmp_path / "set" / "card.yaml").records("train") == 1


def test_folders_that_cannot_be_used(corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(corpus / "clips.csv", tmp_path / "file") == 3
    assert run(tmp_path, tmp_path / "set") == 3
    assert run(tmp_path / "absent.csv", tmp_path / "set") == 3
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)


def test_progress_is_not_a_flood_in_a_log_file(capsys):
    with workers.progress(100_000, 0, "x", "clip") as bar:
        assert bar.mininterval >= 10
        for _ in range(100_000):
            bar.update()
    assert capsys.readouterr().err.count("\r") <= 3


@pytest.mark.parametrize("number", [1, 2])
def test_ticks_of_all_workers_arrive(number):
    ticks: list[int] = []
    done = list(workers.run_jobs(workers.tick, [()] * 7, number, ticks.append))
    assert sorted(done) == [(k, None) for k in range(7)]
    assert sum(ticks) == 7
    workers.tick()  # outside of a job it does nothing
    assert sum(ticks) == 7


def test_progress_and_end_stand_in_the_log(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(ingest_log, "EVERY_S", 0.0)
    output = tmp_path / "set"
    assert run(corpus / "clips.csv", output, "--num_shards=2") == 0
    assert run(corpus / "absent.csv", output) == 3
    log = (output / "ingest.log").read_text(encoding="utf-8")
    lines = [line[21:] for line in log.splitlines()]
    assert lines[0] == f"clips: {CLIPS}, there already: 0; shards: 2"
    form = r"(\d+) of 48 clips, [\d.]+ clips/s, [\d.]+ files/s, [\d:]+ left"
    made = [int(found[1]) for line in lines if (found := re.fullmatch(form, line))]
    assert made == list(range(1, CLIPS + 1))
    assert f"set: {CLIPS} clips in " in log
    assert "error: " in lines[-1]
    assert "absent.csv" in lines[-1]
