"""Subtitles inside a media file, as the text they are stored as.

Those inside its pictures (closed captions) are noticed but not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av

from vatt.data.media.opening import opened

CLOSED = (
    "closed captions in the pictures, not read: "
    'ffmpeg -f lavfi -i "movie=NAME.mp4[out+subcc]" -map 0:1 NAME.srt makes a file of them'
)
Subtitle = tuple[float, float, str]  # start and end (s from the start of the file), text with tags

_BEFORE = 30.0  # s before a piece from which on it is read: subtitles stay for seconds
_BEHIND = 5.0  # s by which streams of a file may lie apart


def _ass(payload: bytes) -> str:
    """ReadOrder, Layer, Style, Name, three margins, Effect, Text."""
    text = _utf8(payload).split(",", 8)[-1]
    return "" if "\\p1" in text else text.replace("\\n", "\n")  # "\p1": a drawing


def _mov_text(payload: bytes) -> str:
    """The length in two bytes, the text, boxes of styles."""
    text = payload[2 : 2 + int.from_bytes(payload[:2])]
    wide = text[:2] in (b"\xfe\xff", b"\xff\xfe")
    return text.decode("utf-16", "replace") if wide else _utf8(text)


def _utf8(payload: bytes) -> str:
    return payload.decode("utf-8", "replace")


_FORMS: dict[str, Callable[[bytes], str]] = {
    "ass": _ass,
    "ssa": _ass,
    "mov_text": _mov_text,
    "subrip": _utf8,
    "srt": _utf8,
    "text": _utf8,
    "webvtt": _utf8,
}


def first_stamp(path: str | Path) -> float:
    """Returns the time stamp at which a media file starts (s).

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    with opened(path) as (_, zero):
        return zero


def read_subtitles(
    path: str | Path,
    start: float,
    end: float,
    choose: Callable[[Sequence[str]], int | None],
) -> tuple[list[Subtitle], list[str], list[str]]:
    """Reads the subtitles of a file that are shown from `start` to `end` (s), and some before.

    Args:
      path: the media file.
      start: of the piece.
      end: of the piece.
      choose: returns which of several to take, by their languages; "" for an unknown one.

    Returns:
      The subtitles; the languages of all that are text; the kinds of those that are not, as
      pictures.

    Raises:
      MediaError: the file cannot be used, with the reason.
    """
    with opened(path) as (container, zero):
        streams = list(container.streams.subtitles)
        forms = [stream.codec_context.name if stream.codec_context else "" for stream in streams]
        others = [form or "unknown" for form in forms if form not in _FORMS]
        texts = [(s, form) for s, form in zip(streams, forms, strict=True) if form in _FORMS]
        # Of those of one language, the whole of what is said before what is foreign in it.
        texts.sort(key=lambda text: bool(text[0].disposition & av.stream.Disposition.forced))
        languages = [_language(stream) for stream, _ in texts]
        number = choose(languages)
        if number is None:
            return [], languages, others
        stream, form = texts[number]
        if start > _BEFORE:
            with contextlib.suppress(av.error.FFmpegError):  # then from the beginning
                container.seek(int((start - _BEFORE + zero) * av.time_base))
        found = list(_shown(container, stream, _FORMS[form], zero, end))
        return found, languages, others


def has_closed_captions(frame: av.VideoFrame) -> bool:
    """Whether a decoded picture carries text of CEA-608 or CEA-708; streams are filled up without.

    Three bytes each (ATSC A/53 part 4): whether they count and what they are, then two of data.
    """
    try:
        data = frame.side_data.get("A53_CC")
    except ValueError:  # beside it there is something that PyAV does not know
        return False
    found = bytes(data) if data is not None else b""
    for head, first, second in zip(found[::3], found[1::3], found[2::3], strict=False):
        kind = head & 3 if head & 4 else None
        # 608: two letters, without parity; 708: a packet begins whose first block is not empty.
        if (kind == 0 and first & 0x7F >= 0x20) or (kind == 3 and second):
            return True
    return False


def _language(stream: av.subtitles.stream.SubtitleStream) -> str:
    language = stream.language or ""
    return "" if language == "und" else language


def _shown(
    container: av.container.InputContainer,
    stream: av.subtitles.stream.SubtitleStream,
    form: Callable[[bytes], str],
    zero: float,
    end: float,
) -> Iterator[Subtitle]:
    """Yields what is shown before `end`; the other streams tell how far the file is read."""
    for packet in container.demux():
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or not packet.size:
            continue
        begin = float(stamp * packet.time_base) - zero
        if begin > end + _BEHIND:
            return
        if packet.stream is stream and begin < end:
            duration = float((packet.duration or 0) * packet.time_base)
            yield begin, begin + duration, form(bytes(packet))
