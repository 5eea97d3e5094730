"""A server of files on this machine, which can break off and lack what others have."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.serving import running


@dataclass
class FileServer:
    """What the server does; tests change it while it runs.

    Attributes:
      files: content by path.
      breaks: bytes after which each of the next answers ends.
      states: of the next answers, in place of files.
      ranges, tags, lengths: whether it knows pieces, tells versions, tells lengths.
      headers: more of them.
      asked: path and headers of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    ranges: bool = True
    tags: bool = True
    lengths: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


class _Handler(BaseHTTPRequestHandler):
    served: FileServer

    def log_message(self, format: str, *args: object) -> None:  # the parameter's name is the base's
        pass

    def do_GET(self) -> None:
        served, path = self.served, self.path.partition("?")[0]
        served.asked.append((self.path, dict(self.headers)))
        if served.states:
            return self._state(served.states.pop(0))
        if path not in served.files:
            return self._state(404)
        content, state, piece = served.files[path], 200, ""
        begin = self._begin(content)
        if begin > len(content) or (begin and begin == len(content)):
            return self._state(416)
        if begin:
            state, piece = 206, f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.send_response(state)
        if served.tags:
            self.send_header("ETag", _tag(content))
        if served.lengths:
            self.send_header("Content-Length", str(len(content) - begin))
        for name, value in (({"Content-Range": piece} if piece else {}) | served.headers).items():
            self.send_header(name, value)
        self.end_headers()
        rest = content[begin:]
        self.wfile.write(rest[: served.breaks.pop(0)] if served.breaks else rest)

    def _begin(self, content: bytes) -> int:
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if not wanted or not self.served.ranges or condition not in (None, _tag(content)):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _state(self, state: int) -> None:
        self.send_response(state)
        for name, value in self.served.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """Runs one until the end of the block."""
    served = FileServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with running(handler) as served.url:
        yield served
