"""Checkpoints are complete or invisible, and damage falls back instead of starting over."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import small_disk
import tensorflow as tf

from vatt.errors import CheckpointError
from vatt.training.checkpoints import CheckpointStore, fingerprint, newest_in, restore


def variables(value):
    return {
        "model/a/kernel": tf.Variable(np.full((3, 4), value, np.float32)),
        "optimizer/iterations": tf.Variable(int(value), dtype=tf.int64),
    }


def saved(folder, *steps, keep=0):
    store = CheckpointStore(folder, keep=keep)
    for step in steps:
        store.save(step, variables(step))
    return store


def test_round_trip_restores_every_value_and_the_step(tmp_path):
    store = saved(tmp_path, 5)
    fresh = variables(0)
    assert store.restore_newest(fresh) == 5
    np.testing.assert_array_equal(fresh["model/a/kernel"], np.full((3, 4), 5.0))
    assert int(fresh["optimizer/iterations"]) == 5
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-5")


def test_empty_folder_restores_nothing(tmp_path):
    assert CheckpointStore(tmp_path / "none").restore_newest(variables(0)) is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES = {
    "data truncated": lambda d: cut(d / "ckpt-2.data-00000-of-00001"),
    "bit flipped": lambda d: flip(d / "ckpt-2.data-00000-of-00001"),
    "data missing": lambda d: (d / "ckpt-2.data-00000-of-00001").unlink(),
    "index truncated": lambda d: cut(d / "ckpt-2.index"),
    "index missing": lambda d: (d / "ckpt-2.index").unlink(),
    "manifest cut": lambda d: cut(d / "ckpt-2.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_falls_back_with_one_warning(tmp_path, damage, caplog):
    store = saved(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path)
    fresh = variables(0)
    with caplog.at_level("WARNING", logger="absl"):
        assert store.restore_newest(fresh) == 1
    warnings = [r for r in caplog.records if "damaged" in r.getMessage()]
    assert len(warnings) == 1 and "ckpt-2" in warnings[0].getMessage()
    np.testing.assert_array_equal(fresh["model/a/kernel"], np.full((3, 4), 1.0))


@pytest.mark.parametrize("state_file", ["empty", "missing"])
def test_the_state_file_is_only_a_hint(tmp_path, state_file):
    store = saved(tmp_path, 1, 2)
    if state_file == "empty":
        (tmp_path / "checkpoint").write_text("")
    else:
        (tmp_path / "checkpoint").unlink()
    assert store.restore_newest(variables(0)) == 2


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "9" * 5000, "3", "[]", '{"files": 3}', '{"files": {"a": 1}}', '{"files": [1]}'],
    ids=range(7),
)
def test_a_manifest_of_nonsense_is_damage(tmp_path, text):
    store = saved(tmp_path, 1, 2)
    (tmp_path / "ckpt-2.json").write_text(text)
    assert "unreadable manifest" in str(store.verify(2))
    assert store.newest_valid() == 1


@pytest.mark.parametrize("name", ["x" * 5000, "a\\u0000b", "ckpt-1.index/x"])
def test_a_manifest_with_impossible_names_is_damage(tmp_path, name):
    store = saved(tmp_path, 1, 2)
    text = f'{{"files": {{"{name}": {{"bytes": 1, "sha256": ""}}}}}}'
    (tmp_path / "ckpt-2.json").write_text(text)
    assert "cannot be read" in str(store.verify(2)) and len(str(store.verify(2))) < 500
    assert store.newest_valid() == 1


def test_a_manifest_without_files_is_damage(tmp_path):
    store = saved(tmp_path, 1, 2)
    (tmp_path / "ckpt-2.json").write_text('{"files": {}}')
    assert str(store.verify(2)).endswith("ckpt-2.json: lists no files")
    assert store.restore_newest(variables(0)) == 1


def test_all_damaged_is_an_error_that_lists_what_was_tried(tmp_path):
    store = saved(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"ckpt-{step}.index").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)ckpt-2.index.*ckpt-1.index.*--fresh_start"):
        store.restore_newest(variables(0))


def test_keeps_the_newest_and_never_deletes_foreign_files(tmp_path):
    tmp_path.joinpath("ckpt-1.data-00000-of-00001.mine").write_text("foreign")
    tmp_path.joinpath("ckpt-77.index").write_text("foreign, no manifest of ours")
    store = saved(tmp_path, 1, 2, 3, keep=2)
    assert store.steps() == [2, 3]
    assert (tmp_path / "ckpt-77.index").exists()
    assert (tmp_path / "ckpt-1.data-00000-of-00001.mine").exists()
    assert not (tmp_path / "ckpt-1.index").exists()


def test_another_model_is_refused_with_the_differing_names(tmp_path):
    store = saved(tmp_path, 1)
    other = variables(0)
    other["model/a/kernal"] = other.pop("model/a/kernel")
    with pytest.raises(CheckpointError, match=r"Did you mean 'model/a/kernel'"):
        restore(store.path(1), other)
    wider = variables(0)
    wider["model/a/kernel"] = tf.Variable(np.zeros((3, 5), np.float32))
    with pytest.raises(CheckpointError, match=r"\(3, 4\) there, \(3, 5\) here"):
        restore(store.path(1), wider)


def test_missing_checkpoint_says_what_is_there(tmp_path):
    saved(tmp_path, 100)
    with pytest.raises(CheckpointError, match="ckpt-100"):
        restore(tmp_path / "ckpt-10", variables(0))
    with pytest.raises(CheckpointError, match="no folder"):
        restore(tmp_path / "nowhere" / "ckpt-10", variables(0))


KILLS = 200

# A line on its input starts a process that saves; they share what takes longest, the imports.
KILLED_WHILE_SAVING = """
    import os, sys, numpy as np, tensorflow as tf
    from vatt.training.checkpoints import CheckpointStore

    def save():
        store = CheckpointStore(sys.argv[1], keep=3)
        value = tf.Variable(np.zeros((512, 1024), np.float32))
        tell(os.getpid())
        for step in range(1, 10_000):
            value.assign(np.full((512, 1024), step, np.float32))
            store.save(step, {"model/a": value})
            tell(step)

    def tell(what):  # in one write, which a kill cannot break; print may take two
        os.write(1, f"{what}\\n".encode())

    for _ in sys.stdin:
        if os.fork() == 0:
            save()
        os.wait()
        tell("ended")
