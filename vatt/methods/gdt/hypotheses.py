"""The nine hypotheses of GDT: what is compared when videos are shifted in time and reversed.

A hypothesis says of each transformation whether embeddings should be invariant to it (what differs
by it is a positive pair), or variant (it is a negative one). It follows which clips are made of a
record, and which terms the loss has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vatt.configs.problems import ConfigError, Problem
from vatt.errors import nearest

# How a term compares two sets of clips, X and Y; of X alone the first.
BASE, VARIANT, INVARIANT = "base", "variant", "invariant"

# Sets of clips: forward and reversed, of the first and of the second place in the video. In the
# order in which an example holds them.
FORWARD, REVERSED, SHIFTED, SHIFTED_REVERSED = SETS = ("V", "VR", "V2", "V2R")


@dataclass(frozen=True)
class Term:
    """A comparison of two sets of clips; of one with itself where both are the same."""

    kind: str
    one: str
    two: str


@dataclass(frozen=True)
class Hypothesis:
    """What embeddings are to be like under reversal and shift: VARIANT, INVARIANT; None: unused."""

    number: int
    name: str
    reversal: str | None
    shift: str | None

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets of clips that it needs, in the order of `SETS`."""
        reversals, shifts = bool(self.reversal), bool(self.shift)
        return tuple(
            name
            for name, reverse, shift in zip(SETS, (0, 1, 0, 1), (0, 0, 1, 1), strict=True)
            if reverse <= reversals and shift <= shifts
        )

    @property
    def passes(self) -> tuple[str, ...]:
        """`sets` in the order in which networks see them, which decides moving averages."""
        order = (FORWARD, SHIFTED, REVERSED, SHIFTED_REVERSED)
        return tuple(name for name in order if name in self.sets)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The comparisons whose mean is the loss, in the order in which they are evaluated."""
        return tuple(self._terms())

    def _terms(self) -> Iterator[Term]:
        if not (self.reversal or self.shift):
            yield Term(BASE, FORWARD, FORWARD)
        for kind, other in ((self.reversal, REVERSED), (self.shift, SHIFTED)):
            if kind == INVARIANT:
                yield Term(BASE, FORWARD, other)
        if self.reversal:
            yield Term(self.reversal, FORWARD, REVERSED)
        if self.reversal and self.shift:
            yield Term(self.reversal, SHIFTED, SHIFTED_REVERSED)
        if self.shift:
            yield Term(self.shift, FORWARD, SHIFTED)
        if self.reversal and self.shift:
            yield Term(self.shift, REVERSED, SHIFTED_REVERSED)


# Number, published name, reversal, shift.
TABLE = (
    Hypothesis(1, "cross_modal_baseline", None, None),
    Hypothesis(2, "v_reversal", VARIANT, None),
    Hypothesis(3, "i_reversal", INVARIANT, None),
    Hypothesis(4, "v_shift", None, VARIANT),
    Hypothesis(5, "i_shift", None, INVARIANT),
    Hypothesis(6, "v_reversal_v_shift", VARIANT, VARIANT),
    Hypothesis(7, "i_reversal_v_shift", INVARIANT, VARIANT),
    Hypothesis(8, "v_reversal_i_shift", VARIANT, INVARIANT),
    Hypothesis(9, "i_reversal_i_shift", INVARIANT, INVARIANT),
)
NAMES = tuple(hypothesis.name for hypothesis in TABLE)


def of(wanted: int | str, path: str = "hypothesis") -> Hypothesis:
    """Returns a hypothesis by number or published name, in any case.

    Raises:
      ConfigError: at `path`, there is none; the nearest is named.
    """
    key = str(wanted).strip().lower()
    for hypothesis in TABLE:
        if key in (str(hypothesis.number), hypothesis.name):
            return hypothesis
    choices = ", ".join(f"{hypothesis.number} {hypothesis.name}" for hypothesis in TABLE)
    accepted = f"expected a number or a name of {choices}"
    raise ConfigError([Problem(path, wanted, accepted, nearest(key, NAMES))])
