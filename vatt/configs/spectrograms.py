"""How many times a spectrogram of a sound has."""

from __future__ import annotations


def padded_frames(samples: int, step: int) -> int:
    """Returns the frames every `step` samples whose end is padded: the count rounds up."""
    return -(-samples // step)


def covering_frames(samples: int, length: int, step: int) -> int:
    """Returns as many frames of `length` every `step` samples as it takes to reach the last one."""
    return 1 + max(0, -(-(samples - length) // step))
