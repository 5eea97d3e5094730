"""What a picture needs before it is stored: rows of one time, no transparency, a screen's values.

None of these touches a picture that does not need it.
"""

from __future__ import annotations

from functools import cache

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorTrc
from PIL import Image

_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ and HLG of ITU-R BT.2100
_WHITE = 203.0  # cd/m2 of white in HDR pictures (ITU-R BT.2408)
_PEAK = 1000.0  # cd/m2 that become the brightest of a screen
_KNEE = 0.3  # of white, up to where brightness stays as it is
_TO_709 = np.array(  # linear RGB, ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020
_GAMMA = 1 / 2.4  # of a screen (ITU-R BT.1886)


# Interlaced --------------------------------------------------------------------------------------


def one_field(frame: av.VideoFrame) -> av.VideoFrame:
    """Returns the upper field of an interlaced picture: every other row, all of one time.

    Filters that fill the rows between ask neighbouring pictures, of which not all are decoded, or
    take long; and what is stored has rarely more rows than a field.
    """
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    rows = graph.add("field", "type=top")
    graph.link_nodes(source, rows, graph.add("buffersink")).configure()
    graph.push(frame)
    field = graph.pull()
    field.colorspace, field.color_range = frame.colorspace, frame.color_range
    return field


# Transparent -------------------------------------------------------------------------------------


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether pixels of a frame can be transparent."""
    kind = frame.format
    return kind.has_palette or any(component.is_alpha for component in kind.components)


def on_white(image: Image.Image) -> Image.Image | None:
    """Returns an RGBA picture laid on white, RGB; None where nothing shines through."""
    if image.getextrema()[3][0] == 255:
        return None
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


# High dynamic range ------------------------------------------------------------------------------


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the values of a frame are those of PQ or HLG."""
    return frame.color_trc in _HDR


def tone_mapped(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Returns an HDR picture as screens of standard range show it.

    Up to a knee brightness stays as it is, from there to the peak it is compressed to white, by
    the curve that FFmpeg and others call Möbius.

    Args:
      pixels: uint16 [height, width, 3], RGB at full range.
      transfer: of the frame, a number of ISO/IEC 23001-8.
      primaries: of the frame, likewise.

    Returns:
      uint8 [height, width, 3], RGB of BT.709.
    """
    light = _linear(transfer)[pixels]  # 1 is white
    if transfer == ColorTrc.ARIB_STD_B67:  # from the scene to a screen of 1000 cd/m2
        scene = np.maximum(light @ _LUMINANCE, 1e-6)[..., None]
        light = light * scene**0.2 * (_PEAK / _WHITE)
    if primaries != ColorPrimaries.BT709:
        light = np.maximum(light @ _TO_709.T, 0)
    peak, knee = _PEAK / _WHITE, _KNEE
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    curve = (b**2 + 2 * b * knee + knee**2) / (b - a) * (brightest + a) / (brightest + b)
    light *= np.where(brightest > knee, curve / brightest, 1)
    return np.round(255 * np.clip(light, 0, 1) ** _GAMMA).astype(np.uint8)


@cache
def _linear(transfer: int) -> np.ndarray:
    """Light of each value, float32 [65536]: PQ of a screen (1: white), HLG of a scene (0 to 1)."""
    value = np.arange(65536) / 65535
    if transfer == ColorTrc.SMPTE2084:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = value ** (1 / m2)
        light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * 10_000 / _WHITE
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return light.astype(np.float32)
