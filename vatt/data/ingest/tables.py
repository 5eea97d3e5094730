"""Tables as programs write them, with a byte order mark, semicolons, or an index that has no name.

    table = Table(file, COLUMNS.__contains__)
    table.named                                  # ["path", "start"]
    for line, values in table:
        table.fields(values)                     # {"path": "a.mp4", "start": "0.5"}

What stands between the columns is told by the first line: the sign that gives most names of ours.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import TextIO

from vatt.errors import short

_SEPARATORS = (",", "\t", ";", "|")
_UNNAMED = re.compile(r"(Unnamed: \d+)?")  # the index of a pandas table, also of one read again


class Table:
    """Reads a table row by row.

    Raises:
      csv.Error: it is none.
    """

    def __init__(
        self,
        file: TextIO,
        is_known: Callable[[str], bool],
        *,
        usual: str = ",",
        skipinitialspace: bool = False,
    ) -> None:
        """Reads the first line.

        Args:
          file: opened with newline="".
          is_known: whether a column of this name, in lower case, is one that is looked for.
          usual: separator where the first line does not tell.
          skipinitialspace: whether a space may stand before a quote.
        """
        head = file.readline()
        file.seek(0)

        def known(sign: str) -> int:
            names = next(csv.reader([head], delimiter=sign, skipinitialspace=skipinitialspace), [])
            return sum(map(is_known, {name.strip().lower() for name in names}))

        self.separator = max((usual, *_SEPARATORS), key=known)
        self._lines = csv.reader(file, delimiter=self.separator, skipinitialspace=skipinitialspace)
        self.columns = [name.strip() for name in next(self._lines, [])]

    @property
    def named(self) -> list[str]:
        """The columns that have a name."""
        return [name for name in self.columns if not _UNNAMED.fullmatch(name)]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the values of rows with the numbers of their lines."""
        for values in self._lines:
            if values:
                yield self._lines.line_num, values

    @property
    def shown(self) -> str:
        """The columns that have a name, for a message."""
        return short(", ".join(self.named), 300) or "none"

    def fields(self, values: list[str]) -> dict[str, str]:
        """Returns a row by names. Columns without a name may hold an index or nothing.

        Raises:
          ValueError: there is more in it than the columns say.
        """
        if len(values) > len(self.columns):
            more = len(values) - len(self.columns)
            raise ValueError(f"{more} values more than there are columns")
        fields: dict[str, str] = {}
        for name, value in zip(self.columns, values, strict=False):
            if not _UNNAMED.fullmatch(name):
                fields[name] = value
            elif value.strip() and not value.strip().isdecimal():
                raise ValueError(f"'{value}' stands in a column without a name")
        return fields
