"""Fetches a published checkpoint by its name, into a folder that later calls look in first.

    python -m vatt.tools.download gdt_k400
    python -m vatt.tools.download vatt_mbs --url https://host/path/ckpt-500000
    python -m vatt.tools.download gdt_k400 --convert runs/gdt_k400

The same command after an interruption goes on where it stopped. The folder is --cache_dir, else
$VATT_CACHE, else vatt in $XDG_CACHE_HOME or ~/.cache. python -m vatt.tools.zoo lists the names.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vatt import zoo
from vatt.data.workers import progress
from vatt.ended import ended
from vatt.errors import UserError
from vatt.zoo import cache, fetching

if TYPE_CHECKING:
    from tqdm import tqdm


class Bars(fetching.Listener):
    """Shows a progress bar with the time that is left, for each file."""

    def __init__(self) -> None:
        self._name, self._bar = "", None

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Moves the bar of a file."""
        bar = self._of(name, done, total)
        bar.total = total
        if done < bar.n:  # begun anew
            bar.reset(total)
        bar.update(done - bar.n)

    def notice(self, text: str) -> None:
        """Prints it below the bar."""
        self.close()
        print(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()
        self._name, self._bar = "", None

    def _of(self, name: str, done: int, total: int | None) -> tqdm:
        if self._bar is None or name != self._name:
            self.close()
            self._name, self._bar = name, progress(total, done, name, "B")
        return self._bar


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.tools.download",
        description=__doc__.split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="as python -m vatt.tools.zoo lists it")
    parser.add_argument(
        "--url", help="address of the file, where none is known or another is meant"
    )
    parser.add_argument("--cache_dir", help="folder of fetched checkpoints; by default $VATT_CACHE")
    parser.add_argument(
        "--convert",
        metavar="DEST_DIR",
        help="also make one of ours, with its certificate, as vatt.tools.convert_checkpoint",
    )
    options = parser.parse_args(arguments)
    return ended(lambda: _download(options), "stopped; the same command goes on from here")


def _download(options: argparse.Namespace) -> int:
    checkpoint = zoo.find(options.name)
    if options.convert and not checkpoint.loadable:
        raise UserError(f"--convert {options.convert}: {_not_loadable(checkpoint)}")
    with contextlib.closing(Bars()) as bars:
        path = cache.download(
            checkpoint.name, options.cache_dir, address=options.url, listener=bars
        )
    origin = cache.origin(checkpoint.name, options.cache_dir)
    print(f"{checkpoint.name} is in {path} (from {origin})")
    if not checkpoint.loadable:
        print(_not_loadable(checkpoint))
        return 0
    convert = [str(path), options.convert or "DEST_DIR", *checkpoint.options()]
    if options.convert:
        from vatt.tools import convert_checkpoint

        return convert_checkpoint.main(convert)
    print(_uses(checkpoint, path, convert))
    return 0


def _not_loadable(checkpoint: zoo.Checkpoint) -> str:
    return (
        f"this version does not have the method '{checkpoint.method}' of {checkpoint.name} yet: "
        "the file can be fetched, but not loaded or converted"
    )


def _uses(checkpoint: zoo.Checkpoint, path: Path, convert: list[str]) -> str:
    wanted = [f"--task={checkpoint.task}", *checkpoint.options(), f"--override_checkpoint={path}"]
    return (
        f"As first weights, or to evaluate it: python -m vatt.main {shlex.join(wanted)} ...\n"
        f"As one of ours: python -m vatt.tools.convert_checkpoint {shlex.join(convert)}"
    )


if __name__ == "__main__":
    sys.exit(main())
