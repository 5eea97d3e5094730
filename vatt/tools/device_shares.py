"""Cores and GPUs of this machine, shared out among processes.

shares, told = shared(workers=2, beside=True)
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vatt.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ASK = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
_ANSWER_S = 30.0

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """What a process may use.

    Attributes:
      cores: numbers of cores; none where all processes have all.
      gpus: as in CUDA_VISIBLE_DEVICES; none of them hides the GPUs.
    """

    cores: Sequence[int] = ()
    gpus: Sequence[str] = ()


def shared(workers: int, beside: bool = False) -> tuple[list[Share], str]:
    """Shares out the cores and GPUs that this process may use.

    Args:
      workers: train together, each with as many GPUs as the others.
      beside: one more process, the last: of the cores it has as many, of the GPUs one that is left.

    Returns:
      What each has, and a line that says so.

    Raises:
      UserError: fewer GPUs than workers.
    """
    found, count = gpus(), workers + beside
    each = len(found) // workers
    if found and not each:
        raise UserError(
            f"--num_workers={workers}: each worker needs a GPU of its own, and {_number(found)} "
            f"can be seen; accepted: at most {len(found)}, or {VISIBLE}= to train on the cores"
        )
    of_workers = [found[i * each : (i + 1) * each] for i in range(workers)]
    left = found[workers * each :]
    own = [*of_workers, *([left[:1]] if beside else ())]
    available = cores()
    parts = even_parts(available, count) if len(available) >= count else [()] * count
    shares = [Share(part, visible) for part, visible in zip(parts, own, strict=True)]
    return shares, _told(shares, workers, len(available), left[1:] if beside else left)


def cores() -> list[int]:
    """Returns the cores that this process may use; none where the system does not say which."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return []


def gpus() -> list[str]:
    """Returns the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(VISIBLE)
    if named is None:
        try:
            asked = subprocess.run(_ASK, capture_output=True, text=True, timeout=_ANSWER_S)
        except (OSError, subprocess.TimeoutExpired):
            return []
        return asked.stdout.split() if asked.returncode == 0 else []
    found = []
    for name in map(str.strip, named.split(",")):
        if name in ("", "-1", "NoDevFiles"):  # what follows is not seen
            break
        found.append(name)
    return found


def even_parts(items: Sequence[Item], count: int) -> list[Sequence[Item]]:
    """Cuts a sequence; where it does not go evenly, the first parts have one more."""
    size, more = divmod(len(items), count)
    ends = [i * size + min(i, more) for i in range(count + 1)]
    return [items[start:end] for start, end in itertools.pairwise(ends)]


def _told(shares: Sequence[Share], workers: int, available: int, unused: Sequence[str]) -> str:
    first, last = shares[0], shares[workers - 1]
    of_cores = f"{len(last.cores)}"
    if len(first.cores) > len(last.cores):
        of_cores += f" or {len(first.cores)}"
    if not first.cores:
        given = f"all on the same {available} cores" if available else "all on the same cores"
    else:
        given = f"{of_cores} {'core' if of_cores == '1' else 'cores'} each"
    told = f"{workers} {'worker' if workers == 1 else 'workers'}, {given}, "
    told += f"{_number(first.gpus)} each" if first.gpus else "no GPU"
    if len(shares) > workers:
        beside = shares[-1]
        told += f"; evaluation with {len(beside.cores) or 'the same'} cores and "
        told += _number(beside.gpus) if beside.gpus else "no GPU"
    return told + (f"; not used: {_number(unused)}" if unused else "")


def _number(found: Sequence[str]) -> str:
    return f"{len(found)} {'GPU' if len(found) == 1 else 'GPUs'}"
