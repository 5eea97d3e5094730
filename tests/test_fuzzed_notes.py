"""What earlier commands left, changed at random: notes, states and lists are told or made again.

They are the package's own, but folders are copied, cut short and mended by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import fuzzing
from tests.fuzzing import FEW, MANY, Kind
from tests.test_fuzzed_texts import ROWS, save
from vatt.api import naming
from vatt.data.bad_records import COLUMNS, BadRecords
from vatt.data.ingest import state, summary
from vatt.data.toy import command as toy
from vatt.errors import UserError
from vatt.stores import Object, copies, leases
from vatt.training import stored_runs, tracking
from vatt.training.checkpoints import CheckpointStore
from vatt.training.rundir import RunDir
from vatt.zoo import cache, fetching

ADDRESS = "s3://bucket/run"
LINK = "https://host/file"
LEASE = b'{"token": "ab", "holder": "me on host, process 3", "renewal_s": 20.0, "time": 3.5}'
COPIES = b'{"holder": "ab", "files": {"a/b": ["tag", 5, 1796029985923571000], "c": ["", 0, 1]}}'
PART = {"address": LINK, "validator": '"tag"', "total": 5}
SETTINGS = {"set": "toy", "format": 3, "seed": 0, "scale": 0.5}
SHARD = "train-00000-of-00001.tfrecord"
STATS = {
    "file": SHARD, "split": "train", "fingerprint": "ab", "basis": [10.0, 256, 48000, 90, "00"],
    "bytes": 5, "sha256": "00", "failures": [["a.mp4", 0.5, None, "why"]],
}  # fmt: skip
UNUSED = {"train": [["a.mp4", 0.5, 2.0, "why"]], "test": [["b.mp4", None, None, "why"]]}
NOTICED = {"train": [["a.mp4", None, None, "what", "how"]], "test+val": []}
WORDS = (b'"a"', b"[]", b"{}", b"1e400", b"NaN", b"Infinity", b'"ckpt-1"', b'""', b"0", b"a\\u0000",
         b"x" * 300)  # fmt: skip


class Shelf:
    """A store with one object, which nobody renews."""

    def __init__(self, address: str, content: bytes = b"") -> None:
        self.address, self.content, self.removed = address, content, []

    def read(self, name: str) -> tuple[bytes, dict[str, str]]:
        return self.content, {"tag": "1"}

    def write(self, name: str, content: bytes, version: object) -> dict[str, str]:
        return {"tag": "2"}

    def listed(self, deep: bool = True) -> dict[str, Object]:
        return {}

    def remove(self, names: list[str]) -> None:
        self.removed += names


class Clock:
    """Time that passes while somebody sleeps."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    time = monotonic


class Told:
    """A tracker that is told everything."""

    place = "here"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def begin(self, about: object, known: dict) -> dict:
        return {}

    def metrics(self, step: int, values: dict) -> None:
        self.steps.append(step)

    def file(self, path: Path) -> None:
        pass

    def end(self, status: str) -> None:
        pass


def taken(read: Callable[[Path], None]) -> Callable[[Path], None]:
    """What reads a note that must not be refused, but count as none."""

    def reads(path: Path) -> None:
        try:
            read(path)
        except UserError as error:
            raise AssertionError(f"refused: {error}") from error

    return reads


# Readers ------------------------------------------------------------------------------------------


def lease(path: Path) -> None:
    leases.time.now = 0.0
    leases.Lease(Shelf(ADDRESS, path.read_bytes()), ".training.lock", "another training")._take()
    assert leases.time.now <= 3600.0, "waits for hours"


def copy(path: Path) -> None:
    found = copies.Copy(ADDRESS, path.parent)
    found.changed()
    found.gone()
    found._is_here(Object("a/b", 5, "tag"))
    found.drop(["a/b", "c"])
    found.save()
    assert copies.Copy(ADDRESS, path.parent)._known == found._known


def sending(path: Path) -> None:
    run = stored_runs.StoredRun(ADDRESS, path.parent / "none")
    run._copy.store.content = path.read_bytes()
    run._clean()
    assert ".sending.json" in run._copy.store.removed


def tracked(path: Path) -> None:
    found = tracking.Tracking(path.parent, ["told"], {})
    line = found._lines[0]
    found.metrics("train", 10**6, {"loss": 1.0})
    found.end(0)
    assert not line._failed
    assert line._tracker.steps or line._last >= 10**6


def pending(path: Path) -> None:
    CheckpointStore(path.parent).clean()
    assert not path.exists()


def logged(path: Path) -> None:
    run = RunDir(path.parent)
    run.last_trained()
    run.forget_after(3)


def evaluated(path: Path) -> None:
    run = RunDir(path.parent)
    run.set_evaluated(run.evaluated())


