r"""Trains with several workers on this machine, by one command.

    python -m vatt.tools.launch --num_workers=2 -- --config_file=configs/pretrain/toy.yaml \
        --model_dir=runs/toy --data_dir=runs/toy_corpus/records

Each worker is `python -m vatt.main` with the flags after `--`, TF_CONFIG and its share of the
cores and GPUs. When one fails, all end, with its error and its exit code; a signal saves once and
ends all with 42. The same command continues. See docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from vatt import configs
from vatt import main as vatt_main
from vatt.configs import yaml_text
from vatt.data.arguments import whole
from vatt.ended import ended
from vatt.errors import UserError, short
from vatt.experiments import beforehand
from vatt.tools import device_shares, worker_processes
from vatt.tools.device_shares import Share
from vatt.tools.worker_processes import Program
from vatt.training.cluster import SEVERAL, VARIABLE

PROGRAM = (sys.executable, "-m", "vatt.main")
EVAL = "eval"  # the process beside the workers
MOST = 256  # workers of one machine
# What is trained from is not what is to be evaluated, and a run that begins has no checkpoint yet.
_OF_EVAL = (
    "--mode=eval",
    "--strategy_type=one_device",
    "--override_checkpoint=",
    "--params_override=eval.wait_for_run=true,strategy_config.num_devices=null",
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line; `flags` are those of vatt.main."""
    given = list(sys.argv[1:] if argv is None else argv)
    cut = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(
        prog="vatt launch",
        usage="vatt launch --num_workers=N [--eval] -- FLAGS OF vatt.main",
        description=__doc__.split("\n")[0],
        epilog="docs/scaling.md says more.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--num_workers", type=whole(1, MOST), required=True, metavar="N", help="processes")
    add("--eval", action="store_true", help="one more evaluates the checkpoints as they come")
    arguments, unknown = parser.parse_known_args(given[:cut])
    if unknown:
        parser.error(f"unexpected {unknown[0]}: the flags of vatt.main follow --")
    arguments.flags = given[cut + 1 :]
    if not arguments.flags:
        parser.error(
            "nothing follows --: expected the flags of vatt.main, such as "
            "-- --config_file=configs/pretrain/toy.yaml --model_dir=runs/mine"
        )
    return arguments


def _run(arguments: argparse.Namespace, program: Sequence[str]) -> int:
    flags = _checked(arguments.flags, arguments.num_workers, arguments.eval)
    shares, told = device_shares.shared(arguments.num_workers, arguments.eval)
    worker_processes.say(told)
    with ExitStack() as stack:
        addresses = [_reserved(stack) for _ in range(arguments.num_workers)]
        workers = [
            Program(
                str(index),
                [*program, *flags],
                _environment(shares, share) | {VARIABLE: _cluster(addresses, index)},
                share.cores,
            )
            for index, share in enumerate(shares[: len(addresses)])
        ]
        beside = None
        if arguments.eval:
            environment = _environment(shares, shares[-1])
            beside = Program(EVAL, [*program, *flags, *_OF_EVAL], environment, shares[-1].cores)
        return worker_processes.run(workers, beside)


def _checked(flags: Sequence[str], count: int, evaluate: bool) -> list[str]:
    """Returns the flags of workers, once all that can be seen beforehand has been checked.

    Raises:
      UserError: what cannot be run by several workers.
    """
    given = vatt_main.FLAGS
    if os.environ.get(VARIABLE, "").strip():
        raise UserError(
            f"{VARIABLE} is set, but vatt launch makes one for each worker of this machine; start "
            "vatt.main once on each where there are several machines"
        )
    vatt_main.read_flags(["vatt", *flags])
    for name in ("seeds", "folds"):
        if given[name].value is not None:
            raise UserError(
                f"--{name}={given[name].value}: not for several workers; launch once for each of "
                "the seeds or folds, with a --model_dir of its own"
            )
    if given.strategy_type is None:
        flags = [*flags, f"--strategy_type={SEVERAL}"]
    elif given.strategy_type.lower() != SEVERAL:
        raise _contradicts(f"--strategy_type={given.strategy_type}")
    _check_overrides(given.params_override)
    vatt_main.read_flags(["vatt", *flags])
    config = vatt_main.configured()
    _check_mode(config.mode, evaluate)
    configs.check_batch(config, count)
    beforehand.check(config, fresh_start=given.fresh_start)
    if evaluate:
        if given.fresh_start:
            raise UserError(
                "--fresh_start: not with --eval, which would find the earlier run; leave one out"
            )
        vatt_main.read_flags(["vatt", *flags, *_OF_EVAL])
        beforehand.check(vatt_main.configured())
    return list(flags)


def _check_overrides(overrides: Sequence[str]) -> None:
    for override in overrides:
        try:
            section = yaml_text.parse_override(override).get("strategy_config")
        except configs.ConfigError:
            continue  # told when the configuration is made
        named = section.get("distribution_strategy") if isinstance(section, Mapping) else None
        if named is not None and str(named).lower() != SEVERAL:
            raise _contradicts(f"--params_override={short(override)}")


def _contradicts(flag: str) -> UserError:
    return UserError(f"{flag}: vatt launch trains with {SEVERAL}; leave the strategy out")


def _check_mode(mode: str, evaluate: bool) -> None:
    if mode == "eval":
        raise UserError(
            "mode: 'eval' is the work of one process (vatt eval); accepted: train, train_and_eval"
        )
    if evaluate and mode != "train":
        raise UserError(
            f"mode: '{mode}' already evaluates; with --eval accepted: train. Leave --eval out, or "
            "pass --mode=train"
        )


def _reserved(stack: ExitStack) -> str:
    """Returns an address of this machine that nothing else is given while `stack` is open.

    A port that is bound, but not listened at, can be listened at by the worker.
    """
    place = stack.enter_context(socket.socket())
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{place.getsockname()[1]}"


def _cluster(addresses: Sequence[str], index: int) -> str:
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": task})


def _environment(shares: Sequence[Share], share: Share) -> dict[str, str]:
    """Returns the variables that give a process its GPUs, where there are any."""
    if not any(one.gpus for one in shares):
        return {}
    return {device_shares.VISIBLE: ",".join(share.gpus) or "-1"}


def main(argv: Sequence[str] | None = None, program: Sequence[str] = PROGRAM) -> int:
    """Runs the command line and returns the exit code; `program` is what takes the flags."""
    return ended(lambda: _run(parse_arguments(argv), program), "stopped before a worker started")


if __name__ == "__main__":
    sys.exit(main())
