r"""Finds moments in embedded files by a sentence, a sound, a video, or several.

    vatt search --index=embeddings.npz "a red circle bouncing"
    vatt search --index=embeddings.npz --audio=bell.wav --html=results.html
    vatt search --index=embeddings.npz --serve

The index is what `vatt embed` makes; the model is the one that it names. --serve opens a page
for searching, on this machine only. docs/search.md says the rest. Exit codes: 0 done, 2 wrong
arguments, or the model does not compare what is asked with what is in the index, 3 a file that
cannot be used or written, 5 no such model, or one of other weights, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vatt.data.arguments import whole
from vatt.ended import ended
from vatt.errors import DataError
from vatt.files import make_folder
from vatt.printing import show
from vatt.tools import model_options

if TYPE_CHECKING:
    from vatt.search.finder import Finder, Found
    from vatt.search.gallery import Gallery

MOST = 1000
PORT = 8780
_KINDS = "what of the files is searched: video or audio"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="vatt search",
        usage="vatt search --index=FILE.npz [TEXT] [options]",
        description=__doc__.split("\n")[0],
        epilog="docs/search.md explains spaces, scores and the page.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("text", nargs="*", metavar="TEXT", help="a sentence, with or without quotes")
    add("--index", required=True, metavar="FILE.npz", help="what vatt embed has made")
    add("--video", action="append", default=[], metavar="FILE", help="asks with its pictures")
    add("--audio", action="append", default=[], metavar="FILE", help="asks with its sound")
    add("--modality", choices=("video", "audio"), metavar="KIND", help=_KINDS)
    add("--space", metavar="NAME", help="of the embeddings that are searched")
    add("--top", type=whole(1, MOST), default=10, metavar="N", help="how many results (10)")
    add("--all_windows", action="store_true", help="all windows of a file, not its best")
    add("--json", action="store_true", help="results as JSON")
    add("--html", type=Path, metavar="FILE", help="results as a page that plays them")
    add("--serve", action="store_true", help="a page to search on, for this machine only")
    add("--port", type=whole(0, 65535), metavar="N", help=f"its port ({PORT}); 0: a free one")
    add("--model", metavar="RUN", help="that the index was made with, if it has moved")
    model_options.add(parser)
    arguments = parser.parse_args(argv)
    arguments.text = " ".join(arguments.text).strip()
    asked = bool(arguments.text or arguments.video or arguments.audio)
    if arguments.serve and (asked or arguments.json or arguments.html):
        parser.error("--serve: the page asks; leave out TEXT, --video, --audio, --json and --html")
    if not arguments.serve and not asked:
        parser.error("nothing is asked: give TEXT, --video or --audio, or --serve")
    if arguments.port is not None and not arguments.serve:
        parser.error("--port: of --serve only")
    if arguments.html and arguments.html.suffix.lower() not in (".html", ".htm"):
        parser.error(f"--html: {arguments.html} must end with .html")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    from vatt.search import loading
    from vatt.search.gallery import Gallery

    gallery = Gallery(arguments.index)
    gallery.check_modality(arguments.modality)
    _check_files([*arguments.video, *arguments.audio])
    if arguments.html:
        make_folder(arguments.html.absolute().parent)
    named = loading.find_model(gallery, arguments.model, **model_options.given(arguments))
    finder = loading.build(gallery, named)
    if arguments.serve:
        from vatt.search import server

        return server.serve(finder, PORT if arguments.port is None else arguments.port)
    found = finder.search(
        arguments.text,
        video=arguments.video,
        audio=arguments.audio,
        modality=arguments.modality,
        space=arguments.space,
        top=arguments.top,
        every=arguments.all_windows,
    )
    show(_json(finder, found) if arguments.json else _text(gallery, found))
    if arguments.html:
        _write(arguments, finder, found)
    return 0


def _check_files(paths: Sequence[str]) -> None:
    from vatt.data.media import MediaError, opening

    for path in paths:
        try:
            opening.checked(path)
        except MediaError as error:
            raise DataError(f"{path}: {error}") from error


def _text(gallery: Gallery, found: Found) -> str:
    from vatt.search.finder import searched

    lines = [f"{found.title}: {searched(gallery, found.plan)}"]
    for rank, hit in enumerate(found.hits, start=1):
        told = gallery.changed(hit.number)
        times = hit.when or "picture"
        lines.append(f"{rank:4d}  {hit.score:6.3f}  {times:>15}  {hit.file}{told and f' ({told})'}")
    return "\n".join(lines if found.hits else [*lines, "  nothing is found"])


def _json(finder: Finder, found: Found) -> str:
    from vatt.search.finder import as_json

    return json.dumps(as_json(finder.gallery, found), indent=1)


def _write(arguments: argparse.Namespace, finder: Finder, found: Found) -> None:
    from vatt.search import page

    written = page.write(arguments.html, finder, found, arguments.video, arguments.audio)
    told = sys.stderr if arguments.json else sys.stdout
    print(f"written: {arguments.html} ({written.size / 2**20:.1f} MiB)", file=told)
    for line in written.notices:
        print(f"  {line}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return ended(lambda: _run(parse_arguments(argv)), "stopped")


if __name__ == "__main__":
    sys.exit(main())
