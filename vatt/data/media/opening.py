"""Opens media files: local ones in known containers, and nothing that they name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av

from vatt.data.media import timing
from vatt.data.media.clip import MAX_PIXELS, MediaError

MAX_PROBE_BYTES = 5 * 2**20
TIMEOUT_S = 60.0  # per file, and ten times the clip's length if that is more
# None of these names further files. Those of the first line tell how long they are.
MEASURED = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,wav,w64,flac,asf,aiff,au,caf,gif,mxf"
CONTAINERS = (
    f"{MEASURED},mpegts,mpeg,mp3,aac,flv,ac3,eac3,amr,ape,apng,dts,dv,ivf,nut,rm,tta,voc,wtv,wv,"
    "h264,hevc,m4v,mjpeg,mpegvideo,obu,yuv4mpegpipe"
)
# What PyAV raises for damaged files, beside errors of FFmpeg.
UNREADABLE = (av.error.FFmpegError, ArithmeticError, LookupError, MemoryError, ValueError)


def checked(path: str | Path) -> Path:
    """Returns the absolute path of a file that is there and not empty.

    Raises:
      MediaError: it is not.
    """
    path = Path(path).absolute()  # absolute, so that no name can be read as a protocol or option
    try:
        if not path.is_file():
            raise MediaError("there is no such file")
        if path.stat().st_size == 0:
            raise MediaError("the file is empty")
    except (OSError, ValueError) as error:  # a name too long or impossible, no permission
        raise MediaError(f"cannot be read: {error}") from error
    return path


def open_media(path: Path) -> av.container.InputContainer:
    """Opens the container.

    Raises:
      MediaError: it cannot be opened, with the reason.
    """
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
    except UNREADABLE as error:
        raise MediaError(plain(error)) from error


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[tuple[av.container.InputContainer, float]]:
    """Opens a file for more than its clips; also gives the time stamp of its start (s).

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    with open_media(checked(path)) as container:
        try:
            yield container, timing.zero(container)
        except UNREADABLE as error:
            raise MediaError(plain(error)) from error


def plain(error: Exception) -> str:
    """Says what an error of PyAV means."""
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return "reading took too long"
    return f"cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def best(container: av.container.InputContainer, kind: str) -> av.stream.Stream | None:
    """Returns the main stream of a kind; a cover picture is not a video."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams if stream.type == kind]
    streams = [stream for stream in streams if not stream.disposition & cover]
    known = [stream for stream in streams if stream.codec_context is not None]
    if streams and not known:
        raise MediaError(f"the {kind} in the file has a codec that cannot be decoded")
    best = container.streams.best(kind)
    return best if best in known else next(iter(known), None)
