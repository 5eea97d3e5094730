"""Fetched checkpoints: once, by one process, whole; in the form that the readers take."""

from __future__ import annotations

import io
import json
import tarfile
import threading

import numpy as np
import pytest

from tests import small_disk
from tests.file_server import file_server
from vatt import locks, zoo
from vatt.errors import DataError, UserError, WriteError
from vatt.zoo import cache, fetching

WEIGHTS = np.random.default_rng(0).bytes(200_000)


class Told(fetching.Listener):
    def __init__(self):
        self.notices = []

    def notice(self, text):
        self.notices.append(text)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    with file_server() as served:
        served.files["/gdt_K400.pth"] = WEIGHTS
        row = zoo.known()["gdt_k400"].model_copy(update={"address": f"{served.url}/gdt_K400.pth"})
        monkeypatch.setattr(zoo, "known", lambda: {**TABLE, row.name: row})
        yield served


TABLE = dict(zoo.known())


def test_one_file_once(server, tmp_path):
    assert cache.fetched("gdt_k400", tmp_path) is None
    path = cache.download("gdt_k400", tmp_path)
    assert path == tmp_path / "gdt_k400/gdt_K400.pth" and path.read_bytes() == WEIGHTS
    assert cache.download("GDT-K400", tmp_path) == cache.fetched("gdt_k400", tmp_path) == path
    assert len(server.asked) == 1
    record = json.loads((path.parent / cache.RECORD).read_text())
    assert record["files"]["gdt_K400.pth"]["size"] == len(WEIGHTS)
    assert record["addresses"] == [f"{server.url}/gdt_K400.pth"]
    assert {each.name for each in path.parent.iterdir()} == {"gdt_K400.pth", cache.RECORD}


def test_two_at_once_fetch_once(server, tmp_path):
    paths = []
    with locks.held(tmp_path / "gdt_k400/.download.lock", "a test"):
        threads = [
            threading.Thread(target=lambda: paths.append(cache.download("gdt_k400", tmp_path)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert server.asked == []
    for thread in threads:
        thread.join()
    assert len(paths) == 3 and len(set(paths)) == 1 and len(server.asked) == 1


def test_what_is_not_whole_any_more_is_fetched_anew(server, tmp_path):
    path = cache.download("gdt_k400", tmp_path)
    for damage in (lambda: path.write_bytes(b"short"), path.unlink):
        damage()
        assert cache.fetched("gdt_k400", tmp_path) is None
        told = Told()
        assert cache.download("gdt_k400", tmp_path, listener=told).read_bytes() == WEIGHTS
        assert "not whole any more" in told.notices[0]
    (path.parent / cache.RECORD).write_text("{")
    assert cache.download("gdt_k400", tmp_path).read_bytes() == WEIGHTS
    assert len(server.asked) == 3  # the last time the file itself was whole


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_of_tensorflow_is_two_files(server, tmp_path, ending):
    server.files |= {"/p/ckpt-7.index": b"index", "/p/ckpt-7.data-00000-of-00001": WEIGHTS}
    with pytest.raises(UserError, match=r"vatt_bbs: its address \(ckpt-500000\) is not known"):
        cache.download("vatt_bbs", tmp_path)
    path = cache.download("vatt_bbs", tmp_path, address=f"{server.url}/p/ckpt-7{ending}?key=1")
    assert path == tmp_path / "vatt_bbs/ckpt-7"
    assert path.with_name("ckpt-7.data-00000-of-00001").read_bytes() == WEIGHTS
    assert path.with_name("ckpt-7.index").read_bytes() == b"index"
    assert {asked for asked, _ in server.asked} == {
        "/p/ckpt-7.index?key=1",
        "/p/ckpt-7.data-00000-of-00001?key=1",
    }


def tar(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def test_an_archive_is_unpacked(server, tmp_path):
    server.files["/uc"] = tar(("a/latest_model.pth", WEIGHTS), ("a/config.yaml", b"x: 1"))
    path = cache.download("eao_tva", tmp_path, address=f"{server.url}/uc?id=1")
    assert path == tmp_path / "eao_tva/unpacked/a/latest_model.pth"
    assert path.read_bytes() == WEIGHTS and path.with_name("config.yaml").read_bytes() == b"x: 1"
    assert {each.name for each in (tmp_path / "eao_tva").iterdir()} == {"unpacked", cache.RECORD}
    assert cache.fetched("eao_tva", tmp_path) == path
    server.files["/x.tgz"] = tar(("c/ckpt-5.index", b"i"), ("c/ckpt-5.data-00000-of-00001", b"d"))
    path = cache.download("vatt_lbs", tmp_path, address=f"{server.url}/x.tgz")
    assert path == tmp_path / "vatt_lbs/unpacked/c/ckpt-5"


def test_a_damaged_archive_is_not_kept_and_one_that_found_no_room_is(server, tmp_path):
    whole = tar(("a/latest_model.pth", WEIGHTS))
    server.files["/x.tar"] = whole[:5000]
    with pytest.raises(DataError, match="cannot be unpacked"):
        cache.download("eao_tva", tmp_path, address=f"{server.url}/x.tar")
    assert [path.name for path in (tmp_path / "eao_tva").iterdir()] == []
    server.files["/x.tar"] = tar(("a/latest_model.pth", bytes(10**6)))
    with small_disk.files_of_at_most(10**5), pytest.raises(WriteError):
        cache.download("eao_tva", tmp_path, address=f"{server.url}/x.tar")
    server.asked.clear()
    path = cache.download("eao_tva", tmp_path, address=f"{server.url}/x.tar")
    assert path.stat().st_size == 10**6 and server.asked == []


@pytest.mark.parametrize(
    "path", ["/", "", "/a/..", "/.hidden", "/%00", "/a/%2e%2e", "/download.json?a"]
)
def test_addresses_without_a_name(server, tmp_path, path):
    with pytest.raises(UserError, match="no name of a file at its end"):
        cache.download("av_mae_vggsound", tmp_path, address=server.url + path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file/gdt_k400: cannot be written"):
        cache.download("gdt_k400", tmp_path / "file")


def test_another_size_than_in_the_table(server, tmp_path, monkeypatch):
    row = zoo.known()["gdt_k400"].model_copy(update={"sizes": {"gdt_K400.pth": 7}})
    monkeypatch.setattr(zoo, "known", lambda: {row.name: row})
    with pytest.raises(fetching.FetchError, match="has 200000 bytes, the published file 7"):
        cache.download("gdt_k400", tmp_path)
