"""Decodes a piece of a media file: frames at a wished rate as JPEG, and sound as one mono waveform.

    clip = read_clip("talk.mp4", start=5.0, end=8.2, fps=10, min_side=256, sample_rate=48000)

Conventions
- Time 0 is where a player starts: the container's start time, or 0 if that is negative.
- Frame k is the picture a player shows in the middle of its interval, at `start + (k + 0.5) / fps`,
  chosen by time stamps: constant and variable frame rates alike.
- Rotation and non-square pixels are applied. The shorter side is reduced to `min_side`; pictures
  are never enlarged.
- Sound is the mean of the channels, resampled, with `round((end - start) * sample_rate)` samples;
  sample 0 is at `start`. Where the file has no sound there is silence.
- A file may reach `SLACK` seconds less far than the clip: the last picture stays, then.

Only local files in common containers are opened: playlists and other formats that name further
files are refused, and sizes are checked before anything is decoded.
"""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from vatt.errors import DataError

MAX_PIXELS = 8192 * 4320
MAX_SIDE = 65500  # of a JPEG
MAX_SECONDS = 6 * 3600.0
MAX_FRAMES = 2**20
MAX_PROBE_BYTES = 5 * 2**20
TIMEOUT_S = 60.0  # per clip, and ten times the clip's length if that is more
SLACK = 0.5  # s
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,wav,w64,mp3,flac,aac,flv,asf,aiff"
)
_AUDIO_MARGIN = 0.1  # s decoded on both sides of a clip, for the resampler
_SEEK_MARGIN = 0.25  # s before the clip to seek to: the first sound after a seek is not exact
_TICK = 1e-4  # s by which a time stamp may be late
_ROUNDING = 2e-3  # s by which sound's time stamps may be off: some containers count milliseconds
_INTEGER_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}


class MediaError(DataError):
    """A media file or clip that cannot be used; the message is a plain reason without the path."""


@dataclass
class MediaClip:
    """A decoded piece of a media file. Absent: no frames, no waveform."""

    start: float  # s
    end: float
    frames: list[bytes] = field(default_factory=list)  # JPEG
    height: int = 0
    width: int = 0
    waveform: np.ndarray | None = None  # float32 [samples]


@dataclass
class Wish:
    """What to decode, with the same meaning as the arguments of `read_clip`."""

    start: float
    end: float
    fps: float
    min_side: int
    sample_rate: int
    jpeg_quality: int

    @property
    def num_frames(self) -> int:
        return max(1, math.floor((self.end - self.start) * self.fps + 1e-6))


def read_clip(
    path: str | Path,
    start: float | None = None,
    end: float | None = None,
    *,
    fps: float,
    min_side: int,
    sample_rate: int,
    jpeg_quality: int = 90,
) -> MediaClip:
    """Decodes the piece of a file from `start` to `end` (s; None: from or to the end of the file).

    Raises:
        MediaError: the file cannot be used, with the reason.
    """
    path = Path(path).absolute()  # absolute, so that no name can be read as a protocol or option
    try:
        if not path.is_file():
            raise MediaError("there is no such file")
        if path.stat().st_size == 0:
            raise MediaError("the file is empty")
    except (OSError, ValueError) as error:  # a name too long or impossible, no permission
        raise MediaError(f"cannot be read: {error}") from error
    for seek in (True, False):
        try:
            with _open(path) as container:
                begin, finish = _check(container, start, end)
                wish = Wish(begin, finish, fps, min_side, sample_rate, jpeg_quality)
                clip = _decode(container, wish, seek)
        except av.error.FFmpegError as error:
            raise MediaError(_plain(error)) from error
        if clip is not None:
            return clip
    raise MediaError("the start of the clip cannot be found in the file")


