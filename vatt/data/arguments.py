"""Numbers on command lines, as `type` of an argument: refused with what is accepted.

parser.add_argument("--workers", type=whole(1, MOST_WORKERS))
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from vatt.errors import short

MOST_WORKERS = 1024


def whole(low: int, high: int) -> Callable[[str], int]:
    """Returns what reads a whole number from `low` to `high`."""

    def number(text: str) -> int:
        if not text.isdecimal() or len(text) > 20 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"{short(text)} is not a whole number from {low} to {high}"
            )
        return int(text)

    return number


def real(low: float, high: float) -> Callable[[str], float]:
    """Returns what reads a number from `low` to `high`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{short(text)} is not a number from {low} to {high}")
        return value

    return number
