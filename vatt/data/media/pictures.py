"""Pictures of a media file: which of them a clip takes, and how they become JPEG."""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right, insort

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from PIL import Image

from vatt.data.media import filters, timing
from vatt.data.media.clip import (
    MAX_BYTES,
    SLACK,
    MediaClip,
    MediaError,
    Request,
    UnknownEndError,
    check_size,
)
from vatt.data.media.subtitles import CLOSED, has_closed_captions
from vatt.notices import Notices

TICK = 1e-4  # s by which a time stamp may be late
_DOUBT = 2e-3  # s around an instant within which a picture is decoded though it may not be taken
_WAITING = 8 * 1280 * 720  # pixels of pictures that are not yet JPEG
_PAUSE = 1.0  # s between pictures, of which the file says that they last less
_KNOWN = 64  # time stamps that are remembered: more than pictures can be out of order
_COLOURS = (0, 1, 2, 4, 5, 6, 7, 9)  # colour spaces of ISO/IEC 23001-8 that FFmpeg converts
_COLOURS_OF_JPEG = (2, 5, 6)  # BT.601; players take it for that where a file does not say
_UNKNOWN_COLOURS = 2
_UNSURE = 0.3  # s by which packets without time stamps may be off, as pictures out of order are
_LIKE = 0.03  # of a side by which shapes may differ so that one is stretched to the other
ON_WHITE = "transparent pictures: laid on white"
_EQUAL = {"interpolation": Interpolation.BICUBIC, "threads": 1}
_SMALLER = {"interpolation": Interpolation.AREA, "threads": 1}
# What 16 to 235 (Y) and 16 to 240 (Cb, Cr) of videos are in JPEG, 0 to 255.
_LUMA = bytes(min(max(round((y - 16) * 255 / 219), 0), 255) for y in range(256))
_CHROMA = bytes(min(max(round((c - 128) * 255 / 224 + 128), 0), 255) for c in range(256))
_AS_IT_IS = bytes(range(256))


