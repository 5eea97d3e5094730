"""A loss that is not finite is nowhere replaced by a number: not before it is logged, not after."""

from __future__ import annotations

from pathlib import Path

import parsed

import vatt

PACKAGE = Path(vatt.__file__).parent
ROOMS = ("training", "methods", "objectives", "modeling")
ASKS = ("is_nan", "isnan", "is_inf", "isinf", "is_finite", "isfinite", "nan_to_num", "nanmean",
        "nansum", "divide_no_nan", "multiply_no_nan", "check_numerics")  # fmt: skip
# Where it is asked whether a number is finite, and what follows from the answer.
KNOWN = {
    "training/trainer.py: is_finite": 2,  # the step is not applied
    "training/loop.py: isfinite": 2,  # means are of the finite rows; names of the others, told
    "training/rundir.py: isfinite": 1,  # null in metrics.jsonl
}


def asked(path: Path) -> list[str]:
    """Names of functions in a file that tell numbers that are not finite from others."""
    names = [name.rpartition(".")[2] for name, _ in parsed.calls(path)]
    return [name for name in names if name in ASKS]


def test_nothing_stands_in_for_a_loss_that_is_not_finite():
    found: dict[str, int] = {}
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for name in asked(path):
                key = f"{path.relative_to(PACKAGE)}: {name}"
                found[key] = found.get(key, 0) + 1
    assert found == KNOWN


def test_the_search_finds_a_clamp(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("loss = tf.where(tf.math.is_nan(loss), 0.0, loss)\ny = np.nan_to_num(loss)\n")
    assert sorted(asked(file)) == ["is_nan", "nan_to_num"]
