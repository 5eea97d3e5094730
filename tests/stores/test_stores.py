"""Object stores, asked by their protocols: objects, conditions, failures."""

import os
import sys
import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest

from tests import store_server
from vatt import stores
from vatt.errors import EXIT_DATA

store = store_server.store
SCHEMES = ["s3", "gs"]
BIG = 20 * 2**20  # more than one part


@pytest.mark.parametrize("scheme", SCHEMES)
def test_objects_come_back(store, tmp_path, scheme):
    place = stores.Store(f"{scheme}://bucket/run")
    content = {"a b.txt": b"small", "deep/ü.bin": os.urandom(BIG), "none": b""}
    for name, value in content.items():
        (tmp_path / "file").write_bytes(value)
        place.send(name, tmp_path / "file")
    store.objects["bucket/running/x"] = b"another folder"
    found = place.listed()
    assert {name: entry.size for name, entry in found.items()} == {
        name: len(value) for name, value in content.items()
    }
    assert set(place.listed(deep=False)) == {"a b.txt", "none"}
    for name, value in content.items():
        fetched = place.fetch(name, tmp_path / "back")
        assert fetched == found[name] and (tmp_path / "back").read_bytes() == value
    place.remove(["a b.txt", "never was"])
    assert "a b.txt" not in place.listed()
    assert place.fetch("a b.txt", tmp_path / "gone") is None and place.read("a b.txt") is None
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_object_is_written_over_the_version_that_was_read(store, scheme):
    place = stores.Store(f"{scheme}://bucket/run")
    first = place.write("lock", b"first", None)
    with pytest.raises(stores.TakenError, match=f"{scheme}://bucket/run/lock: another process"):
        place.write("lock", b"second", None)
    second = place.write("lock", b"second", first)
    with pytest.raises(stores.TakenError):
        place.write("lock", b"third", first)
    assert place.write("lock", b"second", first) == second  # as when an answer was lost
    assert place.read("lock") == (b"second", second)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_failures_for_a_moment_are_passed_over(store, tmp_path, scheme):
    place = stores.Store(f"{scheme}://bucket/run")
    store.objects["bucket/run/a"] = content = os.urandom(BIG)
    store.fails, store.breaks = 3, 1
    assert place.fetch("a", tmp_path / "a").size == BIG
    assert (tmp_path / "a").read_bytes() == content
    assert not store.fails and not store.breaks


def test_a_store_that_comes_back_within_two_minutes_is_waited_for(store, monkeypatch, caplog):
    """By a clock of the test: the library tries for moments, then there are pauses."""
    now, paused = [1000.0], []

    def wait(seconds):
        paused.append(seconds)
        now[0] += seconds
        if now[0] > 1000.0 + comes_back:
            store.fails = 0

    monkeypatch.setitem(stores._REPEATED, "max_retries", 1)
    monkeypatch.setattr(stores, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(stores, "_NEVER", SimpleNamespace(wait=wait))
    place = stores.Store("s3://bucket/run")
    for name in ("first", "second"):  # each time it may fail for as long
        store.fails, comes_back = 10**6, now[0] - 1000.0 + 110
        place.write(name, b"whole", None)
        assert sum(paused) > 110 and max(paused) == 10 and not caplog.text.count("\n") > 2
        paused.clear()
    assert "s3://bucket/run: failed to write second: " in caplog.text
    assert "trying again for 120 s" in caplog.text
    store.fails, comes_back = 10**6, 10**6
    with pytest.raises(stores.StoreError, match=r"failed to read first: .*503"):
        place.read("first")
    assert 120 <= sum(paused) < 140
    paused.clear()
    with pytest.raises(stores.StoreError, match="failed to write third"):
        place.write("third", b"whole", None, patient=False)
    assert not paused


def test_a_failure_that_stays_is_told_and_leaves_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setitem(stores._REPEATED, "max_retries", 1)
    monkeypatch.setattr(stores, "_PATIENCE_S", 0)
    monkeypatch.setattr(stores, "_TRIES", 1)
    place = stores.Store("s3://bucket/run")
    store.objects["bucket/run/a"] = os.urandom(BIG)
    store.breaks = 10**6
    with pytest.raises(stores.StoreError, match="s3://bucket/run: failed to fetch a: ") as caught:
        place.fetch("a", tmp_path / "a")
    assert caught.value.exit_code == EXIT_DATA and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    store.breaks, store.fails = 0, 10**6
    with pytest.raises(stores.StoreError, match=r"failed to list it: .*503"):
        place.listed()


def test_what_is_fetched_can_be_broken_off(store, tmp_path, monkeypatch):
    monkeypatch.setitem(stores._REPEATED, "max_retries", 1)
    place, broken_off = stores.Store("s3://bucket/run"), threading.Event()
    store.objects["bucket/run/a"] = b"a"
    broken_off.set()
    for failures in (0, 10**6):  # while it comes, and between two times that it is asked
        store.fails = failures
        with pytest.raises(CancelledError):
            place.fetch("a", tmp_path / "a", broken_off)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_bucket_is_told(store, tmp_path, scheme):
    (tmp_path / "a").write_bytes(b"a")
    place = stores.Store(f"{scheme}://nobody/run")
    for ask in (place.listed, lambda: place.send("a", tmp_path / "a")):
        with pytest.raises(stores.StoreError, match=f"{scheme}://nobody/run: .*no such bucket"):
            ask()


def test_credentials_that_are_refused_are_told(store):
    store.refuses = True
    with pytest.raises(stores.StoreError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        stores.Store("s3://bucket/run").listed()


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(stores.StoreError, match=r"gs://bucket/a: .*pip install 'vatt\[stores\]'"):
        stores.Store("gs://bucket/a")


def test_the_places_of_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("VATT_CACHE", str(tmp_path))
    assert stores.local("s3a://bucket/a/b/", "runs") == tmp_path / "stores/runs/s3/bucket/a/b"
    assert stores.local("runs/a", "runs").as_posix() == "runs/a"
    for path in ("gs://", "gs:///a", "s3://b/../c", "gsa://b/c", "az://b/c", "s3://b//c", "gs:a"):
        assert not stores.is_address(path), path
