"""Time stamps that are not what they should be: of joined recordings, and of program streams."""

from __future__ import annotations

from collections import deque

import av
import numpy as np

_BACK, _AHEAD = 1.0, 10.0  # s by which stamps of a recording jump at most
_NEAR = 1.0  # s within which two streams of a recording begin
_WINDOW = 64  # pictures whose stamps are looked at together
_RESTART, _AGREE = 0.5, 5  # s by which that many stamps are off where a new count begins


def is_stream(container: av.container.InputContainer) -> bool:
    """Whether it is a transport or program stream, whose clock may start anywhere, and again."""
    return container.format.name in ("mpegts", "mpeg")


def may_be_joined(container: av.container.InputContainer) -> bool:
    """Whether a file of this kind may be several recordings, one after the other."""
    return is_stream(container) or container.format.name == "ogg"


def is_program_stream(container: av.container.InputContainer) -> bool:
    """Whether it is an MPEG program stream, as on a DVD."""
    return container.format.name == "mpeg"


def zero(container: av.container.InputContainer) -> float:
    """Returns the time stamp at which a player starts (s).

    Negative ones belong to what comes before the start, but for a clock that is about to wrap.
    """
    start = (container.start_time or 0) / av.time_base
    return start if is_stream(container) else max(0.0, start)


def stamped(frame: av.VideoFrame | av.AudioFrame, zero: float) -> float | None:
    """Returns the time stamp of a decoded frame (s after the start); None where it has none."""
    if frame.pts is None:
        frame.pts = frame.dts
    return None if frame.pts is None else frame.time - zero


class Clock:
    """Puts recordings in a row that were joined as files are: the second one's stamps start again.

    All streams of a recording are moved by the same time.
    """

    def __init__(self) -> None:
        self._offsets = [0.0]  # s, of each recording
        self._recordings: dict[int, int] = {}  # that each stream is in
        self._next: dict[int, float] = {}  # s, end of the last packet of each stream
        self._joints: dict[int, float] = {}  # s, where each recording begins

    @property
    def joints(self) -> list[float]:
        """When recordings begin, but for the first (s)."""
        return list(self._joints.values())

    def correct(self, packet: av.Packet) -> None:
        """Moves the stamps of a packet; comes in the order of the file."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or not packet.size:
            return
        index, tick = packet.stream.index, float(packet.time_base)
        recording = self._recordings.setdefault(index, len(self._offsets) - 1)
        moment = stamp * tick + self._offsets[recording]
        expected = self._next.get(index, moment)
        if self._jumps(index, moment, expected):
            recording = self._recording(recording, stamp * tick, expected)
            self._recordings[index] = recording
            moment = stamp * tick + self._offsets[recording]
        self._next[index] = moment + (packet.duration or 0) * tick
        shift = round(self._offsets[recording] / tick)
        if packet.dts is not None:
            if packet.pts is not None and abs(packet.pts - packet.dts) * tick > _AHEAD:
                packet.pts = None  # damaged
            packet.dts += shift
        if packet.pts is not None:
            packet.pts += shift

    def _recording(self, before: int, stamp: float, expected: float) -> int:
        """Returns which recording a stamp (s) belongs to that does not follow in the one before."""
        for known in reversed(range(len(self._offsets))):
            if abs(stamp + self._offsets[known] - expected) <= _NEAR:
                if known < before:  # a stamp was damaged, and no other recording began
                    self._joints.pop(before, None)
                return known
        self._offsets.append(expected - stamp)
        self._joints[len(self._offsets) - 1] = expected
        return len(self._offsets) - 1

    def _jumps(self, index: int, moment: float, expected: float) -> bool:
        if moment < expected - _BACK:
            return True
        # A picture may stay for long: then the sound goes on.
        others = [end for other, end in self._next.items() if other != index]
        return moment > expected + _AHEAD and all(moment > end + _AHEAD for end in others)


class Steady:
    """Times of the pictures of a program stream, of which only some have a stamp of their own.

    FFmpeg makes up the others, and after seeking it does so from wrong ones. Pictures that last
    equally long are counted instead: the count begins where most stamps say.
    """

    def __init__(self) -> None:
        self._count = 0.0  # s since the first picture
        self._off: deque[float] = deque(maxlen=_WINDOW)  # s from count to stamp
        self._lasts: float | None = None  # s
        self._is_steady = True

    def moment(self, stamped: float | None, lasts: float) -> float | None:
        """Returns from when the next picture is shown (s), which has `stamped` as its stamp."""
        self._lasts = lasts if self._lasts is None else self._lasts
        self._is_steady &= lasts > 0 and abs(lasts - self._lasts) < 1e-6
        if not self._is_steady:
            return stamped
        count = self._count
        self._count += lasts
        if stamped is not None:
            self._off.append(stamped - count)
            last = np.array(self._off)[-_AGREE:]
            if len(last) == _AGREE and (abs(last - np.median(self._off)) > _RESTART).all():
                self._off = deque(last, maxlen=_WINDOW)
        if len(self._off) < _AGREE:
            return count + self._off[0] if self._off else None
        return count + sorted(self._off)[len(self._off) // 2]
