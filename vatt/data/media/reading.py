"""Opens a media file, finds out how long it is, and decodes a clip of it."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av

from vatt.data.media.clip import (
    MAX_FRAMES,
    MAX_PIXELS,
    SLACK,
    MediaClip,
    MediaError,
    Request,
    check_size,
)
from vatt.data.media.pictures import TICK, Pictures, pixel_aspect
from vatt.data.media.sound import Sound
from vatt.data.media.stills import open_still, read_still

MAX_SECONDS = 6 * 3600.0
MAX_PROBE_BYTES = 5 * 2**20
TIMEOUT_S = 60.0  # per file, and ten times the clip's length if that is more
# None of these names further files. Those of the first line tell how long they are.
_MEASURED = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,wav,w64,flac,asf,aiff,au,caf,gif,mxf"
CONTAINERS = (
    f"{_MEASURED},mpegts,mpeg,mp3,aac,flv,ac3,eac3,amr,ape,apng,dts,dv,ivf,nut,rm,tta,voc,wtv,wv,"
    "h264,hevc,m4v,mjpeg,mpegvideo,obu,yuv4mpegpipe"
)
# What PyAV raises for damaged files, beside errors of FFmpeg.
_UNREADABLE = (av.error.FFmpegError, ArithmeticError, LookupError, MemoryError, ValueError)
_SEEK_MARGINS = (0.25, 10.0, None)  # s before the clip to seek to, one after another; None: do not
_GUESS = 0.1  # s by which a guessed length may be off: it can know of padding that packets do not
_SOUNDS = 64  # packets of sound decoded at a time
_LOOK_AHEAD = 16  # packets of pictures, as far as H.264 can put them out of order


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
    path = _checked(path)
    still = open_still(path)
    if still is not None:
        if start or end:
            raise MediaError("a still image has no time: leave start and end of the clip empty")
        with still:
            return read_still(still, path, Request(0, 0, fps, min_side, sample_rate, jpeg_quality))
    begin, now = start or 0.0, time.monotonic()
    for margin in _SEEK_MARGINS:
        if margin is not None and begin <= 2 * margin:
            continue
        with _open(path) as container:
            try:
                finish = _checked_end(container, path, begin, end)
                request = Request(begin, finish, fps, min_side, sample_rate, jpeg_quality)
                clip = _decode(container, request, margin, now, shorten=end is None)
            except _UNREADABLE as error:
                raise MediaError(_plain(error)) from error
        if clip is not None:
            return clip
    raise MediaError("the start of the clip cannot be found in the file")


def length(path: str | Path) -> float:
    """Returns how long a file is (s); 0 for a still image.

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    path = _checked(path)
    still = open_still(path)
    if still is not None:
        still.close()
        return 0.0
    with _open(path) as container:
        try:
            return _checked_end(container, path, 0.0, None)
        except _UNREADABLE as error:
            raise MediaError(_plain(error)) from error


# Opening -----------------------------------------------------------------------------------------


def _checked(path: str | Path) -> Path:
    path = Path(path).absolute()  # absolute, so that no name can be read as a protocol or option
    try:
        if not path.is_file():
            raise MediaError("there is no such file")
        if path.stat().st_size == 0:
            raise MediaError("the file is empty")
    except (OSError, ValueError) as error:  # a name too long or impossible, no permission
        raise MediaError(f"cannot be read: {error}") from error
    return path


