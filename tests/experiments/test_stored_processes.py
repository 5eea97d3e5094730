"""Runs in a store by commands of their own: killed, followed from elsewhere, by two workers.

A machine is a folder for the cache and, where it matters who asked for what, an address of its own
of the same store.
"""

import json
import shutil
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import test_pretrain
from test_kill import STEPS, finish, start, wait_for
from test_several_workers import finished, losses, names_in

from tests import store_server
from vatt.training.checkpoints import CheckpointStore

data_dir = test_pretrain.data_dir
store = store_server.store
pytestmark = pytest.mark.slow
ADDRESS, RUN, LOCK = "s3://bucket/run", "bucket/run/", "bucket/run/.training.lock"


def copied(store, folder):
    """The run in the store as a folder; what begins with a dot is not of the run."""
    for name in store.names(RUN):
        path = folder / name.removeprefix(RUN)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.name.startswith("."):
            path.write_bytes(store.objects[name])
    return folder


def notes(store):
    """What stands in the store beside the run."""
    return [name.removeprefix(RUN) for name in store.names(RUN) if name.startswith(f"{RUN}.")]


def is_done(store, step):
    return f"{RUN}ckpt-{step}.json" in store.objects


@contextmanager
def asked_through(store, **more):
    """Another address of the same store; gives what was asked there, and its environment."""
    with store_server.serving() as other:
        other.objects, other.lock = store.objects, store.lock
        other.on_put = lambda name: store.on_put(name)
        yield other.asked, other.environment() | more


def written(asked):
    """Names that somebody has stored or removed."""
    return {ask.partition(" ")[2] for ask in asked if not ask.startswith(("GET ", "HEAD "))}


def test_a_training_killed_twice_is_finished_by_another_machine(
    store, tmp_path, data_dir, monkeypatch
):
    """The dead are told by notes that nothing renews; those here say that it would be soon."""
    keep = "--params_override=train.max_checkpoints=3"
    store_server.put_folder(store, data_dir, "gs://bucket/records")

    def begin(machine):
        monkeypatch.setenv("VATT_CACHE", str(tmp_path / machine))
        flags = [f"--model_dir={ADDRESS}", "--data_dir=gs://bucket/records", keep]
        return start(tmp_path, data_dir, "run", *flags)

    def kill(process):
        process.send_signal(signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        note = json.loads(store.objects[LOCK])
        store.objects[LOCK] = json.dumps(note | {"renewal_s": 0.1}).encode()

    sent = threading.Event()
    store.on_put = lambda name: (
        name.startswith(f"{RUN}ckpt-18.data") and (first.send_signal(signal.SIGKILL), sent.set())
    )
    first = begin("first")
    assert finish(first)[0] == -signal.SIGKILL and sent.is_set()
    store.on_put = lambda name: None
    kill(first)
    assert is_done(store, 12) and not is_done(store, 18)
    assert ".sending.json" in notes(store)

    second = begin("second")
    log = tmp_path / "second/stores/runs/s3" / RUN
    wait_for(
        second, lambda: is_done(store, 30) and test_pretrain.rows(log, "train")[-1]["step"] > 30
    )
    kill(second)
    assert is_done(store, 30) and not is_done(store, STEPS)

    code, errors = finish(begin("third"))
    assert code == 0, errors
    assert "another training has ended without a word" in errors and "Traceback" not in errors
    assert notes(store) == [".training.lock"] and json.loads(store.objects[LOCK])["ended"]

    code, errors = finish(start(tmp_path, data_dir, "whole", keep))
    assert code == 0, errors
    seen, whole = copied(store, tmp_path / "seen"), tmp_path / "whole"
    assert CheckpointStore(seen).steps() == CheckpointStore(whole).steps() == [48, 54, STEPS]
    for step in (48, 54, STEPS):
        assert CheckpointStore(seen).verify(step) is None
        expected = test_pretrain.values(whole, step)
        for name, value in test_pretrain.values(seen, step).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert losses(seen) == losses(whole)
    steps = [row["step"] for row in test_pretrain.rows(seen, "train")]
    assert steps == sorted(set(steps))
    assert names_in(seen) == names_in(whole)


def test_an_evaluation_elsewhere_follows_a_training(store, tmp_path, data_dir, monkeypatch):
    """It begins while that trains; one checkpoint is not whole until another has been evaluated."""
    monkeypatch.setenv("VATT_CACHE", str(tmp_path / "first"))
    figures, evaluated = f"{RUN}evaluations/search/", threading.Event()

    def wait(name):
        if name == f"{figures}evaluated.json":
            evaluated.set()
        if name == f"{RUN}ckpt-24.json":
            assert evaluated.wait(240)

    store.on_put = wait
    keep = "--params_override=train.max_checkpoints=3"
    training = start(tmp_path, data_dir, "run", f"--model_dir={ADDRESS}", keep, every=12)
    wait_for(training, lambda: is_done(store, 12))
    with asked_through(store, VATT_CACHE=str(tmp_path / "second")) as (asked, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        patience = "--params_override=eval.timeout_s=240"
        evaluation = start(
            tmp_path, data_dir, "run", f"--model_dir={ADDRESS}", patience, mode="eval"
        )
        code, errors = finish(evaluation)
    assert code == 0 and "no new checkpoint" not in errors, errors
    assert f"waiting for checkpoints in {ADDRESS}: " in errors
    code, training_errors = finish(training)
    assert code == 0, training_errors
    assert "Traceback" not in errors + training_errors

    assert all(name.startswith(figures) for name in written(asked))
    seen = copied(store, tmp_path / "seen")
    kept = CheckpointStore(seen).steps()
    assert kept == [36, 48, STEPS]
    done = [row["step"] for row in test_pretrain.rows(seen / "evaluations/search", "eval")]
    assert done == sorted(set(done)) and {12, *kept} <= set(done)
    assert json.loads((seen / "evaluations/search/metrics.json").read_text())["step"] == STEPS
    assert not test_pretrain.rows(seen, "eval") and not (seen / "metrics.json").exists()


def test_two_workers_begin_again_in_a_store_and_the_chief_sends(store, tmp_path, data_dir):
    """Each on its machine; they begin where an earlier run has checkpoints, which goes aside."""
    folder = tmp_path / "folder"
    cfg = test_pretrain.config(data_dir, folder, steps=12)
    finished(tmp_path, cfg)
    store_server.put_folder(store, folder, ADDRESS)

    cfg.model_dir = ADDRESS
    with (
        asked_through(store, VATT_CACHE=str(tmp_path / "first")) as (chief, of_chief),
        asked_through(store, VATT_CACHE=str(tmp_path / "second")) as (worker, of_worker),
    ):
        finished(tmp_path, cfg, flags=["--fresh_start"], surroundings=(of_chief, of_worker))
    assert f"{RUN}ckpt-12.json" in written(chief) and worker and not written(worker)
    seen = copied(store, tmp_path / "seen")
    assert names_in(seen / "previous-1") == names_in(folder)
    shutil.rmtree(seen / "previous-1")
    assert losses(seen) == losses(folder)
    assert names_in(seen) == names_in(folder)
    expected = test_pretrain.values(folder, 12)
    for name, value in test_pretrain.values(seen, 12).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
