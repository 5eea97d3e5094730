"""What commands print reaches every terminal, also names that it cannot show."""

from __future__ import annotations

import io
import sys


def escape_what_cannot_be_shown() -> None:
    r"""Makes characters that the output has no code for, such as "ü" in ASCII, appear as "\xfc".

    Python would end with an error. Its error stream is like this already.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
