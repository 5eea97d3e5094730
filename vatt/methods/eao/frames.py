"""How many tokens so many frames of a spectrogram give, and which lengths there can be."""

from __future__ import annotations

BANDS = 40  # of a spectrogram


def tokens_of(frames: int, stages: int) -> int:
    """Returns how many tokens are left of so many frames, each stage halving them, rounded up."""
    return -(-frames // 2**stages)


def window(frames: int, stages: int) -> int | None:
    """Returns how many frames of a mask are of one token; None where they do not divide so.

    A mask is pooled in windows of equal length, which must be as many as there are tokens.
    """
    tokens = tokens_of(frames, stages)
    step = -(-frames // tokens)
    return step if frames // step == tokens else None


def expected(frames: int, reduction: int) -> tuple[str, str]:
    """Returns what is accepted instead of so many frames, and the nearest ones."""
    below = frames // reduction * reduction
    near = " or ".join(str(n) for n in (below, below + reduction) if n)
    return f"expected a multiple of {reduction}, the frames of a token", f" Try {near}."
