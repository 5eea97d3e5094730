"""Still images as clips of one frame. They are read by Pillow, which knows how they lie (EXIF)."""

from __future__ import annotations

import warnings
from pathlib import Path

import av
import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from vatt.data.media import filters, opening
from vatt.data.media.clip import MAX_PIXELS, MediaClip, MediaError, Request, check_size
from vatt.data.media.pictures import ON_WHITE, Encoder
from vatt.notices import Notices

_ORIENTATIONS = {  # EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
}


def open_still(path: Path, first: bool = False) -> Image.Image | None:
    """Opens a still image, of which so far only the header is read; None if a file is not one.

    An animated one is a still image only where its first picture will do.

    Raises:
      MediaError: it is damaged, or of a kind that is not read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error
    kind = next((kind for mark, kind in _SIGNATURES.items() if head.startswith(mark)), None)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        kind = "WEBP"
    if head[4:] in (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1"):
        raise MediaError("AVIF and HEIC images are not read: make them JPEG or PNG")
    if kind is None or path.suffix.lower() in (".mjpeg", ".mjpg"):  # a video: JPEGs in a row
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=[kind])
        if first or kind == "JPEG" or not _is_animated(image):
            return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"the image exceeds the limit of {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise MediaError("the image is damaged: its header cannot be read") from error
    except Exception as error:  # decoders raise all kinds
        raise MediaError(f"the image is damaged: {error}") from error
    image.close()
    if kind == "WEBP":
        raise MediaError("animated WebP is not read: make it a GIF or a video")
    return None


def read_still(image: Image.Image, path: Path, request: Request) -> MediaClip:
    """Returns a still image as a clip of one frame."""
    width, height = image.size
    check_size(width, height)
    notices = Notices()
    try:
        image.load()
        if image.format != "JPEG" and _is_animated(image):
            notices.add("animated images: the first picture is stored")
        turn = _ORIENTATIONS.get(_orientation(image))
        pixels = np.asarray(image) >> 8 if image.mode.startswith("I") else None  # 16 bits of grey
        upright = Image.fromarray(pixels.astype(np.uint8)) if pixels is not None else image
        see_through = upright.has_transparency_data
        visible = filters.on_white(upright.convert("RGBA")) if see_through else None
        if visible is not None:
            notices.add(ON_WHITE)
        upright = visible or upright.convert("RGB")
        upright = upright.transpose(turn) if turn is not None else upright
    except Exception as error:  # decoders raise all kinds
        raise MediaError(f"the image is damaged: {str(error) or type(error).__name__}") from error
    if min(width, height) <= request.min_side and _is_plain_jpeg(image):
        return MediaClip(0.0, 0.0, [path.read_bytes()], height, width)
    encoder = Encoder(request, notices)
    try:
        jpeg = encoder.encode(av.VideoFrame.from_ndarray(np.asarray(upright), "rgb24"))
    except opening.UNREADABLE as error:  # a picture of 8192 x 4320 takes some memory
        raise MediaError(opening.plain(error)) from error
    return MediaClip(0.0, 0.0, [jpeg], *encoder.size, notices=notices)


def _is_animated(image: Image.Image) -> bool:
    return getattr(image, "is_animated", False)


def _orientation(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata do not spoil the picture
        return 1


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Whether it is as this module would write it: baseline 4:2:0, and without EXIF."""
    return (
        image.format == "JPEG"
        and image.mode == "RGB"
        and not {"exif", "progressive"} & image.info.keys()
        and JpegImagePlugin.get_sampling(image) == 2
    )
