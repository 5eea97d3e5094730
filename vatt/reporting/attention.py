"""Report section of attention maps: what the aggregation token looks at and listens to.

Artefacts are those of `vatt.evaluation.attention`. Attention is shown as a multiple of even
attention, in which every patch or token has the same share; the scale is that of all clips of the
set, so that they can be compared.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from vatt import pages
from vatt.evaluation import artefacts
from vatt.pages import Markup
from vatt.reporting.pieces import Arrays, html, image, of_artefact
from vatt.reporting.plots import html as charts
from vatt.reporting.plots import number, waveform

clips = pages.Macros("clips.html")

PATCH = 12  # pixels of a patch in the overlay, before the browser stretches it
FULL = 99.5  # percentile of all patches at which the heat is full
LEAST_FULL = 2.0  # times even attention, so that noise is not shown as heat
STRONGEST = 0.85  # opacity
CURVE = 40  # height of the curve under a waveform, user units

# Colours of the heat from even attention to full, lighter all the way.
_ANCHORS = ((120, 20, 60), (214, 60, 30), (250, 150, 20), (255, 235, 120))


def section(path: Path) -> Markup:
    """Maps of one artefact; a sentence if it cannot be read."""
    return of_artefact(path, "attention maps", _section)


def _section(arrays: Arrays) -> Markup:
    name, step = str(arrays["dataset"]), int(arrays["step"])
    video, audio = _times_even(arrays, "video"), _times_even(arrays, "audio")
    count = len(arrays["clips/source"])
    shown = []
    for what, found in (("over frames", video), ("over sound", audio)):
        if found is None:
            continue
        if len(found) != count:
            raise ValueError(f"it has {count} clips, but attention {what} of {len(found)}")
        shown.append(f"{what} up to {_times(_full(found))}")
    scale = ", ".join(shown)
    about = (
        "Where the aggregation token takes its information from: its attention in the last layer, "
        "mean of heads, in multiples of even attention; heat begins where a place gets more than "
        f"its even share and is full at the top of the scale, {scale}."
    )
    figures = [_clip(arrays, row, video, audio) for row in range(count)]
    heading = html.heading(3, name, f"step {step:,}")
    return pages.join(
        [heading, html.paragraph(about), _legend(video), html.grid(figures, "attention")]
    )


def _times_even(arrays: Arrays, modality: str) -> np.ndarray | None:
    """Attention [M, t, h, w] or [M, tokens] in multiples of even attention; None if absent."""
    attention = arrays.get(f"{modality}/attention")
    if attention is None:
        return None
    attention = np.asarray(attention, np.float64)
    if attention.ndim < 2 or (modality == "video" and attention.ndim != 4):
        raise ValueError(f"{modality}/attention has shape {attention.shape}")
    if modality == "audio":  # of spectrograms: all frequencies of a moment together
        attention = attention.reshape(*attention.shape[:2], -1).sum(axis=-1)
    return attention * math.prod(attention.shape[1:])


def _full(times: np.ndarray) -> float:
    """The multiple of even attention at the top of the scale, a round number."""
    finite = times[np.isfinite(times)]
    top = float(np.percentile(finite, FULL)) if finite.size else 0.0
    top = max(top, LEAST_FULL)
    step = 0.5 if top < 5 else 10.0 ** math.floor(math.log10(top)) / 2
    return math.ceil(top / step - 1e-9) * step


def _clip(arrays: Arrays, row: int, video: np.ndarray | None, audio: np.ndarray | None) -> Markup:
    caption, source = (str(arrays[f"clips/{name}"][row]) for name in ("caption", "source"))
    label = str(arrays["clips/label_text"][row]).replace("|", ", ")
    parts = [] if video is None else [_strips(arrays, row, video)]
    if audio is not None:
        parts.append(waveform(arrays["audio/envelope"][row]))
        parts.append(_curve(audio[row], _full(audio)))
    return clips.attended(source, caption or label or source or f"clip {row}", pages.join(parts))


def _strips(arrays: Arrays, row: int, video: np.ndarray) -> Markup:
    times = video[row]  # [t, h, w]
    frames, jpeg = int(arrays["clips/frames"][row]), artefacts.clip_jpeg(arrays, row)
    if frames != len(times):
        raise ValueError(f"clip {row} has {frames} frames, but attention to {len(times)}")
    if not jpeg:
        raise ValueError(f"clip {row} has no frames")
    strip = image("jpeg", jpeg, "frames")
    if not np.isfinite(times).all():
        return pages.join([strip, html.paragraph("Attention is not finite.", "note")])
    heat = image("png", heat_png(times, _full(video)), "attention to the frames")
    peak = f"peak {_times(float(times.max()))} in frame {_peak(times) + 1} of {frames}"
    over = clips.heat(image("jpeg", jpeg, ""), heat)
    return pages.join([strip, over, html.paragraph(peak, "note")])


def _peak(times: np.ndarray) -> int:
    return int(np.unravel_index(times.argmax(), times.shape)[0])


def heat_png(times: np.ndarray, full: float) -> bytes:
    """Attention [t, h, w] as a transparent PNG of frames side by side, smooth within each.

    Args:
      times: multiples of even attention.
      full: the multiple at which the heat is full; at 1 and below there is none.
    """
    from PIL import Image

    strength = np.clip((times - 1) / (full - 1), 0, 1).astype(np.float32)
    size = (strength.shape[2] * PATCH, strength.shape[1] * PATCH)
    smooth = [
        np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        for frame in strength
    ]
    strip = np.clip(np.concatenate(smooth, axis=1), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray(_rgba(strip)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _rgba(strength: np.ndarray) -> np.ndarray:
    """Heat 0 to 1 in colours uint8 [..., 4]; the stronger, the less one sees through it."""
    at = np.linspace(0, 1, len(_ANCHORS))
    colours = [np.interp(strength, at, channel) for channel in np.transpose(_ANCHORS)]
    opacity = 255 * STRONGEST * np.sqrt(strength)
    return np.round(np.stack([*colours, opacity], axis=-1)).astype(np.uint8)


def _legend(video: np.ndarray | None) -> Markup:
    if video is None:
        return Markup()
    full, at = _full(video), np.linspace(0, 1, 7)
    stops = ",".join(
        f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in _rgba(at[None])[0].tolist()
    )
    return clips.heat_scale(stops, _times(full))


def _curve(times: np.ndarray, full: float) -> Markup:
    """Attention over time [tokens] as an area, with a line at even attention."""
    if not np.isfinite(times).all():
        return html.paragraph("Attention to the sound is not finite.", "note")
    tokens = len(times)
    heights = CURVE - np.minimum(times, full) / full * (CURVE - 2)
    steps = "".join(f"V{y:.1f}H{token + 1}" for token, y in enumerate(heights))
    even = CURVE - (CURVE - 2) / full
    area = f"M0 {CURVE}{steps}V{CURVE}Z"
    peak = f"peak {_times(float(times.max()))}; dashed: even attention"
    drawn = charts.listened(tokens, CURVE, area, f"M0 {even:.1f}H{tokens}")
    return pages.join([drawn, html.paragraph(peak, "note")])


def _times(value: float) -> str:
    return f"{number(round(value, 2))}×"  # noqa: RUF001
