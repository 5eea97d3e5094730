"""Which worker of several this process is: what TF_CONFIG says, checked.

    {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}

Worker 0 is the chief, or the task `chief` where the cluster has one. TensorFlow reads the same
variable itself, and says less about what is wrong with it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from vatt.errors import UserError
from vatt.files import parse_json

VARIABLE = "TF_CONFIG"
_JOBS = ("chief", "worker")  # tasks that train, in the order in which TensorFlow counts them
_EVALUATOR = "evaluator"  # a task beside the cluster, with mode eval only


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

    def not_answering(self) -> list[str]:
        """Names of the workers to whose address nothing connects, the others' if all answer."""
        others = [i for i in range(len(self.addresses)) if i != self.index]
        silent = [i for i in others if not _answers(self.addresses[i])]
        return [self.name(i) for i in silent or others]


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


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
        jobs, task = content.get("cluster") or {}, content.get("task") or {}
        kind, place = task.get("type"), task.get("index", 0)
        addresses = [address for job in _JOBS for address in jobs.get(job, ())]
        whole = all(re.fullmatch(r"\S+:\d{1,5}", address) for address in addresses)
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


def _refused(why: str) -> UserError:
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", '
    return UserError(f'{VARIABLE}: {why}. It looks like {example}"index": 0}}}}')
