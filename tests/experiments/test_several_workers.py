"""Local workers over TF_CONFIG, mostly two: they train, evaluate, stop, go on and fail together."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import test_finetune
import test_pretrain

from vatt import configs
from vatt.errors import EXIT_CHECKPOINT, EXIT_PREEMPTED, EXIT_USAGE, EXIT_WORKER
from vatt.experiments import executor
from vatt.training.checkpoints import CheckpointStore, open_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S, LOST_S = 300, 60

data_dir = test_pretrain.data_dir
labelled_dir = test_finetune.data_dir
pytestmark = pytest.mark.slow


def addresses(count=2):
    """Addresses of this machine at which nothing listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return found


class Workers:
    """Processes that train together; what they say is in files beside the runs."""

    def __init__(
        self,
        folder,
        *given,
        program=("-m", "vatt.main"),
        flags=(),
        alone=False,
        count=2,
        surroundings=({},),
    ):
        """`given`: the configuration of each, one for all; so is what their environments have."""
        members, self.processes, self.files = addresses(count), [], []
        for index in range(1 if alone else count):
            config = folder / f"{len(list(folder.iterdir()))}.yaml"
            config.write_text(configs.to_yaml(given[index % len(given)]))
            self.files.append(config.with_suffix(".log"))
            task = {"type": "worker", "index": index}
            cluster = json.dumps({"cluster": {"worker": members}, "task": task})
            command = [sys.executable, *program, f"--config_file={config}", *flags]
            own = surroundings[index % len(surroundings)]
            own = own | {"PYTHONPATH": str(REPOSITORY), "TF_CONFIG": cluster}
            with open(self.files[-1], "w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [*command, "--strategy_type=multi_worker_mirrored"],
                        env=os.environ | own,
                        stderr=file,
                        stdout=file,
                    )
                )

    def said(self, index):
        return self.files[index].read_text()

    def wait_for(self, condition):
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert all(p.poll() is None for p in self.processes), self.said(0) + self.said(-1)
            assert time.monotonic() < end, "no progress"
            time.sleep(0.01)

    def send(self, index, number):
        self.processes[index].send_signal(number)

    def codes(self, deadline=DEADLINE_S):
        """Exit codes; those that do not end in time are killed."""
        end = time.monotonic() + deadline
        try:
            return [p.wait(max(end - time.monotonic(), 0.1)) for p in self.processes]
        finally:
            for process in self.processes:
                process.kill()
                process.wait()


def finished(*args, **kwargs):
    workers = Workers(*args, **kwargs)
    codes = workers.codes()
    assert codes == [0] * len(codes), "".join(map(workers.said, range(len(codes))))
    return workers


def losses(folder):
    found = test_pretrain.rows(folder, "train")
    return {row["step"]: row["metrics"]["total_loss"] for row in found}


def names_in(folder):
    """Names of files, but those of TensorBoard, which have the time in them."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in found if "tfevents" not in name)


def same_as_one_process(one, two):
    """The folder of two workers is that of one process."""
    expected, found = losses(one), losses(two)
    assert list(found) == list(expected)  # each step once, in order
    first = min(expected)
    assert found[first] == pytest.approx(expected[first], rel=1e-5)
    assert found == pytest.approx(expected, rel=1e-4)  # Adam makes much of the smallest gradients
    assert names_in(two) == names_in(one)
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
    assert figures[1] == pytest.approx(figures[0], rel=1e-3, abs=1e-5)
    assert len(list((two / "train").iterdir())) == 1


def test_pretraining_is_that_of_one_process(data_dir, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    cfg = test_pretrain.config(data_dir, one, mode="train_and_eval")
    cfg.train.optimizer.learning_rate.learning_rate_base = 1e-3
    assert executor.run(cfg, ["vatt"]) == 0
    cfg.model_dir = str(two)
    workers = finished(tmp_path, cfg)
    same_as_one_process(one, two)
    assert "step 6/6" in workers.said(0) and "step 6/6" not in workers.said(1)
    assert [row["step"] for row in test_pretrain.rows(two, "eval")] == [3, 6]
    assert json.loads((two / "metrics.json").read_text())["search_num_clips"] == 5  # batches of 4


def test_finetuning_and_its_evaluation_are_those_of_one_process(labelled_dir, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    cfg = test_finetune.config(labelled_dir, one, mode="train_and_eval")
    assert executor.run(cfg, ["vatt"]) == 0
    both = test_finetune.config(labelled_dir, two, mode="train_and_eval")
    finished(tmp_path, both, flags=["--mode=train"])
    finished(tmp_path, both)  # what is there is evaluated
    same_as_one_process(one, two)
    final = (two / "metrics.json").read_text()

    (two / "metrics.json").unlink()
    (two / "evaluated.json").unlink()
    workers = finished(tmp_path, both, flags=["--mode=eval"])
    assert json.loads((two / "metrics.json").read_text()) == pytest.approx(json.loads(final))
    assert "the chief evaluates" in workers.said(1)
    with open(two / "predictions" / "acts-4.csv") as file:
        index = [row["index"] for row in csv.DictReader(file)]
    assert sorted(index) == sorted(set(index)) and len(index) == test_finetune.TEST


def test_a_request_to_any_worker_stops_all_and_they_go_on_together(labelled_dir, tmp_path):
    cfg = test_finetune.config(labelled_dir, tmp_path / "run", steps=3000)
    cfg.train.save_checkpoint_freq = 1000
    workers = Workers(tmp_path, cfg)
    workers.wait_for((tmp_path / "run" / "metrics.jsonl").exists)
    workers.send(1, signal.SIGTERM)
    assert workers.codes() == [EXIT_PREEMPTED] * 2, workers.said(0) + workers.said(1)
    store = CheckpointStore(tmp_path / "run")
    (step,) = store.steps()
    for index in (0, 1):
        assert f"saved ckpt-{step}" in workers.said(index)
        assert "Traceback" not in workers.said(index)

    workers = Workers(tmp_path, cfg)
    workers.wait_for(lambda: list(losses(tmp_path / "run"))[-1] > step)
    began = f"ckpt-{step}, the newest checkpoint of this run"
    assert all(began in workers.said(index) for index in (0, 1))
    workers.send(0, signal.SIGUSR1)
    assert workers.codes() == [EXIT_PREEMPTED] * 2
    steps = [row["step"] for row in test_pretrain.rows(tmp_path / "run", "train")]
    assert steps == sorted(set(steps)) and steps[-1] == store.steps()[-1] > step


def test_four_workers_lose_and_repeat_no_step(labelled_dir, tmp_path):
    """R11: 120 steps; the third of four is asked to stop, and all stop after the same step."""
    run, steps = tmp_path / "run", 120
    cfg = test_finetune.config(labelled_dir, run, steps=steps)  # a clip for each
    cfg.train.save_checkpoint_freq, cfg.train.log_every_steps = 1000, 1
    cfg.train.iterations_per_loop = 1
    workers = Workers(tmp_path, cfg, count=4)
    workers.wait_for(lambda: (run / "metrics.jsonl").exists() and len(losses(run)) >= 10)
    workers.send(2, signal.SIGTERM)
    assert workers.codes() == [EXIT_PREEMPTED] * 4, workers.said(0) + workers.said(2)
    (step,) = CheckpointStore(run).steps()
    assert 10 <= step < steps
    assert all(f"saved ckpt-{step}" in workers.said(index) for index in range(4))

    finished(tmp_path, cfg, count=4)
    assert [row["step"] for row in test_pretrain.rows(run, "train")] == list(range(1, steps + 1))
    last = open_checkpoint(run / f"ckpt-{steps}")
    assert last.get_tensor("step") == last.get_tensor("optimizer/optimizer/iteration") == steps


SLOW = """
import sys, time
from vatt import main, quiet
quiet.import_tensorflow_quietly()
from vatt.experiments import finetune_eval
def measure(self, step, checkpoint):
    print("evaluating", flush=True)
    time.sleep(600)
