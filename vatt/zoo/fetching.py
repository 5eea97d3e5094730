"""A file of the web becomes a file here, whole or not at all; the next try goes on from the last.

    fetch("https://host/gdt_K400.pth", folder / "gdt_K400.pth")

While it comes it is `gdt_K400.pth.part`, beside `gdt_K400.pth.part.json`, which says of which file
of the server it is a piece: its address, its length and what the server calls this version of it.
Proxies and certificates are those of the environment, as the standard library takes them.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from absl import logging

from vatt import __version__
from vatt.errors import DataError, short
from vatt.files import cannot_write, read_json, replace_text, sha256, writing

TIMEOUT_S = 60.0  # without a byte
TRIES = 5  # in succession that brought nothing
PAUSE_S = 1.0  # before the second of them, then twice as long each time
_BLOCK = 2**20
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of a server that pass
_SCHEMES = ("http", "https")


class FetchError(DataError):
    """A file that cannot be fetched."""


class _BrokenError(Exception):
    """What has come so far is good; the rest may come with the next try."""


class _UselessError(Exception):
    """What has come so far is of no use."""


class Listener:
    """Is told how it goes; this one writes to the log."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of a file are here."""

    def notice(self, text: str) -> None:
        """What is not as it should be, and was put right."""
        logging.warning("%s", text)


class _Part:
    """The beginning of a file, and what is known of that file."""

    def __init__(self, path: Path, address: str) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._about = path.with_name(f"{path.name}.part.json")
        self.validator: str | None = None  # an entity tag, or when it was changed
        self.total: int | None = None
        with suppress(OSError, ValueError, TypeError, KeyError):
            about = read_json(self._about)
            if about["address"] == shown(address):
                self.validator, self.total = _told(about["validator"], about["total"])

    @property
    def length(self) -> int:
        """Bytes that are here and can be gone on from."""
        known = self.validator is not None or self.total is not None
        return self.path.stat().st_size if known and self.path.exists() else 0

    def belongs_to(self, validator: str | None, total: int | None) -> bool:
        """Whether it can be a piece of the file that a server speaks of."""
        mine = (self.validator, self.total)
        return all(a == b for a, b in zip(mine, (validator, total), strict=True) if a and b)

    def begin(self, address: str, validator: str | None, total: int | None) -> None:
        """Notes what the bytes to come are of; there are none yet."""
        self.drop()
        self.validator, self.total = validator, total
        about = {"address": shown(address), "validator": validator, "total": total}
        replace_text(self._about, json.dumps(about))

    def drop(self) -> None:
        """Throws it away."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            self._about.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Gives the file its name."""
        with writing(path):
            os.replace(self.path, path)
            self._about.unlink(missing_ok=True)


def _told(validator: object, total: object) -> tuple[str | None, int | None]:
    """What a note says of a file.

    Raises:
      TypeError: a server cannot have said that, so that it is damaged.
    """
    header = isinstance(validator, str) and re.fullmatch(r"[ -~]+", validator)
    size = type(total) is int and total >= 0
    if not ((header or validator is None) and (size or total is None)):
        raise TypeError("no validator and size")
    return validator, total