def _plain(error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "not a media file, or damaged (its container cannot be read)"
    if isinstance(error, av.error.ArgumentError):  # so FFmpeg answers what CONTAINERS does not list
        return "not a media file of a supported kind (playlists are refused)"
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return "reading took too long"
    return f"cannot be read: {error.strerror or error}"


def _open(path: Path) -> av.container.InputContainer:
    options = {
        "protocol_whitelist": "file,pipe",
        "format_whitelist": CONTAINERS,
        "probesize": str(MAX_PROBE_BYTES),
        "max_pixels": str(MAX_PIXELS),
    }
    return av.open(str(path), options=options, timeout=TIMEOUT_S, metadata_errors="replace")


def _best(container: av.container.InputContainer, kind: str):
    """Returns the main stream of a kind; a cover picture is not a video."""
    stream = container.streams.best(kind)
    if stream is not None and stream.disposition & av.stream.Disposition.attached_pic:
        return None
    return stream


def _check(
    container: av.container.InputContainer, start: float | None, end: float | None
) -> tuple[float, float]:
    """Checks what the headers say against the limits and returns start and end of the clip (s)."""
    video, audio = _best(container, "video"), _best(container, "audio")
    if video is None and audio is None:
        raise MediaError("the file has neither pictures nor sound")
    if video is not None:
        width, height = video.codec_context.width, video.codec_context.height
        if width <= 0 or height <= 0:
            # FFmpeg itself also refuses what exceeds the limit, and then tells no size.
            raise MediaError(f"the size of the pictures is not known or above {MAX_PIXELS} pixels")
        _check_size(max(1, round(width * _pixel_aspect(video))), height)
        if video.frames > MAX_FRAMES:
            raise MediaError(f"{video.frames} pictures exceed the limit of {MAX_FRAMES}")
    duration = _duration(container)
    if duration is not None and duration > MAX_SECONDS:
        raise MediaError(f"{duration:.0f} s exceed the limit of {MAX_SECONDS:.0f} s")
    begin = 0.0 if start is None else start
    if end is None and duration is None:
        raise MediaError("the file does not say how long it is: give the end of the clip")
    finish = duration if end is None else end
    if duration is not None and begin >= duration:
        raise MediaError(f"the clip starts at {begin:g} s but the file ends at {duration:g} s")
    if duration is not None and finish > duration + SLACK:
        raise MediaError(f"the clip ends at {finish:g} s but the file ends at {duration:g} s")
    if finish <= begin:
        raise MediaError(f"the clip ends at {finish:g} s, not after its start at {begin:g} s")
    return begin, finish


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(f"pictures of {width}x{height} exceed the limit of {MAX_PIXELS} pixels")
    if max(width, height) > MAX_SIDE:
        raise MediaError(f"pictures of {width}x{height} exceed the limit of {MAX_SIDE} per side")


def _duration(container: av.container.InputContainer) -> float | None:
    if container.duration:
        return container.duration / av.time_base
    lengths = [float(s.duration * s.time_base) for s in container.streams if s.duration]
    return max(lengths, default=None)


def _zero(container: av.container.InputContainer) -> float:
    return max(0.0, (container.start_time or 0) / av.time_base)


def _decode(container: av.container.InputContainer, wish: Wish, seek: bool) -> MediaClip | None:
    """Decodes a clip; None: after seeking, its first frame was already past."""
    zero = _zero(container)
    video, audio = _best(container, "video"), _best(container, "audio")
    pictures = _Pictures(wish, _pixel_aspect(video)) if video is not None else None
    sound = _Sound(wish) if audio is not None else None
    streams = [stream for stream in (video, audio) if stream is not None]
    for stream in streams:
        stream.codec_context.thread_count = 1  # clips are decoded in parallel, not pictures
    sought = seek and wish.start > 2 * _SEEK_MARGIN
    if sought:
        target = int((wish.start - _SEEK_MARGIN + zero) * av.time_base)
        try:
            container.seek(target)
        except av.error.FFmpegError:
            return None
    deadline = time.monotonic() + max(TIMEOUT_S, 10 * (wish.end - wish.start))
    for packet in container.demux(streams):
        if time.monotonic() > deadline:
            raise MediaError("decoding took too long")
        sink = pictures if packet.stream is video else sound
        if sink.done:
            if all(part is None or part.done for part in (pictures, sound)):
                break
            continue
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # a damaged packet; what is missing at the end is noticed there
        for frame in frames:
            moment = _moment(frame, packet.stream, zero)
            if sought and sink.is_empty and moment > wish.start + _TICK and moment > _SEEK_MARGIN:
                return None
            sink.add(frame, moment)
    clip = MediaClip(wish.start, wish.end)
    if pictures is not None:
        clip.frames, clip.height, clip.width = pictures.finish()
    if sound is not None:
        clip.waveform = sound.finish()
    if not clip.frames and clip.waveform is None:
        raise MediaError("the clip has neither pictures nor sound")
    return clip


def _pixel_aspect(video: av.video.stream.VideoStream) -> float:
    """Returns width / height of a pixel; 1 where the file does not say."""
    return float(video.sample_aspect_ratio or 1) or 1.0


def _moment(frame: av.frame.Frame, stream: av.stream.Stream, zero: float) -> float:
    """Returns the time of a frame in s; refuses one without a time stamp."""
    moment = frame.time
    if moment is None:
        raise MediaError(f"a {stream.type} frame has no time stamp")
    return moment - zero


class _Pictures:
    """Picks the frames of a clip from decoded frames in order of time."""

    def __init__(self, wish: Wish, pixel_aspect: float):
        self._wish, self._pixel_aspect = wish, pixel_aspect
        count = wish.num_frames
        self._times = [wish.start + (k + 0.5) / wish.fps for k in range(count)]
        self._jpegs: list[bytes] = []
        self._shown: av.VideoFrame | None = None
        self._shown_jpeg: bytes | None = None
        self._shown_until = 0.0
        self._size = (0, 0)
        self._reformatter = VideoReformatter()
        self.is_empty = True

    @property
    def done(self) -> bool:
        return len(self._jpegs) == len(self._times)

    def add(self, frame: av.VideoFrame, moment: float) -> None:
        self.is_empty = False
        if self._shown is None:
            self._show(frame, moment)
        while not self.done and self._times[len(self._jpegs)] < moment - _TICK:
            self._take()
        self._show(frame, moment)

    def _show(self, frame: av.VideoFrame, moment: float) -> None:
        self._shown, self._shown_jpeg = frame, None
        base = frame.time_base
        length = frame.duration * base.numerator / base.denominator if frame.duration else 0.0
        self._shown_until = moment + length

    def _take(self) -> None:
        if self._shown_jpeg is None:
            self._shown_jpeg = self._jpeg(self._shown)
        self._jpegs.append(self._shown_jpeg)

    def finish(self) -> tuple[list[bytes], int, int]:
        """Returns the JPEGs, their height and their width."""
        if self._shown is None:
            raise MediaError("no picture of the clip can be decoded")
        reach = self._shown_until + SLACK
        while not self.done:
            if self._times[len(self._jpegs)] > reach:
                raise MediaError(
                    f"the pictures stop at {self._shown_until:.2f} s, before the end of the clip "
                    f"at {self._wish.end:g} s"
                )
            self._take()
        return self._jpegs, *self._size

    def _jpeg(self, frame: av.VideoFrame) -> bytes:
        height, width = frame.height, max(1, round(frame.width * self._pixel_aspect))
        _check_size(width, height)  # the size can change inside a file
        factor = min(1.0, self._wish.min_side / min(height, width))
        height, width = max(1, round(height * factor)), max(1, round(width * factor))
        method = Interpolation.AREA if factor < 1 else Interpolation.BICUBIC
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=method, threads=1
        )
        pixels = np.rot90(rgb.to_ndarray(), round((frame.rotation or 0) / 90) % 4)
        if not self._jpegs:
            self._size = pixels.shape[:2]
        target = io.BytesIO()
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.save(target, "JPEG", quality=self._wish.jpeg_quality, subsampling="4:2:0")
        return target.getvalue()


