"""Folders of this machine that are copies of what is in a store."""

import logging
import multiprocessing
import os
from concurrent.futures import CancelledError

import pytest

from tests import small_disk, store_server
from vatt.errors import DataError, WriteError
from vatt.stores.copies import Copy

store = store_server.store
ADDRESS = "s3://bucket/a"


def fetched(store):
    return [ask for ask in store.asked if ask.startswith("GET bucket/a/")]


def test_what_is_here_is_not_fetched_again(store, tmp_path):
    store.objects |= {f"bucket/a/{name}": name.encode() for name in ("x", "y/z", "w")}
    Copy(ADDRESS, tmp_path / "c").fetch(Copy(ADDRESS, tmp_path / "c").store.listed().values())
    assert (tmp_path / "c/y/z").read_bytes() == b"y/z" and len(fetched(store)) == 3

    copy = Copy(ADDRESS, tmp_path / "c")  # as another process
    store.objects["bucket/a/w"] = b"W"  # of the same size
    (tmp_path / "c/x").write_bytes(b"broken")
    copy.fetch(copy.store.listed().values())
    assert sorted(fetched(store)[3:]) == ["GET bucket/a/w", "GET bucket/a/x"]
    assert (tmp_path / "c/w").read_bytes() == b"W" and (tmp_path / "c/x").read_bytes() == b"x"
    assert not copy.changed() and not copy.gone()


def test_what_is_written_here_is_sent(store, tmp_path):
    copy = Copy(ADDRESS, tmp_path)
    for name in ("x", "y/z", ".hidden", ".folder/x", "w"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert copy.changed() == ["w", "x", "y/z"]
    copy.send(copy.changed())
    assert store.names() == ["bucket/a/w", "bucket/a/x", "bucket/a/y/z"]
    again = Copy(ADDRESS, tmp_path)
    assert not again.changed()
    again.fetch(again.store.listed().values())
    assert not fetched(store)
    (tmp_path / "x").write_text("X")
    (tmp_path / "w").unlink()
    assert again.changed() == ["x"] and again.gone() == ["w"]
    again.send(again.changed())
    again.remove(again.gone())
    assert store.objects == {"bucket/a/x": b"X", "bucket/a/y/z": b"y/z"}
    again.drop(["x"])
    assert not (tmp_path / "x").exists() and (tmp_path / "y/z").exists()


def test_names_that_lead_out_are_refused(store, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c/link").symlink_to(tmp_path)
    store.objects["bucket/a/link/x"] = b"x"
    copy = Copy(ADDRESS, tmp_path / "c")
    with pytest.raises(DataError, match="s3://bucket/a/link/x: leads out of"):
        copy.fetch(copy.store.listed().values())
    assert not (tmp_path / "x").exists()


def test_how_much_is_fetched_is_told(store, tmp_path, caplog):
    store.objects |= {f"bucket/a/{i}": bytes(2**20) for i in range(5)}
    copy = Copy(ADDRESS, tmp_path)
    with caplog.at_level(logging.INFO, "absl"):
        copy.fetch(copy.store.listed().values())
    assert f"fetching 5 files, 5.0 MiB, of s3://bucket/a to {tmp_path}" in caplog.text


def test_a_full_disk_is_told_and_keeps_what_has_come(store, tmp_path):
    store.objects |= {"bucket/a/1": b"1", "bucket/a/2": os.urandom(2**22)}
    disk = tmp_path / "disk"
    with small_disk.mounted(disk, "size=1m"):
        copy = Copy(ADDRESS, disk / "c")
        with pytest.raises(WriteError, match=r"c/2: cannot be written \(No space left"):
            copy.fetch(copy.store.listed().values())
        assert sorted(path.name for path in (disk / "c").iterdir()) == [".store.json", "1"]
        assert Copy(ADDRESS, disk / "c").is_known("1")


def test_an_error_or_an_interrupt_breaks_off_what_else_is_fetched(store, tmp_path, monkeypatch):
    store.objects |= {f"bucket/a/{i}": b"x" for i in range(4)}
    copy, ended = Copy(ADDRESS, tmp_path), []

    def fetch(name, path, broken_off):
        if name == "0":
            raise KeyboardInterrupt
        ended.append(broken_off.wait(60))
        raise CancelledError

    found = copy.store.listed().values()
    monkeypatch.setattr(copy.store, "fetch", fetch)
    with pytest.raises(KeyboardInterrupt):
        copy.fetch(found)
    assert all(ended)


def _fetch(folder):
    copy = Copy(ADDRESS, folder)
    objects = copy.store.listed()
    with copy.alone():
        copy.fetch(objects.values())


def test_of_two_processes_one_fetches(store, tmp_path):
    store.objects |= {f"bucket/a/{i}": b"x" for i in range(6)}
    spawned = multiprocessing.get_context("spawn")
    both = [spawned.Process(target=_fetch, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(fetched(store)) == 6


def test_a_damaged_index_costs_fetching_again(store, tmp_path):
    store.objects["bucket/a/x"] = b"x"
    copy = Copy(ADDRESS, tmp_path)
    copy.fetch(copy.store.listed().values())
    (tmp_path / ".store.json").write_text("{")
    copy = Copy(ADDRESS, tmp_path)
    copy.fetch(copy.store.listed().values())
    assert len(fetched(store)) == 2