"""


@pytest.mark.slow
def test_sigkill_at_random_moments_of_saving_loses_at_most_one_save(tmp_path):
    rng = np.random.default_rng(0)
    script = tmp_path / "save.py"
    script.write_text(textwrap.dedent(KILLED_WHILE_SAVING))
    folder = tmp_path / "run"
    starter = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    broken_off = 0
    for kill in range(KILLS):
        print(file=starter.stdin, flush=True)
        number = int(starter.stdout.readline())
        reported, begun = 0, time.monotonic()
        saves = int(rng.integers(3, 8))
        for _ in range(saves):
            reported = int(starter.stdout.readline())
        # a random moment of the next save, of what precedes it, or of the removal after it
        taken = (time.monotonic() - begun) / saves
        while kill % 2 and not (folder / "pending.json").exists():
            assert time.monotonic() < begun + 60
        time.sleep(rng.uniform(0, taken / (1 + kill % 2)))
        os.kill(number, signal.SIGKILL)
        while (line := starter.stdout.readline()) != "ended\n":
            reported = int(line)
        broken_off += (folder / "pending.json").exists()
        store = CheckpointStore(folder, keep=3)
        value = tf.Variable(np.zeros((512, 1024), np.float32))
        step = store.restore_newest({"model/a": value})
        assert step >= reported
        np.testing.assert_array_equal(value, np.full((512, 1024), step))
        leftovers = [n for n in os.listdir(folder) if n.startswith(".writing") or "pending" in n]
        assert leftovers == []
        with_manifest = {p.stem for p in folder.glob("ckpt-*.json")}
        assert {p.stem for p in folder.glob("ckpt-*.index")} == with_manifest
        assert json.loads((folder / f"ckpt-{step}.json").read_text())["step"] == step
        for file in folder.iterdir():
            file.unlink()
    starter.communicate()
    assert starter.returncode == 0
    print(f"{broken_off} of {KILLS} saves were broken off")
    assert broken_off > KILLS // 10


def test_half_written_notes_and_manifests_of_a_killed_save_are_removed(tmp_path):
    store = saved(tmp_path, 1)
    for name in (".pending.json.tmp", ".ckpt-2.json.tmp", "ckpt-2.index", ".mine.json.tmp"):
        (tmp_path / name).write_text("{")
    (tmp_path / "pending.json").write_text('{"scratch": ".writing-ckpt-2", "prefix": "ckpt-2"}')
    store.clean()
    assert (tmp_path / ".mine.json.tmp").exists()
    assert not list(tmp_path.glob("*ckpt-2*")) and not list(tmp_path.glob("*pending*"))
    assert store.steps() == [1]


def test_a_kill_while_an_old_one_is_removed_leaves_nothing_of_it(tmp_path, monkeypatch):
    def killed(_store, _name):
        raise KeyboardInterrupt

    store = saved(tmp_path, 1, 2, keep=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointStore, "_remove_bundle", killed)
        store.save(3, variables(3))
    assert (tmp_path / "ckpt-1.index").exists() and store.steps() == [2, 3]
    assert CheckpointStore(tmp_path, keep=2).restore_newest(variables(0)) == 3
    assert not list(tmp_path.glob("ckpt-1*")) and not list(tmp_path.glob("*pending*"))


# TensorFlow takes these for patterns: "run [2]" would be "run 2".
@pytest.mark.parametrize(
    "name", ["run [2]", "lr=[1e-3,2]", "what?", "a*b", "back\\slash", "[", "{a}"]
)
def test_any_name_of_a_folder_will_do(tmp_path, name):
    saved(tmp_path / name.replace("[2]", "2").replace("?", "x").replace("*", "x"), 2, 9)
    shutil.rmtree(tmp_path / name, ignore_errors=True)
    store = saved(tmp_path / name, 1, 2)
    fresh = variables(0)
    assert store.restore_newest(fresh) == 2
    np.testing.assert_array_equal(fresh["model/a/kernel"], np.full((3, 4), 2.0))
    assert restore(store.path(1), fresh) == 1
    assert fingerprint(store.path(1)) != fingerprint(store.path(2))
    assert newest_in(tmp_path / name) == store.path(2)


def test_a_name_of_a_checkpoint_with_brackets(tmp_path):
    store = saved(tmp_path, 3)
    for ending in ("index", "data-00000-of-00001"):
        (tmp_path / f"ckpt-3.{ending}").rename(tmp_path / f"model[1].{ending}")
    fresh = variables(0)
    assert restore(tmp_path / "model[1]", fresh) == 3
    assert store.steps() == [3]


@pytest.mark.parametrize("kept", ["files", "state"])
def test_without_manifests_nothing_begins_at_step_0(tmp_path, kept):
    store = saved(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        if path.suffix == ".json" or (kept == "state") != (path.name == "checkpoint"):
            path.unlink()
    before = sorted(path.name for path in tmp_path.iterdir())
    fresh = variables(0)
    named = "ckpt-1, ckpt-2" if kept == "files" else "none has its manifest"
    with pytest.raises(CheckpointError, match=f"{named}.*--fresh_start"):
        store.restore_newest(fresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert int(fresh["optimizer/iterations"]) == 0


def test_a_lost_manifest_of_the_newest_is_told(tmp_path, caplog):
    store = saved(tmp_path, 1, 2)
    (tmp_path / "ckpt-2.json").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        assert store.restore_newest(variables(0)) == 1
    assert "no manifest of ckpt-2, going on from ckpt-1" in caplog.text


def test_what_does_not_fit_on_the_disk_leaves_the_earlier_ones(tmp_path):
    store = saved(tmp_path, 1)
    big = {"model/a/kernel": tf.Variable(np.zeros((300, 400), np.float32))}
    with (
        small_disk.files_of_at_most(50_000),
        pytest.raises(CheckpointError) as caught,
    ):
        store.save(2, big)
    said = r"\S+/ckpt-2: cannot be written \(File too large\); \d+ MiB are free there; this one "
    assert re.fullmatch(said + r"has 0\.5 MiB, earlier ones are intact", str(caught.value))
    assert store.steps() == [1] and store.verify(1) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("checkpoint", "ckpt-1.data-00000-of-00001", "ckpt-1.index", "ckpt-1.json")
    ]
    store.save(2, big)
    assert store.steps() == [1, 2]


def test_a_full_disk_leaves_the_earlier_ones(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "size=200k"):
        store = saved(tmp_path / "disk", 1)
        big = {"model/a/kernel": tf.Variable(np.zeros((300, 400), np.float32))}
        with pytest.raises(CheckpointError) as caught:
            store.save(2, big)
        said = r"ckpt-2: cannot be written \(No space left on device\); 0 MiB are free there; this "
        said += (
            r"one has 0\.5 MiB, earlier ones are intact\. Make room, then start the same command"
        )
        assert re.search(said, str(caught.value)) and "\n" not in str(caught.value)
        assert store.steps() == [1] and store.verify(1) is None
        assert store.restore_newest(variables(0)) == 1
