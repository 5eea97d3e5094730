"""Which worker of several this process is: what TF_CONFIG says, checked.

    {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}

Worker 0 is the chief, or the task `chief` where the cluster has one. TensorFlow reads the same
variable itself, and says less about what is wrong with it.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vatt.errors import UserError, WorkerError
from vatt.files import parse_json

VARIABLE = "TF_CONFIG"
SEVERAL = "multi_worker_mirrored"  # the strategy of several workers
_JOBS = ("chief", "worker")  # tasks that train, in the order in which TensorFlow counts them
_EVALUATOR = "evaluator"  # a task beside the cluster, with mode eval only
_LOOK_S, _TELL_S = 0.5, 30.0  # between two looks, and two lines, while others are waited for
_BACKLOG = 1024


@dataclass(frozen=True)
class Cluster:
    """The workers of a run.

    Attributes:
      addresses: `host:port` of each, the chief's first.
      index: of this process; None for an evaluator, which is none of them.
    """

    addresses: Sequence[str]
    index: int | None

    @property
    def me(self) -> str:
        """This worker, for people."""
        return self.name(self.index)

    def name(self, index: int) -> str:
        """A worker, for people."""
        return f"worker {index} of {len(self.addresses)} ({self.addresses[index]})"

    def meet(self, tell: Callable[[str], object]) -> None:
        """Waits until each of the others has answered once; `tell` hears whom it waits for.

        TensorFlow would wait as well, but deaf to signals: it comes when all are there.

        Raises:
          WorkerError: something else listens at the port of this worker.
        """
        try:
            door = _listening(int(self.addresses[self.index].rpartition(":")[2]))
        except OSError as error:
            raise WorkerError(f"{self.me}: cannot listen there ({error.strerror})") from error
        with door:
            waiting = [i for i in range(len(self.addresses)) if i != self.index]
            due = time.monotonic()
            while waiting := [i for i in waiting if not _answers(self.addresses[i])]:
                if time.monotonic() >= due:
                    tell(f"{self.me} waits for {', '.join(map(self.name, waiting))}")
                    due += _TELL_S
                time.sleep(_LOOK_S)


def _listening(port: int) -> socket.socket:
    """Listens where TensorFlow will, on all interfaces."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
        )
    return socket.create_server(("", port), backlog=_BACKLOG)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1) as found:
            return found.getsockname() != found.getpeername()  # a free port may be given to itself
    except OSError:
        return False


def of_environment() -> Cluster | None:
    """Returns what TF_CONFIG says, None where it is not set or names no cluster.

    Raises:
      UserError: it cannot be read, or this process is not in it.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        content = parse_json(text)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object {...}")
        jobs, task = content.get("cluster") or {}, content.get("task") or {}
        kind, place = task.get("type"), task.get("index", 0)
        addresses = [address for job in _JOBS for address in jobs.get(job, ())]
        ports = [re.fullmatch(r"\S+:(\d{1,5})", address) for address in addresses]
        whole = all(port and int(port[1]) < 2**16 for port in ports)
    except (ValueError, AttributeError, TypeError) as error:
        raise _refused(f"cannot be read ({error})") from error
    if not addresses:
        return None
    if not whole or len(set(addresses)) < len(addresses):
        raise _refused(f"the workers are {addresses}; accepted are different addresses host:port")
    if kind == _EVALUATOR:
        return Cluster(addresses, None)
    known = [f"{job} {i}" for job in _JOBS for i in range(len(jobs.get(job, ())))]
    if f"{kind} {place}" not in known:
        raise _refused(f"its task is {kind} {place}, its cluster has {', '.join(known)}")
    return Cluster(addresses, known.index(f"{kind} {place}"))


def of_training(strategy: str) -> Cluster | None:
    """Returns the same for a process that is to train with a strategy of the configuration.

    Raises:
      UserError: see `of_environment`; or TF_CONFIG is set, the strategy needs workers, and it names
        none, or an evaluator.
    """
    members = of_environment()
    if strategy != SEVERAL:
        return members
    if members is None and os.environ.get(VARIABLE, "").strip():
        raise _refused(f"it names no workers, which --strategy_type={SEVERAL} needs")
    if members is not None and members.index is None:
        raise UserError(f"{VARIABLE}: the task `{_EVALUATOR}` trains nothing; it takes --mode=eval")
    return members


def _refused(why: str) -> UserError:
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", '
    return UserError(f'{VARIABLE}: {why}. It looks like {example}"index": 0}}}}')
