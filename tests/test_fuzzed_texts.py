"""Texts of others, changed at random: what cannot be read is told in an error of ours, and soon."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from yaml.parser import Parser

from tests import fuzzing
from tests.fuzzing import FEW, MANY, Kind
from vatt import configs, zoo
from vatt.data import card_schema, cards, labels, text
from vatt.data.ingest import captions, manifest
from vatt.errors import DataError
from vatt.reporting import about, history
from vatt.training.checkpoints import CheckpointStore

sys.path.insert(0, str(Path(__file__).parent / "data"))
import corpus

# Short ones: most of the time goes into PyYAML, and a whole configuration takes five times as long.
CONFIGS = (
    b"model_arch: tx_fac_tiny\nmodel_config:\n  loss_config:\n    bridge:\n"
    b"      - {name: asymmetric_nce, vid_aud_weight: 8.0}\ntrain:\n  optimizer:\n    name: Muon\n"
    b"    learning_rate: {type: CosineDecayLearningRate, warmup_steps: 60}\n",
    b"# text\nmodel_arch: tx_fac_tiny\ntrain:\n  input: &a\n    name: a+b\n"
    b"    mixing_weights: [2, 1]\n    frame_size: 64\n    scale_jitter: false\n"
    b"eval:\n  input: {name: [a, b], fps: 10.0}\n",
)
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
SHARDS = b'{"shards": [{"file": "train-0-of-1.tfrecord", "records": 4, "sha256": "00"}]}'
RUN = b'{"launches": [{"started": "2026-01-01", "command": ["vatt"], "versions": {"vatt": "1"}}]}'
ZOO = b"shared:\n  a: &a {method: vatt, kind: tensorflow, page: https://a/b, task: pretrain}\n"
ZOO += b"checkpoints:\n  one:\n    <<: *a\n    model: VATT\n    data: some\n"
VOCABULARY = b"<pad>\n<bos>\n<eos>\n<unk>\na\nred\n"


def save(folder: Path) -> None:
    CheckpointStore(folder).save(1, {"model/a": np.zeros(3, np.float32)}, kind="pretrain")


def checkpoint(path: Path) -> None:
    store = CheckpointStore(path.parent)
    if not store.path(1).with_suffix(".index").exists():  # what the manifest is of
        content = path.read_bytes()
        save(path.parent)
        path.write_bytes(content)
    store.verify(1)
    store.newest_valid()


def shards(path: Path) -> None:
    try:
        card_schema.listed_shards(path.parent)
    except ValueError as error:  # what the callers pass over
        raise DataError(str(error)) from error


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    corpus.write_set(folder, "set", [corpus.example(0, frames=1, captions=["a"])], shards=1)
    card = (folder / "set" / "card.yaml").read_bytes()
    save(folder)
    saved = (folder / "ckpt-1.json").read_bytes()
    words = (VOCABULARY, b"".join(b"%d %s\n" % row for row in enumerate(VOCABULARY.split())))
    side = captions.read_captions
    return {
        "config": Kind("a.yaml", CONFIGS, lambda path: configs.resolve(config_file=str(path))),
        "card": Kind("card.yaml", (card,), cards.read),
        "manifest": Kind("a.csv", (CLIPS,), manifest.read_manifest),
        "lines": Kind("a.jsonl", (LINES * 3,), manifest.read_manifest),
        "vtt": Kind("a.vtt", (VTT * 2,), side),
        "srt": Kind("a.srt", (SRT * 2,), side),
        "csv": Kind("b.csv", (CSV,), side),
        "txt": Kind("a.txt", (b"one sentence\nand another\n",), side, choosy=False),
        "checkpoint": Kind("ckpt-1.json", (saved,), checkpoint),
        "metrics": Kind("metrics.jsonl", (ROWS * 3,), history.read, choosy=False),
        "shards": Kind("manifest.json", (SHARDS,), shards),
        "launches": Kind("run.json", (RUN,), lambda path: about.read(path.parent), choosy=False),
        "zoo": Kind("zoo.yaml", (ZOO,), zoo.read),
        "labels": Kind("c.csv", (b"index,name\n0,dog\n1,cat\n",), labels.read_labels),
        "vocabulary": Kind("v.txt", words, text.read_vocabulary),
    }


NAMES = ("config", "card", "manifest", "lines", "vtt", "srt", "csv", "txt", "checkpoint",
         "metrics", "shards", "launches", "zoo", "labels", "vocabulary")  # fmt: skip


@pytest.fixture(autouse=True)
def quick_yaml(monkeypatch):
    """What PyYAML makes of letters takes most of the time, of configurations and of cards."""
    for name in ("check_event", "peek_event", "get_event"):
        monkeypatch.setattr(Parser, name, fuzzing.untraced(getattr(Parser, name)))


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_text_is_read_or_refused(kinds, name, cases):
    fuzzing.check(name, kinds[name], cases)
