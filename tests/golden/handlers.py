"""What recomputes the golden files of a method: the `HANDLERS` of the modules of its folder.

Several modules may compare parts of one file: those that name it by the same pattern are run one
after another.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence

from tests.golden.checks import Checks, Golden

Handler = Callable[[Golden], Checks]


def collected(package: str, path: Iterable[str]) -> dict[str, Handler]:
    """Returns the handlers of all modules of a package by pattern of the files they take."""
    found: dict[str, list[Handler]] = {}
    for module in pkgutil.iter_modules(path):
        own = getattr(importlib.import_module(f"{package}.{module.name}"), "HANDLERS", {})
        for pattern, handler in own.items():
            found.setdefault(pattern, []).append(handler)
    return {pattern: _one_after_another(handlers) for pattern, handlers in found.items()}


def _one_after_another(handlers: Sequence[Handler]) -> Handler:
    def run(content: Golden) -> Checks:
        for handler in handlers:
            yield from handler(content)

    return run