finetune_eval.Evaluator.measure = measure
sys.exit(main.main(sys.argv))
"""


@pytest.mark.parametrize("asked", [0, 1])
def test_a_request_to_any_worker_breaks_off_the_evaluation_of_the_chief(
    labelled_dir, tmp_path, asked
):
    (tmp_path / "slow.py").write_text(SLOW)
    cfg = test_finetune.config(labelled_dir, tmp_path / "run", mode="train_and_eval")
    workers = Workers(tmp_path, cfg, program=[tmp_path / "slow.py"])
    workers.wait_for(lambda: "evaluating" in workers.said(0))
    workers.send(asked, signal.SIGTERM)
    assert workers.codes(LOST_S) == [EXIT_PREEMPTED] * 2, workers.said(0) + workers.said(1)
    assert CheckpointStore(tmp_path / "run").steps() == [2]


@pytest.mark.parametrize(("count", "killed"), [(2, 0), (2, 1), (4, 2)])
def test_a_worker_that_dies_ends_all(labelled_dir, tmp_path, count, killed):
    cfg = test_finetune.config(labelled_dir, tmp_path / "run", steps=100_000)
    cfg.train.save_checkpoint_freq = 50_000
    workers = Workers(tmp_path, cfg, count=count)
    workers.wait_for((tmp_path / "run" / "metrics.jsonl").exists)
    workers.send(killed, signal.SIGKILL)
    codes = workers.codes(LOST_S)
    for index in set(range(count)) - {killed}:
        said = workers.said(index)
        assert codes[index] == EXIT_WORKER, said
        assert "another worker ended or cannot be reached" in said.strip().splitlines()[-1]
        assert said.count("another worker ended") == 1 and "Traceback" not in said


def test_folders_that_are_not_shared_are_refused_when_they_would_matter(labelled_dir, tmp_path):
    both = [test_finetune.config(labelled_dir, tmp_path / name, steps=2) for name in ("a", "b")]
    finished(tmp_path, *both)
    assert not (tmp_path / "b").exists()
    for cfg in both:
        cfg.train.optimizer.learning_rate.total_steps = 4
    workers = Workers(tmp_path, *both, flags=["--allow_config_change"])
    assert workers.codes() == [EXIT_CHECKPOINT] * 2
    for index in (0, 1):
        assert "the chief ckpt-2, the others nothing" in workers.said(index)


def test_workers_that_are_told_different_things_do_not_begin(labelled_dir, tmp_path):
    both = [test_finetune.config(labelled_dir, tmp_path / "run", steps=steps) for steps in (3, 6)]
    workers = Workers(tmp_path, *both)
    assert workers.codes() == [EXIT_USAGE] * 2
    assert all("the configuration of worker 1 of 2" in workers.said(i) for i in (0, 1))
    assert not (tmp_path / "run").exists()


def test_a_worker_without_others_says_so_and_can_be_stopped(labelled_dir, tmp_path):
    cfg = test_finetune.config(labelled_dir, tmp_path / "run")
    workers = Workers(tmp_path, cfg, alone=True)
    workers.wait_for(lambda: "worker 0 of 2" in workers.said(0))
    workers.send(0, signal.SIGTERM)
    (code,) = workers.codes(30)
    assert code == 130 and "Traceback" not in workers.said(0)
