"""Several workers by one command: what is refused, what is started, a training that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vatt import configs
from vatt.errors import EXIT_PREEMPTED, EXIT_USAGE
from vatt.experiments import executor
from vatt.tools import device_shares, launch, worker_processes
from vatt.training import cluster
from vatt.training.checkpoints import CheckpointStore

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import test_finetune
import test_pretrain

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S, LOST_S = 300, 60

data_dir = test_finetune.data_dir


@pytest.fixture
def flags(data_dir, tmp_path):
    """Flags of a small training."""
    cfg = test_finetune.config(data_dir, tmp_path / "unused")
    cfg.strategy_config.distribution_strategy = "auto"
    file = tmp_path / "small.yaml"
    file.write_text(configs.to_yaml(cfg))
    return [f"--config_file={file}", f"--model_dir={tmp_path / 'run'}"]


@pytest.fixture
def started(monkeypatch):
    """What would be started; answers 7."""
    found = []

    def run(workers, beside):
        found.append((workers, beside))
        return 7

    monkeypatch.setattr(worker_processes, "run", run)
    monkeypatch.delenv(cluster.VARIABLE, raising=False)
    monkeypatch.setattr(device_shares, "cores", lambda: [0, 1, 2, 3])
    monkeypatch.setenv(device_shares.VISIBLE, "")
    return found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--num_workers=0", "--", "--model_dir=a"], "0 is not a whole number from 1 to 256"),
        (["--num_workers=two", "--", "--model_dir=a"], "two is not a whole number"),
        (["--", "--model_dir=a"], "--num_workers"),
        (["--num_workers=2"], "nothing follows --: expected the flags of vatt.main"),
        (["--num_workers=2", "--"], "nothing follows --"),
        (["--num_workers=2", "--model_dir=a"], "--model_dir=a: the flags of vatt.main follow --"),
    ],
)
def test_arguments_that_are_refused(arguments, says, started, capsys):
    with pytest.raises(SystemExit) as ended:
        launch.main(arguments)
    assert ended.value.code == EXIT_USAGE and not started
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--modle_dir=x"], "Did you mean: model_dir"),
        (["train"], "unexpected argument 'train'"),
        (["--model_dir="], "model_dir is missing: name the folder"),
        (["--mode=eval"], "mode: 'eval' is the work of one process (vatt eval); accepted: train"),
        (["--mode=evl"], "Did you mean 'eval'?"),
        (["--strategy_type=mirrored"], "--strategy_type=mirrored: vatt launch trains with multi_"),
        (["--params_override={strategy_config: {distribution_strategy: tpu}}"], "leave the strat"),
        (
            ["--params_override=strategy_config.distribution_strategy=auto"],
            "distribution_strategy=",
        ),
        (["--seeds=0,1"], "--seeds=0,1: not for several workers"),
        (["--folds=all"], "--folds=all: not for several workers"),
        (["--params_override=train.input.batch_size=5"], "train.input.batch_size"),
        (["--data_dir=none"], "data_dir is 'none', and there is no such folder"),
        (
            ["EVAL", "--mode=train_and_eval"],
            "mode: 'train_and_eval' already evaluates; with --eval",
        ),
        (["EVAL", "--fresh_start"], "--fresh_start: not with --eval"),
        (["EVAL", "--params_override=eval.input.name=none"], "data set 'none' not found"),
    ],
)
def test_flags_that_are_refused_before_anything_is_started(more, says, flags, started, capsys):
    evaluate = ["--eval"] if "EVAL" in more else []
    more = [flag for flag in more if flag != "EVAL"]
    code = launch.main(["--num_workers=2", *evaluate, "--", *flags, *more])
    assert code in (EXIT_USAGE, 3) and not started
    told = capsys.readouterr()
    assert says in told.err and told.out == ""


def test_workers_of_another_machine_are_not_taken_over(flags, started, capsys, monkeypatch):
    monkeypatch.setenv(cluster.VARIABLE, '{"cluster": {"worker": ["a:1", "b:1"]}}')
    assert launch.main(["--num_workers=2", "--", *flags]) == EXIT_USAGE
    assert "TF_CONFIG is set" in capsys.readouterr().err


def test_each_worker_has_its_place_its_cores_and_an_address(flags, started, capsys, monkeypatch):
    assert launch.main(["--num_workers=2", "--", *flags]) == 7
    assert capsys.readouterr().out == "2 workers, 2 cores each, no GPU\n"
    ((workers, beside),) = started
    assert beside is None and [worker.name for worker in workers] == ["0", "1"]
    assert [worker.cores for worker in workers] == [[0, 1], [2, 3]]
    found = []
    for worker in workers:
        command = [sys.executable, "-m", "vatt.main", *flags]
        assert worker.command == [*command, "--strategy_type=multi_worker_mirrored"]
        assert worker.environment.keys() == {cluster.VARIABLE}
        monkeypatch.setenv(cluster.VARIABLE, worker.environment[cluster.VARIABLE])
        found.append(cluster.of_training(cluster.SEVERAL))
    assert [members.index for members in found] == [0, 1]
    assert found[0].addresses == found[1].addresses and len(set(found[0].addresses)) == 2
    assert all(address.startswith("127.0.0.1:") for address in found[0].addresses)


def test_a_strategy_that_is_named_is_not_named_twice(flags, started):
    named = "--strategy_type=Multi_Worker_Mirrored"
    assert launch.main(["--num_workers=1", "--", *flags, named]) == 7
    assert started[0][0][0].command[-2:] == [flags[-1], named]


def test_gpus_are_divided_and_evaluation_stands_beside(flags, started, monkeypatch):
    monkeypatch.setenv(device_shares.VISIBLE, "3,4")
    assert launch.main(["--num_workers=2", "--eval", "--", *flags]) == 7
    workers, beside = started[0]
    visible = [one.environment[device_shares.VISIBLE] for one in (*workers, beside)]
    assert visible == ["3", "4", "-1"] and cluster.VARIABLE not in beside.environment
    assert beside.name == "eval" and "--mode=eval" in beside.command
    assert beside.command.index("--strategy_type=one_device") > beside.command.index(flags[-1])


def test_a_port_is_for_the_worker_alone():
    with launch.ExitStack() as stack:
        port = int(launch._reserved(stack).rpartition(":")[2])
        with pytest.raises(OSError), socket.socket() as other:
            other.bind(("127.0.0.1", port))
        for _ in range(2):  # whoever looks for the others, then TensorFlow
            with cluster._listening(port):
                assert cluster._answers(f"127.0.0.1:{port}")


class Launched:
    """A command that trains; what it says is in a file."""

    def __init__(self, folder, *arguments):
        self.file = folder / f"{len(list(folder.iterdir()))}.log"
        with open(self.file, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vatt", "launch", *arguments],
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
                stdout=file,
                stderr=file,
            )

    @property
    def said(self):
        return self.file.read_text()

    def wait_for(self, condition):
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.05)

    def workers(self):
        """The processes that it has started, by their index."""
        pid, found = self.process.pid, {}
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            own = next(v for v in variables if v.startswith(b"TF_CONFIG="))
            found[json.loads(own.partition(b"=")[2])["task"]["index"]] = int(child)
        return found

    def code(self, deadline=DEADLINE_S):
        try:
            return self.process.wait(deadline)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.mark.slow
def test_two_workers_train_are_evaluated_die_together_and_go_on(data_dir, tmp_path):
    def command(name, steps, *options):
        cfg = test_finetune.config(data_dir, tmp_path / name, steps=steps)
        cfg.eval.timeout_s = DEADLINE_S
        cfg.train.optimizer.learning_rate.learning_rate_base = 1e-4
        cfg.train.save_checkpoint_freq = 2 if steps < 10 else 10
        file = tmp_path / f"{name}.yaml"
        cfg.strategy_config.distribution_strategy = "auto"
        file.write_text(configs.to_yaml(cfg))
        return cfg, ["--num_workers=2", *options, "--", f"--config_file={file}"]

    cfg, arguments = command("two", 4, "--eval")
    launched = Launched(tmp_path, *arguments)
    assert launched.code() == 0, launched.said
    assert "\n[0] step 4/4 " in launched.said and "\n[1] step" not in launched.said
    assert "\n[eval] step 4: " in launched.said
    assert (tmp_path / "two" / "metrics.json").exists()
    cfg.model_dir = str(tmp_path / "one")
    assert executor.run(cfg, ["vatt"]) == 0
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert list(two) == [2, 4] and two == pytest.approx(one, rel=1e-5)

    _, arguments = command("run", 100_000)
    launched = Launched(tmp_path, *arguments)
    store = CheckpointStore(tmp_path / "run")
    launched.wait_for(lambda: store.steps())
    workers = launched.workers()
    os.kill(workers[1], signal.SIGKILL)
    assert launched.code(LOST_S) == 128 + signal.SIGKILL
    assert launched.said.splitlines()[-1].startswith("error: worker 1 of 2 was killed by SIGKILL")
    assert sorted(workers) == [0, 1] and not any(
        Path(f"/proc/{w}").exists() for w in workers.values()
    )

    saved = store.newest_valid()
    launched = Launched(tmp_path, *arguments)
    launched.wait_for(lambda: list(losses(tmp_path / "run"))[-1] > saved)
    assert f"[all] initialised from {store.path(saved)}" in launched.said
    launched.process.send_signal(signal.SIGTERM)
    assert launched.code() == EXIT_PREEMPTED, launched.said
    assert "Traceback" not in launched.said and store.newest_valid() > saved


def losses(folder):
    found = test_pretrain.rows(folder, "train")
    return {row["step"]: row["metrics"]["total_loss"] for row in found}
