"""How commands end: an exit code, and one line on what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vatt.errors import EXIT_INTERRUPTED, UserError
from vatt.printing import escape_what_cannot_be_shown


def ended(run: Callable[[], int], stopped: str) -> int:
    """Returns the exit code of a command; what goes wrong, and an interruption, is told.

    Args:
      run: the command; returns its exit code.
      stopped: what is said of an interruption.
    """
    escape_what_cannot_be_shown()
    try:
        return run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        return EXIT_INTERRUPTED
