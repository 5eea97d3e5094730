"""Sound of a media file as one mono waveform."""

from __future__ import annotations

import av
import numpy as np

from vatt.data.media import timing
from vatt.data.media.clip import FIRST, MAX_BYTES, MEAN, SLACK, MediaError, Request
from vatt.notices import Notices

_MAX_RATE = 3_000_000  # Hz: no recorder has more; to resample it takes memory by the rate alone
_MARGIN = 0.1  # s decoded on both sides of a clip, for the resampler
_ROUNDING = 2e-3  # s by which time stamps may be off: some containers count milliseconds
# s by which they may be off while the samples follow each other without a gap: Ogg Vorbis is off by
# a quarter of a block where the size of blocks changes, recorders take stamps from a coarse timer.
_WOBBLE = 0.05
_TOLD = 0.1  # s of a gap; shorter ones are where fragmented MP4 begins
# Of the power that the mean of independent channels would have. Two channels of equal power are
# below it when their correlation is below -0.9.
_CANCELLED = 0.1
_INTEGER_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31}


class Sound:
    """Collects decoded sound and cuts the clip from it."""

    def __init__(self, request: Request, zero: float, notices: Notices):
        self._request = request
        self._zero = zero  # s, time stamp of the start of the file
        self._notices = notices
        self._first = request.start - _MARGIN
        self._last = request.end + _MARGIN
        self._rate = 0
        self._buffer = np.zeros(0, np.float32)  # at the rate of the file, from time _first
        self._one = np.zeros(0, np.float32)  # the same of the first channel, where there are more
        self._powers = np.zeros(3)  # of the mean, the first channel, independent channels; x time
        self._next: int | None = None  # where in the buffer the next frame follows without a gap
        self._begin = 0.0  # s, start of the first sound
        self._gaps: list[float] = []  # s
        self._lost = 0  # packets
        self._heard = False
        self.done = False
        self.is_empty = True
        self.reach = 0.0  # s, end of the last sound

    def decode(self, packet: av.Packet) -> list[av.AudioFrame]:
        """Decodes a packet."""
        return packet.decode()

    def miss(self, moment: float | None) -> None:
        """Counts a packet that cannot be decoded, which would be heard at `moment` (s)."""
        self._lost += moment is not None and self._first <= moment < self._last

    def moment(self, frame: av.AudioFrame) -> float | None:
        """Returns from when a decoded frame is heard (s); None: its file does not say."""
        return timing.stamped(frame, self._zero)

    def add(self, frame: av.AudioFrame, moment: float) -> None:
        """Takes what belongs to the clip from a frame that is heard from `moment` (s)."""
        if self.is_empty:
            self._begin = moment
        self.is_empty = False
        if moment >= self._last:
            self.done = True
            return
        if not self._rate:
            self._rate = frame.sample_rate
            if self._rate > _MAX_RATE:
                raise MediaError(f"sound of {self._rate} Hz exceeds the limit of {_MAX_RATE} Hz")
            count = round((self._last - self._first) * self._rate)
            if 4 * max(count, self._request.num_samples()) > MAX_BYTES:
                raise MediaError("the clip is too long for one record: give its start and end")
            self._buffer = np.zeros(count, np.float32)
        if frame.sample_rate != self._rate:
            raise MediaError("the sample rate changes inside the clip")
        channels = _channels(frame)
        place = self._place(moment)
        self._next = place + channels.shape[1]
        self.reach = self._first + self._next / self._rate
        begin, end = max(place, 0), min(self._next, len(self._buffer))
        if end > begin:
            self._put(channels[:, begin - place : end - place], begin, end)
            self._heard |= moment < self._request.end and end / self._rate > _MARGIN

    def _place(self, moment: float) -> int:
        """Returns where in the buffer the samples of a frame begin."""
        place = round((moment - self._first) * self._rate)
        if self._next is None:
            return place
        # Before the clip the times count, so that a wrong one after seeking does not stay.
        slack = _WOBBLE if self._next > 0 else _ROUNDING
        if abs(place - self._next) <= slack * self._rate:
            return self._next
        if self._next > 0 and place - self._next > _TOLD * self._rate:
            self._gaps.append((place - self._next) / self._rate)
        return place

    def _put(self, channels: np.ndarray, begin: int, end: int) -> None:
        """Puts samples [channels, samples] into the buffer."""
        mean = channels[0]
        if len(channels) > 1:
            mean = channels.mean(axis=0, dtype=np.float64)
            if not len(self._one):
                self._one = np.zeros(len(self._buffer), np.float32)
            self._one[begin:end] = channels[0]
            each = np.square(channels, dtype=np.float64).sum(axis=1)
            self._powers += np.square(mean).sum(), each[0], each.mean() / len(channels)
        self._buffer[begin:end] = mean

    def check_reach(self) -> None:
        """Refuses sound that ends before the clip: for files that have nothing else."""
        if self._heard and not self.done and self.reach < self._request.end - SLACK:
            raise MediaError(
                f"the sound stops at {self.reach:.2f} s, before the end of the clip at "
                f"{self._request.end:g} s"
            )

    def finish(self, end: float) -> np.ndarray | None:
        """Returns the waveform up to `end` (s), float32 [samples], or None without any sound."""
        self._tell(end)
        if not self._heard:
            return None
        rate = self._request.sample_rate
        count = self._request.num_samples(end)
        margin = round(_MARGIN * rate)
        waveform = resample(self._mixed(), self._rate, rate)[margin : margin + count]
        waveform = np.pad(waveform, (0, count - len(waveform)))
        if not np.isfinite(waveform).all():
            raise MediaError("the sound has values that are not finite")
        return np.clip(waveform, -1, 1)

    def _mixed(self) -> np.ndarray:
        """Returns the buffer of what the channels become."""
        mean, first, independent = self._powers
        if self._request.downmix == FIRST and len(self._one):
            return self._one
        if mean < _CANCELLED * independent:
            what = "the channels of the sound are out of phase and cancel each other out"
            if self._request.downmix == MEAN or first <= mean:
                self._notices.add(f"{what}: their mean, which is stored, is nearly silent")
            else:
                self._notices.add(f"{what}: the first one is stored in place of their mean")
                return self._one
        return self._buffer

    def _tell(self, end: float) -> None:
        """Tells what is missing of the sound up to `end` (s)."""
        start = self._request.start
        if self._lost:
            self._notices.add("damaged sound, left out", f"{self._lost} packets")
        if self._gaps:
            detail = f"{len(self._gaps)}, {sum(self._gaps):.2f} s in all"
            self._notices.add("gaps in the sound: there is silence in them", detail)
        begin, reach = max(self._begin, start), min(self.reach, end)
        if not self._heard:
            self._notices.add("no sound where the clip is, though the file has some")
        elif begin > start + SLACK or reach < end - SLACK:
            detail = f"from {begin:.2f} to {reach:.2f} s"
            self._notices.add("sound for a part of the clip only: the rest is silent", detail)


def _channels(frame: av.AudioFrame) -> np.ndarray:
    """Returns the samples [channels, samples], full scale at 1: float64, or float32 as decoded."""
    # PyAV makes no arrays of 64-bit integers, and reads past the end of eight or more planes.
    if frame.format.name.startswith("s64") or (
        frame.format.is_planar and frame.layout.nb_channels >= 8
    ):
        frame = av.AudioResampler("dbl").resample(frame)[0]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = _INTEGER_SCALE.get(samples.dtype.str[1:])
    if scale is not None:
        zero = scale if samples.dtype.kind == "u" else 0.0
        samples = (samples.astype(np.float64) - zero) / scale
    return samples


def resample(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns float32 `waveform` [samples] at another rate (Hz); sample 0 keeps its time."""
    if rate == new_rate or not len(waveform):
        return waveform
    frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    resampler = av.AudioResampler("fltp", "mono", new_rate)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])
