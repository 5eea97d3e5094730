"""What commands over many files share: their arguments, going on, progress, what the end says."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vatt.api import inputs
from vatt.data.arguments import real
from vatt.errors import EXIT_DATA, DataError
from vatt.tools import model_options

if TYPE_CHECKING:
    from vatt.api.index import Writer
    from vatt.api.results import Windows

Results = Iterable[tuple[str, "Mapping[str, Windows] | DataError"]]

_SHOWN = 5
STOPPED = "stopped; what is done is kept, the same command goes on"


def parser(command: str, about: str, endings: Sequence[str], more: str) -> argparse.ArgumentParser:
    """Returns a parser with the arguments of all such commands.

    Args:
      command: its word.
      about: what it does.
      endings: of the file that it makes.
      more: where its documentation is.
    """
    made = argparse.ArgumentParser(
        prog=f"vatt {command}",
        usage=f"vatt {command} FILES... --model=RUN --output=FILE{endings[0]} [options]",
        description=about,
        epilog=f"{more} says more.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("files", nargs="+", metavar="FILES", help="media files, folders of them, manifests (CSV)")
    add("--model", required=True, help="a run, a checkpoint or a preset")
    shown = " or ".join(endings)
    add("--output", required=True, type=_ending(endings), help=f"the file to be made, {shown}")
    add("--stride", type=real(0.01, 3600), metavar="S", help="s from window to window")
    add("--media_root", metavar="DIR", help="folder of the paths in manifests (theirs)")
    model_options.add(made)
    return made


def _ending(endings: Sequence[str]) -> Callable[[str], Path]:
    def path(text: str) -> Path:
        if not text.endswith(tuple(endings)):
            raise argparse.ArgumentTypeError(f"{text} must end with {' or '.join(endings)}")
        return Path(text)

    return path


def fill(
    writer: Writer, clips: Sequence[inputs.Clip], run: Callable[[Sequence[inputs.Clip]], Results]
) -> None:
    """Gives the writer what it lacks of `clips`, by `run`; says how many there were."""
    from vatt.data import workers

    started = time.monotonic()
    todo = writer.missing(clips)
    done = len(clips) - len(todo)
    with workers.progress(len(clips), done, writer.path.name, "file") as bar:
        for clip, (_, found) in zip(todo, run(todo), strict=True):
            writer.add(clip, found)
            bar.update()
    seconds = time.monotonic() - started
    print(f"{len(clips)} files, {done} of them there already: {seconds:.1f} s")


def end(writer: Writer, clips: Sequence[inputs.Clip]) -> int:
    """Lists which of `clips` cannot be used, and returns the exit code."""
    asked = set(map(str, clips))
    failures = [pair for pair in writer.failures if pair[0] in asked]
    for name, reason in failures[:_SHOWN]:
        print(f"  cannot be used: {name}: {reason}", file=sys.stderr)
    if len(failures) > _SHOWN:
        where = f"`failures` of {writer.path}"
        print(f"  ... {len(failures)} in all, in {where}", file=sys.stderr)
    return EXIT_DATA if failures else 0
