"""Sound of a media file as one mono waveform."""

from __future__ import annotations

import av
import numpy as np

from vatt.data.media.clip import MAX_BYTES, SLACK, MediaError, Request

_MARGIN = 0.1  # s decoded on both sides of a clip, for the resampler
_ROUNDING = 2e-3  # s by which time stamps may be off: some containers count milliseconds
_INTEGER_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31}


class Sound:
    """Collects decoded sound and cuts the clip from it."""

    def __init__(self, request: Request):
        self._request = request
        self._first = request.start - _MARGIN
        self._last = request.end + _MARGIN
        self._rate = 0
        self._buffer = np.zeros(0, np.float32)  # at the rate of the file, from time _first
        self._next: int | None = None  # where in the buffer the next frame follows without a gap
        self._heard = False
        self.done = False
        self.is_empty = True
        self.reach = 0.0  # s, end of the last sound

    def decode(self, packet: av.Packet) -> list[av.AudioFrame]:
        """Decodes a packet."""
        return packet.decode()

    def add(self, frame: av.AudioFrame, moment: float) -> None:
        """Takes what belongs to the clip from a frame that is heard from `moment` (s)."""
        self.is_empty = False
        if moment >= self._last:
            self.done = True
            return
        if not self._rate:
            self._rate = frame.sample_rate
            count = round((self._last - self._first) * self._rate)
            if 4 * max(count, self._request.num_samples()) > MAX_BYTES:
                raise MediaError("the clip is too long for one record: give its start and end")
            self._buffer = np.zeros(count, np.float32)
        if frame.sample_rate != self._rate:
            raise MediaError("the sample rate changes inside the clip")
        samples = _mono(frame)
        place = round((moment - self._first) * self._rate)
        if self._next is not None and abs(place - self._next) <= _ROUNDING * self._rate:
            place = self._next
        self._next = place + len(samples)
        self.reach = self._first + self._next / self._rate
        begin, end = max(place, 0), min(place + len(samples), len(self._buffer))
        if end > begin:
            self._buffer[begin:end] = samples[begin - place : end - place]
            self._heard |= moment < self._request.end and end / self._rate > _MARGIN

    def check_reach(self) -> None:
        """Refuses sound that ends before the clip: for files that have nothing else."""
        if self._heard and not self.done and self.reach < self._request.end - SLACK:
            raise MediaError(
                f"the sound stops at {self.reach:.2f} s, before the end of the clip at "
                f"{self._request.end:g} s"
            )

    def finish(self, end: float) -> np.ndarray | None:
        """Returns the waveform up to `end` (s), float32 [samples], or None without any sound."""
        if not self._heard:
            return None
        rate = self._request.sample_rate
        count = self._request.num_samples(end)
        margin = round(_MARGIN * rate)
        waveform = resample(self._buffer, self._rate, rate)[margin : margin + count]
        waveform = np.pad(waveform, (0, count - len(waveform)))
        if not np.isfinite(waveform).all():
            raise MediaError("the sound has values that are not finite")
        return np.clip(waveform, -1, 1)


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """Returns the mean of the channels, float32 [samples], full scale at 1."""
    # PyAV makes no arrays of 64-bit integers, and reads past the end of eight or more planes.
    if frame.format.name.startswith("s64") or (
        frame.format.is_planar and frame.layout.nb_channels >= 8
    ):
        frame = av.AudioResampler("dbl").resample(frame)[0]
    samples = frame.to_ndarray()
    if len(samples) == 1 and samples.dtype == np.float32 and frame.layout.nb_channels == 1:
        return samples[0]
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = _INTEGER_SCALE.get(samples.dtype.str[1:])
    if scale is not None:
        zero = scale if samples.dtype.kind == "u" else 0.0
        samples = (samples.astype(np.float64) - zero) / scale
    return samples.mean(axis=0, dtype=np.float64).astype(np.float32)


def resample(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns float32 `waveform` [samples] at another rate (Hz); sample 0 keeps its time."""
    if rate == new_rate or not len(waveform):
        return waveform
    frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    resampler = av.AudioResampler("fltp", "mono", new_rate)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])
