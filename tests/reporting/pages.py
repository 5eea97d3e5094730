"""Writes reports and looks into them."""

from __future__ import annotations

import base64
import html.parser
import io
import re
from pathlib import Path

from PIL import Image

from vatt.reporting import report

VOID = {"meta", "img", "br"}


class Checker(html.parser.HTMLParser):
    """Collects tags and links; complains about tags that do not nest."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


def page_of(folder: Path) -> str:
    """The report of a run, checked: well-formed, self-contained, drawn with numbers."""
    path = report.write(folder)
    assert path == folder / "report.html"
    page = path.read_text(encoding="utf-8")
    checker = Checker(page)
    assert "script" not in checker.tags
    assert all(re.match(r"data:image/(jpeg|png);base64,", link) for link in checker.links)
    assert not re.search(r"https?://", page)
    for path in re.findall(r' (?:d|x|y|cx|cy|width|height|viewBox)="([^"]*)"', page):
        assert "nan" not in path and "inf" not in path
    return page


def pictures(page: str, kind: str) -> list[Image.Image]:
    """The pictures of a page that are of this kind, "jpeg" or "png"."""
    found = re.findall(rf'src="data:image/{kind};base64,([^"]*)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def between(page: str, start: str, end: str) -> str:
    """The part of a page from the first `start` to the `end` that follows it."""
    page = page[page.index(start) :]
    return page[: page.index(end, len(start))]
