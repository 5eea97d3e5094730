"""Several seeds of one configuration, one after another, and what they reach on average.

    python -m vatt.main --seeds=0-2 --model_dir=runs/toy ...

Each seed is the command without --seeds, with a folder and a seed of its own, in a process of its
own: whatever holds for a single run holds for it. After the last one `<model_dir>` gets the table
of `vatt.reporting.seeds`. The same command continues after an interruption.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import logging

from vatt import configs, locks
from vatt.configs import yaml_text
from vatt.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, UserError, short
from vatt.experiments import beforehand
from vatt.files import read_json
from vatt.printing import show
from vatt.quiet import import_tensorflow_quietly
from vatt.reporting import seeds as reporting
from vatt.training import checkpoint_files, signals

NAME = "seed{}"  # of the folder of a seed
LOCK = ".seeds.lock"
MOST, BELOW = 100, 2**31  # seeds of one command, and their values
# Asks for a save and a clean end. Where whoever stops this process sends the signal to all of its
# kind, each run gets it twice, and a second SIGTERM would not wait for the save.
_STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)
_LOOK_S = 0.2

Configure = Callable[[str, str], configs.ExperimentConfig]


def chosen(text: str, overrides: Sequence[str] = ()) -> list[int]:
    """Returns the seeds that --seeds asks for.

    Args:
      text: numbers and ranges, joined by commas.
      overrides: of the configuration, which may not name a seed as well.

    Raises:
      UserError: something else, too many, the same one twice, or `seed` is overridden.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:\s*-\s*([0-9]{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < BELOW:
            raise UserError(
                f"--seeds={short(text)}: '{short(part)}' is no seed and no range of seeds; "
                f"accepted: numbers from 0 to {BELOW - 1} and ranges, such as 0,1,2 or 0-9"
            )
        if len(found) + last - first >= MOST:
            raise UserError(f"--seeds={short(text)}: more than {MOST} seeds")
        found += range(first, last + 1)
    if twice := sorted({seed for seed in found if found.count(seed) > 1}):
        raise UserError(f"--seeds={short(text)}: {_listed(twice)} stands there twice")
    for override in overrides:
        with contextlib.suppress(configs.ConfigError):  # told when the configuration is made
            if "seed" in yaml_text.parse_override(override):
                raise UserError(
                    f"--params_override={short(override)}: names a seed, but --seeds says the seeds"
                )
    return found


def run(
    model_dir: str,
    seeds: Sequence[int],
    configure: Configure,
    flags: Sequence[str],
    *,
    fresh_start: bool = False,
) -> int:
    """Runs each seed in `<model_dir>/seed<number>`, sums up and returns the exit code.

    One that fails does not keep the others from their turn; the code of the first such is returned.

    Args:
      model_dir: the folder of all.
      seeds: their numbers.
      configure: makes the configuration for a folder and an override.
      flags: of the command, but for --seeds and --model_dir.
      fresh_start: whether they say that each begins again.

    Raises:
      UserError: none of the seeds can be run.
    """
    folder = Path(model_dir)
    if (folder / beforehand.CONFIG_FILE).exists() or checkpoint_files.committed(folder):
        raise UserError(
            f"model_dir: {folder} is the folder of a run; --seeds needs one of its own, in which "
            f"each seed gets a folder {NAME.format('<number>')}"
        )
    ready, codes = _prepared(folder, seeds, configure, fresh_start)
    mode = next(iter(ready.values())).mode
    alone = locks.held(folder / LOCK, "another training of seeds")
    with (
        contextlib.nullcontext() if mode == "eval" else alone,
        signals.stop_requests() as asked_to_stop,
    ):
        for seed, cfg in ready.items():
            if not fresh_start and _is_done(cfg):
                logging.info("seed %d: done before, in %s", seed, cfg.model_dir)
                continue
            logging.info("seed %d of %s: %s", seed, _listed(seeds), cfg.model_dir)
            own = [f"--model_dir={cfg.model_dir}", f"--params_override=seed={seed}"]
            code = _run_one([sys.executable, "-m", "vatt.main", *flags, *own], asked_to_stop)
            if asked_to_stop() or code in (EXIT_PREEMPTED, EXIT_INTERRUPTED):
                logging.warning("stopped at seed %d: the same command continues there", seed)
                return code or EXIT_PREEMPTED
            if code:
                logging.error("seed %d ended with exit code %d", seed, code)
                codes[seed] = code
    if mode != "train":
        _sum_up(folder, seeds, ready)
    if codes:
        logging.error("not done: seed %s; the same command tries again", _listed(codes))
    return next(iter(codes.values()), 0)


def _prepared(
    folder: Path, seeds: Sequence[int], configure: Configure, fresh_start: bool
) -> tuple[dict[int, configs.ExperimentConfig], dict[int, int]]:
    """Returns the configuration of each seed that can be run, and the exit code of the others."""
    ready: dict[int, configs.ExperimentConfig] = {}
    refused: dict[int, UserError] = {}
    for seed in seeds:
        try:
            cfg = configure(str(folder / NAME.format(seed)), f"seed={seed}")
            _check(cfg, fresh_start)
            ready[seed] = cfg
        except UserError as error:
            refused[seed] = error
    if not ready:
        raise refused[seeds[0]]
    for seed, error in refused.items():
        logging.error("seed %d is not run: %s", seed, error)
    return ready, {seed: error.exit_code for seed, error in refused.items()}


def _check(cfg: configs.ExperimentConfig, fresh_start: bool) -> None:
    if cfg.checkpoint_path and cfg.mode == "eval":
        raise UserError(
            "--seeds evaluates the checkpoints of each seed, not one checkpoint for all: leave out "
            "--override_checkpoint"
        )
    if cfg.strategy_config.distribution_strategy.lower() == "multi_worker_mirrored":
        raise UserError(
            "--seeds runs on one machine; with several workers run one command for each seed, with "
            "--params_override=seed=1 and a --model_dir of its own"
        )
    beforehand.check(cfg, fresh_start=fresh_start)


def _is_done(cfg: configs.ExperimentConfig) -> bool:
    """Whether the run of a seed has nothing left to do; one that is not plain has a look itself."""
    folder, final = Path(cfg.model_dir), cfg.train.optimizer.learning_rate.total_steps
    free = ["mode", "model_dir", *(["checkpoint_path"] if cfg.mode == "eval" else [])]
    try:
        before = configs.from_yaml(folder / beforehand.CONFIG_FILE)
        evaluated = cfg.mode == "train" or final in read_json(folder / "evaluated.json")
    except (OSError, ValueError, TypeError, UserError):
        return False
    same = all(line.partition(":")[0] in free for line in configs.diff(before, cfg))
    trained = cfg.mode == "eval" or final in checkpoint_files.committed(folder)
    return same and trained and evaluated


def _run_one(command: Sequence[str], asked_to_stop: Callable[[], bool]) -> int:
    """Returns the exit code of a command, to which a request to stop is passed on."""
    with subprocess.Popen(command) as process:
        told = False
        while process.poll() is None:
            if asked_to_stop() and not told:
                process.send_signal(_STOP)
                told = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
    if process.returncode >= 0:
        return process.returncode
    return EXIT_INTERRUPTED if told else 128 - process.returncode  # told while it was starting


def _sum_up(
    folder: Path, seeds: Sequence[int], runs: Mapping[int, configs.ExperimentConfig]
) -> None:
    """Prints and writes the table; where figures stand apart, as of other sets, it does too."""
    import_tensorflow_quietly()
    from vatt.training import evaluations
    from vatt.training.rundir import RunDir

    places = {seed: folder / NAME.format(seed) for seed in seeds}
    for seed, cfg in runs.items():
        places[seed] = evaluations.place(RunDir(cfg.model_dir), cfg).path
    first = next(iter(runs))
    target = folder / places[first].relative_to(folder / NAME.format(first))
    found = reporting.read(target, places)
    for remark in found.remarks:
        logging.warning("%s", remark)
    there = {
        int(match[1])
        for path in folder.glob(NAME.format("*"))
        if (match := re.fullmatch(NAME.format("([0-9]{1,10})"), path.name))
    }
    if others := sorted(there.difference(seeds)):
        logging.warning("%s also has seed %s, not in this table", folder, _listed(others))
    show(found.table())
    reporting.write(found, page=runs[first].eval.report)


def _listed(seeds: Sequence[int] | Mapping[int, int]) -> str:
    return ", ".join(map(str, seeds))
