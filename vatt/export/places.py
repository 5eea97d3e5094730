"""The folder of an export: there when all of it is, or not at all; no TensorFlow."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vatt.errors import UserError
from vatt.files import make_folder, writing

MARK = "export.json"


def check(folder: Path, overwrite: bool) -> None:
    """Raises UserError where something is there that must not be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: a file; give a folder that is not there yet")
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{folder}: is there already. Give another folder, or --overwrite")
    if not (folder / MARK).is_file():
        raise UserError(
            f"{folder}: holds no earlier export (no {MARK}), and --overwrite replaces nothing else"
        )


@contextlib.contextmanager
def replacing(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Gives a folder to write to, which takes the place of `folder` at the end.

    After an error nothing of it is left, and what was there is untouched.

    Raises:
      WriteError: the disk is full, read-only, or the like.
    """
    folder = folder.absolute()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    make_folder(folder.parent)
    with writing(folder):
        try:
            partial.mkdir()
            yield partial
            check(folder, overwrite)
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for rest in (partial, old):
                shutil.rmtree(rest, ignore_errors=True)
