"""What was found as HTML in the look of the reports, for a page that is kept or served."""

from __future__ import annotations

import base64
import os

from vatt import pages
from vatt.pages import Markup
from vatt.reporting.pieces import image
from vatt.reporting.plots import waveform
from vatt.search.gallery import Gallery, Hit
from vatt.search.snippets import Snippet

html = pages.Macros("search.html")
STYLES = ("search.css",)


def moment(gallery: Gallery, hit: Hit, screen: Markup) -> Markup:
    """A card of what was found, with the folder below that of all files.

    Args:
      gallery: where.
      hit: which window.
      screen: what shows or plays it.
    """
    path = os.path.relpath(hit.file, gallery.folder) if gallery.folder else hit.file
    told = gallery.changed(hit.number)
    return card(path, hit.when or "picture", screen, f"{hit.score:.3f}", told, hit.file)


def card(
    path: str, when: str, screen: Markup, score: str = "", told: str = "", whole: str = ""
) -> Markup:
    """A card of a moment of a file.

    Args:
      path: as it is shown.
      when: times, or what else is to be said of it.
      screen: what shows or plays it.
      score: how alike it is.
      told: a remark.
      whole: all of the path, for who asks.
    """
    folder, name = os.path.split(path)
    return html.card(folder, name, whole or path, when, screen, score, told)


def kept(snippet: Snippet, name: str) -> Markup:
    """What shows or plays a snippet, in the page itself."""
    if snippet.clip:
        poster = _data("image/jpeg", snippet.poster) if snippet.poster else ""
        return html.clip(_data("video/mp4", snippet.clip), poster)
    if snippet.strip:
        return html.screen(image("jpeg", snippet.strip, name))
    drawn = "" if snippet.outline is None else waveform(snippet.outline)
    return html.sound(drawn, _data("audio/wav", snippet.sound) if snippet.sound else "")


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
