"""Names of evaluators: what `eval.evaluators` accepts. What they do stands in `vatt.evaluators`."""

from __future__ import annotations

from dataclasses import dataclass

from vatt.errors import UserError, nearest

PRETRAIN, FINETUNE = "Pretrain", "Finetune"  # `task` of a configuration


@dataclass(frozen=True)
class Registered:
    """An evaluator.

    Attributes:
      function: "module:function", imported when it is needed; see `vatt.evaluators`.
      task: whose checkpoints it can evaluate.
    """

    function: str
    task: str


EVALUATORS: dict[str, Registered] = {
    "retrieval": Registered("vatt.evaluators.retrieval:evaluate", PRETRAIN),
    "linear": Registered("vatt.evaluators.probes:linear", PRETRAIN),
    "knn": Registered("vatt.evaluators.probes:knn", PRETRAIN),
    "published_probe": Registered("vatt.evaluators.probes:published_probe", PRETRAIN),
    "zero_shot": Registered("vatt.evaluators.zero_shot:evaluate", PRETRAIN),
    "projections": Registered("vatt.evaluators.projections:evaluate", PRETRAIN),
    "classification": Registered("vatt.evaluators.classification:evaluate", FINETUNE),
}


def register(name: str, function: str, task: str = PRETRAIN) -> None:
    """Makes an evaluator known.

    Args:
      name: what `eval.evaluators` says.
      function: "module:function", see `vatt.evaluators`.
      task: whose checkpoints it can evaluate.

    Raises:
      ValueError: another evaluator has that name.
    """
    made = Registered(function, task)
    if EVALUATORS.setdefault(name, made) != made:
        raise ValueError(
            f"evaluator {name!r} of {function}: that name is taken by {EVALUATORS[name].function}"
        )


def of_task(task: str) -> list[str]:
    """Returns the names of the evaluators of a task."""
    return [name for name, evaluator in EVALUATORS.items() if evaluator.task == task]


def lookup(name: str) -> Registered:
    """Returns an evaluator by name.

    Raises:
      UserError: there is none of that name.
    """
    if name not in EVALUATORS:
        known = ", ".join(EVALUATORS)
        raise UserError(
            f"evaluator {name!r} is not known; known are {known}.{nearest(name, EVALUATORS)}"
        )
    return EVALUATORS[name]
