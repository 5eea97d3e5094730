"""Locks between processes: a file in a folder, held while the work there goes on.

    with locks.held(folder / ".training.lock", "another training"):
        ...
    locks.append_line(folder / "metrics.jsonl", row)      # whole, whoever else writes there

They are locks of the system on an open file, so that they end with the process that has them,
however it ends, and are not copied with the folder. The file says who has it; what a killed process
left of it means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from absl import logging

from vatt.errors import UserError
from vatt.files import make_folder, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_BUSY = (errno.EAGAIN, errno.EACCES)


class HeldError(UserError):
    """Another process has the lock."""


@contextmanager
def held(path: str | os.PathLike, what: str, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes out while the block runs.

    Args:
      path: the file of the lock; its folder is made where it is not there.
      what: is at work where the lock is held, for messages: "another training".
      wait: for the end of that, instead of raising.

    Raises:
      HeldError: another process has it.
      WriteError: the file cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    with writing(path):
        file = _take(path)
    if file is None:
        told = f"{path.parent}: {what} is at work there ({_holder(path)})"
        if not wait:
            raise HeldError(told)
        logging.info("%s; waiting for its end", told)
        with writing(path):
            file = _take(path, blocking=True)
    try:
        with writing(path):
            file.truncate(0)
            file.write(myself().encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held, so that it is nobody else's
            path.unlink()
        file.close()


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file that several processes write, for this one alone, made if it is not there.

    Whoever has it may put another in its place: those who wait then open that one.
    """
    path = Path(path)
    with writing(path), _take(path, blocking=True) as file:
        yield file


def append_line(path: str | os.PathLike, line: str) -> None:
    """Adds a line to a text file that several processes write: all of it or, on error, nothing.

    It begins a line of its own also where a killed process has left half a one.
    """
    with opened(path) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        left = memoryview(f"{line}\n".encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(end)
            raise


def _take(path: Path, blocking: bool = False) -> FileIO | None:
    """Opens a file and locks it; None if another process has the lock."""
    while True:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass  # who had it has just removed it
        except OSError as error:
            if error.errno in _BUSY:
                file.close()
                return None
            logging.log_first_n(
                logging.WARNING,
                "%s: files cannot be locked there (%s): see to it yourself that only one process "
                "works in this folder",
                1,
                path,
                error.strerror,
            )
            return file
        except BaseException:
            file.close()
            raise
        file.close()


def myself() -> str:
    """Returns who this process is, since now, for those who wait for it."""
    try:
        owner = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for the user
        owner = f"user {os.getuid()}"
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"{owner} on {socket.gethostname()}, process {os.getpid()}, since {since}"


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        told = path.read_text(encoding="utf-8", errors="replace")
        lasting = max(time.time() - path.stat().st_mtime, 0.0)
        return f"{told}, for {_rounded(lasting)}" if told else "it has just begun"
    return "it has just ended"


def _rounded(seconds: float) -> str:
    """A time as one number: "45 s", "12 min", "3 h", "8 days"."""
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
