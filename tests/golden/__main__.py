"""Compares this implementation with golden numbers of published code.

    python -m tests.golden DIR [--method vatt] [--only backbones/vit] [--verbose]

Prints one line per file: largest error, its tolerance, pass, fail or not-covered. What is built
follows the `config` stored in each file. Exits with 1 if any file fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tests import golden
from tests.golden.checks import Check, Checks, Golden, Note, load
from vatt import quiet
from vatt.errors import UserError, nearest

SUFFIXES = (".npz", ".json", ".msgpack")
FOLDER = "conformance"  # of VATT; those of other methods have their name behind it
Handler = Callable[[Golden], Checks]


@dataclass
class Outcome:
    """What became of one golden file."""

    path: str
    status: str  # 'pass', 'fail' or 'not-covered'
    worst: str = ""
    error: float = 0.0
    tolerance: float = 0.0
    comparisons: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, check: Check) -> None:
        """Counts a comparison.

        The worst is that in units of its tolerance; an error that is not a number is worse than
        any.
        """
        self.comparisons += 1
        if not check.passed:
            self.status = "fail"
        ratio, worst = (x.error / max(x.tolerance, 1e-30) for x in (check, self))
        if self.comparisons == 1 or not ratio <= worst:
            self.worst, self.error, self.tolerance = check.name, check.error, check.tolerance

    def line(self) -> str:
        """Returns the line printed for the file."""
        if self.status == "not-covered":
            return f"{self.path:<44} {'-':>9} {'-':>9}  not-covered"
        numbers = f"{self.error:9.2e} {self.tolerance:9.2e}"
        count = f"{self.comparisons:4d} values"
        return f"{self.path:<44} {numbers}  {self.status:<5} {count}, worst {self.worst}"


# Methods -----------------------------------------------------------------------------------------


def methods() -> list[str]:
    """Returns the methods with golden numbers here."""
    return sorted(module.name for module in pkgutil.iter_modules(golden.__path__) if module.ispkg)


def method_of(directory: Path, wanted: str | None, known: Sequence[str]) -> str:
    """Returns the method whose golden numbers are in a folder.

    Args:
        directory: by its name where `wanted` is None, else by that there is only one method.
        wanted: what the user says.
        known: the methods there are.

    Raises:
        UserError: none of them, or the name of the folder says nothing.
    """
    name, choices = directory.resolve().name, ", ".join(known)
    if wanted is not None:
        method, source = wanted, f"--method {wanted}"
    elif name == FOLDER:
        method, source = "vatt", f"{directory} is of method vatt"
    elif name.startswith(f"{FOLDER}_"):
        method = name.removeprefix(f"{FOLDER}_")
        source = f"{directory} is of method {method}"
    elif len(known) == 1:
        return known[0]
    else:
        raise UserError(
            f"{directory}: the name of the folder, neither {FOLDER} nor {FOLDER}_METHOD, says no"
            f" method; name one of {choices} by --method"
        )
    if method not in known:
        raise UserError(
            f"{source}: nothing here compares with its golden numbers; accepted: {choices}."
            f"{nearest(method, known)}"
        )
    return method


# Files -------------------------------------------------------------------------------------------


def golden_files(root: Path, inputs: Sequence[str] = (), only: str | None = None) -> list[Path]:
    """Returns every golden file under `root`, sorted.

    Args:
        root: folder.
        inputs: patterns of what to leave out.
        only: keeps paths that contain it.
    """
    found = sorted(p for p in root.rglob("*") if p.suffix in SUFFIXES)
    names = [(p, p.relative_to(root).as_posix()) for p in found]
    return [p for p, n in names if not _fits(n, inputs) and (only is None or only in n)]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def evaluate(path: Path, root: Path, handlers: Mapping[str, Handler]) -> Outcome:
    """Recomputes one file; an error while doing so is a fail, not the end of the run."""
    outcome = Outcome(path.relative_to(root).as_posix(), "pass")
    handler = next((h for p, h in handlers.items() if fnmatchcase(outcome.path, p)), None)
    if handler is None:
        outcome.status = "not-covered"
        return outcome
    try:
        for item in handler(load(path)):
            if isinstance(item, Note):
                outcome.notes.append(item.text)
            else:
                outcome.add(item)
    except Exception as error:
        outcome.status, outcome.error = "fail", float("inf")
        outcome.worst = f"{type(error).__name__}: {error}"
    return outcome


# Command -----------------------------------------------------------------------------------------


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden", description=__doc__.split("\n")[0]
    )
    parser.add_argument("directory", type=Path, help="folder with the golden files of a method")
    parser.add_argument(
        "--method",
        metavar="NAME",
        help=f"whose they are, one of {', '.join(known)}; by default what the name of the folder"
        f" says: {FOLDER} is vatt's, {FOLDER}_NAME that of the method NAME. Of a folder with"
        " another name it has to be given, if there are several methods",
    )
    parser.add_argument("--only", metavar="TEXT", help="only files whose path contains TEXT")
    parser.add_argument("--verbose", action="store_true", help="also print documented differences")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the comparison and returns the exit code."""
    known = methods()
    parser = _parser(known)
    options = parser.parse_args(arguments)
    root = options.directory
    if not root.is_dir():
        parser.error(f"{root} is not a folder")
    try:
        method = method_of(root, options.method, known)
    except UserError as error:
        parser.error(str(error))
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the references were computed on a CPU
    quiet.import_tensorflow_quietly()
    table = importlib.import_module(f"{golden.__name__}.{method}")
    files = golden_files(root, table.INPUTS, options.only)
    if not files:
        parser.error(
            f"no golden files in {root}" + (f" match {options.only!r}" if options.only else "")
        )
    print(f"{'file':<44} {'error':>9} {'tolerance':>9}  result")
    counts = {"pass": 0, "fail": 0, "not-covered": 0}
    for path in files:
        outcome = evaluate(path, root, table.HANDLERS)
        counts[outcome.status] += 1
        print(outcome.line(), flush=True)
        if options.verbose:
            for note in outcome.notes:
                print(f"    documented difference: {note}")
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
