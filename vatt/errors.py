"""Errors a user can cause, each with the exit code `vatt.main` ends with.

Everything a user can get wrong raises a `UserError`: `main` prints its message without a traceback.
A message names the field or file, the value found, what is accepted and, for names, the nearest
match.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_DIVERGED = 4
EXIT_CHECKPOINT = 5
EXIT_WORKER = 6  # another worker ended; starting all of them again continues
EXIT_PREEMPTED = 42  # a checkpoint was written; starting the same command again continues
EXIT_INTERRUPTED = 130  # before there was anything to save


class UserError(Exception):
    """A mistake in what the user gave: flags, configuration, files."""

    exit_code = EXIT_USAGE


class DataError(UserError):
    """A data set, record or media file that cannot be used."""

    exit_code = EXIT_DATA


class WriteError(UserError):
    """A file or folder that cannot be written: the disk is full or read-only, no permission, ..."""

    exit_code = EXIT_DATA


class DivergedError(UserError):
    """A loss or gradient that is not finite."""

    exit_code = EXIT_DIVERGED


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or belongs to another model."""

    exit_code = EXIT_CHECKPOINT


class WorkerError(UserError):
    """Another worker of the run ended, or cannot be reached."""

    exit_code = EXIT_WORKER


def short(value: object, most: int = 80) -> str:
    """Returns a value as it stands in a message: as text, cut where it is long."""
    text = str(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the closest of `choices`, or an empty string."""
    by_lower = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean '{by_lower[match[0]]}'?" if match else ""
