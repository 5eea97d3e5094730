"""What is noticed while something is made, and put right or kept as it is: told, never silent.

    notices = Notices()
    notices.add("captions beyond the end of the file, left out", "talk.vtt: 3 of 40")

The kind is a sentence that is the same wherever it happens, so that it can be counted; what
differs from file to file stands in the detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Notice(NamedTuple):
    """One thing noticed."""

    kind: str
    detail: str = ""
    whole_file: bool = False  # of a file and not of the piece of it that was asked for


class Notices:
    """What was noticed, in its order; the same thing said twice counts once."""

    def __init__(self, found: Iterable[Notice] = ()) -> None:
        self._found: dict[Notice, None] = dict.fromkeys(found)

    def add(self, kind: str, detail: str = "", *, whole_file: bool = False) -> None:
        """Adds one."""
        self._found[Notice(kind, detail, whole_file)] = None

    def extend(self, found: Iterable[Notice]) -> None:
        """Adds several."""
        self._found.update(dict.fromkeys(found))

    def __iter__(self) -> Iterator[Notice]:
        return iter(self._found)