def shown(address: str) -> str:
    """Returns an address without what may be secret in it: user, password, query."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def check(address: str) -> None:
    """Refuses what is no address of a file on the web.

    Raises:
      FetchError: it is none.
    """
    try:
        parts = urlsplit(address)
        faulty = parts.scheme.lower() not in _SCHEMES or not parts.hostname or parts.port == 0
    except ValueError:
        faulty = True
    if faulty or not re.fullmatch(r"[!-~]+", address):
        raise FetchError(
            f"'{short(address)}' is no address of a file; expected https://host/path, spaces and "
            "letters outside ASCII as %XX"
        )
    if "@" in parts.netloc:
        raise FetchError(f"{shown(address)}: an address with a user and a password is not taken")


def fetch(
    address: str,
    path: Path,
    *,
    size: int | None = None,
    digest: str | None = None,
    listener: Listener | None = None,
) -> None:
    """Fetches a file.

    Args:
      address: where it is.
      path: what it becomes; the folder is there, and no other process writes this file.
      size: bytes that it has, if known.
      digest: its SHA-256, if known.
      listener: is told how it goes.

    Raises:
      FetchError: it is not there, is another file, or the connection broke again and again.
      WriteError: the disk is full, or the like.
    """
    check(address)
    listener = listener or Listener()
    part = _Part(path, address)
    failures, wasted, before = 0, 0, part.length
    while True:
        try:
            _go_on(address, part, size, listener)
            break
        except (_UselessError, _BrokenError) as reason:
            useless = isinstance(reason, _UselessError)
            if useless:
                part.drop()
            wasted += useless
            failures = 1 if part.length > before else failures + 1
            if max(failures, wasted) >= TRIES:
                raise FetchError(_gave_up(address, part, reason)) from None
            how = "it is fetched from its beginning" if useless else "trying again"
            listener.notice(f"{shown(address)}: {reason}; {how}")
            if not useless:
                time.sleep(PAUSE_S * 2 ** (failures - 1))
        before = part.length
    if digest and (found := sha256(part.path)) != digest.lower():
        part.drop()
        raise FetchError(
            f"{shown(address)}: its SHA-256 is {found}, that of the published file is {digest}; "
            "what came was thrown away"
        )
    part.finish(path)


def _go_on(address: str, part: _Part, size: int | None, listener: Listener) -> None:
    """Fetches what is missing; all is there when it returns."""
    if part.total is not None and part.length == part.total and part.path.exists():
        return
    start = part.length
    wanted = {"Accept-Encoding": "identity", "User-Agent": f"vatt/{__version__}"}
    if start:
        wanted["Range"] = f"bytes={start}-"
        if part.validator:
            wanted["If-Range"] = part.validator
    with _answer(address, wanted, start) as answer:
        validator, total = _validator(answer), _total(answer, start)
        if size is not None and total is not None and size != total:
            raise FetchError(
                f"{shown(address)} has {total} bytes, the published file {size}: it is another one"
            )
        if start and not part.belongs_to(validator, total):
            raise _UselessError("another file is on the server now than at the last try")
        if start and answer.status != 206:
            listener.notice(
                f"{shown(address)}: the server cannot go on in the middle of a file; it is fetched "
                "from its beginning"
            )
            start = 0
        if not start:
            part.begin(address, validator, total)
        _check_room(part, (total or 0) - start)
        _append(answer, part, size if total is None else total, listener)


def _append(
    answer: http.client.HTTPResponse, part: _Part, total: int | None, listener: Listener
) -> None:
    """Writes what comes."""
    name = part.path.name.removesuffix(".part")
    with writing(part.path), open(part.path, "ab") as file:
        done = file.tell()
        listener.progress(name, done, total)
        for block in _blocks(answer):
            file.write(block)
            done += len(block)
            listener.progress(name, done, total)
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended at {_mib(done)} of {_mib(total)}")
    if total is not None and done > total:
        raise _UselessError("the server sent more than it had announced")


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yields what comes. Errors of the network are no `OSError`: those are of the disk."""
    while True:
        try:
            block = answer.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"the connection broke ({_reason(error)})") from None
        if not block:
            return
        yield block


class _NoWayBack(urllib.request.HTTPRedirectHandler):
    """Follows where a server points, but not from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise FetchError(f"{shown(req.full_url)} points to {shown(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _answer(address: str, headers: dict[str, str], start: int) -> http.client.HTTPResponse:
    """Asks a server; the answer is a file or a piece of it."""
    request = urllib.request.Request(address, headers=headers)
    try:
        answer = urllib.request.build_opener(_NoWayBack).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            raise _UselessError(
                "the file on the server is shorter now than at the last try"
            ) from None
        told = f"{error.code} {_reason(error.reason)}"
        if error.code in _PASSING:
            raise _BrokenError(f"the server says {told}") from None
        raise FetchError(f"{shown(address)}: the server says {told}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        told = f"cannot be reached ({_reason(reason)})"
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise FetchError(f"{shown(address)}: {told}") from None
        if start or isinstance(reason, ConnectionResetError):
            raise _BrokenError(told) from None
        raise FetchError(
            f"{shown(address)}: {told}. Is there a network? Through a proxy, set https_proxy"
        ) from None
    kind = answer.headers.get_content_type()
    packed = answer.headers.get("Content-Encoding", "identity").lower()
    if kind == "text/html" or packed != "identity":
        answer.close()
        what = "a web page" if kind == "text/html" else f"content packed by {short(packed, 20)}"
        raise FetchError(f"{shown(address)}: the server sent {what} in place of the file")
    return answer


def _validator(answer: http.client.HTTPResponse) -> str | None:
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _total(answer: http.client.HTTPResponse, start: int) -> int | None:
    """Returns the length of the whole file, which an answer may be a piece of."""
    if answer.status == 206:
        told = answer.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", told.strip())
        if not found or int(found[1]) != start:
            raise _UselessError(
                f"the server sent another piece ('{short(told)}') than it was asked for"
            )
        return None if found[2] == "*" else int(found[2])
    told = answer.headers.get("Content-Length", "").strip()
    return int(told) if re.fullmatch(r"\d{1,18}", told) else None


def _check_room(part: _Part, needed: int) -> None:
    if shutil.disk_usage(part.path.parent).free < needed:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise cannot_write(part.path, full, f", {_mib(needed)} are needed")


def _gave_up(address: str, part: _Part, reason: Exception) -> str:
    here = f"; {_mib(part.length)} are here, the same command goes on from there"
    return f"{shown(address)}: {reason}{here if part.length else ''}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**17 else f"{size} bytes"


def _reason(error: object) -> str:
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return short(" ".join(str(told).split()), 200)
