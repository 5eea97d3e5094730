"""Names of evaluators: what `eval.evaluators` accepts. What they do stands in `vatt.evaluators`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vatt.configs.experiment import EvalConfig
from vatt.errors import UserError, nearest

PRETRAIN, FINETUNE = "Pretrain", "Finetune"  # `task` of a configuration
PROBES = ("linear", "knn", "published_probe")
ZERO_SHOT, PROJECTIONS = "zero_shot", "projections"
RECONSTRUCTIONS = "reconstructions"


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
    RECONSTRUCTIONS: Registered("vatt.evaluators.reconstructions:evaluate", PRETRAIN),
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


def chosen(cfg: EvalConfig, defaults: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the evaluators that a configuration asks for.

    Args:
      cfg: `evaluators` says it all. Where it is None, those of the method count, with the probes of
        `probes` in the place of the method's, with `zero_shot` or not as that says, and, for the
        report, with projections of the features that they are made from.
      defaults: those of the method.
    """
    if cfg.evaluators is not None:
        return tuple(dict.fromkeys(cfg.evaluators))
    names: list[str] = []
    for name in defaults:
        names += [name] if cfg.probes is None or name not in PROBES else cfg.probes
    if not cfg.zero_shot:
        names = [name for name in names if name != ZERO_SHOT]
    if not cfg.report:  # there is nothing to measure
        names = [name for name in names if name != RECONSTRUCTIONS]
    if cfg.report and {*PROBES, ZERO_SHOT}.intersection(defaults):
        names.append(PROJECTIONS)
    return tuple(dict.fromkeys(names))
