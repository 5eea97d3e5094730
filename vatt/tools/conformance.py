"""Compares this implementation with the golden numbers of the published code.

    python -m vatt.tools.conformance DIR [--only backbones/vit] [--verbose]

Prints one line per file: largest error, its tolerance, pass, fail or not-covered. What is built
follows the `config`
stored in each file. Exits with 1 if any file fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from vatt import quiet

SUFFIXES = (".npz", ".json")


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

    def line(self) -> str:
        """Returns the line printed for the file."""
        if self.status == "not-covered":
            return f"{self.path:<44} {'-':>9} {'-':>9}  not-covered"
        numbers = f"{self.error:9.2e} {self.tolerance:9.2e}"
        count = f"{self.comparisons:4d} values"
        return f"{self.path:<44} {numbers}  {self.status:<5} {count}, worst {self.worst}"


def golden_files(root: Path, only: str | None = None) -> list[Path]:
    """Returns every golden file under `root`, sorted; `only` keeps paths that contain it."""
    found = sorted(
        p for p in root.rglob("*") if p.suffix in SUFFIXES and not p.name.endswith("_all_keys.json")
    )
    return [p for p in found if only is None or only in p.relative_to(root).as_posix()]


def evaluate(path: Path, root: Path) -> Outcome:
    """Recomputes one file; an error while doing so is a fail, not the end of the run."""
    from vatt.tools import conformance_cases as cases
    from vatt.tools.conformance_checks import NotCoveredError, Note

    outcome = Outcome(path.relative_to(root).as_posix(), "pass")
    try:
        for item in cases.checks_of(path, root):
            if isinstance(item, Note):
                outcome.notes.append(item.text)
                continue
            outcome.comparisons += 1
            if not item.passed:
                outcome.status = "fail"
            # Worst in units of its tolerance; an error that is not a number is worse than any.
            ratio, worst = (
                e / max(t, 1e-30)
                for e, t in ((item.error, item.tolerance), (outcome.error, outcome.tolerance))
            )
            if outcome.comparisons == 1 or not ratio <= worst:
                outcome.worst, outcome.error, outcome.tolerance = (
                    item.name,
                    item.error,
                    item.tolerance,
                )
    except NotCoveredError:
        outcome.status = "not-covered"
    except Exception as error:
        outcome.status, outcome.error = "fail", float("inf")
        outcome.worst = f"{type(error).__name__}: {error}"
    return outcome


def main(arguments: list[str] | None = None) -> int:
    """Runs the comparison and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.tools.conformance", description=__doc__.split("\n")[0]
    )
    parser.add_argument("directory", type=Path, help="folder with the golden files")
    parser.add_argument("--only", metavar="TEXT", help="only files whose path contains TEXT")
    parser.add_argument("--verbose", action="store_true", help="also print documented differences")
    options = parser.parse_args(arguments)
    if not options.directory.is_dir():
        parser.error(f"{options.directory} is not a folder")
    files = golden_files(options.directory, options.only)
    if not files:
        parser.error(
            f"no golden files in {options.directory}"
            + (f" match {options.only!r}" if options.only else "")
        )
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the references were computed on a CPU
    quiet.import_tensorflow_quietly()
    print(f"{'file':<44} {'error':>9} {'tolerance':>9}  result")
    counts = {"pass": 0, "fail": 0, "not-covered": 0}
    for path in files:
        outcome = evaluate(path, options.directory)
        counts[outcome.status] += 1
        print(outcome.line(), flush=True)
        if options.verbose:
            for note in outcome.notes:
                print(f"    documented difference: {note}")
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
