"""How many graphs TensorFlow still has after something was traced and let go."""

from __future__ import annotations

import gc
from collections.abc import Callable


def graphs_left_by(trace: Callable[[], object]) -> int:
    """Returns how many more graphs there are after a call than before."""
    before = _graphs()
    trace()
    return _graphs() - before


def _graphs() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())
