"""A picture of clips: one row each, with frames, sound, what is said and where it comes from.

contact_sheet.write(Path("sheet.png"), samples, "my_set")
"""

from __future__ import annotations

import bisect
import functools
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vatt.data.ingest.samples import Sample
from vatt.files import replacing

WIDTH, MARGIN = 1680, 24  # pixels, as all below
LEFT = 330  # where pictures begin; text stands before that
FRAME_GAP, FRAME_HEIGHT = 8, 120
WAVE = 46
LINE = 20
MAX_LINES = 5  # of captions and of labels; the rest is counted
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")  # the first there is, or
BUNDLED = "Aileron"  # the font that comes with Pillow, for English only
PAPER, INK, SOFT, RULE, WAVE_INK = "#ffffff", "#1c1e21", "#6a6f77", "#dcdcd6", "#2f62c9"


def write(path: Path, samples: Sequence[Sample], title: str) -> None:
    """Writes the sheet as a PNG file."""
    image = draw(samples, title)
    with replacing(path) as partial:
        image.save(partial, "PNG", optimize=True)


def draw(samples: Sequence[Sample], title: str) -> Image.Image:
    """Returns the sheet."""
    rows = [_row(sample) for sample in samples]
    heading = 2 * MARGIN + 28
    sheet = Image.new("RGB", (WIDTH, heading + sum(row.height for row in rows)), PAPER)
    text = f"{_writable(title)}: {len(samples)} clips, evenly spread over the splits"
    ImageDraw.Draw(sheet).text((MARGIN, MARGIN), text, INK, _font(24))
    top = heading
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _row(sample: Sample) -> Image.Image:
    row = Image.new("RGB", (WIDTH, 2000), PAPER)
    pen = ImageDraw.Draw(row)
    pen.line((MARGIN, 0, WIDTH - MARGIN, 0), RULE)
    left = _left_column(pen, sample, 14)
    below = _frames(row, pen, sample, 14)
    below = _wave(pen, sample, below + 6)
    below = _captions(pen, sample, below + 8)
    return row.crop((0, 0, WIDTH, max(left, below) + 14))


def _left_column(pen: ImageDraw.ImageDraw, sample: Sample, top: int) -> int:
    """Writes the left column; returns where it ends."""
    width = LEFT - 2 * MARGIN
    length = f"{sample.start:.2f} - {sample.end:.2f} s" if sample.end > sample.start else ""
    lines = [
        (sample.split, INK, 18),
        *(
            (part, INK, 15)
            for part in _wrapped(_writable(sample.source) or "source unknown", width)
        ),
    ]
    lines += [(text, SOFT, 15) for text in (length or f"{sample.seconds:.2f} s", sample.properties)]
    labels = sample.labels[:MAX_LINES]
    lines += [(_fitting(label, width, 15), WAVE_INK, 15) for label in labels]
    if len(sample.labels) > len(labels):
        lines.append((f"and {len(sample.labels) - len(labels)} more", SOFT, 15))
    for text, colour, size in lines:
        pen.text((MARGIN, top), text, colour, _font(size))
        top += LINE + (size - 15)
    return top


def _frames(row: Image.Image, pen: ImageDraw.ImageDraw, sample: Sample, top: int) -> int:
    if not sample.frames:
        pen.text((LEFT, top), "no pictures", SOFT, _font(15))
        return top + LINE
    pictures = [Image.open(io.BytesIO(sample.picture(k))) for k in range(len(sample.frames))]
    space = (WIDTH - MARGIN - LEFT + FRAME_GAP) // max(len(pictures), 8) - FRAME_GAP
    height = 0
    for number, picture in enumerate(pictures):
        scale = min(space / picture.width, FRAME_HEIGHT / picture.height)
        small = picture.resize([max(1, round(side * scale)) for side in picture.size])
        at = LEFT + number * (space + FRAME_GAP)
        row.paste(small, (at, top))
        time = f"{sample.frames[number][0]:.2f} s"
        pen.text((at, top + small.height + 2), time, SOFT, _font(13))
        height = max(height, small.height)
    return top + height + LINE


def _wave(pen: ImageDraw.ImageDraw, sample: Sample, top: int) -> int:
    """Draws the sound, scaled to its peak, which is written beside it."""
    if not sample.outline:
        pen.text((LEFT, top), "no sound", SOFT, _font(15))
        return top + LINE
    right = WIDTH - MARGIN - 90
    peak = max(max(abs(low), abs(high)) for low, high in sample.outline)
    middle, scale = top + WAVE // 2, WAVE / 2 / (peak or 1.0)
    pen.line((LEFT, middle, right, middle), RULE)
    for number, (low, high) in enumerate(sample.outline if peak else ()):
        first, last = (
            LEFT + (right - LEFT) * k // len(sample.outline) for k in (number, number + 1)
        )
        pen.rectangle((first, middle - high * scale, last - 1, middle - low * scale), WAVE_INK)
    pen.text((right + 12, middle - 9), f"peak {peak:.2f}" if peak else "silent", SOFT, _font(13))
    return top + WAVE


def _captions(pen: ImageDraw.ImageDraw, sample: Sample, top: int) -> int:
    shown = sample.captions[:MAX_LINES]
    for start, end, text in shown:
        times = f"{start:z.1f} - {end:z.1f} s" if end > start else ""
        pen.text((LEFT, top), times, SOFT, _font(15))
        pen.text((LEFT + 130, top), _fitting(text, WIDTH - MARGIN - LEFT - 130, 16), INK, _font(16))
        top += LINE + 2
    if len(sample.captions) > len(shown):
        more = f"and {len(sample.captions) - len(shown)} more"
        pen.text((LEFT, top), more, SOFT, _font(15))
        top += LINE
    return top


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _writable(text: str) -> str:
    """The text in one line, without what the font that comes with Pillow lacks."""
    text = " ".join(text.split())[:500]
    if _font(15).getname()[0] != BUNDLED:
        return text
    parts = unicodedata.normalize("NFKD", text)
    bare = "".join(character for character in parts if not unicodedata.combining(character))
    return bare.encode("ascii", "replace").decode("ascii")


def _fitting(text: str, width: int, size: int) -> str:
    """The text, cut with an ellipsis where it is too long for a line."""
    text, font = _writable(text), _font(size)
    if font.getlength(text) <= width:
        return text
    lengths = range(len(text) + 1)
    kept = bisect.bisect_right(lengths, width, key=lambda n: font.getlength(text[:n] + "..."))
    return text[: max(0, kept - 1)] + "..."


def _wrapped(text: str, width: int) -> list[str]:
    """A path in at most two lines: its end matters most."""
    font, last = _font(15), ""
    while text and font.getlength(text[-1] + last) <= width:
        text, last = text[:-1], text[-1] + last
    if not text:
        return [last]
    first = ""
    while text and font.getlength(text[-1] + first) <= width - 16:
        text, first = text[:-1], text[-1] + first
    return [("..." if text else "") + first, last]
