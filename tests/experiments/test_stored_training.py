"""A run in an object store is trained, goes on and is evaluated on machines that share no disk.

A machine is a folder for the cache. Processes that are killed are in
`training/test_stored_runs.py`.
"""

import numpy as np
import pytest
import test_pretrain

from tests import store_server
from vatt.experiments import executor
from vatt.stores import StoreError, leases
from vatt.training import stored_runs
from vatt.training.checkpoints import CheckpointStore

data_dir = test_pretrain.data_dir
store = store_server.store
ADDRESS = "s3://bucket/runs/a"


def run(data_dir, machine, monkeypatch, *, mode="train", **kwargs):
    monkeypatch.setenv("VATT_CACHE", str(machine))
    cfg = test_pretrain.config(data_dir, ADDRESS, mode=mode, **kwargs)
    cfg.train.save_checkpoint_freq = 2
    with stored_runs.opened(cfg) as stored:
        assert executor.run(cfg, stored=stored) == 0
        return stored.folder


@pytest.mark.slow
def test_a_run_goes_on_and_is_evaluated_elsewhere(store, tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(leases, "RENEWAL_S", 0.2)
    whole = test_pretrain.config(data_dir, tmp_path / "whole")
    whole.train.save_checkpoint_freq = 2
    assert executor.run(whole) == 0

    def refuse(name):
        store.refuses = name == "bucket/runs/a/ckpt-4.index"  # and all that comes after it

    store.on_put = refuse
    with pytest.raises(StoreError, match=r"All is in .*/first/stores/runs/s3/bucket/runs/a: "):
        run(data_dir, tmp_path / "first", monkeypatch)
    assert "bucket/runs/a/ckpt-2.json" in store.objects
    assert "bucket/runs/a/ckpt-4.json" not in store.objects
    store.refuses, store.on_put = False, lambda name: None

    folder = run(data_dir, tmp_path / "second", monkeypatch)
    assert CheckpointStore(folder).steps() == [2, 4, 6]
    seen = tmp_path / "seen"
    for name in store.names("bucket/runs/a/"):
        path = seen / name.removeprefix("bucket/runs/a/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.objects[name])
    assert all(CheckpointStore(seen).verify(step) is None for step in (2, 4, 6))
    expected = test_pretrain.values(tmp_path / "whole", 6)
    for name, value in test_pretrain.values(seen, 6).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    folders = (seen, tmp_path / "whole")
    steps = [[row["step"] for row in test_pretrain.rows(place, "train")] for place in folders]
    assert steps[0] == steps[1]
    assert f"model_dir: {ADDRESS}\n" in (seen / "config.yaml").read_text()

    trained = dict(store.objects)
    run(data_dir, tmp_path / "third", monkeypatch, mode="eval")
    assert {name: store.objects[name] for name in trained} == trained
    figures = store.objects["bucket/runs/a/evaluations/search/metrics.jsonl"].decode().splitlines()
    assert len(figures) == 3
    run(data_dir, tmp_path / "fourth", monkeypatch, mode="eval")
    name = "bucket/runs/a/evaluations/search/metrics.jsonl"
    assert store.objects[name].decode().splitlines() == figures
