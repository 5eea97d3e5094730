"""Pages that load nothing, and the one look of all of them: what is shown is said elsewhere.

    html = pages.Macros("pieces.html")
    html.missing("no <sound>")          # Markup; what is given is escaped
    pages.render(title, [html.missing("..."), ...])

The templates stand beside this file: `base.html` is the page around all else, `style.css` its look.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


# Makes the browser hold the promise that nothing is loaded from anywhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table that is more than a text.

    Attributes:
      text: what it says.
      note: small text behind or below it.
      head: heads its row.
      columns: heads the rows below it, over so many columns.
      bold: stands out.
      style: classes.
      title: of the column, where narrow pages show it beside the text.
      bar: width in percent, and where the tick is that shows what guessing reaches.
    """

    text: str = ""
    note: str = ""
    head: bool = False
    columns: int = 0
    bold: bool = False
    style: str = ""
    title: str = ""
    bar: tuple[float, float | None] | None = None


Row = list[str | Cell]


def head(text: str, note: str = "") -> Cell:
    """The heading of a row."""
    return Cell(text, note, head=True)


def flush(text: str) -> Cell:
    """A name inside a row, flush left."""
    return Cell(text, style="name")


class Macros:
    """The macros of a template as functions; it is read when the first of them is called."""

    def __init__(self, template: str) -> None:
        """Takes the name of a file in this folder."""
        self._template = template

    def __getattr__(self, name: str) -> Callable[..., Markup]:
        """Returns a macro."""
        return getattr(_environment().get_template(self._template).module, name)


def render(
    title: str,
    body: Iterable[Markup],
    *,
    what: str = "vatt report",
    policy: str = POLICY,
    styles: Sequence[str] = (),
    script: str = "",
) -> str:
    """Returns a page of parts.

    Args:
      title: of the page.
      body: its parts; empty ones are left out.
      what: kind of the page, behind the title.
      policy: what the browser lets it load.
      styles: files of this folder with further rules.
      script: address of a script, where the policy has any.
    """
    given = {"title": title, "what": what, "policy": Markup(policy), "script": script}
    template = _environment().get_template("base.html")
    return template.render(given, body=list(body), styles=["style.css", *styles]) + "\n"


def join(parts: Iterable[Markup]) -> Markup:
    """Returns parts one after another."""
    return Markup("").join(parts)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
