"""Checkpoints in an object store, read without their run."""

import numpy as np
import pytest
import tensorflow as tf

from tests import store_server
from vatt.errors import CheckpointError
from vatt.training import checkpoints, stored_checkpoints
from vatt.training.checkpoints import CheckpointStore

store = store_server.store


@pytest.fixture
def run(store, tmp_path):
    folder = CheckpointStore(tmp_path / "run")
    for step in (5, 10):
        folder.save(step, {"model/x": tf.Variable(np.arange(step, dtype=np.float32))})
    (tmp_path / "run/config.yaml").write_text("task: pretrain\n")
    (tmp_path / "run/train").mkdir()
    (tmp_path / "run/train/events").write_text("large")
    store_server.put_folder(store, tmp_path / "run", "s3://bucket/runs/a")
    return tmp_path / "run"


def values(path):
    return checkpoints.open_checkpoint(path).get_tensor("model/x").tolist()


def test_a_folder_stands_for_its_newest(store, run):
    path = stored_checkpoints.fetched("s3://bucket/runs/a/")
    assert path.name == "ckpt-10" and values(path) == list(range(10))
    assert (path.parent / "config.yaml").read_text() == "task: pretrain\n"
    assert CheckpointStore(path.parent).verify(10) is None
    there = {entry.name for entry in path.parent.iterdir()} - {".store.json"}
    assert there == {
        "config.yaml", "ckpt-10.json", "ckpt-10.index", "ckpt-10.data-00000-of-00001",
    }  # fmt: skip


def test_one_is_named(store, run):
    path = stored_checkpoints.fetched("s3://bucket/runs/a/ckpt-5")
    assert path.name == "ckpt-5" and values(path) == list(range(5))
    with pytest.raises(CheckpointError, match=r"a/ckpt-7: no checkpoint there; .* has ckpt-10, ck"):
        stored_checkpoints.fetched("s3://bucket/runs/a/ckpt-7")
    with pytest.raises(CheckpointError, match="s3://bucket/runs: no checkpoint"):
        stored_checkpoints.fetched("s3://bucket/runs")


def test_files_of_others(store, run):
    store.objects |= {f"bucket/gdt/{name}": name.encode() for name in ("a.pth", "b.pth")}
    path = stored_checkpoints.fetched("s3://bucket/gdt/a.pth")
    assert path.read_bytes() == b"a.pth" and not (path.parent / "b.pth").exists()
    store.objects |= {f"bucket/eao/checkpoint_{n}": b"%d" % n for n in (9, 10)}
    assert stored_checkpoints.fetched("s3://bucket/eao").read_bytes() == b"10"


def test_paths_of_this_machine_are_left_alone(tmp_path):
    assert stored_checkpoints.fetched("runs/a").as_posix() == "runs/a"
