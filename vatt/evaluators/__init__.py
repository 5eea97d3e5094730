"""What is run on a checkpoint: small functions, by name, that yield measures.

    for name in evaluators.chosen(cfg.eval, method.evaluators):
        for measure in evaluators.named(name)(subject):
            ...

An evaluator is a function of a `subject.Subject`: the sets to read, the folder of the run, and the
model as functions of batches, so that it knows no method. It evaluates every set whose card offers
what it needs, writes what the report shows beside the figures, and yields `Measure`s. A module from
elsewhere, named in `--import`, brings its own:

    evaluators.register("reconstruction", "my_package.reconstruction:evaluate")

and `eval.evaluators` (or a method's `evaluators`) names it. Importing this module is cheap.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from vatt.configs.evaluators import lookup, register

if TYPE_CHECKING:
    from vatt import configs
    from vatt.evaluation.measures import Measure
    from vatt.evaluators.subject import Subject

__all__ = ["PROBES", "chosen", "named", "register"]

PROBES = ("linear", "knn", "published_probe")
ZERO_SHOT, PROJECTIONS = "zero_shot", "projections"


def named(name: str) -> Callable[[Subject], Iterable[Measure]]:
    """Returns an evaluator by name.

    Raises:
      UserError: there is none of that name.
    """
    module, function = lookup(name).function.split(":")
    return getattr(importlib.import_module(module), function)


def chosen(cfg: configs.experiment.EvalConfig, defaults: Sequence[str]) -> tuple[str, ...]:
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
    if cfg.report and {*PROBES, ZERO_SHOT}.intersection(defaults):
        names.append(PROJECTIONS)
    return tuple(dict.fromkeys(names))
