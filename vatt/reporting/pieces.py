"""What several sections of the report are made of: pictures, tables, sections of one artefact."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from vatt import pages
from vatt.errors import DataError, UserError
from vatt.evaluation import artefacts
from vatt.files import make_folder
from vatt.pages import Markup

FILE_NAME = "report.html"
NONE = "–"  # noqa: RUF001

Arrays = Mapping[str, np.ndarray]

html = pages.Macros("pieces.html")


def check_output(path: Path | None) -> None:
    """Makes the folder of a page.

    Raises:
      UserError: the file would not be a page, or the folder cannot be made.
    """
    if path is None:
        return
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError(f"--output {path}: the name of a page, *.html, is expected")
    make_folder(path.parent)


def linked(text: str, run: Path, folder: Path) -> Markup:
    """A text with a link to the report of a run, if it has one, relative to the page's folder."""
    report = run / FILE_NAME
    if not report.exists():
        return pages.join([text])
    address = Path(os.path.relpath(report.resolve(), folder.resolve())).as_posix()
    return pages.join([text, html.link(quote(address), "report")])


def newest(folder: Path) -> dict[str, Path]:
    """Name -> its newest `<name>-<step>.npz` in `folder`; the name is often that of a data set."""
    return {name: paths[-1] for name, paths in by_step(folder).items()}


def by_step(folder: Path) -> dict[str, list[Path]]:
    """Name -> all its `<name>-<step>.npz` in `folder`, the newest last."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("*.npz")):
        name, _, step = path.stem.rpartition("-")
        if name and step.isdecimal():
            found.setdefault(name, {})[int(step)] = path
    return {name: [path for _, path in sorted(paths.items())] for name, paths in found.items()}


def of_artefact(path: Path, what: str, draw: Callable[[Arrays], Markup]) -> Markup:
    """What `draw` makes of an artefact; a sentence if it cannot be read or something is amiss.

    Args:
      path: of the artefact.
      what: is in it, for the sentence.
      draw: raises KeyError, ValueError and the like for arrays that are not as they should be.
    """
    try:
        with np.errstate(all="ignore"):  # what is not finite is told on the page
            return draw(artefacts.load(path))
    except KeyError as error:
        reason = f"it has no {error}"
    except (DataError, IndexError, ValueError, TypeError, OverflowError) as error:
        reason = str(error)
    return html.missing(f"No {what} from {path.name}: {reason}")


def image(kind: str, data: bytes, alt: str) -> Markup:
    """A picture that the page holds itself.

    Args:
      kind: "jpeg" or "png", also the class of the element.
      data: of the file.
      alt: what it shows.
    """
    return html.image(kind, base64.b64encode(data).decode("ascii"), alt)
