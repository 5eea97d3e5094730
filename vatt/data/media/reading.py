"""Opens a media file, finds out how long it is, and decodes a clip of it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av

from vatt.data.media import opening, timing
from vatt.data.media.clip import (
    AUTO,
    MAX_FRAMES,
    MAX_PIXELS,
    SLACK,
    MediaClip,
    MediaError,
    Request,
    UnknownEndError,
    check_size,
)
from vatt.data.media.pictures import TICK, Pictures, Unseen, pixel_aspect
from vatt.data.media.sound import Sound
from vatt.data.media.stills import open_still, read_still
from vatt.notices import Notices

MAX_SECONDS = 6 * 3600.0
_LONG_MARGIN = 10.0
_SEEK_MARGINS = (
    0.25,
    _LONG_MARGIN,
    None,
)  # s before the clip to seek to, one after another; None: do not
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
    downmix: str = AUTO,
    still: bool = False,
    pictures: bool = True,
    sound: bool = True,
    shorten: bool | None = None,
    opened: av.container.InputContainer | None = None,
) -> MediaClip:
    """Decodes the piece of a file from `start` to `end` (s; None: from or to the end of the file).

    Args:
      path: of the file.
      start: s.
      end: s.
      fps: pictures per second.
      min_side: of the pictures.
      sample_rate: Hz.
      jpeg_quality: of the pictures.
      downmix: what several channels of sound become.
      still: of an animated image the first picture is taken, as of one that is not.
      pictures: False decodes the sound alone where there is any: the same as with the pictures. A
        few kinds of files do not say when pictures are shown; if theirs may stop before the sound
        does, they are decoded.
      sound: False decodes the pictures alone where they last as long as the clip; else how long
        they stay depends on the sound.
      shorten: whether the clip may end with its pictures where the sound goes on; None: if it has
        no `end`.
      opened: the file, as `measured` gives it; it is closed.

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    how = {"fps": fps, "min_side": min_side, "sample_rate": sample_rate}
    how |= {"jpeg_quality": jpeg_quality, "downmix": downmix}
    how["shorten"] = end is None if shorten is None else shorten
    if not (pictures and sound):
        wanted = {"pictures": pictures, "sound": sound}
        with contextlib.suppress(UnknownEndError if sound else MediaError):
            return _read(path, start, end, how | wanted, still, opened)
        opened = None
    return _read(path, start, end, how, still, opened)


def _read(
    path: str | Path,
    start: float | None,
    end: float | None,
    how: dict,
    still: bool,
    opened: av.container.InputContainer | None,
) -> MediaClip:
    path = opening.checked(path)
    image = open_still(path, first=still)
    if image is not None:
        if start or end:
            raise MediaError("a still image has no time: leave start and end of the clip empty")
        with image:
            return read_still(image, path, Request(0, 0, **how))
    begin, began = start or 0.0, None
    for margin in _SEEK_MARGINS:
        if margin is not None and begin <= 2 * margin:
            continue
        with opened or opening.open_media(path) as container:
            opened = None
            try:
                finish, joined = _checked_end(container, path, begin, end)
                if margin is not None and (joined or margin < _least_margin(container)):
                    continue
                began = began or time.monotonic()  # reading for the length has a limit of its own
                request = Request(begin, finish, **how)
                clip = _decode(container, request, margin, began, joined)
            except opening.UNREADABLE as error:
                raise MediaError(opening.plain(error)) from error
        if clip is not None:
            return clip
    raise MediaError("the start of the clip cannot be found in the file")


def _least_margin(container: av.container.InputContainer) -> float:
    """Returns how long before a clip to begin at least (s)."""
    return _LONG_MARGIN if timing.is_program_stream(container) else 0.0


def length(path: str | Path) -> float:
    """Returns how long a file is (s); 0 for a still image.

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    seconds, container = measured(path)
    if container is not None:
        container.close()
    return seconds


def measured(path: str | Path) -> tuple[float, av.container.InputContainer | None]:
    """Returns how long a file is (s), and the file, opened for `read_clip`.

    For a still image these are 0 and None.

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    path = opening.checked(path)
    still = open_still(path)
    if still is not None:
        still.close()
        return 0.0, None
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(opening.open_media(path))
        try:
            seconds = _checked_end(container, path, 0.0, None)[0]
        except opening.UNREADABLE as error:
            raise MediaError(opening.plain(error)) from error
        stack.pop_all()
    return seconds, container


# How long a file is ------------------------------------------------------------------------------


def _checked_end(
    container: av.container.InputContainer, path: Path, begin: float, end: float | None
) -> tuple[float, bool]:
    """Checks what the headers say against the limits.

    Returns the end of the clip (s), and whether the file is joined of several recordings.
    """
    video, audio = opening.best(container, "video"), opening.best(container, "audio")
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
    duration, joined = _duration(container), False
    if timing.may_be_joined(container) or (duration is None and end is None):
        stat = path.stat()
        version = (stat.st_size, stat.st_mtime_ns)
        found = _walked(path, version, (container.duration or 0) / av.time_base)
        if isinstance(found, tuple):
            joined = found[1]
            duration = found[0] if duration is None or joined else duration
        elif duration is None and end is None:
            raise found
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
    return finish, joined


