"""Parts of files, as players ask for them by the header `Range` (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import BinaryIO

_ONE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_CHUNK = 2**18


def parse(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """Returns start, end (exclusive) and whether it is a part; None: there is no such part.

    Without a header, or with one of several parts or of another kind, it is all of it.
    """
    match = _ONE.fullmatch((header or "").strip())
    if match is None or match[0] == "bytes=-":
        return 0, size, False
    first, last = match.groups()
    if not first:  # so many bytes at the end
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return 0, size, False  # not valid: to be ignored
    return (start, end, True) if start < end else None


def copy(source: BinaryIO, target: BinaryIO, start: int | None, end: int) -> int:
    """Copies bytes up to `end`, from `start` or from where `source` is; returns where it ended."""
    place = 0 if start is None else source.seek(start)
    while place < end and (chunk := source.read(min(_CHUNK, end - place))):
        target.write(chunk)
        place += len(chunk)
    return place
