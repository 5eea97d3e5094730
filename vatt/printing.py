"""What commands print reaches every terminal, also names that it cannot show."""

from __future__ import annotations

import io
import os
import sys


def escape_what_cannot_be_shown() -> None:
    r"""Makes characters that the output has no code for, such as "ü" in ASCII, appear as "\xfc".

    Python would end with an error. Its error stream is like this already.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Prints a long text, of which a reader such as `head` may want the first lines only."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python writes what is left once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
