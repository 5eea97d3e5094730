"""What can be wrong in a configuration, and the error that lists all of it at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vatt.errors import UserError, short


@dataclasses.dataclass(frozen=True)
class Problem:
    """One refused value: its dotted path, what it is, what is accepted, a suggestion."""

    path: str
    value: Any
    accepted: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{short(self.path, 200)} = {short(repr(self.value))}: {self.accepted}.{self.hint}"


Problems = Iterator[Problem]


class ConfigError(UserError):
    """A configuration that was refused; `problems` holds every reason."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems: Sequence[Problem] = tuple(problems)
        count = len(self.problems)
        heading = "a problem" if count == 1 else f"{count} problems"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{heading} in the configuration:{lines}")


def divides(path: str, value: int, divisor: int, what: str) -> Problems:
    """Yields a problem when `value` is no multiple of `divisor`, with the nearest that are."""
    if value % divisor:
        below, above = value // divisor * divisor, (value // divisor + 1) * divisor
        near = f"{below} or {above}" if below else f"{above}"
        yield Problem(path, value, f"expected a multiple of {divisor}, {what}", f" Try {near}.")
