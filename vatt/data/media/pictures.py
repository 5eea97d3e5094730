"""Pictures of a media file: which of them a clip takes, and how they become JPEG."""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right, insort

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from PIL import Image

from vatt.data.media.clip import MAX_BYTES, SLACK, MediaClip, MediaError, Request, check_size

TICK = 1e-4  # s by which a time stamp may be late
_DOUBT = 2e-3  # s around an instant within which a picture is decoded though it may not be taken
_WAITING = 8 * 1280 * 720  # pixels of pictures that are not yet JPEG
_KNOWN = 64  # time stamps that are remembered: more than pictures can be out of order
_COLOURS = (0, 1, 2, 4, 5, 6, 7, 9)  # colour spaces of ISO/IEC 23001-8 that FFmpeg converts
_COLOURS_OF_JPEG = (2, 5, 6)  # BT.601; players take it for that where a file does not say
_UNKNOWN_COLOURS = 2
_EQUAL = {"interpolation": Interpolation.BICUBIC, "threads": 1}
_SMALLER = {"interpolation": Interpolation.AREA, "threads": 1}
# What 16 to 235 (Y) and 16 to 240 (Cb, Cr) of videos are in JPEG, 0 to 255.
_LUMA = bytes(min(max(round((y - 16) * 255 / 219), 0), 255) for y in range(256))
_CHROMA = bytes(min(max(round((c - 128) * 255 / 224 + 128), 0), 255) for c in range(256))
_AS_IT_IS = bytes(range(256))


class Pictures:
    """Picks the frames of a clip from decoded frames in order of time."""

    def __init__(self, request: Request, zero: float, video: av.VideoStream):
        self._request = request
        self._zero = zero  # s, time stamp of the start of the file
        self._video = video
        self._tick = float(video.time_base)
        self._interval = 1 / float(video.average_rate) if video.average_rate else 0.0
        count = request.num_frames()
        self._times = [request.start + (k + 0.5) / request.fps for k in range(count)]
        self._stamps: list[int] = []  # of pictures about to be decoded, in order of time
        self._count = 0  # frames taken
        self._taken: list[list] = []  # pictures that are not yet JPEG: [picture, how many times]
        self._jpegs: list[bytes] = []
        self._bytes = 0
        self._shown: av.VideoFrame | None = None
        self._encoder = Encoder(request, pixel_aspect(video))
        self.is_empty = True
        self.reach = 0.0  # s, until when the last picture is shown

    @property
    def done(self) -> bool:
        """Whether the clip has all its frames."""
        return self._count == len(self._times)

    def expect(self, packet: av.Packet) -> None:
        """Tells of a packet that will be decoded; comes some packets ahead of `decode`."""
        if packet.pts is not None:
            insort(self._stamps, packet.pts)
            del self._stamps[:-_KNOWN]

    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        """Decodes a packet; H.264 pictures that are neither taken nor referred to are left out."""
        codec = self._video.codec_context
        if codec.name == "h264" and codec.has_b_frames:
            codec.skip_frame = "DEFAULT" if self._may_be_taken(packet.pts) else "NONREF"
        return packet.decode()

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

    def add(self, frame: av.VideoFrame, moment: float) -> None:
        """Takes a frame that is shown from `moment` (s)."""
        self.is_empty = False
        if self._shown is None:
            self._show(frame, moment)
        while not self.done and self._times[self._count] < moment - TICK:
            self._take()
        self._show(frame, moment)

    def _show(self, frame: av.VideoFrame, moment: float) -> None:
        self._shown = frame
        self.reach = moment + (frame.duration * self._tick or self._interval)

    def _take(self) -> None:
        self._count += 1
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

    def finish(self, clip: MediaClip, shorten: bool) -> None:
        """Gives a clip its pictures; if `shorten`, it ends where they do."""
        if self._shown is None:
            raise MediaError("no picture of the clip can be decoded")
        while not self.done and self._times[self._count] <= self.reach + SLACK:
            self._take()
        self._encode()
        if not self.done:
            if not shorten or self.reach <= self._request.start:
                raise MediaError(
                    f"the pictures stop at {self.reach:.2f} s, before the end of the clip "
                    f"at {self._request.end:g} s"
                )
            clip.end = self.reach
            del self._jpegs[self._request.num_frames(clip.end) :]
        clip.frames = self._jpegs
        clip.height, clip.width = self._encoder.size


class Encoder:
    """Makes JPEGs of frames: upright, with square pixels, the shorter side reduced."""

    def __init__(self, request: Request, aspect: float = 1.0):
        self._request, self._aspect = request, aspect
        self._scaler, self._converter = VideoReformatter(), VideoReformatter()
        self.size = (0, 0)  # height and width of the first

    def encode(self, frame: av.VideoFrame) -> bytes:
        """Returns a frame as JPEG."""
        height, width = frame.height, max(1, round(frame.width * self._aspect))
        check_size(width, height)  # the size can change inside a file
        factor = min(1.0, self._request.min_side / min(height, width))
        height, width = max(1, round(height * factor)), max(1, round(width * factor))
        if frame.colorspace not in _COLOURS:
            frame.colorspace = _UNKNOWN_COLOURS
        image = self._converted(frame, width, height, factor < 1)
        image = _upright(image, frame)
        if self.size == (0, 0):
            self.size = (image.height, image.width)
        target = io.BytesIO()
        image.save(target, "JPEG", quality=self._request.jpeg_quality, subsampling="4:2:0")
        return target.getvalue()

    def _converted(
        self, frame: av.VideoFrame, width: int, height: int, smaller: bool
    ) -> Image.Image:
        """Returns a frame at another size, in RGB or in what JPEG makes of it, YCbCr."""
        size = (width, height)
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
