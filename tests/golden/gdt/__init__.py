"""Golden numbers of the published GDT and STiCA code: what recomputes each of its files.

Modules here bring the `HANDLERS` of their files.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from tests.golden.checks import Checks, Golden

HANDLERS: dict[str, Callable[[Golden], Checks]] = {
    pattern: handler
    for found in pkgutil.iter_modules(__path__)
    for pattern, handler in getattr(
        importlib.import_module(f"{__name__}.{found.name}"), "HANDLERS", {}
    ).items()
}
INPUTS = ("state_dict_shapes.json",)