def _open(path: Path) -> av.container.InputContainer:
    options = {
        "protocol_whitelist": "file,pipe",
        "format_whitelist": CONTAINERS,
        "probesize": str(MAX_PROBE_BYTES),
        "max_pixels": str(MAX_PIXELS),
        "fflags": "-genpts",  # what FFmpeg would make up is wrong for H.264 in AVI
    }
    try:
        return av.open(str(path), options=options, timeout=TIMEOUT_S, metadata_errors="replace")
    except av.error.InvalidDataError as error:
        reason = "not a media file, or damaged (its container cannot be read)"
        raise MediaError(reason) from error
    except av.error.ArgumentError as error:  # so FFmpeg answers what CONTAINERS does not list
        raise MediaError("not a media file of a supported kind (playlists are refused)") from error
    except _UNREADABLE as error:
        raise MediaError(_plain(error)) from error


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[tuple[av.container.InputContainer, float]]:
    """Opens a file for more than its clips; also gives the time stamp of its start (s).

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    with _open(_checked(path)) as container:
        try:
            yield container, _zero(container)
        except _UNREADABLE as error:
            raise MediaError(_plain(error)) from error


def _plain(error: Exception) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return "reading took too long"
    return f"cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def _best(container: av.container.InputContainer, kind: str) -> av.stream.Stream | None:
    """Returns the main stream of a kind; a cover picture is not a video."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams if stream.type == kind]
    streams = [stream for stream in streams if not stream.disposition & cover]
    known = [stream for stream in streams if stream.codec_context is not None]
    if streams and not known:
        raise MediaError(f"the {kind} in the file has a codec that cannot be decoded")
    best = container.streams.best(kind)
    return best if best in known else next(iter(known), None)


# How long a file is ------------------------------------------------------------------------------


def _checked_end(
    container: av.container.InputContainer, path: Path, begin: float, end: float | None
) -> float:
    """Checks what the headers say against the limits and returns the end of the clip (s)."""
    video, audio = _best(container, "video"), _best(container, "audio")
    if video is None and audio is None:
        raise MediaError("the file has neither pictures nor sound")
    if video is not None:
        width, height = video.codec_context.width, video.codec_context.height
        if width <= 0 or height <= 0:
            # FFmpeg itself also refuses what exceeds the limit, and then tells no size.
            raise MediaError(f"the size of the pictures is not known or above {MAX_PIXELS} pixels")
        check_size(max(1, round(width * pixel_aspect(video))), height)
        if video.frames > MAX_FRAMES:
            raise MediaError(f"{video.frames} pictures exceed the limit of {MAX_FRAMES}")
    duration = _duration(container)
    if duration is None and end is None:
        duration = _walked(path, (container.duration or 0) / av.time_base)
    if duration is not None and duration > MAX_SECONDS:
        raise MediaError(f"{duration:.0f} s exceed the limit of {MAX_SECONDS:.0f} s")
    finish = duration if end is None else end
    if duration is not None and begin >= duration:
        raise MediaError(f"the clip starts at {begin:g} s but the file ends at {duration:g} s")
    if duration is not None and finish > duration + SLACK:
        raise MediaError(f"the clip ends at {finish:g} s but the file ends at {duration:g} s")
    if finish <= begin:
        raise MediaError(f"the clip ends at {finish:g} s, not after its start at {begin:g} s")
    if finish > MAX_SECONDS:
        raise MediaError(f"{finish:.0f} s exceed the limit of {MAX_SECONDS:.0f} s")
    return finish


def _duration(container: av.container.InputContainer) -> float | None:
    """Returns the length that the header of a file tells (s); None where FFmpeg only guesses it."""
    names = container.format.name.split(",")
    if not set(names) & set(_MEASURED.split(",")):
        return None
    streams = [stream for stream in container.streams if stream.duration]
    # Matroska tells it for the whole file: a length for each stream is guessed from the bit rate.
    if "matroska" in names and any(stream.start_time is not None for stream in streams):
        return None
    if container.duration:
        return container.duration / av.time_base
    return max((float(stream.duration * stream.time_base) for stream in streams), default=None)


def _walked(path: Path, guess: float) -> float:
    """Returns how long a file is (s) from the packets in it, or `guess` if that is confirmed."""
    deadline = time.monotonic() + TIMEOUT_S
    with _open(path) as container:
        zero = _zero(container)
        streams = [s for s in (_best(container, kind) for kind in ("video", "audio")) if s]
        ends = {stream.index: 0.0 for stream in streams}
        pictures = 0
        for packet in container.demux(streams):
            if not packet.size:
                continue
            index, tick = packet.stream.index, float(packet.time_base)
            stamp = packet.dts if packet.pts is None else packet.pts
            begin = ends[index] if stamp is None else stamp * tick - zero
            interval = packet.duration * tick if packet.duration else _interval(packet.stream)
            ends[index] = max(ends[index], begin + interval)
            pictures += packet.stream.type == "video"
            if pictures > MAX_FRAMES or max(ends.values()) > MAX_SECONDS:
                raise MediaError(
                    f"the file exceeds the limit of {MAX_FRAMES} pictures or {MAX_SECONDS:.0f} s"
                )
            if time.monotonic() > deadline:
                raise MediaError("reading took too long")
    end = max(ends.values())
    return guess if abs(guess - end) < _GUESS else end


