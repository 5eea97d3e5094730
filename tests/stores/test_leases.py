"""One process at a time works in a folder of a store."""

import logging
import threading

import pytest

from tests import store_server
from vatt import stores
from vatt.locks import HeldError
from vatt.stores import leases
from vatt.stores.leases import Lease

store = store_server.store
SCHEMES = ["s3", "gs"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leases, "RENEWAL_S", 0.1)


def lease(scheme="s3"):
    return Lease(stores.Store(f"{scheme}://bucket/run"), ".lock", "another training")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_second_one_is_refused_as_long_as_the_first_lives(store, scheme):
    first = lease(scheme)
    with first.held() as before:
        assert before == {}
        with pytest.raises(HeldError, match=r"run: another training is at work there \(.* process"):
            lease(scheme).held().__enter__()
        first.check()
    with lease(scheme).held() as before:
        assert before["token"] == first.token and before["ended"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_that_of_a_dead_process_is_taken_over(store, scheme, caplog):
    died = lease(scheme)
    died._take()  # and nothing renews it
    with caplog.at_level(logging.WARNING, "absl"), lease(scheme).held() as before:
        assert before["token"] == died.token
    assert "another training has ended without a word" in caplog.text


def test_who_was_thought_dead_is_told(store):
    first = lease()
    with first.held():
        store.objects["bucket/run/.lock"] = b'{"token": "of another"}'
        first._over.wait(1.0)
        with pytest.raises(HeldError, match="could not be reached for so long"):
            first.check()
    assert store.objects["bucket/run/.lock"] == b'{"token": "of another"}'


def test_of_many_that_start_at_once_one_gets_it(store):
    got, refused, begin, end = [], [], threading.Barrier(6), threading.Event()

    def start():
        begin.wait()
        try:
            with lease().held():
                got.append(1)
                end.wait(5.0)
        except HeldError:
            refused.append(1)
            if len(refused) == 5:
                end.set()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)


def test_a_store_that_fails_for_a_moment_is_asked_again(store, monkeypatch, caplog):
    monkeypatch.setitem(stores._REPEATED, "max_retries", 0)
    monkeypatch.setattr(stores, "_PATIENCE_S", 0)
    first = lease()
    with first.held():
        store.fails = 1
        while store.fails or "503" not in caplog.text:
            first._over.wait(0.02)
        first.check()
    with lease().held() as before:
        assert before["ended"]


def test_a_damaged_note_is_one_of_a_dead_process(store, monkeypatch):
    monkeypatch.setattr(leases, "_MISSED", 1)
    store.objects["bucket/run/.lock"] = b"\xff["
    with lease().held() as before:
        assert before == {}
