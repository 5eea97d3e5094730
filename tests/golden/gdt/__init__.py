"""Golden numbers of the published GDT and STiCA code: what recomputes each of its files.

Every module here brings the `HANDLERS` of its files.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.golden.checks import Checks, Golden
from tests.golden.gdt import checkpoints

MODULES = (checkpoints,)
HANDLERS: dict[str, Callable[[Golden], Checks]] = {
    pattern: handler for module in MODULES for pattern, handler in module.HANDLERS.items()
}
INPUTS = ("state_dict_shapes.json",)
