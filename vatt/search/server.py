"""Serves a page for searching, to this machine only.

    serve(finder, port=8780)        # until Ctrl-C

Media files are served by their number in the index, never by a path. Requests under another name
than this machine's (a web page that makes its name point here) and from other pages are refused.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

from vatt.data.ingest.sources.files import is_sound
from vatt.data.workers import available_cores
from vatt.errors import DataError, UserError
from vatt.pages import Markup
from vatt.reporting.plots import waveform
from vatt.search import cards, ranges, site, snippets
from vatt.search.finder import AUDIO, VIDEO, Finder, Found, as_json, searched
from vatt.search.gallery import Hit

ADDRESS = "127.0.0.1"
OURS = ("127.0.0.1", "localhost")  # names in a Host header, with any port: there are tunnels
MOST_RESULTS = 200
_TIMEOUT_S = 60.0
_KEPT = 64  # snippets
_PICTURE_S = 0.08  # of a moment, for its picture
_LINES = {
    "stroke": "#5b86dd",
    "stroke-width": "1.3",
    "fill": "none",
}
TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".ogv": "video/ogg", ".wav": "audio/wav", ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4", ".aac": "audio/aac", ".ogg": "audio/ogg", ".oga": "audio/ogg",
    ".opus": "audio/ogg", ".flac": "audio/flac", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
    ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp",
}  # fmt: skip


class RefusedError(Exception):
    """A request that is not answered, with the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def serve(finder: Finder, port: int) -> int:
    """Serves until Ctrl-C (or SIGTERM); returns the exit code.

    Raises:
      UserError: the port is taken.
    """
    with started(finder, port) as server:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(f"http://{ADDRESS}:{server.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nended")
    return 0


