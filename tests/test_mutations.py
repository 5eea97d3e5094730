"""Files of others, changed at random: what cannot be read is told in an error of ours, and soon.

Changes are drawn from a seed, so that what was found once is found again: `KIND-SEED` is its name.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vatt import assets, configs
from vatt.data import cards, framing, records
from vatt.data.ingest import captions, features, manifest
from vatt.errors import UserError
from vatt.reporting import history
from vatt.training.checkpoints import CheckpointStore

sys.path.insert(0, str(Path(__file__).parent / "data"))
import corpus

FEW, MANY, LONGEST_S = 60, 1500, 5.0
TOKENS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"-1", b"1e999", b"nan", b"9" * 5000, b"[" * 3000, b"{",
    b"}", b'"', b"'", b"\n", b"\r", b"\n\n", b";", b",", b"\t", b": ", b"-->", b"<b", b"&lt;",
    b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"../", b"/etc/passwd", b"null",
    b"true", "\u202e\u0130".encode(), b"%s", b"0x10", b"1_000", b"99999999999999999999", b"#",
)  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Changes one to four places: bits, pieces cut out, doubled or moved, tokens put in, an end."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        piece = bytes(data[place : place + rng.choice((1, 4, 30, 200))])
        match rng.randrange(6):
            case 0 if piece:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place : place + len(piece)]
            case 2:
                data[place:place] = piece * rng.choice((1, 2, 50))
            case 3:
                data[place:place] = rng.choice(TOKENS)
            case 4:
                data[place : place + len(piece)] = rng.choice(TOKENS)
            case 5 if rng.random() < 0.2:
                del data[place:]
    return bytes(data)


def npy(folder: Path, suffix: str) -> bytes:
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    path = folder / f"seed{suffix}"
    np.save(path, vectors) if suffix == ".npy" else np.savez_compressed(path, features=vectors)
    return path.read_bytes()


def record_set(folder: Path) -> tuple[bytes, bytes]:
    corpus.write_set(folder, "set", [corpus.example(i, captions=["a", "b"]) for i in range(4)],
                     shards=1)  # fmt: skip
    found = folder / "set"
    return (found / "card.yaml").read_bytes(), next(found.glob("*.tfrecord")).read_bytes()


def saved(folder: Path) -> bytes:
    CheckpointStore(folder).save(1, {"model/a": np.zeros(3, np.float32)}, kind="pretrain")
    return (folder / "ckpt-1.json").read_bytes()


VTT = b"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\nid\n00:00.500 --> 00:01.500 "
VTT += (
    b"align:left\nfirst <b>one</b> &amp; two\n\nNOTE x\n\n00:02.000 --> 00:03.000\nsecond\nline\n"
)
SRT = b"1\n00:00:00,500 --> 00:00:01,500\n<i>one</i>\n\n2\n00:00:02,000 --> 00:00:03,000\ntwo\n"
CSV = b'start,end,text\n0.5,1.5,"first, then"\n00:02,00:03.5,second\n'
CLIPS = b"path,start,end,split,label,caption,feature/x\n"
CLIPS += b'a.mp4,0,1.5,train;test,dog;cat,"a, b",x.npy\n' * 3
LINES = b'{"path": "a.mp4", "start": 0, "end": 1.5, "label": ["a"], "captions": [[0, 1, "x"]]}\n'
ROWS = b'{"step": 3, "split": "eval", "time": 1.0, "metrics": {"a": 0.5}, "measures": [{"set": "a",'
ROWS += b' "task": "retrieval", "name": "R1", "value": 0.5}]}\n'


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Name -> (name of the file, what it holds, what reads it)."""
    folder = tmp_path_factory.mktemp("seeds")
    card, shard = record_set(folder)
    payload = corpus.example(0, captions=["a"])
    written = cards.read(folder / "set" / "card.yaml")

    def framed(path):
        for piece in framing.segments(path, 4)[0]:
            assert piece.records > 0
        for record in framing.walk(path):
            if record.data is not None:
                records.examine(record.data, written)
        framing.count(path)

    def checkpoint(path):
        store = CheckpointStore(path.parent)
        store.verify(1)
        store.newest_valid()

    def features_of(path):
        return features.read(path.parent, path.name)

    toy = assets.find("configs/pretrain/toy.yaml").read_bytes()
    side = captions.read_captions
    return {
        "config": ("a.yaml", toy, lambda path: configs.resolve(config_file=str(path))),
        "card": ("card.yaml", card, cards.read),
        "manifest": ("a.csv", CLIPS, manifest.read_manifest),
        "lines": ("a.jsonl", LINES * 3, manifest.read_manifest),
        "vtt": ("a.vtt", VTT * 2, side),
        "srt": ("a.srt", SRT * 2, side),
        "csv": ("a.csv", CSV, side),
        "txt": ("a.txt", b"one sentence\nand another\n", side),
        "shard": ("a.tfrecord", shard, framed),
        "record": ("a.bin", payload, lambda path: records.examine(path.read_bytes(), written)),
        "npy": ("a.npy", npy(folder, ".npy"), features_of),
        "npz": ("a.npz", npy(folder, ".npz"), features_of),
        "checkpoint": ("ckpt-1.json", saved(folder / "saved"), checkpoint),
        "metrics": ("metrics.jsonl", ROWS * 3, history.read),
    }


NAMES = ("config", "card", "manifest", "lines", "vtt", "srt", "csv", "txt", "shard", "record",
         "npy", "npz", "checkpoint", "metrics")  # fmt: skip


def tried(folder: Path, kind: str, known: dict, seeds: range) -> tuple[list[str], int, float]:
    """Returns what went wrong in another way than it should, how much was refused, and the longest.

    Times are of the processor, so that other programs have no part in them.
    """
    name, content, read = known[kind]
    wrong, refused, longest = [], 0, 0.0
    for seed in seeds:
        path = folder / name
        path.write_bytes(mutated(content, random.Random(f"{kind}-{seed}")))
        began = time.process_time()
        try:
            read(path)
        except UserError as error:
            refused += 1
            if not str(error) or len(str(error)) > 20_000:
                wrong.append(f"{kind}-{seed}: a message of {len(str(error))} letters")
        except Exception as error:
            wrong.append(f"{kind}-{seed}: {type(error).__name__}: {str(error)[:300]}")
        longest = max(longest, time.process_time() - began)
    return wrong, refused, longest


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", NAMES)
def test_whatever_is_changed_is_read_or_refused(kinds, tmp_path, kind, count):
    seeds = range(count) if count == FEW else range(FEW, count)
    wrong, refused, longest = tried(tmp_path, kind, kinds, seeds)
    print(f"{kind}: {refused} of {len(seeds)} refused, the longest took {longest:.2f} s")
    assert wrong == []
    assert longest < LONGEST_S
    if kind not in ("txt", "record", "metrics"):  # which take almost anything, or say it otherwise
        assert refused > 0


def test_the_seeds_are_accepted_as_they_are(kinds, tmp_path):
    for name, content, read in kinds.values():
        if name != "ckpt-1.json":  # its files are elsewhere
            (tmp_path / name).write_bytes(content)
            read(tmp_path / name)
