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
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vatt.configs.evaluators import PROBES, chosen, lookup, register

if TYPE_CHECKING:
    from vatt.evaluation.measures import Measure
    from vatt.evaluators.subject import Subject

__all__ = ["PROBES", "chosen", "named", "register"]


def named(name: str) -> Callable[[Subject], Iterable[Measure]]:
    """Returns an evaluator by name.

    Raises:
      UserError: there is none of that name.
    """
    module, function = lookup(name).function.split(":")
    return getattr(importlib.import_module(module), function)