def stats_of(path: Path) -> None:
    folder = path.parents[1]
    if not (folder / SHARD).exists():
        (folder / SHARD).write_bytes(b"bytes")
    shard = SimpleNamespace(name=SHARD, fingerprint="ab")
    state.finished(shard, folder)
    state.settings_of(folder)
    state.replaced(folder, {"train"}, "root")
    if known := state.made(shard, folder):
        summary.totals([known])
        summary.write_summary(folder, [known])
        summary.write_card("set", folder, [known], fps=10.0, sample_rate=48000,
                           labels=("dog",), multi_label=False)  # fmt: skip


def unused(path: Path) -> None:
    summary.by_split(state.unused(path.parents[1], {"train"}, {}))


def noticed(path: Path) -> None:
    found = state.noticed(path.parents[1], {"train"}, [])
    summary.write_summary(path.parents[1], found)


def drawn(path: Path) -> None:
    state.keep_drawn(path.parents[1], {"train"}, ["train"])


def fetched(path: Path) -> None:
    (path.parent / "a.pth").write_bytes(b"bytes")
    if cache.fetched(path.parent.name, path.parents[1]):
        cache.origin(path.parent.name, path.parents[1])


def part(path: Path) -> None:
    found = fetching._Part(path.parent / "a", LINK)
    assert found.total is None or type(found.total) is int
    assert found.validator is None or found.validator.isprintable()


def settings(path: Path) -> None:
    toy._guard_settings(path.parent, SETTINGS)


def known(path: Path) -> None:
    for ending in (".index", ".data-00000-of-00001"):
        path.with_suffix(ending).write_bytes(b"tensors")
    naming.find(path.with_suffix(""))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    save(folder)
    manifest = json.loads((folder / "ckpt-1.json").read_bytes())
    manifest |= {"architecture": "tx_fac_tiny", "towers": {"video": {"a": "model/a"}}}
    shard = {**summary.Tally("train").stats(), **STATS, "records": 1, "classes": {"dog": 1}}
    record = {"addresses": [LINK], "time": "2026", "files": {"a.pth": {"size": 5, "sha256": "0"}}}
    bad = ",".join(COLUMNS).encode() + b"\nset,train,a.tfrecord,3,120,why\n"
    note = {"scratch": ".writing-ckpt-1", "prefix": "ckpt-1"}

    def own(file: str, content: object, read: object, choosy: bool = False) -> Kind:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Kind(file, (content,), read if choosy else taken(read), WORDS, choosy=choosy)

    return {
        "lease": own("a.lock", LEASE, lease),
        "copy": own(".store.json", COPIES, copy),
        "sending": own(".sending.json", ["ckpt-1.index", "ckpt-1.json"], sending),
        "tracked": own("tracker-told.json", {"run": "ab", "last": 3}, tracked),
        "pending": own("pending.json", note, pending),
        "logged": own("metrics.jsonl", ROWS * 3 + ROWS.replace(b"eval", b"train"), logged),
        "evaluated": own("evaluated.json", [1, 20, 300], evaluated),
        "stats": own(f".shards/{SHARD}.json", shard, stats_of),
        "unused": own(".shards/unused.json", UNUSED, unused),
        "noticed": own(".shards/noticed.json", NOTICED, noticed),
        "drawn": own(".shards/drawn.json", ["train", "test"], drawn),
        "fetched": own("gdt_k400/download.json", record, fetched),
        "part": own("a.part.json", PART, part),
        "settings": own("settings.json", SETTINGS, settings, choosy=True),
        "bad": own("bad_records.csv", bad, lambda path: BadRecords(path).rows()),
        "known": own("ckpt-1.json", manifest, known, choosy=True),
    }


NAMES = ("lease", "copy", "sending", "tracked", "pending", "logged", "evaluated", "stats", "unused",
         "noticed", "drawn", "fetched", "part", "settings", "bad", "known")  # fmt: skip


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither time nor a store is needed."""
    monkeypatch.setattr(leases, "time", Clock())
    monkeypatch.setattr(copies, "Store", Shelf)
    monkeypatch.setitem(tracking.trackers.TRACKERS, "told", Told)


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_note_is_read_or_told(kinds, monkeypatch, name, cases):
    patch(monkeypatch)
    fuzzing.check(name, kinds[name], cases)


FOUND = (
    ("lease", b"[" * 5_000),
    ("lease", b'{"renewal_s": Infinity}'),
    ("copy", b'{"holder": "", "files": {"a/b": []}}'),
    ("copy", b'{"holder": "", "files": {"%s": ["tag", 1, 2]}}' % (b"x" * 300)),
    ("sending", b"3"),
    ("tracked", b'{"last": "3"}'),
    ("pending", b'{"scratch": "a", "prefix": "%s"}' % (b"x" * 300)),
    ("fetched", b'{"files": {"a.pth": {"size": 5}}}'),
    ("part", json.dumps(PART | {"validator": "a\nb"}).encode()),
    ("part", json.dumps(PART | {"total": "5"}).encode()),
)


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_what_was_found(kinds, tmp_path, monkeypatch, name, content):
    patch(monkeypatch)
    path = tmp_path / kinds[name].file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    kinds[name].read(path)