class Pictures:
    """Picks the frames of a clip from decoded frames in order of time."""

    def __init__(
        self,
        request: Request,
        zero: float,
        video: av.VideoStream,
        notices: Notices,
        steady: timing.Steady | None = None,
    ):
        self._request = request
        self._zero = zero  # s, time stamp of the start of the file
        self._video = video
        self._tick = float(video.time_base)
        count = request.num_frames()
        self._times = [request.moment(k) for k in range(count)]
        self._stamps: list[int] = []  # of pictures about to be decoded, in order of time
        self._count = 0  # frames taken
        self._taken: list[list] = []  # pictures that are not yet JPEG: [picture, how many times]
        self._jpegs: list[bytes] = []
        self._bytes = 0
        self._shown: av.VideoFrame | None = None
        self._notices, self._steady = notices, steady
        self._encoder = Encoder(request, notices, pixel_aspect(video))
        self._packets = 0
        self._first = 0.0  # s, when the first picture is shown
        self._is_damaged = False  # since the last picture that needs no others
        self._shown_damaged = False
        self._damaged = self._lost = 0  # frames taken, packets
        self._pauses: list[float] = []  # s
        self._has_captions = False
        self.is_empty = True
        self.reach = 0.0  # s, until when the last picture is shown

    @property
    def done(self) -> bool:
        """Whether the clip has all its frames."""
        return self._count == len(self._times)

    def expect(self, packet: av.Packet) -> None:
        """Tells of a packet that will be decoded; comes some packets ahead of `decode`."""
        self._packets += 1
        if packet.pts is not None:
            insort(self._stamps, packet.pts)
            del self._stamps[:-_KNOWN]

    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        """Decodes a packet; H.264 pictures that are neither taken nor referred to are left out."""
        codec = self._video.codec_context
        if codec.name == "h264" and codec.has_b_frames and self._steady is None:
            codec.skip_frame = "DEFAULT" if self._may_be_taken(packet.pts) else "NONREF"
        self._is_damaged |= packet.is_corrupt
        return packet.decode()

    def miss(self, moment: float | None) -> None:
        """Counts a packet that cannot be decoded, which would be shown at `moment` (s)."""
        self._is_damaged = True
        self._lost += moment is not None and self._request.start <= moment < self._request.end

    def _may_be_taken(self, stamp: int | None) -> bool:
        """Whether the picture with this time stamp is shown at an instant that is asked for."""
        after = bisect_right(self._stamps, stamp) if stamp is not None else 0
        if after <= 1:  # not known, or the first: that is shown before its time, too
            return True
        shown = stamp * self._tick - self._zero - _DOUBT
        index = bisect_left(self._times, shown)
        if index == len(self._times) or after == len(self._stamps):
            return index < len(self._times)
        return self._times[index] < self._stamps[after] * self._tick - self._zero + _DOUBT

    def moment(self, frame: av.VideoFrame) -> float | None:
        """Returns from when a decoded frame is shown (s); None: its file does not say."""
        stamped = timing.stamped(frame, self._zero)
        if self._steady is None:
            return stamped
        return self._steady.moment(stamped, _lasts(frame, self._video))

    def add(self, frame: av.VideoFrame, moment: float) -> None:
        """Takes a frame that is shown from `moment` (s)."""
        self.is_empty = False
        self._has_captions = self._has_captions or has_closed_captions(frame)
        self._is_damaged = frame.is_corrupt or (self._is_damaged and not frame.key_frame)
        if self._shown is None:
            self._first = moment
            self._show(frame, moment)
        if moment > max(self.reach, self._request.start) + _PAUSE:
            self._pauses.append(moment - self.reach)
        while not self.done and self._times[self._count] < moment - TICK:
            self._take()
        self._show(frame, moment)

    def _show(self, frame: av.VideoFrame, moment: float) -> None:
        self._shown, self._shown_damaged = frame, self._is_damaged
        self.reach = moment + _lasts(frame, self._video)

    def _take(self) -> None:
        self._count += 1
        self._damaged += self._shown_damaged
        if self._taken and self._taken[-1][0] is self._shown:
            self._taken[-1][1] += 1
            return
        if len(self._taken) * self._shown.width * self._shown.height >= _WAITING:
            self._encode()
        self._taken.append([self._shown, 1])

    def _encode(self) -> None:
        """Makes JPEGs of the pictures that wait: many at a time take less time."""
        for frame, times in self._taken:
            jpeg = self._encoder.encode(frame)
            self._bytes += len(jpeg) * times
            if self._bytes > MAX_BYTES:
                raise MediaError("the clip is too long for one record: give its start and end")
            self._jpegs += [jpeg] * times
        self._taken.clear()

    def finish(self, clip: MediaClip, has_sound: bool) -> None:
        """Gives a clip its pictures.

        Args:
          clip: gets them.
          has_sound: whether there is sound up to its end; then a single picture stays as long.
        """
        if self._shown is None:
            raise MediaError("no picture of the clip can be decoded")
        end = self._request.end
        stays = has_sound and self._packets == 1 and self._first <= SLACK
        if stays and end > self.reach + SLACK:
            self._notices.add("a single picture with long sound: it stays", f"up to {end:.2f} s")
        while not self.done and (stays or self._times[self._count] <= self.reach + SLACK):
            self._take()
        self._encode()
        self._tell()
        if not self.done:
            if not (self._request.shorten and has_sound) or self.reach <= self._request.start:
                raise MediaError(
                    f"the pictures stop at {self.reach:.2f} s, before the end of the clip "
                    f"at {end:g} s"
                )
            _end_with_pictures(clip, self.reach)
            del self._jpegs[self._request.num_frames(clip.end) :]
        clip.frames = self._jpegs
        clip.height, clip.width = self._encoder.size

    def _tell(self) -> None:
        """Tells what is damaged, missing or left out."""
        if self._has_captions:
            self._notices.add(CLOSED, whole_file=True)
        if self._damaged or self._lost:
            detail = f"{self._damaged} of {self._count} stored pictures"
            detail += f", {self._lost} packets lost" if self._lost else ""
            self._notices.add("damaged pictures: stored as far as they can be decoded", detail)
        if self._pauses:
            detail = f"{len(self._pauses)}, {sum(self._pauses):.2f} s in all"
            self._notices.add("gaps between the pictures: the last one stays", detail)


