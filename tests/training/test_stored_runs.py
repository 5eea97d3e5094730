"""Runs in object stores, kept in step by processes that are killed and on machines that differ.

A machine is a folder for the cache. Training itself is in `experiments/test_stored_training.py`.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import store_server
from vatt import configs, main
from vatt.errors import EXIT_CHECKPOINT, EXIT_USAGE
from vatt.locks import HeldError
from vatt.stores import StoreError, leases
from vatt.training import stored_runs
from vatt.training.stored_runs import StoredRun

store = store_server.store
ADDRESS, BELOW = "gs://bucket/run", "bucket/run/"
REPOSITORY = Path(__file__).resolve().parents[2]
# Saves checkpoints from the newest on, as a training does, until it is killed.
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_stored_runs as own
own.leases.RENEWAL_S = 0.2
run = own.StoredRun(own.ADDRESS, Path(sys.argv[1]))
with run.training():
    for step in range(own.newest(run.folder) + 1, 10**6):
        own.save(run.folder, step, keep=2)
        run.send()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leases, "RENEWAL_S", 0.2)


def save(folder, step, keep=0):
    """Leaves files as a save does; the bundle is a function of the step."""
    data = f"ckpt-{step}.data-00000-of-00001"
    (folder / data).write_bytes(content(step))
    (folder / f"ckpt-{step}.index").write_text(f"index {step}")
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(f"{step}\n")
    (folder / "checkpoint").write_text(f"ckpt-{step}")
    manifest = {"files": {data: hashlib.sha256(content(step)).hexdigest()}}
    (folder / f"ckpt-{step}.json").write_text(json.dumps(manifest))
    for old in range(1, step - keep + 1) if keep else ():
        for path in folder.glob(f"ckpt-{old}.*"):
            path.unlink()


def content(step):
    return f"weights {step}".encode() * 1000


def newest(folder):
    return max((int(p.stem.partition("-")[2]) for p in folder.glob("ckpt-*.json")), default=0)


def committed(names):
    """Steps that count there; each is whole."""
    manifests = [name for name in names if name.startswith("ckpt-") and name.endswith(".json")]
    steps = sorted(int(name[5:-5]) for name in manifests)
    for step in steps:
        assert names[f"ckpt-{step}.data-00000-of-00001"] == content(step)
        assert names[f"ckpt-{step}.index"] == f"index {step}".encode()
    return steps


def there(store):
    return {name.removeprefix(BELOW): store.objects[name] for name in store.names(BELOW)}


def here(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: value for name, value in found.items() if not name.startswith(".")}


def start(machine):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROGRAM, str(machine), str(Path(__file__).parent)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "at",
    [
        "ckpt-{new}.data",
        "ckpt-{new}.json",
        "metrics.jsonl",
        ".sending.json",
        "removed ckpt-{old}.json",
        "removed ckpt-{old}.data",
        "removed .sending.json",
    ],
)
def test_a_kill_at_any_object_costs_at_most_one_save(store, tmp_path, at):
    machines = [tmp_path / "first", tmp_path / "second", tmp_path / "first"]
    for number, machine in enumerate(machines):
        started = []
        last = max(committed(there(store)), default=0)

        def kill(name, last=last, started=started):
            sent = name.replace(BELOW, "")
            this = sent.startswith(at.format(new=last + 4, old=last + 2))
            if this and f"{BELOW}ckpt-{last + 3}.json" in store.objects and started:
                started.pop().send_signal(signal.SIGKILL)

        process = start(machine)
        started.append(process)
        store.on_put = kill
        store.on_delete = lambda name, kill=kill: kill(f"removed {name}")
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, errors
        steps = committed(there(store))
        assert last + 3 <= steps[-1] <= last + 4, (number, steps)

    store.on_put = store.on_delete = lambda name: None
    run = StoredRun(ADDRESS, tmp_path / "last")
    with run.training():
        found = here(run.folder)
        steps = committed(found)
        whole = {f"ckpt-{step}" for step in steps}
        assert {name.partition(".")[0] for name in found if name.startswith("ckpt-")} == whole
        assert not [name for name in there(store) if name == ".sending.json"]
        assert found == {n: c for n, c in there(store).items() if not n.startswith(".")}


@pytest.mark.slow
def test_a_process_that_stood_still_while_another_went_on_sends_nothing(store, tmp_path):
    halted, started = threading.Event(), []

    def halt(name):
        if name == f"{BELOW}metrics.jsonl" and 3 in committed(there(store)) and started:
            started.pop().send_signal(signal.SIGSTOP)
            halted.set()

    store.on_put = halt
    first = start(tmp_path / "first")
    started.append(first)
    try:
        assert halted.wait(120)
        run = StoredRun(ADDRESS, tmp_path / "second")
        with run.training():
            for step in range(4, 9):
                save(run.folder, step, keep=2)
                run.send()
            found = there(store)
            first.send_signal(signal.SIGCONT)
            _, errors = first.communicate(timeout=120)
            assert "another training has begun there; this one ends" in errors
            now = there(store)
            assert now | {".training.lock": b""} == found | {".training.lock": b""}
            assert committed(now) == [7, 8]
    finally:
        first.kill()


def test_what_could_not_be_sent_is_sent_by_the_next_start(store, tmp_path):
    run = StoredRun(ADDRESS, tmp_path / "first")
    with run.training():
        save(run.folder, 1)
        run.send()
        save(run.folder, 2)
        store.refuses = True
        with pytest.raises(StoreError, match=r"first: the same command on this machine sends it"):
            run.send()
        store.refuses = False
        run._copy.save()
        run._lease._lost = True  # as when it is killed: nothing is sent any more
        with pytest.raises(HeldError):
            run.send()
        run.send = lambda: None
    assert committed(there(store)) == [1]
    again = StoredRun(ADDRESS, tmp_path / "first")
    with again.training():
        assert committed(there(store)) == [1, 2] and committed(here(again.folder)) == [1, 2]


def test_what_does_not_belong_to_the_store_is_set_aside(store, tmp_path, caplog):
    first = StoredRun(ADDRESS, tmp_path / "first")
    with first.training():
        save(first.folder, 1)
    second = StoredRun(ADDRESS, tmp_path / "second")
    with second.training():
        save(second.folder, 2)
    save(first.folder, 3)  # as by a process that could not send it
    again = StoredRun(ADDRESS, tmp_path / "first")
    with again.training():
        assert committed(here(again.folder)) == [1, 2]
    assert committed(here(tmp_path / "first.unsent-1")) == [1, 3]
    assert "first.unsent-1" in caplog.text


def test_cleared_caches_remove_nothing_from_the_store(store, tmp_path):
    run = StoredRun(ADDRESS, tmp_path / "first")
    with run.training():
        save(run.folder, 1)
        save(run.folder, 2)
    for path in run.folder.glob("ckpt-1.*"):
        path.unlink()
    again = StoredRun(ADDRESS, tmp_path / "first")
    with again.training():
        assert committed(here(again.folder)) == [1, 2]
    assert committed(there(store)) == [1, 2]


def test_checkpoints_that_go_here_go_there(store, tmp_path):
    run = StoredRun(ADDRESS, tmp_path / "first")
    store.objects[f"{BELOW}notes.md"] = b"of somebody"
    with run.training():
        for step in range(1, 6):
            save(run.folder, step, keep=2)
            run.send()
            assert committed(there(store)) == list(range(max(step - 1, 1), step + 1))
    assert there(store)["notes.md"] == b"of somebody"
    bundles = {name.partition(".")[0] for name in there(store) if name.startswith("ckpt-")}
    assert bundles == {"ckpt-4", "ckpt-5"}


def test_an_evaluation_writes_its_own_folder_alone(store, tmp_path):
    training = StoredRun(ADDRESS, tmp_path / "first")
    with training.training():
        save(training.folder, 1)
        training.send()
        run = StoredRun(ADDRESS, tmp_path / "second")
        run.pull(without=())
        assert committed(here(run.folder)) == [1]
        place = run.folder / "evaluations/mine"
        place.mkdir(parents=True)
        with run.evaluating(place):
            (place / "metrics.jsonl").write_text("figures")
            (run.folder / "metrics.jsonl").write_text("not mine")
            (run.folder / "ckpt-1.index").unlink()
            run.send()
            another = StoredRun(ADDRESS, tmp_path / "third")
            another.pull(without={1})
            assert not list(another.folder.glob("*.data-*"))
            with (
                pytest.raises(HeldError, match="another evaluation is at work there"),
                another.evaluating(another.folder / "evaluations/mine"),
            ):
                pass
        save(training.folder, 2, keep=1)
    assert there(store)["evaluations/mine/metrics.jsonl"] == b"figures"
    assert there(store)["metrics.jsonl"] == b"1\n2\n" and committed(there(store)) == [2]
    run.pull(without={2})
    assert not list(run.folder.glob("*.data-*"))  # that of step 1 has gone with it


def test_what_says_that_a_step_has_been_evaluated_is_sent_after_its_figures(store, tmp_path):
    """Else a kill in between would leave a step that nobody evaluates again, without figures."""
    names = ("metrics.jsonl", "evaluated.json", "metrics.json", "config.yaml", "eval/step-1.npz")
    training, run = (StoredRun(ADDRESS, tmp_path / name) for name in ("first", "second"))
    place = run.folder / "evaluations/mine"
    jobs = ((training, training.training(), training.folder), (run, run.evaluating(place), place))
    for job, block, folder in jobs:
        with block:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(name)
            store.asked.clear()
            job.send()
            sent = [ask for ask in store.asked if ask.startswith("PUT") and ".lock" not in ask]
        assert len(sent) == len(names) and sent[-1].endswith("/evaluated.json")


def test_a_worker_has_a_copy_of_its_own_and_sends_nothing(store, tmp_path, monkeypatch):
    cfg = configs.resolve(
        model_arch="tx_fac_tiny",
        config_file="configs/pretrain/toy.yaml",
        params_override="strategy_config.distribution_strategy=multi_worker_mirrored",
        model_dir=ADDRESS,
    )
    with stored_runs.opened(cfg) as chief:
        save(chief.folder, 1)
        chief.send()
        task = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(task))
        asked = len(store.asked)
        with stored_runs.opened(cfg) as worker:
            assert worker.folder == tmp_path / "cache/stores/runs-1/gs/bucket/run"
            assert committed(here(worker.folder)) == [1]
            save(worker.folder, 2)
            worker.send()
        monkeypatch.delenv("TF_CONFIG")
        asked = [ask for ask in store.asked[asked:] if not ask.endswith(".training.lock")]
        assert all(ask.startswith("GET") for ask in asked)
    assert committed(there(store)) == [1]
    assert chief.folder == tmp_path / "cache/stores/runs/gs/bucket/run"


def test_the_configuration_of_a_run_is_fetched(store):
    assert stored_runs.config_file(ADDRESS) is None
    for text in (b"seed: 1\n", b"seed: 2\n"):
        store.objects[f"{BELOW}config.yaml"] = text
        assert stored_runs.config_file(ADDRESS).read_bytes() == text


def test_an_evaluation_of_nothing_names_the_address(store, capsys):
    flags = ["--config_file=configs/pretrain/toy.yaml", "--mode=eval", f"--model_dir={ADDRESS}"]
    assert main.main(["vatt", *flags]) == EXIT_CHECKPOINT
    assert f"error: there is no run in {ADDRESS} (no config.yaml, no" in capsys.readouterr().err


def test_seeds_and_folds_are_no_runs_of_a_store(capsys):
    for flag in ("--seeds=0,1", "--folds=all"):
        assert main.main(["vatt", flag, f"--model_dir={ADDRESS}"]) == EXIT_USAGE
        assert f"error: model_dir: {ADDRESS}: runs of several" in capsys.readouterr().err


def test_a_run_in_a_folder_is_left_alone(tmp_path):
    cfg = configs.resolve(
        model_arch="tx_fac_tiny",
        config_file="configs/pretrain/toy.yaml",
        model_dir=str(tmp_path / "run"),
    )
    with stored_runs.opened(cfg) as stored:
        assert stored is None
    assert stored_runs.folder(cfg) == tmp_path / "run" and not list(tmp_path.iterdir())
