"""Files from a server: the same bytes, whatever breaks on the way, or a line that says why not."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import urllib.error

import numpy as np
import pytest

from tests import small_disk
from tests.file_server import file_server
from vatt.errors import WriteError
from vatt.zoo import fetching

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)


class Told(fetching.Listener):
    def __init__(self):
        self.notices, self.steps = [], []

    def progress(self, name, done, total):
        self.steps.append((name, done, total))

    def notice(self, text):
        self.notices.append(text)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with file_server() as served:
        served.files["/a.pth"] = CONTENT
        yield served


def fetch(server, folder, name="a.pth", **options) -> Told:
    told = Told()
    fetching.fetch(f"{server.url}/{name}", folder / "a.pth", listener=told, **options)
    assert sorted(path.name for path in folder.iterdir()) == ["a.pth"]
    return told


def refused(server, folder, name="a.pth", **options) -> str:
    with pytest.raises(fetching.FetchError) as caught:
        fetching.fetch(f"{server.url}/{name}", folder / "a.pth", listener=Told(), **options)
    assert "\n" not in str(caught.value)
    assert not (folder / "a.pth").exists()
    return str(caught.value)


def stop_after(server, folder, count: int) -> None:
    """Leaves what a process leaves that gives up after so many bytes."""
    server.breaks = [count]
    server.states = []

    class Stops(Told):
        def notice(self, text):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetching.fetch(f"{server.url}/a.pth", folder / "a.pth", listener=Stops())
    assert (folder / "a.pth.part").read_bytes() == server.files["/a.pth"][:count]
    server.asked.clear()


def test_a_file_comes_whole_and_progress_ends_at_its_size(server, tmp_path):
    told = fetch(server, tmp_path, size=300_000, digest=hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    done = [done for _, done, _ in told.steps]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 300_000
    assert {(name, total) for name, _, total in told.steps} == {("a.pth", 300_000)}
    assert told.notices == [] and server.asked[0][1]["Accept-Encoding"] == "identity"


def test_a_broken_connection_is_gone_on_from(server, tmp_path):
    server.breaks = [100_000, 0, 50_000]
    told = fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.ranges_asked() == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert len(told.notices) == 3 and "the connection ended" in told.notices[0]


def test_the_next_command_goes_on(server, tmp_path):
    stop_after(server, tmp_path, 123_456)
    told = fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.ranges_asked() == ["bytes=123456-"] and told.notices == []
    assert server.asked[0][1]["If-Range"].startswith('"')
    assert told.steps[0] == ("a.pth", 123_456, 300_000)


def test_all_was_there_but_the_name(server, tmp_path):
    stop_after(server, tmp_path, 1000)
    (tmp_path / "a.pth.part").write_bytes(CONTENT)
    fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT and server.asked == []


# Of the same length they can only be told apart by a tag.
CHANGES = [(OTHER, True)]
CHANGES += [(new, tags) for new in (OTHER[:200_000], OTHER[:50_000], OTHER * 2) for tags in (0, 1)]


@pytest.mark.parametrize(("now", "tags"), CHANGES)
def test_a_file_that_has_changed_is_fetched_anew(server, tmp_path, now, tags):
    server.tags = tags
    stop_after(server, tmp_path, 100_000)
    server.files["/a.pth"] = now
    told = fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == now
    assert len(told.notices) == 1 and "from its beginning" in told.notices[0]
    assert "on the server" in told.notices[0]


def test_without_tags_and_lengths_nothing_is_gone_on_from(server, tmp_path):
    server.tags = server.lengths = False
    (tmp_path / "a.pth.part").write_bytes(b"of what?")
    fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT and server.ranges_asked() == [None]


def test_a_server_without_pieces(server, tmp_path):
    server.ranges = False
    server.breaks = [100_000]
    told = fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert "cannot go on in the middle" in told.notices[1]


def test_a_piece_of_another_address_is_not_used(server, tmp_path):
    stop_after(server, tmp_path, 100_000)
    server.files["/b.pth"] = OTHER
    fetch(server, tmp_path, "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == OTHER and server.ranges_asked() == [None]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"address": 1}', "null"])
def test_a_damaged_note_is_no_note(server, tmp_path, note):
    stop_after(server, tmp_path, 100_000)
    (tmp_path / "a.pth.part").write_bytes(OTHER)
    (tmp_path / "a.pth.part.json").write_text(note)
    fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_a_connection_that_always_breaks(server, tmp_path):
    server.breaks = [1000] + [0] * 20
    told = refused(server, tmp_path)
    assert "ended at 1000 bytes of 0.3 MiB; 1000 bytes are here, the same command goes on" in told
    assert len(server.asked) == 1 + fetching.TRIES - 1
    server.breaks = []
    fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_a_file_cut_off_where_its_length_is_only_known_here(server, tmp_path):
    server.lengths = False
    server.breaks = [5]
    fetch(server, tmp_path, size=300_000)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_states_of_the_server(server, tmp_path):
    server.states = [503, 429]
    assert len(fetch(server, tmp_path).notices) == 2
    (tmp_path / "a.pth").unlink()
    for state, text in ((404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")):
        server.states = [state]
        assert f"{server.url}/a.pth: the server says {text}" == refused(server, tmp_path)
    server.states = [500] * 9
    assert "500 Internal Server Error" in refused(server, tmp_path)
    server.states = [416]
    assert "416" in refused(server, tmp_path)


def test_another_size_or_checksum_than_published(server, tmp_path):
    told = refused(server, tmp_path, size=5)
    assert "has 300000 bytes, the published file 5: it is another one" in told
    assert not list(tmp_path.iterdir())
    told = refused(server, tmp_path, digest="0" * 64)
    assert hashlib.sha256(CONTENT).hexdigest() in told and "thrown away" in told
    assert not list(tmp_path.iterdir())


def test_a_page_in_place_of_a_file(server, tmp_path):
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    assert "sent a web page in place of the file" in refused(server, tmp_path)
    server.headers = {"Content-Encoding": "gzip"}
    assert "content packed by gzip" in refused(server, tmp_path)


def test_pieces_other_than_asked_for_end_in_an_error(server, tmp_path):
    """Not in endless tries."""
    stop_after(server, tmp_path, 1000)
    server.headers = {"Content-Range": "bytes 7-8/9"}
    server.breaks = [1000] * 30
    assert "sent another piece ('bytes 7-8/9')" in refused(server, tmp_path)
    assert len(server.asked) < 4 * fetching.TRIES


@pytest.mark.parametrize(
    "address",
    ["", "x", "/etc/passwd", "file:///etc/passwd", "ftp://host/x", "http://", "https:///x",
     "https://host/a b", "https://host/\n", "https://höst/x", "https://host:99999999/x"],
)  # fmt: skip
def test_what_is_no_address(tmp_path, address):
    with pytest.raises(fetching.FetchError, match="is no address of a file"):
        fetching.fetch(address, tmp_path / "x")


def test_secrets_in_addresses_are_not_told(server, tmp_path):
    with pytest.raises(fetching.FetchError, match=r"https://host/x: .*password is not taken"):
        fetching.fetch("https://me:secret@host/x", tmp_path / "x")
    server.states = [404]
    assert "secret" not in refused(server, tmp_path, "a.pth?token=secret")
    stop_after(server, tmp_path, 10)
    assert "secret" not in (tmp_path / "a.pth.part.json").read_text()
    fetch(server, tmp_path, "a.pth?token=secret")
    assert server.asked[-1][0] == "/a.pth?token=secret"
    assert server.ranges_asked() == ["bytes=10-"]


def test_no_server_and_no_network(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(fetching.FetchError, match=r"cannot be reached \(Connection refused\)"):
        fetching.fetch(f"http://127.0.0.1:{port}/x", tmp_path / "x")

    def nobody(*_args, **_options):
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.OpenerDirector.open", nobody)
    with pytest.raises(fetching.FetchError, match=r"not known\). Is there a network\?"):
        fetching.fetch("https://host.invalid/x", tmp_path / "x")


def test_a_redirect_is_followed_but_not_out_of_https(server, tmp_path):
    server.states = [302]
    server.headers = {"Location": "/a.pth"}
    fetch(server, tmp_path, "elsewhere")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    request = fetching.urllib.request.Request("https://host/x")
    with pytest.raises(fetching.FetchError, match="which is not https"):
        fetching._NoWayBack().redirect_request(request, None, 302, "", {}, "http://host/x")


def test_a_full_disk(server, tmp_path):
    told = r"a\.pth\.part: cannot be written \(File too large\).*\. Make room|\(File too large\)"
    with small_disk.files_of_at_most(100_000), pytest.raises(WriteError, match=told):
        fetching.fetch(f"{server.url}/a.pth", tmp_path / "a.pth")
    assert 0 < os.path.getsize(tmp_path / "a.pth.part") <= 100_000
    server.asked.clear()
    fetch(server, tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.ranges_asked()[0] is not None


def test_too_little_room_is_told_before_anything_comes(server, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 2**17})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(WriteError, match=r"No space left.*0 MiB are free there, 0\.3 MiB are need"):
        fetching.fetch(f"{server.url}/a.pth", tmp_path / "a.pth")
    assert json.loads((tmp_path / "a.pth.part.json").read_text())["total"] == 300_000
