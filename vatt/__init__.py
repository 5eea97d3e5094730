"""VATT: Transformers that learn from raw video, audio and text without labels.

model = vatt.load("runs/toy")       # docs/embedding.md
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]

_LAZY = {"load": "vatt.api"}  # by name, the module that has it: importing vatt stays quick


def __getattr__(name: str) -> Any:
    """Returns what is imported when it is asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names that are there, and those to be imported."""
    return sorted([*globals(), *_LAZY])
