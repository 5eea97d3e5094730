"""Disks on which nothing more can be written, made for real as far as any user can."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes: writing fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A disk of its own in `folder`, "size=300k"; skips where none may be mounted."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("a disk can only be mounted by root")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Nothing can be written on a mounted `disk` while the block runs."""
    remount = ["mount", "-o", "remount"]
    subprocess.run([*remount, "-r", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run([*remount, "-w", str(disk)], check=True)


def fill(file: Path) -> None:
    """Writes a file until not a byte is free on its disk."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as opened:
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while opened.write(bytes(size)):
                    pass