class Unseen:
    """Pictures that nobody wants: how long they last is known from their packets, none is decoded.

    A clip without a wished end ends as it would with `Pictures`. Where time stamps are missing,
    as in AVI with B pictures, or made up, as in program streams, that is known only if they come
    near its end.
    """

    def __init__(self, request: Request, zero: float, video: av.VideoStream, exact: bool):
        self._request = request
        self._zero = zero  # s, time stamp of the start of the file
        self._video = video
        self._exact = exact  # whether all packets say when they are shown
        self._packets = 0
        self._first = self._reach = 0.0  # s

    @property
    def done(self) -> bool:
        """Whether no more of them needs to be known."""
        return not self._request.shorten or self._reach >= self._request.end

    @property
    def is_empty(self) -> bool:
        """Whether none came."""
        return not self._packets

    def expect(self, packet: av.Packet) -> None:
        """Notes when the picture in a packet is shown, and until when."""
        if packet.is_discard:
            return
        self._packets += 1
        self._exact &= packet.pts is not None
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            return
        base = packet.time_base
        moment = stamp * base.numerator / base.denominator - self._zero
        self._first = moment if self._packets == 1 else min(self._first, moment)
        self._reach = max(self._reach, moment + _lasts(packet, self._video))

    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        """Decodes nothing."""
        return []

    def finish(self, clip: MediaClip, has_sound: bool) -> None:
        """Ends a clip where the pictures do, if it has sound up to its end that goes on for longer.

        Raises:
          UnknownEndError: the packets do not tell where that is.
        """
        stays = self._packets == 1 and self._first <= SLACK
        if not self._request.shorten or not has_sound or (self._exact and stays):
            return
        last = self._request.moment(self._request.num_frames() - 1)
        if not self._exact and last > self._reach + SLACK - _UNSURE:
            raise UnknownEndError("how long the pictures last is not known before they are decoded")
        if last > self._reach + SLACK and self._reach > self._request.start:
            _end_with_pictures(clip, self._reach)


def _lasts(picture: av.VideoFrame | av.Packet, video: av.VideoStream) -> float:
    """Returns how long a picture is shown (s)."""
    if picture.duration:
        return picture.duration * float(video.time_base)
    return 1 / float(video.average_rate) if video.average_rate else 0.0


def _end_with_pictures(clip: MediaClip, reach: float) -> None:
    """Leaves out the sound after the last picture, which is shown until `reach` (s)."""
    detail = f"from {reach:.2f} to {clip.end:.2f} s"
    clip.notices.add("the sound goes on after the last picture: left out", detail)
    clip.end = reach


