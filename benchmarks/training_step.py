"""Measures a training step by itself: its time and the memory it takes, for several configurations.

    python benchmarks/training_step.py --data_dir runs/toy_corpus/records [--compare methods] \
        [--rounds 7] [--steps 8]

The steps are those of training (towers, losses, gradients, clipping, optimizer) on one batch that
is there already, so that reading data does not count. Each configuration has a process of its own;
they take turns. Memory is what a process has at its peak beyond what it had before its first step.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs/pretrain"
BACKBONE = "model_config.backbone_config"


def drop_tokens(share: float) -> list[str]:
    """Flags for a share of video and audio tokens that is dropped."""
    kept = f"{{patch_sampling_rate: {1 - share}}}"
    towers = (f"{BACKBONE}.{tower}_model_kwargs={kept}" for tower in ("video", "audio"))
    return ["--model_arch=tx_fac_tiny", *(f"--params_override={tower}" for tower in towers)]


def hypothesis(number: int) -> list[str]:
    """Flags for GDT with a set of transformations."""
    config = f"--config_file={CONFIGS / 'gdt_toy.yaml'}"
    return [config, f"--params_override=model_config.hypothesis={number}"]


# The first of each is what the others are divided by.
CASES = {
    "drop_token": {
        **{
            f"tx_fac_tiny, DropToken {share:.0%}": drop_tokens(share)
            for share in (0, 0.25, 0.5, 0.75)
        },
        "tx_fac_tiny, DropToken 50%, Adam": [
            *drop_tokens(0.5),
            "--params_override=train.optimizer.name=Adam",
        ],
        "ut_fac_tiny, DropToken 50%": ["--model_arch=ut_fac_tiny"],
    },
    "memory": {
        "tx_fac_tiny": [],
        "remat": ["--params_override=train.remat=true"],
        "2 micro-batches": ["--params_override=train.micro_batches=2"],
        "8 micro-batches": ["--params_override=train.micro_batches=8"],
        "8 micro-batches, remat": ["--params_override=train.micro_batches=8,train.remat=true"],
    },
    "methods": {
        "VATT (tx_fac_tiny)": ["--model_arch=tx_fac_tiny"],
        "MMV (mmv_fac_tiny)": ["--model_arch=mmv_fac_tiny"],
        **{f"GDT, hypothesis {number}": hypothesis(number) for number in (1, 5, 9)},
        "STiCA": [f"--config_file={CONFIGS / 'stica_toy.yaml'}"],
    },
}


def main() -> None:
    """Runs the cases in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--compare", choices=CASES, default="drop_token")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="in a round")
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        _work(arguments)
        return
    workers = {}
    cases = CASES[arguments.compare]
    for name, flags in cases.items():
        command = [sys.executable, __file__, "--data_dir", arguments.data_dir]
        command += ["--steps", str(arguments.steps)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers[name] = subprocess.Popen([*command, "--worker", *flags], **pipes)
        _answer(workers[name])  # set up and traced, before the next one begins
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            times[name].append(float(_answer(worker)))
    medians = {name: statistics.median(found) for name, found in times.items()}
    base = medians[next(iter(cases))]
    print("| model | ms per step | ratio | peak memory of a step |\n|---|---|---|---|")
    for name, worker in workers.items():
        worker.stdin.close()
        memory = float(_answer(worker))
        spread = f"{min(times[name]):.0f} - {max(times[name]):.0f}"
        share = medians[name] / base
        print(f"| {name} | {medians[name]:.0f} ({spread}) | {share:.2f} | {memory:.0f} MiB |")


def _answer(worker: subprocess.Popen) -> str:
    line = worker.stdout.readline()
    if not line:
        sys.exit("a worker has failed, see above")
    return line


def _work(arguments: argparse.Namespace) -> None:
    """One configuration: answers each line of input with the milliseconds of a step."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    sys.path.insert(0, str(ROOT))
    import tensorflow as tf

    from vatt import configs
    from vatt.experiments.pretrain import PretrainRecipe
    from vatt.training.trainer import Trainer

    flags = argparse.ArgumentParser()
    flags.add_argument("--config_file", default=str(CONFIGS / "toy.yaml"))
    flags.add_argument("--model_arch")
    flags.add_argument("--params_override", action="append")
    cfg = configs.resolve(
        task="pretrain",
        mode="train",
        data_dir=arguments.data_dir,
        model_dir="unused",
        **vars(flags.parse_args(arguments.worker)),
    )
    strategy = tf.distribute.get_strategy()
    recipe = PretrainRecipe(cfg, strategy)
    batch = next(iter(recipe.batches(0, (0, 1))))
    recipe.batches = lambda step, worker: tf.data.Dataset.from_tensors(batch).repeat()
    trainer = Trainer(recipe, cfg.train, strategy, cfg.seed)
    trainer.start(0)
    before = _resident()
    trainer.run(2)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        trainer.run(arguments.steps)
        print(1000 * (time.perf_counter() - started) / arguments.steps, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(peak - before, flush=True)


def _resident() -> float:
    """MiB this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