@contextmanager
def started(finder: Finder, port: int) -> Iterator[Server]:
    """A server that listens; what it wrote is removed at the end.

    Raises:
      UserError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="vatt-search-") as folder:
        try:
            server = Server(finder, port, Path(folder))
        except OSError as error:
            told = f"--port: {port} cannot be used ({error.strerror}); --port=0 takes a free one"
            raise UserError(told) from error
        with server:
            yield server


class Server(ThreadingHTTPServer):
    """One index on the loopback address."""

    daemon_threads = True

    def __init__(self, finder: Finder, port: int, folder: Path) -> None:
        self.finder, self.folder = finder, folder
        self._cutting = threading.Semaphore(available_cores())
        self.snippet = functools.lru_cache(_KEPT)(self._cut)
        super().__init__((ADDRESS, port), Handler)

    def _cut(self, file: str, start: float, end: float, clip: bool) -> snippets.Snippet:
        with self._cutting:
            return snippets.cut(file, start, end, clip)

    def handle_error(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Prints errors; a player that has enough and closes the connection is none."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vatt", ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """Pages, media and pictures."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """The same without content."""
        self._answer(body=False)

    def do_POST(self) -> None:
        """A search, with a file where there is one."""
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: each result is several requests."""

    def _answer(self, body: bool) -> None:
        self._body = body
        try:
            self._check()
            parts = urlsplit(self.path)
            place = parts.path.strip("/").split("/")
            if self.command == "POST":
                if place != ["search"]:
                    raise RefusedError(HTTPStatus.NOT_FOUND, "no such page")
                self._search(parse_qs(parts.query))
            else:
                self._get(place)
        except RefusedError as refused:
            self._refuse(refused.status, str(refused))
        except UserError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except OSError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"cannot be written: {error.strerror}")

    def _check(self) -> None:
        """Lets nobody in but this machine's own pages."""
        host = self.headers.get("Host", "")
        if re.sub(r":\d+$", "", host) not in OURS:
            raise RefusedError(HTTPStatus.FORBIDDEN, "this page is for http://localhost only")
        origin, site_ = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        foreign = origin not in (None, f"http://{host}") or site_ not in ("none", "same-origin")
        link = urlsplit(self.path).path == "/" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if foreign and not link:
            raise RefusedError(HTTPStatus.FORBIDDEN, "asked by another page")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # what was sent may not have been read
        self._send(status, "application/json", json.dumps({"error": reason}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self._head(status, kind, len(content))
        if self._body:
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, size: int, **more: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    # -- what there is ---------------------------------------------------------------------

    def _get(self, place: list[str]) -> None:
        finder = self.server.finder
        match place:
            case [""]:
                page = site.page(finder).encode(errors="backslashreplace")
                self._send(HTTPStatus.OK, "text/html; charset=utf-8", page)
            case ["search.js"]:
                self._send(HTTPStatus.OK, "text/javascript; charset=utf-8", site.script().encode())
            case ["media", number] if _number(number, len(finder.gallery.files)) is not None:
                self._media(int(number))
            case ["picture" | "moment" as what, modality, row] if hit := self._hit(modality, row):
                self._snippet(hit, what)
            case _:
                raise RefusedError(HTTPStatus.NOT_FOUND, "no such page")

    def _hit(self, modality: str, row: str) -> Hit | None:
        number = _number(row, 2**62)
        return None if number is None else self.server.finder.gallery.hit(modality, number)

    def _media(self, number: int) -> None:
        """A file of the index, or the part of it that a player asks for."""
        path = Path(str(self.server.finder.gallery.files[number]))
        if not path.is_file():
            raise RefusedError(HTTPStatus.NOT_FOUND, "the file is no longer there")
        kind = TYPES.get(path.suffix.lower(), "application/octet-stream")
        try:
            file = path.open("rb")
        except OSError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"cannot be read: {error.strerror}") from error
        with file:
            self._part(file, os.fstat(file.fileno()).st_size, kind)

    def _part(self, file: BinaryIO, size: int, kind: str) -> None:
        """The bytes that were asked for."""
        asked = ranges.parse(self.headers.get("Range"), size)
        if asked is None:
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            self._head(status, kind, 0, Content_Range=f"bytes */{size}")
            return
        start, end, partial = asked
        more = {"Accept_Ranges": "bytes"}
        if partial:
            more["Content_Range"] = f"bytes {start}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK
        self._head(status, kind, end - start, **more)
        if self._body and ranges.copy(file, self.wfile, start, end) < end:
            self.close_connection = True  # the file has become shorter meanwhile

    def _snippet(self, hit: Hit, what: str) -> None:
        """What shows a moment, or plays it."""
        clip, times = what == "moment", (hit.start, hit.end)
        if hit.when and not clip and self._seen(hit):
            middle = (hit.start + hit.end) / 2
            times = (middle, middle + _PICTURE_S)
        try:
            snippet = self.server.snippet(hit.file, *times, clip)
        except DataError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
        if clip:
            content = snippet.clip or snippet.sound
            if not content:
                raise RefusedError(HTTPStatus.NOT_FOUND, "no clip can be made of it")
            kind = "video/mp4" if snippet.clip else "audio/wav"
            with tempfile.SpooledTemporaryFile(2**24) as file:
                file.write(content)
                self._part(file, len(content), kind)
        elif snippet.poster:
            self._send(HTTPStatus.OK, "image/jpeg", snippet.poster)
        else:
            style = ";".join(f"{name}:{value}" for name, value in _LINES.items())
            drawing = "" if snippet.outline is None else waveform(snippet.outline)
            head = f'<svg xmlns="http://www.w3.org/2000/svg" style="{style}"'
            self._send(
                HTTPStatus.OK, "image/svg+xml", str(drawing).replace("<svg", head, 1).encode()
            )

    # -- searching -------------------------------------------------------------------------

    def _search(self, query: dict[str, list[str]]) -> None:
        def one(name: str) -> str:
            return query.get(name, [""])[0]

        finder = self.server.finder
        folder = Path(tempfile.mkdtemp(dir=self.server.folder))
        try:
            file = self._received(folder, one("name"))
            uses = one("use").split(",") if file else []
            found = finder.search(
                _sentence(one("text")),
                video=[file] if VIDEO in uses else [],
                audio=[file] if AUDIO in uses else [],
                modality=one("modality") or None,
                top=_top(one("top")),
                every=one("every") == "1",
            )
        except UserError as error:
            told = str(error).replace(f"{folder}{os.sep}", "")
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, told) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        answer = as_json(finder.gallery, found) | {
            "told": f"{found.title}: {searched(finder.gallery, found.plan)}",
            "html": self._cards(found),
        }
        self._send(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def _received(self, folder: Path, name: str) -> str | None:
        """Writes what was sent into a file; None where there is nothing."""
        length = _number(self.headers.get("Content-Length", ""), 2**62)
        if length is None or "Transfer-Encoding" in self.headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "the length of the file is needed")
        if length > site.MOST_UPLOAD:
            most = f"{site.MOST_UPLOAD // 2**20} MiB; vatt search --video=FILE has no limit"
            told = f"a file of {length / 2**20:.0f} MiB is too large: at most {most}"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told)
        if not length:
            return None
        plain = re.sub(r"[^\w .()-]", "_", PurePosixPath(name.replace("\\", "/")).name)[-100:]
        path = folder / (plain.lstrip(".") or "file")
        with path.open("wb") as file:
            if ranges.copy(self.rfile, file, None, length) < length:
                raise ConnectionError
        return str(path)

    def _cards(self, found: Found) -> str:
        gallery = self.server.finder.gallery
        return cards.html.moments(
            [cards.moment(gallery, hit, self._screen(hit)) for hit in found.hits]
        )

    def _seen(self, hit: Hit) -> bool:
        """Whether a file has pictures, as far as the index tells, else its name."""
        gallery = self.server.finder.gallery
        if VIDEO in gallery.spaces:
            return gallery.has(VIDEO, hit.number)
        return not is_sound(hit.file)

    def _screen(self, hit: Hit) -> Markup:
        """What shows a moment: the file itself, else what is cut out of it."""
        if not os.path.isfile(hit.file):
            return cards.html.blank("the file is no longer there")
        picture = f"picture/{hit.modality}/{hit.row}"
        if not hit.when:
            return cards.html.served_picture(picture)
        source = f"media/{hit.number}#t={hit.start:.2f},{hit.end:.2f}"
        instead = f"moment/{hit.modality}/{hit.row}"
        return cards.html.served(picture, source, instead, self._seen(hit))


def _sentence(text: str) -> str:
    if len(text) > site.MOST_TEXT:
        raise UserError(f"a sentence of {len(text)} characters; at most {site.MOST_TEXT}")
    return text


def _top(text: str) -> int:
    found = _number(text or str(site.RESULTS[0]), MOST_RESULTS + 1)
    if not found:
        raise UserError(f"top: {text} is not a whole number from 1 to {MOST_RESULTS}")
    return found


def _number(text: str, below: int) -> int | None:
    """A whole number from 0 on, None if it is none."""
    whole = text.isascii() and text.isdecimal() and len(text) < 20
    return int(text) if whole and int(text) < below else None
