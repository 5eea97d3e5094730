"""Golden numbers of the published Everything-at-Once code: what recomputes each of its files.

Modules here bring the `HANDLERS` of their files. Several of them may compare parts of one file:
those that name it by the same pattern are run one after another.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence

from tests.golden.checks import Checks, Golden

Handler = Callable[[Golden], Checks]


def _one_after_another(handlers: Sequence[Handler]) -> Handler:
    def run(content: Golden) -> Checks:
        for handler in handlers:
            yield from handler(content)

    return run


def _handlers() -> dict[str, Handler]:
    found: dict[str, list[Handler]] = {}
    for module in pkgutil.iter_modules(__path__):
        own = getattr(importlib.import_module(f"{__name__}.{module.name}"), "HANDLERS", {})
        for pattern, handler in own.items():
            found.setdefault(pattern, []).append(handler)
    return {pattern: _one_after_another(handlers) for pattern, handlers in found.items()}


HANDLERS = _handlers()
INPUTS = ("tiny_howto/*",)