def _interval(stream: av.stream.Stream) -> float:
    """Returns how long one picture is shown (s); 0 where this is not known."""
    rate = stream.average_rate if stream.type == "video" else None
    return 1 / float(rate) if rate else 0.0


def _zero(container: av.container.InputContainer) -> float:
    return max(0.0, (container.start_time or 0) / av.time_base)


# Decoding ----------------------------------------------------------------------------------------


def _decode(
    container: av.container.InputContainer,
    request: Request,
    margin: float | None,
    started: float,
    shorten: bool,
) -> MediaClip | None:
    """Decodes a clip; None: after seeking, its first frame was already past."""
    if request.num_frames() > MAX_FRAMES:
        raise MediaError(f"{request.num_frames()} pictures exceed the limit of {MAX_FRAMES}")
    zero = _zero(container)
    video, audio = _best(container, "video"), _best(container, "audio")
    pictures = Pictures(request, zero, video) if video is not None else None
    sound = Sound(request) if audio is not None else None
    streams = [stream for stream in (video, audio) if stream is not None]
    for stream in streams:
        stream.codec_context.thread_count = 1  # clips are decoded in parallel, not pictures
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    if margin is not None:
        try:
            container.seek(int((request.start - margin + zero) * av.time_base))
        except av.error.FFmpegError:
            return None
    deadline = started + max(TIMEOUT_S, 10 * (request.end - request.start))
    for packet in _ahead(container, streams, video, pictures):
        if time.monotonic() > deadline:
            raise MediaError("decoding took too long")
        sink = pictures if packet.stream is video else sound
        if sink.done:
            if all(part is None or part.done for part in (pictures, sound)):
                break
            continue
        try:
            frames = sink.decode(packet)
        except av.error.InvalidDataError:
            continue  # a damaged packet; what is missing at the end is noticed there
        for frame in frames:
            if frame.pts is None:
                frame.pts = frame.dts
            stamped = frame.pts is not None
            moment = frame.time - zero if stamped else sink.reach
            late = moment > max(request.start + TICK, _SEEK_MARGINS[0]) or not stamped
            if margin is not None and sink.is_empty and late:
                return None
            sink.add(frame, moment)
    if margin is not None and (pictures or sound).is_empty:
        return None  # after seeking, there was no picture that others do not have to come before
    clip = MediaClip(request.start, request.end)
    if pictures is not None:
        whole = sound is not None and sound.reach > request.end - SLACK
        pictures.finish(clip, shorten=shorten and whole)
    if sound is not None:
        if pictures is None:
            sound.check_reach()
        clip.waveform = sound.finish(clip.end)
    if not clip.frames and clip.waveform is None:
        raise MediaError("the clip has neither pictures nor sound")
    return clip


def _ahead(
    container: av.container.InputContainer,
    streams: list[av.stream.Stream],
    video: av.VideoStream | None,
    pictures: Pictures | None,
) -> Iterator[av.Packet]:
    """Yields packets, those of pictures so late that the time stamps around them are known.

    Those of sound come many at a time: to go to and fro between the two takes longer.
    """
    waiting: deque[av.Packet] = deque()
    sounds: list[av.Packet] = []
    for packet in container.demux(streams):
        last = not packet.size and packet.dts is None  # makes the decoder give what it has
        if packet.stream is not video:
            sounds.append(packet)
            if last or len(sounds) == _SOUNDS:
                yield from sounds
                sounds.clear()
        elif last:
            yield from waiting
            yield packet
        elif packet.size:
            pictures.expect(packet)
            waiting.append(packet)
            if len(waiting) > _LOOK_AHEAD:
                yield waiting.popleft()