class Encoder:
    """Makes JPEGs of frames: upright, with square pixels, the shorter side reduced.

    All have the size of the first one, whatever comes after it.
    """

    def __init__(self, request: Request, notices: Notices, aspect: float = 1.0):
        self._request, self._notices, self._aspect = request, notices, aspect
        self._scaler, self._converter = VideoReformatter(), VideoReformatter()
        self._asked: tuple[int, int] | None = None  # width and height of the first, as it lies
        self._stored = (0, 0)  # and as it is stored
        self.size = (0, 0)  # height and width of the first

    def encode(self, frame: av.VideoFrame) -> bytes:
        """Returns a frame as JPEG."""
        image = _upright(self._fitted(frame), frame)
        if self.size == (0, 0):
            self.size = (image.height, image.width)
        target = io.BytesIO()
        image.save(target, "JPEG", quality=self._request.jpeg_quality, subsampling="4:2:0")
        return target.getvalue()

    def _fitted(self, frame: av.VideoFrame) -> Image.Image:
        """Returns a frame at the size that is stored; of another shape, with black beside it."""
        height, width = frame.height, max(1, round(frame.width * self._aspect))
        check_size(width, height)  # the size can change inside a file
        if self._asked is None:
            factor = min(1.0, self._request.min_side / min(height, width))
            self._asked = (width, height)
            self._stored = (max(1, round(width * factor)), max(1, round(height * factor)))
        if self._asked == (width, height):
            return self._made(frame, *self._stored, self._stored != self._asked)
        detail = "{}x{}, then {}x{}".format(*self._asked, width, height)
        self._notices.add("the size of the pictures changes: all are stored at the first", detail)
        factor = min(self._stored[0] / width, self._stored[1] / height)
        inner = (max(1, round(width * factor)), max(1, round(height * factor)))
        free = [b - a for a, b in zip(inner, self._stored, strict=True)]
        if all(a <= _LIKE * b for a, b in zip(free, self._stored, strict=True)):
            return self._made(frame, *self._stored, factor < 1)
        whole = Image.new("RGB", self._stored)
        image = self._made(frame, *inner, factor < 1)
        whole.paste(image.convert("RGB"), (free[0] // 2, free[1] // 2))
        return whole

    def _made(self, frame: av.VideoFrame, width: int, height: int, smaller: bool) -> Image.Image:
        """Returns a frame at another size, without rows of two times and transparency."""
        if frame.colorspace not in _COLOURS:
            frame.colorspace = _UNKNOWN_COLOURS
        if frame.interlaced_frame and frame.height > 1:
            self._notices.add("interlaced pictures: one field of each is stored")
            frame = filters.one_field(frame)
        if filters.has_alpha(frame):
            rgba = self._converter.reformat(frame, format="rgba", **_EQUAL)
            visible = filters.on_white(Image.fromarray(rgba.to_ndarray()))
            if visible is not None:
                self._notices.add(ON_WHITE)
                frame = av.VideoFrame.from_ndarray(np.asarray(visible), "rgb24")
        return self._converted(frame, width, height, smaller)

    def _converted(
        self, frame: av.VideoFrame, width: int, height: int, smaller: bool
    ) -> Image.Image:
        """Returns a frame at another size, in RGB or in what JPEG makes of it, YCbCr."""
        size = (width, height)
        if filters.is_hdr(frame):
            self._notices.add("HDR pictures: tone-mapped to the range of ordinary screens")
            how = _SMALLER if smaller else _EQUAL
            deep = self._converter.reformat(frame, *size, "rgb48le", **how).to_ndarray()
            facts = (frame.color_trc, frame.color_primaries)
            return Image.fromarray(filters.tone_mapped(deep, *facts))
        if not smaller:
            rgb = self._converter.reformat(frame, *size, "rgb24", **_EQUAL)
            return Image.fromarray(rgb.to_ndarray())
        if frame.format.is_rgb or len(frame.format.components) < 3:  # grey, palettes
            rgb = self._converter.reformat(frame, *size, "rgb24", **_SMALLER)
            return Image.fromarray(rgb.to_ndarray())
        # FFmpeg takes long to scale and to convert to RGB in one step.
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        span = ColorRange.JPEG if full else ColorRange.MPEG
        ranges = {"src_color_range": span, "dst_color_range": span}
        scaled = self._scaler.reformat(frame, *size, "yuv444p", **ranges, **_SMALLER)
        if frame.colorspace not in _COLOURS_OF_JPEG:
            rgb = self._converter.reformat(scaled, *size, "rgb24", **_SMALLER)
            return Image.fromarray(rgb.to_ndarray())
        tables = [_AS_IT_IS] * 3 if full else [_LUMA, _CHROMA, _CHROMA]
        planes = []
        for plane, table in zip(scaled.planes, tables, strict=True):
            values = bytes(plane).translate(table)
            planes.append(Image.frombuffer("L", size, values, "raw", "L", plane.line_size, 1))
        return Image.merge("YCbCr", planes)


def _upright(image: Image.Image, frame: av.VideoFrame) -> Image.Image:
    """Turns and mirrors a picture as the file tells players to."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it there is something that PyAV does not know
        return image.rotate(90 * round((frame.rotation or 0) / 90), expand=True)
    if matrix is None:
        return image
    # ISO/IEC 14496-12: x' = a x + c y, y' = b x + d y, y points down.
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(a) < abs(b):
        image, a, d = image.transpose(Image.Transpose.TRANSPOSE), c, b
    if a < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if d < 0 else image


def pixel_aspect(video: av.VideoStream) -> float:
    """Returns width / height of a pixel; 1 where the file does not say."""
    return float(video.sample_aspect_ratio or 1) or 1.0