class _Sound:
    """Collects decoded sound and cuts the clip from it."""

    def __init__(self, wish: Wish):
        self._wish = wish
        self._first = wish.start - _AUDIO_MARGIN
        self._last = wish.end + _AUDIO_MARGIN
        self._rate = 0
        self._buffer = np.zeros(0, np.float32)  # at the rate of the file, from time _first
        self._next: int | None = None  # where in the buffer the next frame follows without a gap
        self._heard = False
        self.done = False
        self.is_empty = True

    def add(self, frame: av.AudioFrame, moment: float) -> None:
        self.is_empty = False
        if moment >= self._last:
            self.done = True
            return
        if not self._rate:
            self._rate = frame.sample_rate
            self._buffer = np.zeros(round((self._last - self._first) * self._rate), np.float32)
        if frame.sample_rate != self._rate:
            raise MediaError("the sample rate changes inside the clip")
        samples = _mono(frame)
        place = round((moment - self._first) * self._rate)
        if self._next is not None and abs(place - self._next) <= _ROUNDING * self._rate:
            place = self._next
        self._next = place + len(samples)
        begin, end = max(place, 0), min(place + len(samples), len(self._buffer))
        if end > begin:
            self._buffer[begin:end] = samples[begin - place : end - place]
            self._heard |= moment < self._wish.end and end / self._rate > _AUDIO_MARGIN

    def finish(self) -> np.ndarray | None:
        """Returns the waveform, float32 [samples], or None if the clip has no sound."""
        if not self._heard:
            return None
        rate = self._wish.sample_rate
        count = round((self._wish.end - self._wish.start) * rate)
        margin = round(_AUDIO_MARGIN * rate)
        waveform = resample(self._buffer, self._rate, rate)[margin : margin + count]
        waveform = np.pad(waveform, (0, count - len(waveform)))
        if not np.isfinite(waveform).all():
            raise MediaError("the sound has values that are not finite")
        return np.clip(waveform, -1, 1)


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """Returns the mean of the channels, float32 [samples], full scale at 1."""
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
