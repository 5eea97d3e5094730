"""A server on this machine that speaks the protocol of S3, and of Google's stores as far as that is
the same: objects, parts of objects, listings, conditions. It can fail when a test wants it to.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import pytest

from tests.serving import running

_TIME = "2026-01-01T00:00:00.000Z"
_PAGE = 3  # objects of one answer to a listing


@dataclass
class StoreServer:
    """What is stored; tests change it while it runs.

    Attributes:
      objects: content by "bucket/name"; a bucket is there once it has an entry in `buckets`.
      fails: number of answers that are 503, of those that come next.
      breaks: how many of the next answers to GET end in the middle.
      refuses: whether every answer is 403.
      on_put: is called with the name before an object is stored; others are served meanwhile.
      on_delete: is called with the name before an object is removed.
      asked: "GET bucket/name" of every request.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    fails: int = 0
    breaks: int = 0
    refuses: bool = False
    on_put: Callable[[str], None] = lambda name: None
    on_delete: Callable[[str], None] = lambda name: None
    asked: list[str] = field(default_factory=list)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def names(self, below: str = "") -> list[str]:
        return sorted(name for name in list(self.objects) if name.startswith(below))

    def environment(self) -> dict[str, str]:
        """What a process needs to use it, for both kinds of address."""
        account = (
            f'{{"gcs_base_url": "{self.url}", "disable_oauth": true, "client_email": "", '
            '"private_key": "", "private_key_id": ""}'
        )
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "GOOGLE_SERVICE_ACCOUNT_KEY": account,
        }


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: StoreServer

    def log_message(self, format: str, *args: object) -> None:  # the parameter's name is the base's
        pass

    def _answer(self, state: int, content: bytes | str = b"", **headers: str) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.send_response(state)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _handle(self) -> None:
        served, split = self.served, urlsplit(self.path)
        self.asks = {key: values[0] for key, values in parse_qs(split.query, True).items()}
        self.name = unquote(split.path).strip("/")
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        served.asked.append(f"{self.command} {self.name}")
        bucket = self.name.partition("/")[0]
        if served.fails:
            served.fails -= 1
            self._answer(503, "<Error><Code>SlowDown</Code></Error>")
        elif served.refuses:
            self._answer(403, "<Error><Code>AccessDenied</Code></Error>")
        elif bucket not in served.buckets:
            self._answer(404, "<Error><Code>NoSuchBucket</Code></Error>")
        else:
            getattr(self, f"_{self.command.lower()}")()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle

    def _get(self) -> None:
        if "list-type" in self.asks:
            return self._list()
        content = self.served.objects.get(self.name)
        if content is None:
            return self._answer(404, "<Error><Code>NoSuchKey</Code></Error>")
        headers = {
            "ETag": _tag(content),
            "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "x_goog_generation": _generation(content),
        }
        if self.command == "HEAD":
            return self._answer(200, b"", Content_Length=str(len(content)), **headers)
        begin = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(begin[1]) if begin else 0
        last = min(int(begin[2]), len(content) - 1) if begin and begin[2] else len(content) - 1
        if begin:
            headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        part = content[first : last + 1]
        if self.served.breaks:
            self.served.breaks -= 1
            self._answer(206 if begin else 200, part[: len(part) // 2],
                         Content_Length=str(len(part)), **headers)  # fmt: skip
            self.close_connection = True
            return None
        return self._answer(206 if begin else 200, part, **headers)

    _head = _get

    def _list(self) -> None:
        prefix, delimiter = self.asks.get("prefix", ""), self.asks.get("delimiter")
        bucket, found, folders = self.name, [], set()
        for name in self.served.names(f"{bucket}/{prefix}"):
            key = name.partition("/")[2]
            if delimiter and delimiter in key[len(prefix) :]:
                folders.add(prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter)
            else:
                found.append(key)
        after = self.asks.get("continuation-token", "")
        page = [key for key in found if key > after][:_PAGE]
        more = page and page[-1] != found[-1]
        rows = [
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified>"
            f"<ETag>{escape(_tag(self.served.objects[f'{bucket}/{key}']))}</ETag>"
            f"<Size>{len(self.served.objects[f'{bucket}/{key}'])}</Size></Contents>"
            for key in page
        ]
        rows += [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders]
        if more:
            rows.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        rows.append(f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>")
        self._answer(200, f"<ListBucketResult>{''.join(rows)}</ListBucketResult>")

    def _put(self) -> None:
        if "uploadId" in self.asks:
            self.served.parts[self.asks["uploadId"]][int(self.asks["partNumber"])] = self.body
            return self._answer(200, ETag=_tag(self.body))
        self.served.on_put(self.name)
        with self.served.lock:
            there = self.served.objects.get(self.name)
            new = self.headers.get("If-None-Match") == "*"
            new = new or self.headers.get("x-goog-if-generation-match") == "0"
            over = self.headers.get("If-Match")
            generation = self.headers.get("x-goog-if-generation-match")
            if generation not in (None, "0"):
                over = there and (_tag(there) if generation == _generation(there) else "another")
            if (new and there is not None) or (over and (there is None or _tag(there) != over)):
                return self._answer(412, "<Error><Code>PreconditionFailed</Code></Error>")
            return self._store(self.body)

    def _store(self, content: bytes, answer: str = "") -> None:
        self.served.objects[self.name] = content
        self._answer(200, answer, ETag=_tag(content), x_goog_generation=_generation(content))

    def _post(self) -> None:
        if "uploads" in self.asks:
            upload = f"upload-{len(self.served.parts)}"
            self.served.parts[upload] = {}
            result = f"<UploadId>{upload}</UploadId>"
            return self._answer(
                200, f"<InitiateMultipartUploadResult>{result}</InitiateMultipartUploadResult>"
            )
        if "uploadId" in self.asks:
            parts = self.served.parts.pop(self.asks["uploadId"])
            content = b"".join(part for _, part in sorted(parts.items()))
            done = f"<ETag>{escape(_tag(content))}</ETag>"
            answer = f"<CompleteMultipartUploadResult>{done}</CompleteMultipartUploadResult>"
            self.served.on_put(self.name)
            return self._store(content, answer)
        keys = [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", self.body.decode())]
        for key in keys:
            self._remove(f"{self.name}/{key}")
        rows = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return self._answer(200, f"<DeleteResult>{rows}</DeleteResult>")

    def _delete(self) -> None:
        self._remove(self.name)
        self._answer(204)

    def _remove(self, name: str) -> None:
        self.served.on_delete(name)
        self.served.objects.pop(name, None)


def _generation(content: bytes) -> str:
    return str(int(hashlib.sha256(content).hexdigest()[:12], 16))


@contextmanager
def serving() -> Iterator[StoreServer]:
    """Runs a server while the block does."""
    served = StoreServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with running(handler) as served.url:
        yield served


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreServer]:
    """A server that this process uses, and an empty cache."""
    pytest.importorskip("obstore", reason="the library for object stores (extra `stores`)")
    with serving() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("VATT_CACHE", str(tmp_path / "cache"))
        yield served


def put_folder(served: StoreServer, folder: Path, address: str) -> None:
    """Stores all files of a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = f"{address.partition('://')[2]}/{path.relative_to(folder).as_posix()}"
            served.objects[name] = path.read_bytes()
