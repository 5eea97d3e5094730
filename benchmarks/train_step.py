"""Measures a training step by itself: its time and the memory it takes, for several configurations.

    python benchmarks/train_step.py --data_dir runs/toy_corpus/records [--compare methods] \
        [--rounds 7] [--steps 8] [--torch_python PYTHON]

The steps are those of training (towers, losses, gradients, clipping, optimizer) on one batch that
is there already, so that reading data does not count. Each configuration has a process of its own;
they take turns. MFU is the share of what plain matrix products reach on the machine, in the
precision of the case. Compiling is what the first step takes beyond the others. With `--memory` the
table has what the process has at the peak of a step beyond what it has between steps. What is freed
is given back at once then, for which oneDNN with its pools of memory is left out (Linux only).

`vit_base` compares with the plain formulation (`plain_formulation.py`) and, where an interpreter
that has PyTorch is named, with PyTorch (`compare_torch.py`).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
TOY = f"--config_file={CONFIGS / 'pretrain/toy.yaml'}"
BACKBONE = "model_config.backbone_config"
BFLOAT16 = "--params_override=precision=mixed_bfloat16"


def override(value: str) -> str:
    """Returns the flag for a change of the configuration."""
    return f"--params_override={value}"


def drop_tokens(share: float) -> list[str]:
    """Flags for a share of video and audio tokens that is dropped."""
    kept = f"{{patch_sampling_rate: {1 - share}}}"
    towers = (f"{BACKBONE}.{tower}_model_kwargs={kept}" for tower in ("video", "audio"))
    return [TOY, "--model_arch=tx_fac_tiny", *map(override, towers)]


def hypothesis(number: int) -> list[str]:
    """Flags for GDT with a set of transformations."""
    config = f"--config_file={CONFIGS / 'pretrain/gdt_toy.yaml'}"
    return [config, override(f"model_config.hypothesis={number}")]


def classifier(batch: int, *more: str) -> list[str]:
    """Flags for `vit_base` on clips of 32x224x224, classified, with Adam."""
    config = f"--config_file={CONFIGS / 'finetune/toy_actions.yaml'}"
    clip = f"frame_size: 224, min_resize: 224, num_frames: 32, batch_size: {batch}"
    return ["--task=finetune", config, "--model_arch=vit_base",
            override(f"train.input={{{clip}}}"), *more]  # fmt: skip


def vit_base(batch: int) -> dict[str, list[str]]:
    """The cases of `vit_base` at a batch size."""
    return {
        "plain, float32": classifier(batch, "--plain"),
        "ours, float32": classifier(batch),
        "ours, float32, remat": classifier(batch, override("train.remat=true")),
        "plain, mixed_bfloat16": classifier(batch, "--plain", BFLOAT16),
        "ours, mixed_bfloat16": classifier(batch, BFLOAT16),
        **{
            f"PyTorch, {how}, {precision}": ["torch", how, precision, str(batch)]
            for precision in ("float32", "bfloat16")
            for how in ("eager", "compiled")
        },
    }


def three_towers(*more: str) -> list[str]:
    """Flags for `tx_fac_bbs` (video, sound and text) on 8 clips of 32x112x112, with Adam."""
    clip = "train.input={frame_size: 112, min_resize: 112, num_frames: 32, batch_size: 8}"
    return [TOY, "--model_arch=tx_fac_bbs", override("train.optimizer.name=Adam"),
            override(clip), *more]  # fmt: skip


# The first of each is what the others are divided by.
CASES = {
    "drop_token": {
        **{
            f"tx_fac_tiny, DropToken {share:.0%}": drop_tokens(share)
            for share in (0, 0.25, 0.5, 0.75)
        },
        "tx_fac_tiny, DropToken 50%, Adam": [
            *drop_tokens(0.5),
            override("train.optimizer.name=Adam"),
        ],
        "ut_fac_tiny, DropToken 50%": [TOY, "--model_arch=ut_fac_tiny"],
    },
    "memory": {
        "tx_fac_tiny": [TOY],
        "remat": [TOY, override("train.remat=true")],
        "2 micro-batches": [TOY, override("train.micro_batches=2")],
        "4 clips": [TOY, override("train.input.batch_size=4")],
        "8 micro-batches": [TOY, override("train.micro_batches=8")],
        "8 micro-batches, remat": [TOY, override("train.micro_batches=8,train.remat=true")],
    },
    "micro_batches": {
        "tx_fac_bbs": three_towers(),
        "8 micro-batches": three_towers(override("train.micro_batches=8")),
    },
    "toy": {
        "toy.yaml, plain formulation": [TOY, "--plain"],
        "toy.yaml": [TOY],
        "toy.yaml, towers under XLA": [TOY, override("jit_compile=true")],
        "toy.yaml, mixed_bfloat16": [TOY, BFLOAT16],
    },
    "methods": {
        "VATT (tx_fac_tiny)": [TOY, "--model_arch=tx_fac_tiny"],
        "MMV (mmv_fac_tiny)": [TOY, "--model_arch=mmv_fac_tiny"],
        **{f"GDT, hypothesis {number}": hypothesis(number) for number in (1, 5, 9)},
        "STiCA": [f"--config_file={CONFIGS / 'pretrain/stica_toy.yaml'}"],
    },
    "vit_base": vit_base(1),
    "vit_base_4": vit_base(4),
}


def main() -> None:
    """Runs the cases in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--compare", choices=CASES, default="drop_token")
    parser.add_argument("--only", help="cases whose names hold one of these, with | between")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="in a round")
    parser.add_argument("--memory", action="store_true", help="measure memory, not time")
    parser.add_argument("--torch_python", help="interpreter that has PyTorch; none: without it")
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        _work(arguments)
        return
    cases = {
        name: flags
        for name, flags in CASES[arguments.compare].items()
        if (flags[0] != "torch" or arguments.torch_python)
        and (not arguments.only or any(part in name for part in arguments.only.split("|")))
    }
    if arguments.memory:
        os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "TF_ENABLE_ONEDNN_OPTS": "0"}
    workers, about = {}, {}
    for name, flags in cases.items():
        workers[name] = subprocess.Popen(
            _command(arguments, flags), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        about[name] = _answer(workers[name])  # set up and traced, before the next one begins
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            rounds[name].append(_answer(worker))
    for name, worker in workers.items():
        worker.stdin.close()
        about[name] |= _answer(worker)
    if arguments.memory:
        print("| model | memory of a step | ratio |\n|---|---|---|")
        base = about[next(iter(cases))]["mib"]
        for name, row in about.items():
            print(f"| {name} | {row['mib']:.0f} MiB | {row['mib'] / base:.2f} |")
        return
    print("| model | ms per step | ratio | CPU ms | clips/s | GFLOP/s | MFU | compiling |")
    print("|---|---|---|---|---|---|---|---|")
    base = None
    for name, row in about.items():
        times = [found["ms"] for found in rounds[name]]
        cpu = statistics.median(found["cpu_ms"] for found in rounds[name])
        median = statistics.median(times)
        base = base or median
        speed = row["flops"] / median * 1e-6
        share = f"{1e9 * speed / row['peak']:.0%}" if row.get("peak") else "-"
        print(
            f"| {name} | {median:.0f} ({min(times):.0f}-{max(times):.0f}) | {median / base:.2f} | "
            f"{cpu:.0f} | {1000 * row['clips'] / median:.3g} | {speed:.0f} | {share} | "
            f"{(row['first_ms'] - median) / 1000:.1f} s |"
        )


def _command(arguments: argparse.Namespace, flags: list[str]) -> list[str]:
    if flags[0] == "torch":
        script = str(Path(__file__).with_name("compare_torch.py"))
        return [arguments.torch_python, script, *flags[1:], str(arguments.steps)]
    command = [sys.executable, __file__, "--data_dir", arguments.data_dir]
    return [*command, "--steps", str(arguments.steps), "--worker", *flags]


def _answer(worker: subprocess.Popen) -> dict[str, float]:
    line = worker.stdout.readline()
    if not line:
        sys.exit("a worker has failed, see above")
    return json.loads(line)


def serve(run: object, steps: int, about: dict[str, float]) -> None:
    """Runs one step, says what it is `about`, then answers each line of input with times.

    Args:
      run: function of a number of steps.
      steps: in a round.
      about: operations (`flops`) and `clips` of a step, `peak` operations per second.
    """
    started = time.perf_counter()
    run(1)
    first = 1000 * (time.perf_counter() - started)
    run(1)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _mib("VmRSS")
    print(json.dumps(about | {"first_ms": first}), flush=True)
    for _ in sys.stdin:
        started, cpu = time.perf_counter(), time.process_time()
        run(steps)
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(json.dumps({"ms": 1000 * wall / steps, "cpu_ms": 1000 * cpu / steps}), flush=True)
    print(json.dumps({"mib": _mib("VmHWM") - before}), flush=True)


def _mib(name: str) -> float:
    """MiB of memory as Linux counts them: `VmRSS` now, `VmHWM` at the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def _work(arguments: argparse.Namespace) -> None:
    """One configuration of this package."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    sys.path.insert(0, str(ROOT))
    import tensorflow as tf

    from vatt import configs
    from vatt.experiments.finetune import FinetuneRecipe
    from vatt.experiments.pretrain import PretrainRecipe
    from vatt.training import throughput
    from vatt.training.trainer import Trainer

    flags = argparse.ArgumentParser()
    flags.add_argument("--task", default="pretrain")
    flags.add_argument("--config_file")
    flags.add_argument("--model_arch")
    flags.add_argument("--params_override", action="append")
    flags.add_argument("--plain", action="store_true")
    given = vars(flags.parse_args(arguments.worker))
    if given.pop("plain"):
        import plain_formulation

        plain_formulation.install()
    cfg = configs.resolve(mode="train", data_dir=arguments.data_dir, model_dir="unused", **given)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    recipe = (PretrainRecipe if cfg.task.lower() == "pretrain" else FinetuneRecipe)(cfg, strategy)
    batch = next(iter(recipe.batches(0, (0, 1))))
    recipe.batches = lambda step, worker: tf.data.Dataset.from_tensors(batch).repeat()
    trainer = Trainer(recipe, cfg.train, strategy, cfg.seed)
    trainer.start(0)
    about = {"flops": recipe.flops_per_step, "clips": cfg.train.input.batch_size}
    about["peak"] = throughput.matmul_peak(strategy, cfg.precision)
    serve(trainer.run, arguments.steps, about)


if __name__ == "__main__":
    main()