def _duration(container: av.container.InputContainer) -> float | None:
    """Returns the length that the header of a file tells (s); None where FFmpeg only guesses it."""
    names = container.format.name.split(",")
    if not set(names) & set(opening.MEASURED.split(",")):
        return None
    streams = [stream for stream in container.streams if stream.duration]
    # Matroska tells it for the whole file: a length for each stream is guessed from the bit rate.
    if "matroska" in names and any(stream.start_time is not None for stream in streams):
        return None
    if container.duration:
        return container.duration / av.time_base
    return max((float(stream.duration * stream.time_base) for stream in streams), default=None)


@functools.lru_cache(maxsize=256)
def _walked(path: Path, version: tuple[int, int], guess: float) -> tuple[float, bool] | MediaError:
    """Reads a file from end to end, once in each `version` of it.

    Returns how long it is (s) from the packets in it, or `guess` if that is confirmed, and whether
    it is joined of several recordings; or why this cannot be told.
    """
    try:
        return _walk(path, guess)
    except MediaError as error:
        return error
    except opening.UNREADABLE as error:
        return MediaError(opening.plain(error))


def _walk(path: Path, guess: float) -> tuple[float, bool]:
    deadline = time.monotonic() + opening.TIMEOUT_S
    with opening.open_media(path) as container:
        zero = timing.zero(container)
        clock = timing.Clock() if timing.may_be_joined(container) else None
        streams = [s for s in (opening.best(container, kind) for kind in ("video", "audio")) if s]
        ends = {stream.index: 0.0 for stream in streams}
        pictures = 0
        for packet in container.demux(streams):
            if not packet.size:
                continue
            if clock is not None:
                clock.correct(packet)
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
    joined = clock is not None and bool(clock.joints)
    return (guess if abs(guess - end) < _GUESS and not joined else end), joined


def _interval(stream: av.stream.Stream) -> float:
    """Returns how long one picture is shown (s); 0 where this is not known."""
    rate = stream.average_rate if stream.type == "video" else None
    return 1 / float(rate) if rate else 0.0


# Decoding ----------------------------------------------------------------------------------------


def _decode(
    container: av.container.InputContainer,
    request: Request,
    margin: float | None,
    started: float,
    joined: bool,
) -> MediaClip | None:
    """Decodes a clip; None: after seeking, its first frame was already past."""
    if request.num_frames() > MAX_FRAMES:
        raise MediaError(f"{request.num_frames()} pictures exceed the limit of {MAX_FRAMES}")
    zero, notices = timing.zero(container), Notices()
    video, audio = opening.best(container, "video"), opening.best(container, "audio")
    if not ((video and request.pictures) or (audio and request.sound)):
        return MediaClip(request.start, request.end)  # nobody wants what is there
    audio = audio if request.sound or joined else None
    pictures = None
    if video is not None:
        counted = timing.is_program_stream(container)
        pictures = _pictures(request, zero, video, notices, counted)
    sound = Sound(request, zero, notices) if audio is not None else None
    streams = [stream for stream in (video, audio) if stream is not None]
    for stream in streams:
        stream.codec_context.thread_count = 1  # clips are decoded in parallel, not pictures
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    if margin is not None:
        try:
            container.seek(int((request.start - margin + zero) * av.time_base))
        except av.error.FFmpegError:
            return None
    deadline = started + max(opening.TIMEOUT_S, 10 * (request.end - request.start))
    clock = timing.Clock() if joined else None
    for packet in _ahead(container, streams, video, pictures, clock):
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
            stamp = packet.dts if packet.pts is None else packet.pts
            sink.miss(None if stamp is None else float(stamp * packet.time_base) - zero)
            continue
        for frame in frames:
            moment = sink.moment(frame)
            late = moment is None or moment > max(request.start + TICK, _SEEK_MARGINS[0])
            if margin is not None and sink.is_empty and late:
                return None
            sink.add(frame, sink.reach if moment is None else moment)
    if margin is not None and (pictures or sound).is_empty:
        return None  # after seeking, there was no picture that others do not have to come before
    if clock is not None and clock.joints:
        detail = "at " + ", ".join(f"{joint - zero:.2f} s" for joint in clock.joints)
        notices.add("joined recordings: their time stamps are put in a row", detail)
    clip = MediaClip(request.start, request.end, notices=notices)
    return _finished(clip, request, pictures, sound)


def _pictures(
    request: Request, zero: float, video: av.VideoStream, notices: Notices, counted: bool
) -> Pictures | Unseen:
    """What takes the pictures of a stream; they are counted where stamps cannot be relied on."""
    if not request.pictures:
        return Unseen(request, zero, video, not counted)
    return Pictures(request, zero, video, notices, timing.Steady() if counted else None)


def _finished(
    clip: MediaClip,
    request: Request,
    pictures: Pictures | Unseen | None,
    sound: Sound | None,
) -> MediaClip:
    """Gives a clip what was decoded."""
    if pictures is not None:
        whole = sound is not None and sound.reach > request.end - SLACK
        pictures.finish(clip, whole)
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
    pictures: Pictures | Unseen | None,
    clock: timing.Clock | None,
) -> Iterator[av.Packet]:
    """Yields packets, those of pictures so late that the time stamps around them are known.

    Those of sound come many at a time: to go to and fro between the two takes longer.
    """
    waiting: deque[av.Packet] = deque()
    sounds: list[av.Packet] = []
    for packet in container.demux(streams):
        if clock is not None:
            clock.correct(packet)
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
