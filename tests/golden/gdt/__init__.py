"""Golden numbers of the published GDT and STiCA code: what recomputes each of its files."""

from __future__ import annotations

from tests.golden.handlers import collected

HANDLERS = collected(__name__, __path__)
INPUTS = ("state_dict_shapes.json",)
