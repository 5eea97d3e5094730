"""What is asked of a media file and what comes back, with the limits that hold for both."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from vatt.errors import DataError
from vatt.notices import Notices

MAX_PIXELS = 8192 * 4320
MAX_SIDE = 65500  # of a JPEG
MAX_FRAMES = 2**20
MAX_BYTES = 2**30  # of the pictures, and of the sound, of one clip: a record holds below 2 GiB
SLACK = 0.5  # s
AUTO, MEAN, FIRST = "auto", "mean", "first"  # what several channels of sound become


class MediaError(DataError):
    """A media file or clip that cannot be used; the message is a plain reason without the path."""


class UnknownEndError(MediaError):
    """Where a clip ends is not known without its pictures."""


@dataclass
class MediaClip:
    """A decoded piece of a media file. Absent: no frames, no waveform."""

    start: float  # s
    end: float
    frames: list[bytes] = field(default_factory=list)  # JPEG
    height: int = 0
    width: int = 0
    waveform: np.ndarray | None = None  # float32 [samples]
    notices: Notices = field(default_factory=Notices)


@dataclass(frozen=True)
class Request:
    """What to decode, with the same meaning as the arguments of `read_clip`."""

    start: float
    end: float
    fps: float
    min_side: int
    sample_rate: int
    jpeg_quality: int
    downmix: str = AUTO
    pictures: bool = True  # else none are decoded
    sound: bool = True  # else none is decoded, but where the pictures depend on it
    shorten: bool = False  # whether it may end where the pictures do

    def num_frames(self, end: float | None = None) -> int:
        """Number of frames up to `end` (s), by default that of the clip."""
        length = (self.end if end is None else end) - self.start
        return max(1, math.floor(length * self.fps + 1e-6))

    def moment(self, number: int) -> float:
        """When the picture is shown that a frame is (s), counted from 0."""
        return self.start + (number + 0.5) / self.fps

    def num_samples(self, end: float | None = None) -> int:
        """Number of samples up to `end` (s), by default that of the clip."""
        return round(((self.end if end is None else end) - self.start) * self.sample_rate)


def check_size(width: int, height: int) -> None:
    """Refuses pictures beyond the limits."""
    if width * height > MAX_PIXELS:
        raise MediaError(f"pictures of {width}x{height} exceed the limit of {MAX_PIXELS} pixels")
    if max(width, height) > MAX_SIDE:
        raise MediaError(f"pictures of {width}x{height} exceed the limit of {MAX_SIDE} per side")
