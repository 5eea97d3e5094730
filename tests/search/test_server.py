"""The page for searching: what it serves, to whom, and what it leaves behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest
import small_indexes

from vatt.errors import UserError
from vatt.search import ranges, server, site


@contextlib.contextmanager
def running(finder):
    with server.started(finder, 0) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def served(indexed):
    with running(small_indexes.finder(indexed / "embeddings.npz")) as made:
        yield made


def ask(made, place, method="GET", body=None, **headers):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", made.server_port, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, place, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def search(made, body=b"", **query):
    status, _, content = ask(made, f"/search?{urlencode(query)}", "POST", body)
    return status, json.loads(content)


def test_the_page_and_its_script(served):
    status, headers, page = ask(served, "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert b"5 files" in page and b"script-src 'self'" in page
    assert ask(served, "/search.js")[1]["Content-Type"].startswith("text/javascript")
    assert ask(served, "/?text=x")[0] == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [("red.mp4", "video/mp4"), ("bell.wav", "audio/wav"), ("still.png", "image/png")],
)
def test_media_are_served_whole_and_in_parts(served, name, kind):
    files = served.finder.gallery.files.tolist()
    number = next(n for n, file in enumerate(files) if file.endswith(name))
    content, place = Path(files[number]).read_bytes(), f"/media/{number}"
    status, headers, got = ask(served, place)
    assert (status, got) == (200, content) and headers["Content-Type"] == kind
    assert headers["Accept-Ranges"] == "bytes"
    status, headers, got = ask(served, place, Range="bytes=10-19")
    assert (status, got) == (206, content[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    assert ask(served, place, Range="bytes=-7")[2] == content[-7:]
    assert ask(served, place, Range="bytes=30-")[2] == content[30:]
    status, headers, got = ask(served, place, Range=f"bytes={len(content)}-")
    assert (status, headers["Content-Range"], got) == (416, f"bytes */{len(content)}", b"")
    status, headers, got = ask(served, place, "HEAD")
    assert (status, int(headers["Content-Length"]), got) == (200, len(content), b"")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 100, False)),
        ("bytes=0-", (0, 100, True)),
        ("bytes=5-4", (0, 100, False)),
        ("bytes=99-500", (99, 100, True)),
        ("bytes=-500", (0, 100, True)),
        ("bytes=100-", None),
        ("bytes=-0", None),
        ("bytes=-", (0, 100, False)),
        ("bytes=1-2,5-6", (0, 100, False)),
        ("lines=1-2", (0, 100, False)),
        ("bytes=\u0663-", (0, 100, False)),
    ],
)
def test_ranges(header, expected):
    assert ranges.parse(header, 100) == expected


@pytest.mark.parametrize(
    "place",
    [
        "/media/5", "/media/-1", "/media/x", "/media/", "/media/0/1", "/media/1e0",
        "/media/..%2f..%2fembeddings.npz", "/media/../embeddings.npz", "/embeddings.npz",
        "/moment/video/99", "/moment/text/0", "/picture/audio/x", "/moment/features/0",
        "//etc/passwd", "/media/" + "9" * 400,
    ],
)  # fmt: skip
def test_nothing_else_is_served(served, place):
    status, _, content = ask(served, place)
    assert status == 404 and json.loads(content) == {"error": "no such page"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ],
)
def test_only_this_machines_own_page_is_answered(served, headers, status):
    assert ask(served, "/media/0", **headers)[0] == status
    assert ask(served, "/search?text=red", "POST", b"", **headers)[0] == status


def test_a_link_to_the_page_works(served):
    for place in ("/", "/?text=red"):
        there = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert ask(served, place, **there)[0] == 200
        assert ask(served, place, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403


def test_it_listens_to_this_machine_only(served):
    assert served.server_address[0] == "127.0.0.1"
    taken, told = served.server_port, f"{served.server_port} cannot be used .*--port=0"
    with pytest.raises(UserError, match=told), server.started(served.finder, taken):
        pass


def test_a_sentence_finds_moments(served):
    status, found = search(served, text="a green ball bouncing", top=2)
    assert status == 200 and found["notices"] == ["the model does not know bouncing"]
    best = found["results"][0]
    assert best["file"].endswith("green.mp4") and (best["start"], best["end"]) == (1.6, 2.4)
    assert 'src="media/1#t=1.60,2.40"' in found["html"] and len(found["results"]) == 2
    assert "pictures of 4 of 5 files (13 windows) in v_text" in found["told"]
    assert len(search(served, text="green", top=6, every=1)[1]["results"]) == 6


def test_what_cannot_be_asked_is_told(served):
    assert search(served, text=" ") == (422, {"error": "nothing is asked: give a sentence, a video "
                                                       "or a sound"})  # fmt: skip
    status, found = search(served, text="red", modality="text")
    assert status == 422 and "has video, audio" in found["error"]
    for top in ("0", "201", "x"):
        assert search(served, text="red", top=top)[1]["error"].startswith(f"top: {top} is not a")
    assert "at most 1000" in search(served, text="red" * 334)[1]["error"]
    assert ask(served, "/other", "POST", b"")[0] == 404


def test_a_file_is_asked_with_and_removed(served, indexed):
    content = (indexed / "media" / "bell.wav").read_bytes()
    served.finder.model.read.clear()
    status, found = search(served, content, use="audio", name="../../etc/bell.wav",
                           modality="audio", top=1)  # fmt: skip
    assert status == 200 and found["asked"] == [{"audio": "bell.wav"}]
    assert found["results"][0]["file"].endswith("bell.wav")
    (read,) = served.finder.model.read
    assert read.parents[1] == served.folder and read.name == "bell.wav"
    assert not list(served.folder.iterdir())
    assert 'class="screen heard"' in found["html"] and "<audio controls" in found["html"]


@pytest.mark.parametrize("name", ["", "..", "a/b/..", "\x00red", ".red.mp4", "ü" * 300 + "red.mp4"])
def test_names_of_files_lead_nowhere(served, indexed, name):
    content = (indexed / "media" / "red.mp4").read_bytes()
    served.finder.model.read.clear()
    # The stand-in knows no topic in some of the names.
    with contextlib.suppress(http.client.HTTPException, ConnectionError):
        search(served, content, use="video", name=name)
    assert [path.parents[1] for path in served.finder.model.read] == [served.folder]
    assert not list(served.folder.iterdir())


def test_a_file_that_cannot_be_used_is_told_by_its_name(served):
    found = search(served, b"broken", use="video", name="red.mp4")
    assert found == (422, {"error": "red.mp4: not a media file"})
    assert not list(served.folder.iterdir())


def test_files_that_are_too_large_are_refused(served, monkeypatch):
    monkeypatch.setattr(site, "MOST_UPLOAD", 10)
    status, found = search(served, b"x" * 11, use="video", name="red.mp4")
    assert status == 413 and "at most" in found["error"]
    assert (
        ask(served, "/search?text=red", "POST", iter([b"x"]), Transfer_Encoding="chunked")[0] == 411
    )
    assert not list(served.folder.iterdir())


def test_moments_are_cut_for_browsers_that_cannot_play_a_file(served):
    row = search(served, text="blue", top=1)[1]["results"][0]["row"]
    status, headers, clip = ask(served, f"/moment/video/{row}")
    assert status == 200 and headers["Content-Type"] == "video/mp4" and clip[4:8] == b"ftyp"
    assert ask(served, f"/moment/video/{row}", Range="bytes=4-7")[2] == b"ftyp"
    status, headers, picture = ask(served, f"/picture/video/{row}")
    assert headers["Content-Type"] == "image/jpeg" and picture[:2] == b"\xff\xd8"
    bell = served.finder.search(audio=served.finder.gallery.files[3], modality="audio", top=1)
    status, headers, drawing = ask(served, f"/picture/audio/{bell.hits[0].row}")
    assert headers["Content-Type"] == "image/svg+xml" and drawing.startswith(b"<svg xmlns=")
    still = served.finder.search("still", top=1).hits[0]
    assert ask(served, f"/moment/video/{still.row}")[0] == 404
    _, headers, sound = ask(served, f"/moment/audio/{bell.hits[0].row}")
    assert headers["Content-Type"] == "audio/wav" and sound[:4] == b"RIFF"


def test_a_file_that_is_gone_is_told(indexed, tmp_path):
    media = small_indexes.write_media(tmp_path / "media")
    small_indexes.write(tmp_path / "e.npz", media)
    with running(small_indexes.finder(tmp_path / "e.npz")) as made:
        media[0].unlink()
        shutil.copy(media[2], media[1])
        found = search(made, text="red green", top=2)[1]
        assert [result["notice"][:18] for result in found["results"]] == [
            "the file is no lon", "the file has chang"]  # fmt: skip
        assert "the file is no longer there" in found["html"] and "media/0" not in found["html"]
        assert ask(made, "/media/0")[0] == 404
        assert ask(made, "/picture/video/0")[0] == 404
