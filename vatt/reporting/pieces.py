"""What several sections of the report are made of: pictures, tables, sections of one artefact."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from vatt.errors import DataError
from vatt.evaluation import artefacts
from vatt.reporting.style import CSS

NONE = "–"  # noqa: RUF001
LEFT = ' class="name"'

Arrays = Mapping[str, np.ndarray]


def page(title: str, body: Sequence[str]) -> str:
    """A page of parts, which holds its pictures and styles itself.

    Args:
      title: as text.
      body: HTML of the parts; empty ones are left out.
    """
    # The policy makes the browser hold the promise that nothing is loaded from anywhere.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - vatt report</title><style>{CSS}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in body if part)}\n</main></body></html>\n"
    )


def newest(folder: Path) -> dict[str, Path]:
    """Name -> its newest `<name>-<step>.npz` in `folder`; the name is often that of a data set."""
    found: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*.npz")):
        name, _, step = path.stem.rpartition("-")
        if name and step.isdecimal() and int(step) >= found.get(name, (-1, path))[0]:
            found[name] = int(step), path
    return {name: path for name, (_, path) in found.items()}


def of_artefact(path: Path, what: str, draw: Callable[[Arrays], str]) -> str:
    """What `draw` makes of an artefact; a sentence if it cannot be read or something is amiss.

    Args:
      path: of the artefact.
      what: is in it, for the sentence.
      draw: raises KeyError, ValueError and the like for arrays that are not as they should be.
    """
    try:
        return draw(artefacts.load(path))
    except KeyError as error:
        reason = f"it has no {error}"
    except (DataError, IndexError, ValueError, TypeError, OverflowError) as error:
        reason = str(error)
    return missing(f"No {what} from {path.name}: {reason}")


def missing(text: str) -> str:
    """A sentence, as text, in place of what cannot be shown."""
    return f'<p class="missing">{escape(text)}</p>'


def image(kind: str, data: bytes, alt: str) -> str:
    """A picture that the page holds itself.

    Args:
      kind: "jpeg" or "png", also the class of the element.
      data: of the file.
      alt: HTML.
    """
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img class="{kind}" src="data:image/{kind};base64,{encoded}" alt="{alt}">'


def table(
    head: Sequence[str],
    rows: Sequence[str],
    style: str,
    *,
    left: Collection[str] = (),
    above: str = "",
    tall: bool = False,
) -> str:
    """A table that scrolls by itself where the page is narrow.

    Args:
      head: titles of the columns; a column without one has no heading.
      rows: HTML of each `<tr>`.
      style: classes of the table.
      left: titles of columns of names, which are flush left.
      above: HTML of a row of headings above `head`.
      tall: scrolls downwards too when there are many rows.
    """
    titles = "".join(_heading(title, title in left) for title in head)
    titles = f"<tr>{titles}</tr>" if head else ""
    return (
        f'<div class="scroll{" tall" if tall else ""}"><table class="{style}"><thead>{above}'
        f"{titles}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heading(title: str, left: bool) -> str:
    return f'<th scope="col"{LEFT if left else ""}>{title}</th>' if title else "<td></td>"
