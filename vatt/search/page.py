"""Results as one page, which holds its snippets itself and is looked at without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vatt import pages
from vatt.errors import DataError
from vatt.files import make_folder, replace_text
from vatt.pages import Markup
from vatt.reporting.pieces import html
from vatt.search import cards, snippets
from vatt.search.finder import Finder, Found, searched
from vatt.search.spaces import OF

MOST_BYTES = 24 * 2**20  # of snippets that play; beyond, moments are strips of pictures
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Written:
    """What was written: bytes of the page, and what is to be told of it."""

    size: int
    notices: list[str]


def write(
    path: Path, finder: Finder, found: Found, videos: Sequence[str], sounds: Sequence[str]
) -> Written:
    """Writes the page of what was found.

    Args:
      path: of the page.
      finder: what searched.
      found: what it found.
      videos: files whose pictures were asked with.
      sounds: files whose sound was asked with.
    """
    screens = _Screens()
    given = [_given(screens, file, OF["video"]) for file in videos]
    given += [_given(screens, file, OF["audio"]) for file in sounds]
    shown = []
    for hit in found.hits:
        screen = screens.of(hit.file, hit.start, hit.end)
        shown.append(cards.moment(finder.gallery, hit, screen))
    notices = [*found.notices, *screens.notices()]
    title = found.title
    text = pages.render(
        title,
        [
            html.title(title, _lead(finder, found)),
            html.warnings(notices),
            cards.html.asked_with(given),
            cards.html.moments(shown),
        ],
        what="vatt search",
        policy=POLICY,
        styles=cards.STYLES,
    )
    make_folder(path.absolute().parent)
    replace_text(path, text)
    return Written(len(text.encode(errors="backslashreplace")), screens.notices())


def _lead(finder: Finder, found: Found) -> str:
    gallery = finder.gallery
    return f"Searched: {searched(gallery, found.plan)}. Model: {gallery.made_with}"


def _given(screens: _Screens, file: str, what: str) -> Markup:
    return cards.card(file, f"asked with its {what}", screens.of(file, None, None))


class _Screens:
    """Cuts snippets until they are too much for one page."""

    def __init__(self) -> None:
        self._bytes, self._strips, self._uncut, self._failed, self._longer = 0, 0, 0, 0, 0

    def of(self, file: str, start: float | None, end: float | None) -> Markup:
        """Returns what shows a moment."""
        playing = self._bytes < MOST_BYTES
        try:
            snippet = snippets.cut(file, start, end, clip=playing)
        except DataError as error:
            self._failed += 1
            return cards.html.blank(str(error))
        self._bytes += len(snippet.clip) + len(snippet.sound)
        self._strips += not playing
        self._longer += playing and end is not None and snippet.end < end - 0.1
        still = snippet.end <= snippet.start
        self._uncut += playing and not still and not (snippet.clip or snippet.sound)
        return cards.kept(snippet, Path(file).name)

    def notices(self) -> list[str]:
        """What is to be told of them."""
        found = []
        if self._strips:
            most = MOST_BYTES // 2**20
            found.append(
                f"the first results play; {self._strips} are pictures only, so that the page has "
                f"no more than {most} MiB of snippets"
            )
        if self._uncut:
            found.append(f"{self._uncut} are pictures only, as no clip could be made of them")
        if self._longer:
            most = snippets.MOST_SECONDS
            found.append(f"of {self._longer} moments the first {most:g} s are shown")
        if self._failed:
            found.append(f"{self._failed} cannot be shown, as their files cannot be read now")
        return found
