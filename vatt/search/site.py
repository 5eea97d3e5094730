"""The page of `vatt search --serve`: a form, and what makes it search."""

from __future__ import annotations

from pathlib import Path

from vatt import pages
from vatt.reporting.pieces import html
from vatt.search import cards
from vatt.search.finder import AUDIO, TEXT, VIDEO, Finder
from vatt.search.spaces import OF

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
MOST_TEXT = 1000  # characters
MOST_UPLOAD = 512 * 2**20  # bytes of a dropped file
RESULTS = (6, 12, 24, 48)

CHOSEN = 12  # of RESULTS, before anybody chooses


def page(finder: Finder) -> str:
    """The page, as HTML."""
    uses = [(m, OF[m]) for m in (VIDEO, AUDIO) if m in finder.model.modalities]
    spaces = [(modality, OF[modality]) for modality in finder.gallery.spaces]
    reads = TEXT in finder.model.modalities
    form = cards.html.form(MOST_TEXT, MOST_UPLOAD, reads, uses, spaces, RESULTS, CHOSEN)
    return pages.render(
        "Search",
        [html.title("Search", _lead(finder)), form],
        what="vatt",
        policy=POLICY,
        styles=cards.STYLES,
        script="search.js",
    )


def script() -> str:
    """What makes the page search."""
    return Path(pages.__file__).with_name("search.js").read_text(encoding="utf-8")


def _lead(finder: Finder) -> str:
    gallery = finder.gallery
    windows = (f"{OF[m]}: {len(gallery.windows(m).file):,} windows" for m in gallery.spaces)
    folder = f" in {gallery.folder}" if gallery.folder else ""
    failed = f"; {gallery.failures:,} more could not be used" if gallery.failures else ""
    told = f"{len(gallery.files):,} files{folder} ({', '.join(windows)}{failed})"
    return f"{told}. Model: {gallery.made_with}"
