"""How commands end: an exit code, and one line on what went wrong."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

from vatt.errors import EXIT_DATA, EXIT_INTERRUPTED, UserError
from vatt.files import NOT_IN_STORES, in_a_store
from vatt.printing import escape_what_cannot_be_shown

# Flags whose values may be addresses of object stores; who reads them says what is wrong with one.
_TAKEN = ("--model", "--model_dir", "--data_dir", "--override_checkpoint")


def ended(run: Callable[[], int], stopped: str, keep: Callable[[str], None] | None = None) -> int:
    """Returns the exit code of a command; what goes wrong, and an interruption, is told.

    Args:
      run: the command; returns its exit code.
      stopped: what is said of an interruption.
      keep: gets what is told, too.
    """
    escape_what_cannot_be_shown()
    try:
        for before, argument in itertools.pairwise(sys.argv):
            flag = argument.partition("=")[0] if argument.startswith("--") else before
            if in_a_store(argument) and flag not in _TAKEN:
                raise UserError(f"{argument}: {NOT_IN_STORES}.")
        return run()
    except UserError as error:
        told, code = f"error: {error}", error.exit_code
    except OSError as error:  # disk full, no permission, a file where a folder should be
        told, code = f"error: {error}", EXIT_DATA
    except KeyboardInterrupt:
        told, code = stopped, EXIT_INTERRUPTED
        print(file=sys.stderr)  # the line of a bar
    print(told, file=sys.stderr)
    if keep is not None:
        keep(told)
    return code
