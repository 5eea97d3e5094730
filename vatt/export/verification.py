"""Runs what was written in a process that cannot import this package, and compares."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vatt.errors import UserError
from vatt.export.samples import Call

MOST = 1e-4  # largest error that is let pass
_RUNNER = Path(__file__).with_name("runner.py")
_SHOWN = 300


class UnequalError(UserError):
    """What was written does not give what the live model gives."""


def errors(
    name: str, folder: Path, calls: Sequence[Call], modules: Sequence[str] = ()
) -> dict[str, float]:
    """Returns the largest error of each output, by "function/output".

    Of outputs whose largest value is above 1 it is the share of that value.

    Args:
      name: of the format.
      folder: with the files.
      calls: to make, with what is expected.
      modules: to import first.

    Raises:
      UnequalError: it cannot be run, or lacks an output, or one is off by more than `MOST`; or the
        live model's own numbers are not finite.
    """
    for call in calls:
        for output, expected in call.expected.items():
            if not np.isfinite(expected).all():
                raise UnequalError(
                    f"{call.function}/{output}: the model itself, before it is written, gives "
                    "numbers that are not finite: its weights cannot be used"
                )
    results = _results(name, folder, calls, modules)
    found: dict[str, float] = {}
    for number, call in enumerate(calls):
        for output, expected in call.expected.items():
            key = f"{call.function}/{output}"
            got = results.get(f"{number}/{key}")
            if got is None or got.shape != expected.shape:
                shape = None if got is None else list(got.shape)
                raise UnequalError(f"{key}: {shape} instead of {list(expected.shape)}")
            # Not `max`, which passes over NaN.
            found[key] = float(np.maximum(found.get(key, 0.0), _error(got, expected)))
    off = {key: error for key, error in found.items() if not error <= MOST}
    if off:
        told = ", ".join(f"{key} {error:.1e}" for key, error in off.items())
        raise UnequalError(
            f"{name}: other numbers than the live model, by more than {MOST:g}: {told}. Nothing was"
            " kept"
        )
    return found


def _error(got: np.ndarray, expected: np.ndarray) -> float:
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))


def _results(
    name: str, folder: Path, calls: Sequence[Call], modules: Sequence[str]
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as place:
        given, results = Path(place) / "calls.npz", Path(place) / "results.npz"
        inputs = {
            f"{number}/{call.function}/{key}": values
            for number, call in enumerate(calls)
            for key, values in call.inputs.items()
        }
        np.savez(given, **inputs)
        command = [sys.executable, "-I", _RUNNER, name, folder.absolute(), given, results]
        done = subprocess.run(
            [*map(str, command), *modules], cwd=place, capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UnequalError(f"{name}: what was written cannot be run: {lines[-1][:_SHOWN]}")
        with np.load(results) as arrays:
            return dict(arrays)
