r"""A training that is killed, stopped and robbed of checkpoints, beside one that is left alone.

    python benchmarks/soak.py --config configs/pretrain/toy.yaml --work runs/soak \
        --data_dir runs/toy_corpus/records --steps 2000 --workers 1 --disturbances 20 \
        [--params_override ...]

Both trainings read the same copy of the records, one in a hundred of which is damaged. The quiet
one runs once. The other one, of the same configuration, is started again until it ends by itself:
each launch but the last is ended at a random moment, by SIGKILL or SIGTERM: a quarter of them while
they start, the others after a random number of steps. After half of that its newest checkpoint is
damaged. An evaluation of its own polls beside it all the time. At the end every step must have been
logged once and every variable of the last checkpoint be that of the quiet training, bit for bit;
the command prints what it did and found as a table, and ends with 1 if anything differs. With
--workers=2 `vatt launch` starts two processes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from vatt.data import framing
from vatt.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED
from vatt.training import checkpoint_files

ROOT = Path(__file__).resolve().parents[1]
BAD_SHARE = 0.01
DAMAGED_SHARE = 0.5  # of disturbances after which a checkpoint is damaged, if there is another
EARLY_SHARE = 0.25  # of launches that are ended while they start
LONGEST_S = 3600.0  # of the last launch
# By SIGTERM ends what has not come to TensorFlow yet, and handles no signal so far.
STOPPED = (EXIT_PREEMPTED, EXIT_INTERRUPTED, -signal.SIGTERM)


@dataclasses.dataclass
class Soak:
    """What was done to a training.

    Attributes:
      arguments: of the command line.
      chance: draws moments and what happens.
      done: how often each thing was done.
      kept: steps of the newest checkpoint at each launch.
    """

    arguments: argparse.Namespace
    chance: random.Random
    done: Counter = dataclasses.field(default_factory=Counter)
    kept: list[int] = dataclasses.field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.arguments.work

    def command(self, run: Path, mode: str) -> list[str]:
        """The command of a training, or of an evaluation that polls until the last step."""
        given = self.arguments
        loop = max(given.steps // 100, 1)
        changes = [
            f"train.optimizer.learning_rate.total_steps={given.steps}",
            f"train.iterations_per_loop={loop},train.log_every_steps={loop}",
            f"train.save_checkpoint_freq={5 * loop},train.max_checkpoints=5",
            f"train.input.max_bad_fraction={4 * BAD_SHARE}",
            "eval.poll_interval_s=5,eval.wait_for_run=true",
            *given.params_override,
        ]
        flags = [
            f"--config_file={given.config}",
            f"--data_dir={self.work / 'records'}",
            f"--model_dir={run}",
            *(f"--params_override={change}" for change in changes),
        ]
        if mode == "train" and given.workers > 1:
            launch = ["-m", "vatt.tools.launch", f"--num_workers={given.workers}", "--"]
            return [sys.executable, *launch, *flags, "--mode=train"]
        return [sys.executable, "-m", "vatt.main", *flags, f"--mode={mode}"]

    def start(self, run: Path, mode: str) -> subprocess.Popen:
        log = (self.work / f"{run.name}.{mode}.log").open("ab")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        return subprocess.Popen(
            self.command(run, mode), stdout=log, stderr=log, env=environment, cwd=ROOT
        )

    # -- the two trainings -----------------------------------------------------------------

    def quiet(self, run: Path) -> float:
        """Trains undisturbed; returns how long it took (s)."""
        started = time.monotonic()
        self._ended_well(self.start(run, "train"), "the quiet training")
        return time.monotonic() - started

    def disturbed(self, run: Path) -> None:
        """Trains with disturbances, and an evaluation beside it."""
        evaluation = self.start(run, "eval")
        try:
            for _ in range(self.arguments.disturbances):
                if self._disturb(run):
                    break
            self._ended_well(self.start(run, "train"), "the last launch")
            self.done["launches"] += 1
            self._ended_well(evaluation, "the evaluation")
        finally:
            evaluation.kill()

    def _wait(self, log: Path, training: subprocess.Popen) -> None:
        """Waits for a random moment of the start, or after a random number of rows of the log.

        Raises:
          subprocess.TimeoutExpired: the training has not ended by then.
        """
        if self.chance.random() < EARLY_SHARE:
            training.wait(self.chance.uniform(1.0, self.arguments.start))
            return
        goal = self.chance.randrange(1, 200 // self.arguments.disturbances + 1)
        before = log.stat().st_size
        while training.poll() is None:
            if log.read_bytes()[before:].count(b"  loss ") >= goal:
                break
            time.sleep(0.1)
        training.wait(self.chance.uniform(0.01, 2.0))

    def _disturb(self, run: Path) -> bool:
        """Starts the training and ends it; returns whether it had ended by itself before."""
        self.kept.append(max(checkpoint_files.committed(run), default=0))
        training, number = self.start(run, "train"), self.chance.choice(["SIGKILL", "SIGTERM"])
        self.done["launches"] += 1
        try:
            self._wait(self.work / f"{run.name}.train.log", training)
            return self._is_well(training.returncode, "a launch that was left alone")
        except subprocess.TimeoutExpired:
            pass
        victim = self.chance.choice(_processes(training.pid))
        os.kill(victim if number == "SIGKILL" else training.pid, getattr(signal, number))
        self.done[number] += 1
        code = training.wait(120)  # of several workers the others end, too
        if number == "SIGTERM" and code == 0:
            return True  # it had just done its last step
        if number == "SIGTERM" and code not in STOPPED:
            sys.exit(f"after SIGTERM the training ended with {code}, see {self.work}")
        if len(checkpoint_files.committed(run)) > 1 and self.chance.random() < DAMAGED_SHARE:
            self._damage(run)
        return False

    def _damage(self, run: Path) -> None:
        """Cuts, changes or removes a file of the newest checkpoint."""
        newest = max(checkpoint_files.committed(run))
        path = self.chance.choice(sorted(run.glob(f"ckpt-{newest}.*")))
        content, how = path.read_bytes(), self.chance.choice(["cut", "changed", "removed"])
        if how == "removed":
            path.unlink()
        elif how == "cut":
            path.write_bytes(content[: len(content) // 2])
        else:
            place = self.chance.randrange(len(content))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        self.done[f"checkpoint damaged ({how})"] += 1

    def _ended_well(self, process: subprocess.Popen, what: str) -> None:
        self._is_well(process.wait(LONGEST_S), what)

    def _is_well(self, code: int, what: str) -> bool:
        if code:
            sys.exit(f"{what} ended with {code}, see {self.work}")
        return True

    # -- what came of it -------------------------------------------------------------------

    def compare(self, quiet: Path, disturbed: Path) -> dict[str, object]:
        """Returns what the two runs have in common."""
        rows = [_train_rows(run) for run in (quiet, disturbed)]
        logged = [[row["step"] for row in of_run] for of_run in rows]
        spans = [_losses_of_spans(of_run) for of_run in rows]
        readers = [
            tf.train.load_checkpoint(str(run / f"ckpt-{self.arguments.steps}"))
            for run in (quiet, disturbed)
        ]
        names = [sorted(reader.get_variable_to_shape_map()) for reader in readers]
        differing = [
            name
            for name in set(names[0]) | set(names[1])
            if not all(name in own for own in names)
            or not _equal(*(reader.get_tensor(name) for reader in readers))
        ]
        evaluated = json.loads((disturbed / "evaluated.json").read_text())
        return {
            "steps logged once, with those of the quiet run": (
                logged[1] == sorted(set(logged[1])) and set(logged[0]) <= set(logged[1])
            ),
            "rows of the same steps": len(spans[0].keys() & spans[1].keys()),
            "rows whose losses differ": sum(
                spans[0][span] != spans[1][span] for span in spans[0].keys() & spans[1].keys()
            ),
            "variables": len(names[0]),
            "variables that differ": len(differing),
            "files half written": sum(map(_half_written, disturbed.rglob("*"))),
            "tracebacks told": sum(
                log.read_text(errors="replace").count("Traceback")
                for log in self.work.glob("*.log")
            ),
            "bad records listed, quiet and disturbed": [
                len(set((run / "bad_records.csv").read_text().splitlines()[1:]))
                for run in (quiet, disturbed)
            ],
            "checkpoints evaluated": len(evaluated),
        }


def _half_written(path: Path) -> bool:
    return path.name.startswith(".writing") or path.name.endswith(".tmp") or "pending" in path.name


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.tobytes() == other.tobytes() if one.dtype != object else bool(np.all(one == other))


def _train_rows(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row.get("split") == "train"]


def _losses_of_spans(rows: list[dict]) -> dict[tuple[int, int], dict[str, float]]:
    """Mean losses by the steps they are of; a stop ends a row early and begins another one."""
    steps = [0, *(row["step"] for row in rows)]
    return {
        span: {name: value for name, value in row["metrics"].items() if name.endswith("loss")}
        for span, row in zip(itertools.pairwise(steps), rows, strict=True)
    }


def _processes(pid: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def spoil(records: Path, copy: Path, chance: random.Random) -> tuple[int, int]:
    """Copies cards and shards; changes a byte in one of a hundred records of training shards.

    Returns:
      How many records were damaged, and of how many.
    """
    shutil.copytree(records, copy)
    damaged, seen = 0, 0
    for path in sorted(copy.rglob("*train*.tfrecord")):
        content = bytearray(path.read_bytes())
        for record in framing.walk(path):
            seen += 1
            if chance.random() < BAD_SHARE:
                content[record.offset + 12 + len(record.data) // 2] ^= 0xFF
                damaged += 1
        path.write_bytes(content)
    return damaged, seen


def main() -> None:
    """Runs both trainings and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--disturbances", type=int, default=20)
    parser.add_argument("--start", type=float, default=20.0, help="s that a launch takes to start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--params_override", action="append", default=[])
    arguments = parser.parse_args()
    arguments.work = arguments.work.absolute()
    arguments.work.mkdir(parents=True)
    soak = Soak(arguments, random.Random(arguments.seed))
    damaged, seen = spoil(arguments.data_dir, arguments.work / "records", soak.chance)
    runs = arguments.work / "quiet", arguments.work / "disturbed"
    seconds = soak.quiet(runs[0])
    soak.disturbed(runs[1])
    found = soak.compare(*runs)
    table = {"records damaged": f"{damaged} of {seen}", "quiet training, s": round(seconds)}
    table |= dict(sorted(soak.done.items())) | {"went on from": soak.kept} | found
    print("| | |\n|---|---|")
    for name, value in table.items():
        print(f"| {name} | {value} |")
    faults = "rows whose losses differ", "variables that differ", "files half written"
    same = found["steps logged once, with those of the quiet run"] and not any(
        found[name] for name in (*faults, "tracebacks told")
    )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
